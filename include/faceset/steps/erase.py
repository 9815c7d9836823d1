"""erase: the people to erase go out of the bucket too, with all versions, and a receipt says what went."""

from typing import Any

from include.faceset.erasure import copies, met, receipt, rewrite
from include.faceset.errors import Final
from include.faceset.people import People
from include.faceset.ports import Bucket
from include.faceset.records import shelf
from include.faceset.release import release
from include.faceset.run import owner
from include.faceset.run.run import Run


class OvertakenError(Final):
    """Somebody else has changed the bucket since this run proved it."""


def erase(run: Run, release_id: str, bucket: Bucket | None) -> dict[str, Any] | None:
    """Erase the people on the list from what lies beside the output and, without `skip_upload`, from the bucket.

    Args:
        run: the run.
        release_id: what it sealed.
        bucket: where it was published; None if the run skipped the upload.

    Returns:
        What the summary says of the receipt (`receipt.sum_up`); None if nobody was erased.

    Raises:
        EraseError: the list is no longer the one that the run began with.
        OvertakenError: the bucket holds another release by now.
    """
    people = rewrite.finish_erasure(run)
    if bucket is None or not people:
        written = receipt.write(run, people, _unmet(run))
    else:
        with bucket.hold(owner.token(run)) as check:
            _from_bucket(run, release_id, people, bucket, check)
            written = receipt.write(run, people, _unmet(run))
            for path in written:
                bucket.put(path, f"{receipt.FOLDER}/{path.name}", check)
    summed_up = receipt.sum_up(run, written)
    receipt.close(run)
    return summed_up


def _unmet(run: Run) -> list[str]:
    return [met.in_words(one) for one in met.unmet(run)]


def _from_bucket(run: Run, release_id: str, people: People, bucket: Bucket, check: Any) -> None:
    """Delete what people have there, and bring the releases there to what they are here; no older version stays."""
    if (found := bucket.pointer().get("release_id")) != release_id:
        raise OvertakenError(
            f"{bucket.releases_uri}latest.json names {found or 'nothing'} and no longer {release_id}: somebody else has"
            " changed the destination since it was proven. Nothing was erased there; start another run"
        )
    of_people = bucket.versions_of(sorted(people))
    met.remember(run, people, of_people.folders)
    names = copies.published_files(run)
    anew = copies.in_bucket(run, people, bucket.releases(release.ID), lambda folder: bucket.fetch(folder, names))
    replaced, before = bucket.renew(anew, release.ID, check)
    # Older versions of a release's files go in any case, also where they name nobody: that alone is no erasure.
    if receipt.pending(run).get("erased") or any(of_people.counts.values()):
        counts = {**of_people.counts, "release_files": replaced, "release_versions": sum(before.counts.values())}
        receipt.note_bucket(run, counts)
    bucket.erase(of_people, check)
    bucket.erase(before, check)
    of_records = bucket.erase_records(shelf.with_records(run), check)
    if any(of_records.values()):
        receipt.note_bucket(run, of_records, "records")
