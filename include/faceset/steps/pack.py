"""pack: what a training host has beside the images: two files of records, and the pairs to verify by."""

from typing import Any

from include.faceset.ground import files
from include.faceset.ports import Bucket, Bundle
from include.faceset.records import make, order, packed, shelf
from include.faceset.records.make import PackError
from include.faceset.records.packed import Packed
from include.faceset.records.recordio import MAX_LABELS
from include.faceset.release import history, release
from include.faceset.release.release import Release
from include.faceset.run import owner
from include.faceset.run.attempt import trying
from include.faceset.run.run import Run
from include.faceset.training import verification


def pack(run: Run, release_id: str, bucket: Bucket | None) -> dict[str, Any] | None:
    """Write the pairs of a release to verify by, and its records; without `skip_upload` publish these, pointer last.

    Args:
        run: the run.
        release_id: what it sealed.
        bucket: where it publishes; None if it skips the upload.

    Returns:
        Counts for Airflow; None where the dataset does not have the form `record`.

    Raises:
        HoldoutError: too little is held out, or it is no longer what was sealed.
        NotReadyError: the records do not fit on the disk.
        PackError: there are too many classes, or the release is no longer what was sealed.
        SupersededError: a later try, or a later run, has begun.
    """
    folder = run.release(release_id)
    rolled_back = run.params.release is not None and verification.is_there(folder, run.dataset.name)
    if run.dataset.holdout is not None and not rolled_back:
        with trying(run, "pack") as attempt:
            verification.write(attempt, folder)
    if "record" not in run.dataset.forms:
        return None
    sealed, label_table = release.read(folder), order.digest_labels(folder)
    _check_labels(sealed)
    with trying(run, "pack") as attempt:
        made = _known(run, sealed, label_table, bucket) or make.pack_anew(attempt, sealed, label_table)
        files.write_text(folder / release.RECORDS_FILE, packed.as_json(made), within=attempt.folder)
    kept = _to_keep(run, release_id)
    if bucket is not None:
        with bucket.hold(owner.token(run)) as check:
            bundle = Bundle(
                folder=packed.folder_of(run, release_id),
                objects=made.objects(),
                record=run.sync_record(".records"),
                pointer=made.pointer(f"{bucket.records_uri}{release_id}/"),
            )
            bucket.publish_records(bundle, kept, check)
    with trying(run, "pack") as attempt:
        shelf.clear(attempt, kept if run.on_disk or bucket is None else [])
    return {"images": made.images, "reencoded": made.reencoded, "bytes": sum(one.size for one in made.files.values())}


def _check_labels(sealed: Release) -> None:
    if sealed.labels > MAX_LABELS:
        raise PackError(
            f"{sealed.labels:,} class numbers were given, and a record's label, a float32, tells only {MAX_LABELS:,} "
            "apart. Set compact_labels: true in the dataset file, or take `record` out of forms"
        )
    if not sealed.labels:
        raise PackError(
            f"release {sealed.release_id} was sealed before there were class numbers; start a run that is no roll-back"
        )


def _known(run: Run, sealed: Release, label_table: str, bucket: Bucket | None) -> Packed | None:
    """What was packed of this release before, with the same class numbers, and is still there."""
    before = packed.read(run.release(sealed.release_id))
    if before is not None and before.fits(sealed, label_table) and _is_there(run, before):
        return before
    if run.on_disk or bucket is None or not (pointer := bucket.records_pointer()):
        return None
    published = packed.parse(pointer)
    return published if published.fits(sealed, label_table) else None


def _is_there(run: Run, known: Packed) -> bool:
    folder = packed.folder_of(run, known.release_id)
    return all(
        (folder / name).is_file() and (folder / name).stat().st_size == file.size for name, file in known.files.items()
    )


def _to_keep(run: Run, release_id: str) -> list[str]:
    """The release, and the newest others up to `keep_records`."""
    others = [folder.name for folder in history.folders(run) if folder.name != release_id]
    return [release_id, *others][: run.dataset.keep_records]
