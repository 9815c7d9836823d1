"""Rows of a release's ledger, found without reading all of it; people to erase are never among them."""

from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from include.faceset import people
from include.faceset.ground import sharded, tables
from include.faceset.images import looks
from include.faceset.ledger import LEDGER, Outcome
from include.faceset.people import People
from include.faceset.release import release
from include.faceset.run.run import Run

Wanted = Callable[[pa.ChunkedArray], pa.ChunkedArray]
"""Which values of a column are wanted."""


class Ledger:
    """A release's ledger, open for many questions."""

    def __init__(self, folder: Path, listed: People) -> None:
        self._file = pq.ParquetFile(folder / release.LEDGER_FILE)
        note = sharded.note(folder / release.LEDGER_FILE)
        self._shards: int = note["shards"]
        self._groups: list[int] = note["groups"]
        self._listed = listed

    def of_identities(self, identities: Iterable[str]) -> pa.Table:
        """The rows (schema LEDGER) of identities, and of files that were scanned as theirs; one shard each is read."""
        names = pa.array(sorted(set(identities)), pa.string())
        shards = {sharded.shard_of(name, self._shards) for name in names.to_pylist()}
        rows = self._read([group for group, shard in enumerate(self._groups) if shard in shards])
        return rows.filter(
            pc.or_(pc.is_in(rows["identity"], value_set=names), pc.is_in(rows["scanned_as"], value_set=names))
        )

    def where(self, column: str, value: object) -> pa.Table:
        """The rows whose column has a value; only row groups that have it are read whole."""
        return self._where(column, lambda values: pc.equal(values, pa.scalar(value, LEDGER.field(column).type)))[0]

    def of_path(self, path: str, most: int) -> tuple[pa.Table, int]:
        """At least `most` rows of files of a path in their export, or of a name, and how many there are in all."""

        def is_wanted(paths: pa.ChunkedArray) -> pa.ChunkedArray:
            return pc.or_(pc.equal(paths, path), pc.ends_with(paths, pattern=f"/{path}"))

        return self._where("path", is_wanted, most)

    def page(self, outcome: str, start: int, count: int) -> tuple[pa.Table, int]:
        """Some rows of an outcome, in the ledger's order, and how many there are of it in all."""
        found, seen = [LEDGER.empty_table()], 0
        for group in range(self._file.num_row_groups):
            here = self._file.read_row_group(group, columns=["outcome"])["outcome"]
            number = pc.sum(pc.equal(here, outcome)).as_py() or 0
            if number and seen < start + count and seen + number > start:
                rows = self._read([group])
                rows = rows.filter(pc.equal(rows["outcome"], outcome))
                found.append(rows.slice(max(0, start - seen), start + count - max(start, seen)))
            seen += number
        return pa.concat_tables(found), seen

    def extremes(self, measure: str, start: int, count: int, *, highest: bool = False) -> tuple[pa.Table, int]:
        """Some kept rows in the order of a measure, the lowest or the highest first, and how many were measured."""
        groups = [
            self._file.read_row_group(one, columns=["outcome", measure]) for one in range(self._groups_there(measure))
        ]
        sizes = [one.num_rows for one in groups]
        if not sizes:
            return LEDGER.empty_table(), 0
        every = pa.concat_tables(groups)
        values = pc.if_else(pc.equal(every["outcome"], Outcome.KEPT.value), every[measure], None)
        order = pc.array_sort_indices(values, "descending" if highest else "ascending", null_placement="at_end")
        total = len(values) - values.null_count
        wanted = order[start : min(start + count, total)].to_pylist()
        return self._take(wanted, sizes), total

    def _groups_there(self, measure: str) -> int:
        """How many row groups there are; none, of a release of old that has no such measure."""
        return self._file.num_row_groups if measure in self._file.schema_arrow.names else 0

    def _take(self, wanted: list[int], sizes: list[int]) -> pa.Table:
        """The rows of some numbers, in their order."""
        starts = [sum(sizes[:group]) for group in range(len(sizes))]
        group_of = {row: bisect_right(starts, row) - 1 for row in wanted}
        tables_of = {group: self._file.read_row_group(group) for group in sorted(set(group_of.values()))}
        rows = [tables_of[group_of[row]].slice(row - starts[group_of[row]], 1) for row in wanted]
        found = pa.concat_tables(rows) if rows else LEDGER.empty_table()
        return people.separate(self._listed, tables.conformed(found, LEDGER))[1]

    def conflicts(self) -> pa.Table:
        """The rows of all images whose bytes lie under two identities, sorted by SHA-256."""
        return self.where("outcome", Outcome.IDENTITY_CONFLICT.value).sort_by(
            [("sha256", "ascending"), ("identity", "ascending")]
        )

    def near_copies(self, most: int) -> tuple[list[pa.Table], int]:
        """Kept images of several identities that look alike (`looks.alike`): at most so many groups, and how many."""
        if not self._groups_there("dhash"):
            return [], 0
        columns = ["outcome", "identity", *looks.COMPARED]
        groups = [self._file.read_row_group(one, columns=columns) for one in range(self._file.num_row_groups)]
        found = looks.alike(pa.concat_tables(groups)) if groups else []
        sizes = [one.num_rows for one in groups]
        return [self._take(numbers, sizes) for numbers in found[:most]], len(found)

    def _where(self, column: str, is_wanted: Wanted, most: int | None = None) -> tuple[pa.Table, int]:
        """The rows that are wanted, of as many row groups as have `most` of them, and how many there are in all."""
        groups, total = [], 0
        for group in range(self._file.num_row_groups):
            found = is_wanted(self._file.read_row_group(group, columns=[column])[column])
            number = pc.sum(found).as_py() or 0
            if number and (most is None or total < most):
                groups.append(group)
            total += number
        rows = self._read(groups)
        return rows.filter(is_wanted(rows[column])), total

    def _read(self, groups: list[int]) -> pa.Table:
        rows = tables.conformed(self._file.read_row_groups(groups), LEDGER) if groups else LEDGER.empty_table()
        return people.separate(self._listed, rows)[1]


def ledger(run: Run, folder: Path) -> Ledger:
    """The ledger of a release."""
    return Ledger(folder, people.to_erase(run))


def disputes(rows: pa.Table, start: int, count: int) -> Iterator[tuple[bytes, list[dict[str, object]]]]:
    """Some of the disputes among rows of `Ledger.conflicts`: the SHA-256, and the rows of its files."""
    hashes = pc.unique(rows["sha256"].drop_null())[start : start + count]
    for sha256 in hashes.to_pylist():
        yield sha256, rows.filter(pc.equal(rows["sha256"], pa.scalar(sha256, pa.binary(32)))).to_pylist()
