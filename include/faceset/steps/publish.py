"""publish: the bucket is proven, key by key; then the release lies beside it, and the pointer names it."""

from pathlib import Path
from typing import Any

from include.faceset.errors import Final
from include.faceset.ground import tables
from include.faceset.ports import Bucket
from include.faceset.release import release
from include.faceset.run import owner
from include.faceset.run.run import Run


class NotEmptyError(Final):
    """Images lie where a dataset of records alone would have none."""


def publish(run: Run, release_id: str, bucket: Bucket) -> dict[str, Any]:
    """Prove that the bucket holds a release, and say so there; what the event of the dataset's asset tells.

    Of a dataset without the form `image_folder` the prefix holds nothing; its records follow (`pack`). What fails the
    proof, or the lease, is raised by the bucket: nothing is published then.

    Raises:
        NotEmptyError: the prefix of a dataset without the form `image_folder` holds something.
    """
    folder = run.release(release_id)
    sealed = release.read(folder)
    pointer = sealed.pointer(f"{bucket.releases_uri}{release_id}/")
    with bucket.hold(owner.token(run)) as check:
        names = _prove(run, folder, bucket) if "image_folder" in run.dataset.forms else _expect_nothing(bucket)
        check()
        bucket.publish(folder, names, pointer, check)
    return {**pointer, "dataset": sealed.dataset, "destination": bucket.uri}


def _prove(run: Run, folder: Path, bucket: Bucket) -> tuple[str, ...]:
    expected = tables.read(folder / release.MANIFEST_FILE, ["key", "size", "sha256"])
    tables.write(bucket.prove(expected, run.sync_record()), folder / release.OBJECTS_FILE)
    return release.SEALED_FILES


def _expect_nothing(bucket: Bucket) -> tuple[str, ...]:
    if there := bucket.listing().num_rows:
        raise NotEmptyError(
            f"{there:,} objects lie at {bucket.uri}, and forms names no image_folder: nothing would keep them in step "
            "with the release. Add image_folder to forms, or delete them yourself; then clear verify"
        )
    return tuple(name for name in release.SEALED_FILES if name != release.OBJECTS_FILE)
