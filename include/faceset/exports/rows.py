"""The rows of a shard, one by one: a file of an export, and what is known of it."""

from collections.abc import Iterator
from typing import NamedTuple

import pyarrow as pa


class Row(NamedTuple):
    """A selected file and, where the last release knows the same bytes, what it knows (else None)."""

    identity: str
    path: str
    export: str
    partition: str | None
    size: int
    mtime_ns: int
    etag: str | None
    scanned_as: str | None
    outcome: str | None
    key: str | None
    sha256: bytes | None
    format: str | None
    colour: str | None
    staged_mtime_ns: int | None
    brightness: float | None = None
    contrast: float | None = None
    sharpness: float | None = None
    dhash: bytes | None = None

    @property
    def name(self) -> str:
        """The file name in the export."""
        return self.path.rsplit("/", 1)[-1]

    @property
    def merged_name(self) -> str:
        """The name that the file would have in the merged dataset; parts of an export often repeat their names."""
        return self.name if self.partition is None else f"{self.partition}__{self.name}"

    @property
    def folder(self) -> str:
        """The folder in the export, or an empty text."""
        return self.path.rpartition("/")[0]


def rows_of(table: pa.Table) -> Iterator[Row]:
    """The rows of a table of the ledger's schema."""
    for batch in table.to_batches(max_chunksize=10_000):
        columns = [column.to_pylist() for column in batch.columns]
        yield from map(Row._make, zip(*columns, strict=True))
