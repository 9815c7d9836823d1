"""The merged dataset is brought to exactly a release: what is not of it goes, and all of it has to be there."""

import os
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from include.faceset.errors import Final
from include.faceset.ground import sharded, tables
from include.faceset.images.unchanged import present_files
from include.faceset.names import as_text
from include.faceset.output import set_aside
from include.faceset.release import pointer, release
from include.faceset.run.attempt import Attempt
from include.faceset.run.run import Run

_NAMES = pa.schema([("identity", pa.string())])
_NAMES_AT_ONCE = 100_000


class SealError(Final):
    """The run cannot be sealed: nothing is left, or the disk is not what the ledger says."""


def bring_to(attempt: Attempt, images: Callable[[int], pa.Table]) -> None:
    """Take out of the output whatever is not of the release, and check that all of the release is there.

    Args:
        attempt: this try of sealing the run.
        images: the kept rows (schema LEDGER) of a shard.

    Raises:
        SealError: a file is missing or is not as it was written (size and mtime).
    """
    run = attempt.run
    doomed: list[Path] = []
    missing = 0
    for shard, names in _top(attempt, doomed):
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
    # Only now that all was listed: a folder that changes while it is listed may name a file twice, or never.
    if doomed:
        pointer.open_for_change(attempt)
        placed = _placed(run, doomed)
        for path in doomed:
            set_aside.take_out(attempt, path, placed)
    if missing:
        raise SealError(
            f"{missing:,} files are not in {run.output} as they were written: something else writes there "
            "or the disk is failing. Clear the run's tasks from `copy_shard` on to write them again"
        )


def _top(attempt: Attempt, odd: list[Path]) -> Iterator[tuple[int, pa.ChunkedArray]]:
    """What lies in the output: of each shard the names that would be its identities; what can be none goes to `odd`."""
    run = attempt.run
    path = attempt.folder / "names.parquet"
    with (
        sharded.writing(path, _NAMES, run.params.shards, within=attempt.folder, gathered=sharded.GATHERED_BYTES) as add,
        os.scandir(run.output) as entries,
    ):
        while some := [entry.name for entry in islice(entries, _NAMES_AT_ONCE)]:
            odd += [run.output / name for name in some if as_text(name) != name]
            safe = pa.table([[name for name in some if as_text(name) == name]], schema=_NAMES)
            for shard, of_shard in sharded.split(safe, run.params.shards):
                add(shard, of_shard)
    for shard in range(run.params.shards):
        yield shard, sharded.read(path, shard, run.params.shards)["identity"]


def _strays(run: Run, images: pa.Table, present: pa.Table) -> Iterator[Path]:
    """What lies in the folders of identities but is not of `images`."""
    stray = tables.without(present, "key", images["key"])
    for identity in pc.unique(stray["identity"]).to_pylist():
        of_identity = images.filter(pc.equal(images["identity"], identity))
        wanted = {run.output / key for key in of_identity["key"].to_pylist()}
        folder = run.output / identity
        yield from set(folder.iterdir()) - wanted if folder.is_dir() and not folder.is_symlink() else [folder]


def _placed(run: Run, doomed: list[Path]) -> set_aside.Placed:
    """What the last release put into the folders that something is taken out of."""
    folder = pointer.last(run)
    if folder is None:
        return {}
    inside = sorted({as_text(path.relative_to(run.output).parts[0]) for path in doomed})
    placed: set_aside.Placed = {}
    for shard, concerned in sharded.split(pa.table([inside], schema=_NAMES), run.params.shards):
        ledger = sharded.read(folder / release.LEDGER_FILE, shard, run.params.shards)
        placed |= set_aside.placed_by(tables.only(ledger, "identity", concerned["identity"]))
    return placed
