"""publish: the bucket is proven, key by key; then the release lies beside it, and the pointer names it."""

from typing import Any

from include.faceset.ground import tables
from include.faceset.ports import Bucket
from include.faceset.release import release
from include.faceset.run import owner
from include.faceset.run.run import Run


def publish(run: Run, release_id: str, bucket: Bucket) -> dict[str, Any]:
    """Prove that the bucket holds a release, and say so there; what the event of the dataset's asset tells.

    What fails the proof, or the lease, is raised by the bucket: nothing is published then.
    """
    folder = run.release(release_id)
    sealed = release.read(folder)
    pointer = sealed.pointer(f"{bucket.releases_uri}{release_id}/")
    with bucket.hold(owner.token(run)) as check:
        expected = tables.read(folder / release.MANIFEST_FILE, ["key", "size", "sha256"])
        tables.write(bucket.prove(expected, run.sync_record()), folder / release.OBJECTS_FILE)
        check()
        bucket.publish(folder, release.SEALED_FILES, pointer, check)
    return {**pointer, "dataset": sealed.dataset, "destination": bucket.uri}
