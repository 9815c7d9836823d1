"""seal: the shards' rows -> one ledger that balances, the release folder, and an output that holds exactly the release.

Here the one decision across shards falls: the same bytes under two identities are taken out, and
identities that this leaves with too few images go with them.
"""

import hashlib
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from include.faceset import files, parts, release, removed, sharded, tables
from include.faceset.ledger import LEDGER, Outcome, balance, kept
from include.faceset.names import shown
from include.faceset.release import Release
from include.faceset.run import Run
from include.faceset.unchanged import present_files

MANIFEST_COLUMNS = ["identity", "key", "sha256", "size", "mtime_ns", "export", "path", "format", "colour"]


class SealError(RuntimeError):
    """The run cannot be sealed: nothing is left, or the disk is not what the ledger says."""


def seal(run: Run) -> Release:
    """Seal a run: settle, balance, tidy the output, prove it, write the release folder and ``latest.json``.

    A run that rolls back proves the output against the release that it restored, whose folder stays as it is.

    Raises:
        LedgerError: the ledger does not balance.
        SealError: no image is left, or a file of the release is not on disk as it was written.
    """
    if run.params.release is not None:
        restored = release.read(release.to_restore(run))
        bring_to(run, pa.concat_tables(_rows_by_shard(run)))
        release.close_change(run, restored)
        return restored
    by_shard = [*_rows_by_shard(run), parts.rejected(run)]
    ledger = settle(pa.concat_tables(by_shard), run.params.min_images)
    scanned = parts.counts(run)
    balance(ledger, scanned)
    images = kept(ledger).sort_by("key")
    if images.num_rows == 0:
        msg = (
            f"no image is left of {ledger.num_rows:,} files; nothing is published and the output is as it was copied. "
            f"The reasons are in {run.work}; is local_source right, and min_images={run.params.min_images}?"
        )
        raise SealError(msg)
    bring_to(run, images)
    manifest = images.select(MANIFEST_COLUMNS)
    building = run.work / "release"
    files.remove_tree(building)
    tables.write(manifest, building / release.MANIFEST_FILE)
    _write_ledger(run, ledger, [rows.num_rows for rows in by_shard], building / release.LEDGER_FILE)
    tables.write(class_index(manifest), building / release.CLASSES_FILE)
    with (building / release.MANIFEST_FILE).open("rb") as written:
        manifest_sha256 = hashlib.file_digest(written, "sha256").hexdigest()
    sealed = Release(
        release_id=release.release_id(manifest["key"].to_pylist(), manifest["sha256"].to_pylist()),
        dataset=run.dataset.name,
        identities=pc.count_distinct(manifest["identity"]).as_py(),
        images=manifest.num_rows,
        size=pc.sum(manifest["size"]).as_py(),
        scanned=scanned,
        manifest_sha256=manifest_sha256,
        min_images=run.params.min_images,
        decode=run.params.decode,
        image_size=run.dataset.image_size,
        sealed_at=datetime.now(UTC).isoformat(timespec="seconds"),
        parts=parts.digests(run),
    )
    release.write(sealed, building)
    _move_in(building, run.release(sealed.release_id))
    release.close_change(run, sealed)
    return sealed


def settle(ledger: pa.Table, min_images: int) -> pa.Table:
    """Take out the images whose bytes are kept under two identities, then the identities left with too few."""
    is_kept = pc.equal(ledger["outcome"], Outcome.KEPT.value)
    images = ledger.filter(is_kept).select(["sha256", "identity"])
    owners = images.group_by("sha256").aggregate([("identity", "count_distinct")])
    shared = owners["sha256"].filter(pc.greater(owners["identity_count_distinct"], 1)).combine_chunks()
    in_conflict = pc.and_(is_kept, pc.is_in(ledger["sha256"], value_set=shared))
    ledger = _with_outcome(ledger, in_conflict, Outcome.IDENTITY_CONFLICT)
    left = kept(ledger).group_by("identity").aggregate([([], "count_all")])
    enough = left["identity"].filter(pc.greater_equal(left["count_all"], min_images)).combine_chunks()
    still_kept = pc.equal(ledger["outcome"], Outcome.KEPT.value)
    too_few = pc.and_(still_kept, pc.invert(pc.is_in(ledger["identity"], value_set=enough)))
    return _with_outcome(ledger, too_few, Outcome.TOO_FEW_IMAGES)


