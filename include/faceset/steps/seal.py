"""seal: the shards' rows -> one ledger that balances, the release folder, and an output that holds exactly the release.

Where the run has no output, the manifest alone says what is to lie at the destination, and where its bytes are.
Here the one decision across shards falls: the same bytes under two identities are taken out, and
identities that this leaves with too few images go with them.
"""

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from include.faceset.erasure import receipt
from include.faceset.errors import Final
from include.faceset.exports import parts
from include.faceset.ground import sharded, sorted_merge, tables
from include.faceset.images.unchanged import present_files
from include.faceset.ledger import LEDGER, RULES, Outcome, balance, count_rows, kept
from include.faceset.names import shown
from include.faceset.output import set_aside
from include.faceset.release import release
from include.faceset.release.release import Release
from include.faceset.run import owner, turns
from include.faceset.run.attempt import Attempt, attempt
from include.faceset.run.run import Run

MANIFEST_COLUMNS = ["identity", "key", "sha256", "size", "mtime_ns", "export", "path", "format", "colour", "etag"]
MANIFEST = pa.schema([LEDGER.field(name) for name in MANIFEST_COLUMNS])
_NAMES = pa.schema([("identity", pa.string())])
_NAMES_AT_ONCE = 100_000
CLASSES = pa.schema([("index", pa.int64()), ("identity", pa.string()), ("images", pa.int64())])


class SealError(Final):
    """The run cannot be sealed: nothing is left, or the disk is not what the ledger says."""


@dataclass(frozen=True)
class HandedOver:
    """What `seal` tells the tasks after it; every path is absolute.

    `manifest` and `history` (None: never published) are Parquet files for the sync, `sync_record` where it keeps what
    its uploads return, `lease` by what name it holds the bucket, `origins` where it finds the bytes of each export
    (None: in the output); `erased` how many of the deletions are of people to erase.
    """

    release_id: str
    identities: int
    images: int
    folder: str
    manifest: str
    sync_record: str
    history: str | None
    lease: str
    erased: int
    origins: dict[str, dict[str, str]] | None


def hand_over(run: Run, sealed: Release) -> HandedOver:
    """What a run that was sealed tells the tasks after it."""
    folder = run.release(sealed.release_id)
    objects = folder / release.OBJECTS_FILE  # there if this release was published before
    return HandedOver(
        release_id=sealed.release_id,
        identities=sealed.identities,
        images=sealed.images,
        folder=str(folder),
        manifest=str(folder / release.MANIFEST_FILE),
        sync_record=str(run.sync_record()),
        history=str(objects) if objects.exists() else None,
        lease=owner.token(run),
        erased=receipt.images_to_delete(run),
        origins=None if run.on_disk else _origins(run),
    )


def _origins(run: Run) -> dict[str, dict[str, str]]:
    return {
        export.name: {
            "root": export.prefix if export.in_s3 else str(run.folder(export)),
            "aws_conn_id": export.aws_conn_id or run.dataset.aws_conn_id,
        }
        for export in run.dataset.exports
    }


def seal(run: Run) -> Release:
    """Seal a run: settle, balance, tidy the output, prove it, write the release folder and ``latest.json``.

    A run that rolls back proves the output against the release that it restored, whose folder stays as it is.

    Raises:
        LedgerError: the ledger does not balance.
        SealError: no image is left, or a file of the release is not on disk as it was written.
    """
    with attempt(run, "seal") as mine:
        turns.set_out(run)
        sealed = _seal(mine) if run.params.release is None else _seal_again(mine)
        turns.note_sealed(run, sealed.release_id)
        return sealed


def _seal_again(mine: Attempt) -> Release:
    run = mine.run
    restored = release.read(release.to_restore(run))
    if run.on_disk:
        bring_to(mine, lambda shard: kept(_copied(run, shard)))
    release.close_change(mine, restored)
    return restored


