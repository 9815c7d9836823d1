"""The label of each identity: a number that it gets when a release first holds it, and that nobody else ever gets.

``labels.parquet`` beside the releases has a row for each number that was ever given. Of a person who was erased the
number stays there and names nobody. The numbers are no part of a release's id: the same exports, met in another order,
may be numbered otherwise.
"""

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from include.faceset import people
from include.faceset.errors import Final
from include.faceset.ground import sharded, tables
from include.faceset.people import People
from include.faceset.release import history, release
from include.faceset.run.attempt import Attempt

log = logging.getLogger(__name__)

LABELS = pa.schema([("label", pa.int64()), ("identity", pa.string())])
"""`identity` is null where the number is nobody's any more."""


class LabelError(Final):
    """The numbers that were given cannot be found again."""


@dataclass(frozen=True)
class Given:
    """The labels that were given so far: how many, and the file that says to whom (None: there are none)."""

    count: int
    path: Path | None

    def of_shard(self, shard: int, shards: int) -> pa.Table:
        """Label and identity of those who lie in a shard."""
        if self.path is None:
            return LABELS.empty_table()
        rows = sharded.read(self.path, shard, shards)
        return rows.filter(pc.is_valid(rows["identity"]))


def find(attempt: Attempt) -> Given:
    """The labels that were given for this output; made anew from the kept releases if they were lost or damaged.

    Raises:
        LabelError: they cannot be made anew.
    """
    run = attempt.run
    if run.dataset.compact_labels:
        return Given(0, None)
    kept = history.folders(run)
    expected = release.read(kept[0]).labels if kept else 0
    count = _count(run.labels)
    if count is not None and count >= expected:
        return Given(count, run.labels)
    if not expected:
        return Given(0, None)
    log.warning(
        "%s is %s: it is made anew from the releases that are kept; an identity that none of them holds gets a new "
        "number when it comes back",
        run.labels,
        "gone" if count is None and not run.labels.exists() else "damaged",
    )
    _make_anew(attempt, kept, expected)
    return Given(expected, run.labels)


def _count(path: Path) -> int | None:
    """How many labels a file gives; None if there is none, or it cannot be read."""
    try:
        rows: int = pq.read_metadata(path).num_rows
        sharded.note(path)
    except (OSError, pa.ArrowException, KeyError, TypeError):
        return None
    return rows


def _make_anew(attempt: Attempt, kept: list[Path], given: int) -> None:
    """Write the labels that the releases say, the newest first; a number that none of them knows is nobody's."""
    names: dict[int, str] = {}
    known: set[str] = set()
    for folder in kept:
        try:
            classes = tables.read(folder / release.CLASSES_FILE, ["label", "identity"]).drop_null()
        except (OSError, pa.ArrowException) as error:
            raise LabelError(
                f"{attempt.run.labels} is lost, and {folder / release.CLASSES_FILE} that tells which number an identity"
                f" has cannot be read ({error}). Restore one of them, or set compact_labels: true in the dataset file"
                " to number all identities anew"
            ) from error
        for label, identity in zip(classes["label"].to_pylist(), classes["identity"].to_pylist(), strict=True):
            if label not in names and identity not in known and label < given:
                names[label] = identity
                known.add(identity)
    rows = tables.filled({"label": range(given), "identity": [names.get(one) for one in range(given)]}, LABELS, given)
    _write(attempt, iter([rows]))


def keep(attempt: Attempt, before: Given, classes: Path) -> int:
    """Write the labels with those that a release's `classes` have got; how many there are now."""
    _write(attempt, _with_new(before, classes))
    count: int = pq.read_metadata(attempt.run.labels).num_rows
    return count


def whose(path: Path, listed: People) -> People:
    """Of those listed, who has a number."""
    found = set[str]()
    for _, rows in sharded.groups(path):
        found.update(rows["identity"].filter(people.of_identities(listed, rows["identity"])).to_pylist())
    return frozenset(found)


def forget(attempt: Attempt, listed: People) -> None:
    """Let the numbers of those listed be nobody's."""
    _write(attempt, _without_names(attempt.run.labels, listed))


def _without_names(path: Path, listed: People) -> Iterator[pa.Table]:
    for _, rows in sharded.groups(path):
        named = pc.fill_null(people.of_identities(listed, rows["identity"]), fill_value=False)
        names = pc.if_else(named, pa.scalar(None, pa.string()), rows["identity"])
        yield rows.set_column(1, LABELS.field("identity"), names)


def _with_new(before: Given, classes: Path) -> Iterator[pa.Table]:
    if before.path is not None:
        yield from (rows for _, rows in sharded.groups(before.path))
    for batch in pq.ParquetFile(classes).iter_batches(columns=LABELS.names[::-1]):
        rows = pa.Table.from_batches([batch]).select(LABELS.names)
        yield rows.filter(pc.greater_equal(rows["label"], before.count))


def _write(attempt: Attempt, rows: Iterator[pa.Table]) -> None:
    run = attempt.run
    shards = run.params.shards
    with sharded.writing(run.labels, LABELS, shards, within=attempt.folder, gathered=sharded.GATHERED_BYTES) as add:
        for some in rows:
            named = some.filter(pc.is_valid(some["identity"]))
            add(sharded.NO_SHARD, some.filter(pc.is_null(some["identity"])))
            for shard, of_shard in sharded.split(named, shards):
                add(shard, of_shard)