def class_index(manifest: pa.Table) -> pa.Table:
    """The class of each identity as torchvision's ImageFolder will number it: folder names sorted by code point."""
    counted = manifest.group_by("identity").aggregate([([], "count_all")]).sort_by("identity")
    index = pa.array(range(counted.num_rows), pa.int64())
    return pa.table({"index": index, "identity": counted["identity"], "images": counted["count_all"]})


def bring_to(run: Run, images: pa.Table) -> None:
    """Take out of the output whatever is not of the release, and check that all of the release is there.

    Args:
        run: the run.
        images: the kept rows (schema LEDGER).

    Raises:
        SealError: a file is missing or is not as it was written (size and mtime).
    """
    identities = pc.unique(images["identity"]).to_pylist()
    present = present_files(run.output, identities)
    surplus = present.filter(pc.invert(pc.is_in(present["key"], value_set=images["key"].combine_chunks())))
    doomed = [run.output / name for name in {path.name for path in run.output.iterdir()} - set(identities)]
    for identity in pc.unique(surplus["identity"]).to_pylist():
        of_identity = images.filter(pc.equal(images["identity"], identity))
        wanted = {run.output / key for key in of_identity["key"].to_pylist()}
        folder = run.output / identity
        doomed += set(folder.iterdir()) - wanted if folder.is_dir() and not folder.is_symlink() else [folder]
    if doomed:
        release.open_for_change(run)
        before = _before(run, doomed)
        for path in doomed:
            removed.take_out(run, path, before)
    as_put = ["key", "size", "staged_mtime_ns"]
    found = images.select(as_put).join(
        present.select(["key", "size", "mtime_ns", "links"]), keys=as_put, right_keys=["key", "size", "mtime_ns"]
    )
    if missing := found["links"].null_count:
        msg = (
            f"{missing:,} files are not in {run.output} as they were written: something else writes there "
            "or the disk is failing. Clear the run's tasks from `copy_shard` on to write them again"
        )
        raise SealError(msg)


def _before(run: Run, doomed: list[Path]) -> removed.Before:
    """What the last release put into the folders that something is taken out of."""
    folder = release.last(run)
    if folder is None:
        return {}
    ledger = tables.read(
        folder / release.LEDGER_FILE, ["identity", "key", "sha256", "size", "staged_mtime_ns", "outcome"]
    )
    inside = {path.relative_to(run.output).parts[0] for path in doomed}
    concerned = pa.array([shown(name) for name in inside], pa.string())
    return removed.before(ledger.filter(pc.is_in(ledger["identity"], value_set=concerned)))


def _rows_by_shard(run: Run) -> list[pa.Table]:
    try:
        return [
            tables.read_all([path for path in (run.filtered(shard), run.copied(shard)) if path.exists()], LEDGER)
            for shard in range(run.params.shards)
        ]
    except FileNotFoundError as error:
        msg = f"{error.filename or error} is gone from the run's work folder; trigger a new run"
        raise SealError(msg) from error


def _write_ledger(run: Run, ledger: pa.Table, sizes: list[int], path: Path) -> None:
    """Write a ledger whose rows come shard by shard, `sizes` of each, and at last those of no shard."""
    start = 0
    with sharded.writing(path, LEDGER, run.params.shards) as add:
        for shard, size in zip([*range(run.params.shards), sharded.NO_SHARD], sizes, strict=True):
            add(shard, ledger.slice(start, size))
            start += size


def _with_outcome(ledger: pa.Table, rows: pa.ChunkedArray, outcome: Outcome) -> pa.Table:
    changed = {
        "outcome": pc.if_else(rows, outcome.value, ledger["outcome"]),
        "key": pc.if_else(rows, pa.scalar(None, pa.string()), ledger["key"]),
        "staged_mtime_ns": pc.if_else(rows, pa.scalar(None, pa.int64()), ledger["staged_mtime_ns"]),
    }
    return pa.table([changed.get(name, ledger[name]) for name in LEDGER.names], schema=LEDGER)


def _move_in(building: Path, folder: Path) -> None:
    """Make `building` the release folder; one that is there keeps its config and summary until they are remade."""
    if not folder.exists():
        building.rename(folder)
    else:
        for path in building.iterdir():
            path.replace(folder / path.name)
    files.sync_folder(folder.parent)