def _seal(mine: Attempt) -> Release:
    run, building = mine.run, mine.new
    parts.check_noted(run)
    images = _settled(mine, building / release.LEDGER_FILE)
    if run.on_disk:
        bring_to(mine, lambda shard: sorted_merge.read_sorted(images[shard]))
    digest = release.Digest()
    manifest = map(digest.add, sorted_merge.in_order(images, "key", MANIFEST.names))
    tables.write_all(manifest, MANIFEST, building / release.MANIFEST_FILE, within=mine.folder)
    classes = class_index(sorted_merge.in_order([_classes(mine, path) for path in images], "identity"))
    tables.write_all(classes, CLASSES, building / release.CLASSES_FILE, within=mine.folder)
    with (building / release.MANIFEST_FILE).open("rb") as written:
        manifest_sha256 = hashlib.file_digest(written, "sha256").hexdigest()
    sealed = Release(
        release_id=digest.release_id,
        dataset=run.dataset.name,
        identities=pq.read_metadata(building / release.CLASSES_FILE).num_rows,
        images=digest.images,
        size=digest.size,
        scanned=parts.counts(run),
        manifest_sha256=manifest_sha256,
        min_images=run.params.min_images,
        decode=run.params.decode,
        image_size=run.dataset.image_size,
        sealed_at=release.moment(run),
        parts=parts.digests(run),
        formerly=release.formerly(run, digest.release_id),
        rules=RULES,
    )
    release.write(sealed, building, within=mine.folder)
    release.move_in(mine, building, sealed.release_id)
    release.close_change(mine, sealed)
    return sealed


def _settled(mine: Attempt, path: Path) -> list[Path]:
    """Write the ledger, one shard in memory at a time, and check that it balances.

    Returns:
        For each shard a file of the kept rows (schema LEDGER), in the order of their keys.

    Raises:
        LedgerError: the ledger does not balance.
        SealError: no image is left, or a shard's rows are gone.
    """
    run = mine.run
    shared = _shared_bytes(mine)
    images = []
    in_ledger = Counter[str]()
    found = 0
    with sharded.writing(path, LEDGER, run.params.shards, within=mine.folder) as add:
        for shard in range(run.params.shards):
            rows = settle(_copied(run, shard), shared, run.params.min_images)
            add(shard, rows)
            in_ledger.update(count_rows(rows))
            rows = kept(rows)
            found += rows.num_rows
            images.append(sorted_merge.write_sorted(rows, "key", mine.folder / f"images-{shard:03d}.arrow"))
        rejected = parts.rejected(run)
        add(sharded.NO_SHARD, rejected)
        in_ledger.update(count_rows(rejected))
    balance(in_ledger, parts.counts(run))
    if not found:
        msg = (
            f"no image is left of {in_ledger.total():,} files; nothing is published, the output is as it was copied. "
            f"The reasons are in {run.work}; is local_source right, and min_images={run.params.min_images}?"
        )
        raise SealError(msg)
    return images


def _classes(mine: Attempt, images: Path) -> Path:
    """A shard's identities with their number of images, in order, in a file."""
    counted = sorted_merge.read_sorted(images, ["identity"]).group_by("identity").aggregate([([], "count_all")])
    counted = counted.rename_columns(["identity", "images"])
    return sorted_merge.write_sorted(counted, "identity", mine.folder / images.name.replace("images", "classes"))


def _shared_bytes(mine: Attempt) -> pa.Array:
    """SHA-256 of images that are kept more than once; since no identity keeps bytes twice, under two identities."""
    run = mine.run
    with _explained():
        total = sum(pq.read_metadata(run.selected(shard)).num_rows for shard in range(run.params.shards))
    hashes = (kept(_copied(run, shard, ["outcome", "sha256"]))["sha256"] for shard in range(run.params.shards))
    return sorted_merge.repeated(hashes, total, mine.folder / "hashes.parquet")


def settle(ledger: pa.Table, shared: pa.Array, min_images: int) -> pa.Table:
    """Take out the images of a shard whose bytes are `shared`, then the identities left with too few."""
    is_kept = pc.equal(ledger["outcome"], Outcome.KEPT.value)
    in_conflict = pc.and_(is_kept, pc.is_in(ledger["sha256"], value_set=shared))
    ledger = _with_outcome(ledger, in_conflict, Outcome.IDENTITY_CONFLICT)
    left = kept(ledger).group_by("identity").aggregate([([], "count_all")])
    enough = left["identity"].filter(pc.greater_equal(left["count_all"], min_images)).combine_chunks()
    still_kept = pc.equal(ledger["outcome"], Outcome.KEPT.value)
    too_few = pc.and_(still_kept, pc.invert(pc.is_in(ledger["identity"], value_set=enough)))
    return _with_outcome(ledger, too_few, Outcome.TOO_FEW_IMAGES)


