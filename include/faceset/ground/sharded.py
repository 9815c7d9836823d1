"""A Parquet file that keeps identity shards apart: one shard is read without the others, all are replaced at once.

Each row group holds rows of one shard; a note in the file's metadata says which. So the manifest of a part,
or the ledger of a release, is one file, and yet no reader needs more than its shard in memory.
"""

import json
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from include.faceset.ground import files, tables

NO_SHARD = -1
"""Where rows go that have no identity."""
GATHERED_BYTES = 128 << 20
"""Rows that `writing` may hold until each shard gets a row group: many small ones would make the file slow to open."""
_NOTE = "faceset"

Add = Callable[[int, pa.Table], None]


def shard_of(identity: str, shards: int) -> int:
    """The shard of an identity: CRC-32 of its UTF-8 bytes, modulo the number of shards."""
    return zlib.crc32(identity.encode()) % shards


@contextmanager
def writing(
    path: Path,
    schema: pa.Schema,
    shards: int,
    note: dict[str, Any] | None = None,
    within: Path | None = None,
    *,
    gathered: int = 0,
) -> Iterator[Add]:
    """Give a function that adds rows of a shard; `path` holds them all when the block ends, else what it held before.

    Args:
        path: the file.
        schema: of the tables that are added.
        shards: how many shards there are.
        note: JSON-able facts to keep with the file; may be filled in until the block ends.
        within: as for `files.replacing`.
        gathered: bytes of rows to hold before they are written, where few rows of a shard are added at a time.
    """
    groups: list[int] = []
    waiting: dict[int, list[pa.Table]] = {}
    held = 0
    with (
        files.replacing(path, within) as temporary,
        # Nobody asks for statistics, and of thousands of row groups they would fill hundreds of MB.
        pq.ParquetWriter(temporary, schema, compression=tables.COMPRESSION, write_statistics=False) as writer,
    ):

        def add(shard: int, rows: pa.Table) -> None:
            nonlocal held
            if rows.num_rows:
                waiting.setdefault(shard, []).append(rows)
                held += rows.nbytes
            if held > gathered:
                flush()

        def flush() -> None:
            nonlocal held
            for shard in sorted(waiting):
                rows = pa.concat_tables(waiting.pop(shard))
                groups.append(shard)
                writer.write_table(rows, row_group_size=rows.num_rows)
            if held:  # many pieces of many sizes: unless told to, malloc keeps what they took
                pa.default_memory_pool().release_unused()
            held = 0

        yield add
        flush()
        kept = {"shards": shards, "groups": groups, **(note or {})}
        writer.add_key_value_metadata({_NOTE: json.dumps(kept)})


def note(path: Path) -> dict[str, Any]:
    """What is kept with a file: `shards`, `groups` (the shard of each row group) and the writer's own facts."""
    return _note(pq.read_metadata(path))


def _note(metadata: pq.FileMetaData) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(metadata.metadata[_NOTE.encode()])
    return found


def read(path: Path, shard: int, shards: int) -> pa.Table:
    """The rows of one of `shards` shards, however many the file was written with."""
    file = pq.ParquetFile(path)
    kept = _note(file.metadata)
    if kept["shards"] == shards or shard == NO_SHARD:
        return file.read_row_groups([group for group, of in enumerate(kept["groups"]) if of == shard])
    with_identity = [group for group, of in enumerate(kept["groups"]) if of != NO_SHARD]
    return of_shard(file.read_row_groups(with_identity), shard, shards)


def columns(path: Path) -> list[str]:
    """The names of a file's columns."""
    names: list[str] = pq.read_schema(path).names
    return names


def groups(path: Path, columns: list[str] | None = None) -> Iterator[tuple[int, pa.Table]]:
    """The row groups one after the other, each with its shard."""
    file = pq.ParquetFile(path)
    for group, shard in enumerate(_note(file.metadata)["groups"]):
        yield shard, file.read_row_group(group, columns=columns)


def of_shard(rows: pa.Table, shard: int, shards: int) -> pa.Table:
    """The rows whose identity lies in a shard."""
    return rows.filter(pc.equal(shards_of(rows["identity"], shards), shard))


def split(rows: pa.Table, shards: int) -> Iterator[tuple[int, pa.Table]]:
    """The rows of each shard that has some, in their order."""
    of_rows = shards_of(rows["identity"], shards)
    ordered = rows.take(pc.sort_indices(of_rows))
    counts = of_rows.value_counts()
    start = 0
    for shard, count in sorted(
        zip(counts.field("values").to_pylist(), counts.field("counts").to_pylist(), strict=True)
    ):
        yield shard, ordered.slice(start, count)
        start += count


def shards_of(identities: pa.ChunkedArray, shards: int) -> pa.Array:
    """The shard of each identity."""
    encoded = identities.combine_chunks().dictionary_encode()
    of_each = pa.array([shard_of(identity, shards) for identity in encoded.dictionary.to_pylist()], pa.int16())
    return of_each.take(encoded.indices)
