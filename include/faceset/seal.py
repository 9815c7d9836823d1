"""seal: the shards' rows -> one ledger that balances, the release folder, and an output that holds exactly the release.

Here the one decision across shards falls: the same bytes under two identities are taken out, and
identities that this leaves with too few images go with them.
"""

import hashlib
import os
import stat
from itertools import groupby
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from include.faceset import files, release, scan, tables
from include.faceset.copy_shard import remove_entry
from include.faceset.ledger import LEDGER, Outcome, balance, kept
from include.faceset.release import Release
from include.faceset.run import Run

MANIFEST_COLUMNS = ["identity", "key", "sha256", "size", "mtime_ns", "export", "path", "format", "colour"]


class SealError(RuntimeError):
    """The run cannot be sealed: nothing is left, or the disk is not what the ledger says."""


def seal(run: Run, scanned: dict[str, int]) -> Release:
    """Seal a run: settle, balance, tidy the output, prove it, write the release folder and ``latest.json``.

    Args:
        run: the run; all its shards are copied.
        scanned: number of files that the scan met, by export.

    Raises:
        LedgerError: the ledger does not balance.
        SealError: no image is left, or a file of the release is not on disk as it was written.
    """
    ledger = settle(_rows_of_run(run), run.params.min_images)
    balance(ledger, scanned)
    manifest = kept(ledger).sort_by("key").select(MANIFEST_COLUMNS)
    if manifest.num_rows == 0:
        msg = (
            f"no image is left of {ledger.num_rows:,} files; nothing is published and the output is as it was copied. "
            f"The reasons are in {run.work}; is local_source right, and min_images={run.params.min_images}?"
        )
        raise SealError(msg)
    bring_to(run, manifest)
    building = run.work / "release"
    files.remove_tree(building)
    tables.write(manifest, building / release.MANIFEST_FILE)
    tables.write(ledger, building / release.LEDGER_FILE)
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
    )
    release.write(sealed, building)
    _move_in(building, run.release(sealed.release_id))
    release.close_change(run, sealed)
    return sealed


def settle(ledger: pa.Table, min_images: int) -> pa.Table:
    """Take out the images whose bytes are kept under two identities, then the identities left with too few."""
    is_kept = pc.equal(ledger["outcome"], Outcome.KEPT.value)
    images = ledger.filter(is_kept)
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


def bring_to(run: Run, manifest: pa.Table) -> None:
    """Remove from the output whatever is not of the manifest, and check that all of the manifest is there.

    Args:
        run: the run.
        manifest: rows sorted by key.

    Raises:
        SealError: a file is missing or has another size.
    """
    expected = {
        identity: {key.rpartition("/")[2]: size for _, key, size in rows}
        for identity, rows in groupby(
            zip(*(manifest[name].to_pylist() for name in ("identity", "key", "size")), strict=True),
            key=lambda row: row[0],
        )
    }
    with os.scandir(run.output) as entries:
        strays = [
            Path(entry.path)
            for entry in entries
            if entry.name not in expected or not entry.is_dir(follow_symlinks=False)
        ]
    for stray in strays:
        release.open_for_change(run)
        remove_entry(stray)
    missing = sum(_bring_identity(run, identity, sizes) for identity, sizes in expected.items())
    if missing:
        msg = (
            f"{missing:,} files are not in {run.output} as they were written: something else writes there "
            "or the disk is failing. Clear the run's tasks from `copy_shard` on to write them again"
        )
        raise SealError(msg)


def _bring_identity(run: Run, identity: str, sizes: dict[str, int]) -> int:
    folder = run.output / identity
    good = 0
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name not in sizes:
                    release.open_for_change(run)
                    remove_entry(Path(entry.path))
                    continue
                status = entry.stat(follow_symlinks=False)
                good += stat.S_ISREG(status.st_mode) and status.st_size == sizes[entry.name]
    except FileNotFoundError:
        return len(sizes)
    return len(sizes) - good


def _rows_of_run(run: Run) -> pa.Table:
    shards = range(run.params.shards)
    filtered = [run.filtered(shard) for shard in shards]
    copied = [path for path in map(run.copied, shards) if path.exists()]
    try:
        return tables.read_all([*scan.rejected_files(run), *filtered, *copied], LEDGER)
    except FileNotFoundError as error:
        msg = f"{error.filename or error} is gone from the run's work folder; trigger a new run"
        raise SealError(msg) from error


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
