"""What must be known over all shards, found with a little of each shard in memory: one order, and what occurs twice."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from statistics import median_high
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from include.faceset.ground import files, sharded, tables

ROWS_OF_EACH = 1_000
"""Rows of a batch; of each of the files that are merged two or three batches are in memory."""
HASHES_AT_ONCE = 2_000_000
"""Hashes in memory: with what counting them needs about 300 MB."""

_HASH = pa.schema([("sha256", pa.binary(32))])


def in_order(paths: Sequence[Path], by: str, columns: list[str] | None = None) -> Iterator[pa.Table]:
    """The rows of files of `write_sorted`, in the order of their column over all files.

    Args:
        paths: the files; of one schema.
        by: the column, ascending by code point.
        columns: what is wanted of them, `by` among it; None: all.
    """
    sources = [_SortedFile(path, by, columns) for path in paths]
    while sources := [source for source in sources if source.fill()]:
        reach = median_high(source.last for source in sources)
        for source in sources:
            source.read_to(reach)
        # Whatever is still unread comes behind the first of the last rows that were read.
        until = min((source.last for source in sources if source.unread), default=None)
        yield pa.concat_tables([source.take(until) for source in sources]).sort_by(by)


class _SortedFile:
    """One file, as far as it was read."""

    def __init__(self, path: Path, by: str, columns: list[str] | None) -> None:
        self.by, self.columns = by, columns
        self.file = _open_sorted(path, columns)
        self.unread = list(reversed(range(self.file.num_record_batches)))
        self.rows = pa.table({by: pa.array([], pa.string())})

    def fill(self) -> bool:
        """Have rows in hand; False if there are no more."""
        while self.rows.num_rows == 0 and self.unread:
            self.rows = self._next()
        return bool(self.rows.num_rows)

    def read_to(self, reach: str) -> None:
        """Have all rows in hand up to a value of the column."""
        while self.unread and self.last < reach:
            self.rows = pa.concat_tables([self.rows, self._next()])

    @property
    def last(self) -> str:
        return str(self.rows[self.by][-1].as_py())

    def take(self, until: str | None) -> pa.Table:
        """The rows in hand up to a value of the column, or all; they are then in hand no more."""
        rows = self.rows.num_rows
        count = rows if until is None else pc.sum(pc.less_equal(self.rows[self.by], until)).as_py()
        taken, self.rows = self.rows.slice(0, count), self.rows.slice(count)
        return taken

    def _next(self) -> pa.Table:
        rows = pa.Table.from_batches([self.file.get_batch(self.unread.pop())])
        return rows.select(self.columns or rows.column_names)


def repeated(hashes: Iterable[pa.ChunkedArray], total: int, scratch: Path) -> pa.Array:
    """SHA-256 that occur more than once.

    Args:
        hashes: of each shard, 32 bytes each.
        total: how many there are, about.
        scratch: a file to put them in where they are too many for memory; it is removed again.
    """
    parts = -(-total // HASHES_AT_ONCE)
    if parts <= 1:
        return _twice(pa.chunked_array([chunk for column in hashes for chunk in column.chunks], _HASH[0].type))
    try:
        with sharded.writing(scratch, _HASH, parts, within=scratch.parent, gathered=sharded.GATHERED_BYTES) as add:
            for column in hashes:
                rows = pa.table([column], schema=_HASH)
                for part, of_part in _by_first_byte(rows, parts):
                    add(part, of_part)
        found = [_twice(sharded.read(scratch, part, parts)["sha256"]) for part in range(parts)]
        return pa.concat_arrays(found)
    finally:
        scratch.unlink(missing_ok=True)


def _by_first_byte(rows: pa.Table, parts: int) -> Iterator[tuple[int, pa.Table]]:
    first = pc.binary_slice(rows["sha256"].cast(pa.binary()), 0, 1).combine_chunks().dictionary_encode()
    of_each = pa.array([byte[0] % parts for byte in first.dictionary.to_pylist()], pa.int16()).take(first.indices)
    for part in range(parts):
        yield part, rows.filter(pc.equal(of_each, part))


def _twice(hashes: pa.ChunkedArray) -> pa.Array:
    counts = hashes.value_counts()
    return counts.field("values").filter(pc.greater(counts.field("counts"), 1))


def write_sorted(rows: pa.Table, by: str, path: Path) -> Path:
    """Write rows so that `in_order` can read them: not as Parquet, which would tell much of each few rows."""
    options = pa.ipc.IpcWriteOptions(compression=tables.COMPRESSION)
    with (
        files.replacing(path, path.parent) as temporary,
        pa.ipc.new_file(temporary, rows.schema, options=options) as writer,
    ):
        writer.write_table(rows.sort_by(by), max_chunksize=ROWS_OF_EACH)
    return path


def read_sorted(path: Path, columns: list[str] | None = None) -> pa.Table:
    """All rows of a file of `write_sorted`."""
    found = _open_sorted(path, columns).read_all()
    return found.select(columns or found.column_names)


def _open_sorted(path: Path, columns: list[str] | None) -> Any:
    # Not mapped into memory: what was read would count as this task's memory.
    file = pa.OSFile(str(path))
    wanted = None if columns is None else [pa.ipc.open_file(file).schema.get_field_index(one) for one in columns]
    return pa.ipc.open_file(file, options=pa.ipc.IpcReadOptions(included_fields=wanted))