def class_index(classes: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """The class of each identity as torchvision's ImageFolder will number it: folder names sorted by code point.

    Args:
        classes: identity and images (their number), in the order of identities.
    """
    first = 0
    for some in classes:
        index = pa.array(range(first, first + some.num_rows), pa.int64())
        first += some.num_rows
        yield pa.table([index, some["identity"], some["images"]], schema=CLASSES)


def bring_to(mine: Attempt, images: Callable[[int], pa.Table]) -> None:
    """Take out of the output whatever is not of the release, and check that all of the release is there.

    Args:
        mine: this try of sealing the run.
        images: the kept rows (schema LEDGER) of a shard.

    Raises:
        SealError: a file is missing or is not as it was written (size and mtime).
    """
    run = mine.run
    doomed: list[Path] = []
    missing = 0
    for shard, names in _top(mine, doomed):
        of_shard = images(shard)
        identities = pc.unique(of_shard["identity"])
        surplus = names.filter(pc.invert(pc.is_in(names, value_set=identities)))
        doomed += [run.output / name for name in surplus.to_pylist()]
        present = present_files(run.output, identities.to_pylist())
        doomed += _strays(run, of_shard, present)
        as_put = ["key", "size", "staged_mtime_ns"]
        found = of_shard.select(as_put).join(
            present.select(["key", "size", "mtime_ns", "links"]), keys=as_put, right_keys=["key", "size", "mtime_ns"]
        )
        missing += found["links"].null_count
    if doomed:
        release.open_for_change(mine)
        before = _before(run, doomed)
        for path in doomed:
            set_aside.take_out(mine, path, before)
    if missing:
        msg = (
            f"{missing:,} files are not in {run.output} as they were written: something else writes there "
            "or the disk is failing. Clear the run's tasks from `copy_shard` on to write them again"
        )
        raise SealError(msg)


def _top(mine: Attempt, odd: list[Path]) -> Iterator[tuple[int, pa.ChunkedArray]]:
    """What lies in the output: of each shard the names that would be its identities; what can be none goes to `odd`."""
    run = mine.run
    path = mine.folder / "names.parquet"
    with (
        sharded.writing(path, _NAMES, run.params.shards, within=mine.folder, gathered=sharded.GATHERED_BYTES) as add,
        os.scandir(run.output) as entries,
    ):
        while some := [entry.name for entry in islice(entries, _NAMES_AT_ONCE)]:
            odd += [run.output / name for name in some if shown(name) != name]
            safe = pa.table([[name for name in some if shown(name) == name]], schema=_NAMES)
            for shard, of_shard in sharded.split(safe, run.params.shards):
                add(shard, of_shard)
    for shard in range(run.params.shards):
        yield shard, sharded.read(path, shard, run.params.shards)["identity"]


def _strays(run: Run, images: pa.Table, present: pa.Table) -> Iterator[Path]:
    """What lies in the folders of identities but is not of `images`."""
    stray = present.filter(pc.invert(pc.is_in(present["key"], value_set=images["key"].combine_chunks())))
    for identity in pc.unique(stray["identity"]).to_pylist():
        of_identity = images.filter(pc.equal(images["identity"], identity))
        wanted = {run.output / key for key in of_identity["key"].to_pylist()}
        folder = run.output / identity
        yield from set(folder.iterdir()) - wanted if folder.is_dir() and not folder.is_symlink() else [folder]


def _before(run: Run, doomed: list[Path]) -> set_aside.Before:
    """What the last release put into the folders that something is taken out of."""
    folder = release.last(run)
    if folder is None:
        return {}
    inside = sorted({shown(path.relative_to(run.output).parts[0]) for path in doomed})
    known: set_aside.Before = {}
    for shard, concerned in sharded.split(pa.table([inside], schema=_NAMES), run.params.shards):
        ledger = sharded.read(folder / release.LEDGER_FILE, shard, run.params.shards)
        known |= set_aside.before(
            ledger.filter(pc.is_in(ledger["identity"], value_set=pc.unique(concerned["identity"])))
        )
    return known


def _copied(run: Run, shard: int, columns: list[str] | None = None) -> pa.Table:
    """Ledger rows of a shard as the copying left them, with those that the filter settled."""
    with _explained():
        # What an earlier filter of this run selected may have been copied too: it does not count.
        of_copy = [run.copied(shard)] if pq.read_metadata(run.selected(shard)).num_rows else []
        return tables.read_all([run.filtered(shard), *of_copy], LEDGER, columns)


@contextmanager
def _explained() -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        msg = f"{error.filename or error} is not in the run's work folder; clear from `filter_manifest` on"
        raise SealError(msg) from error


def _with_outcome(ledger: pa.Table, rows: pa.ChunkedArray, outcome: Outcome) -> pa.Table:
    changed = {
        "outcome": pc.if_else(rows, outcome.value, ledger["outcome"]),
        "key": pc.if_else(rows, pa.scalar(None, pa.string()), ledger["key"]),
        "staged_mtime_ns": pc.if_else(rows, pa.scalar(None, pa.int64()), ledger["staged_mtime_ns"]),
    }
    return pa.table([changed.get(name, ledger[name]) for name in LEDGER.names], schema=LEDGER)
