"""Parquet in and out: zstd, written whole or not at all; and what is asked of many tables."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from include.faceset.ground import files

COMPRESSION = "zstd"


def write(table: pa.Table, path: Path, within: Path | None = None) -> None:
    """Write a table so that `path` holds all of it or what it held before; `within` as for `files.replacing`."""
    with files.replacing(path, within) as temporary:
        pq.write_table(table, temporary, compression=COMPRESSION)


def write_all(parts: Iterable[pa.Table], schema: pa.Schema, path: Path, within: Path | None = None) -> None:
    """Write tables one after the other into one file, as `write` does; each is a row group."""
    with (
        files.replacing(path, within) as temporary,
        pq.ParquetWriter(temporary, schema, compression=COMPRESSION) as writer,
    ):
        for part in parts:
            writer.write_table(part.cast(schema))


def read(path: Path, columns: list[str] | None = None) -> pa.Table:
    """Read one Parquet file, as it is: no partition columns are made from its path."""
    return pq.ParquetFile(path).read(columns=columns)


def read_all(paths: Iterable[Path], schema: pa.Schema, columns: list[str] | None = None) -> pa.Table:
    """The union of Parquet files of one schema; an empty table of it for no file."""
    wanted = schema if columns is None else pa.schema([schema.field(name) for name in columns])
    tables = [read(path, columns).cast(wanted) for path in paths]
    return pa.concat_tables(tables) if tables else wanted.empty_table()


def conformed(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """A table in the columns of a schema; what it was written without, before there was such a column, is null."""
    return filled({name: table[name] for name in table.column_names}, schema, table.num_rows)


def filled(columns: Mapping[str, Any], schema: pa.Schema, rows: int) -> pa.Table:
    """A table of a schema from arrays or lists by name; the columns not given are null."""
    return pa.table([columns.get(field.name, pa.nulls(rows, field.type)) for field in schema], schema=schema)


def only(rows: pa.Table, column: str, values: pa.Array | pa.ChunkedArray) -> pa.Table:
    """The rows whose column has one of the values."""
    return rows.filter(pc.is_in(rows[column], value_set=pc.unique(values)))


def without(rows: pa.Table, column: str, values: pa.Array | pa.ChunkedArray) -> pa.Table:
    """The other rows."""
    return rows.filter(pc.invert(pc.is_in(rows[column], value_set=pc.unique(values))))


def of_rows(rows: Sequence[Sequence[object]], schema: pa.Schema) -> pa.Table:
    """A table of rows whose values come in the schema's order."""
    columns = zip(*rows, strict=True) if rows else ([] for _ in schema)
    return pa.table(
        [pa.array(column, field.type) for column, field in zip(columns, schema, strict=True)], schema=schema
    )
