"""What is asked of a sync, in one value."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from s3_sync.bucket.options import ObjectOptions
from s3_sync.errors import InvalidOption
from s3_sync.sources.origins import parse
from s3_sync.values import as_bool, as_count, as_fraction

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pyarrow as pa

    from s3_sync.bucket.target import S3Target
    from s3_sync.sources.origins import Origin

MAX_CONCURRENCY = 1024


@dataclass(frozen=True)
class SyncRequest:
    """What a prefix is to hold, where the bytes lie, and how far a sync may go.

    ``objects`` (key, size, sha256; a table or the path of a Parquet file) says what is expected; without it, every file
    under ``source``. With ``origins`` it also says in which of them each file lies (`origins.attach`), and ``source``
    is not used. ``record_path`` is where the ETags of uploads are kept; it is read at the start and written while
    uploading, so that a sync that was killed goes on where it was. ``history`` is a Parquet file of earlier uploads
    (key, sha256, etag), for `bring_back.restore`. ``marker`` is the key of an object that calls the destination
    complete: it is deleted before the first change. ``approved_deletions`` is how many keys may be deleted whatever
    ``max_delete_fraction`` says.

    Raises InvalidOption for values that cannot be meant.
    """

    source: Path | None = None
    objects: pa.Table | Path | str | None = None
    origins: Mapping[str, Origin] | None = None
    record_path: Path | None = None
    history: Path | str | None = None
    marker: str | None = None
    options: ObjectOptions = field(default_factory=ObjectOptions)
    delete: bool = True
    max_delete_fraction: float = 0.1
    approved_deletions: int = 0
    max_concurrency: int = 64
    dry_run: bool = False

    def __post_init__(self) -> None:
        as_fraction("max_delete_fraction", self.max_delete_fraction)
        as_count("max_concurrency", self.max_concurrency, 1, MAX_CONCURRENCY)
        if self.objects is None and (self.source is None or self.origins is not None):
            raise InvalidOption("without a local folder, objects must say what is expected")

    @classmethod
    def of(
        cls,
        target: S3Target,
        *,
        source: str | None = None,
        objects: str | None = None,
        origins: str | Mapping[str, Mapping[str, Any]] | None = None,
        record: str | None = None,
        history: str | None = None,
        marker: str | None = None,
        delete: bool | str = True,
        max_delete_fraction: float | str = 0.1,
        approved_deletions: int | str = 0,
        max_concurrency: int = 64,
        dry_run: bool | str = False,
        storage_class: str | None = None,
        tags: Mapping[str, str] | None = None,
        content_types: Mapping[str, str] | None = None,
    ) -> SyncRequest:
        """Return the request that plain values make, as `operators.S3SyncOperator` documents them; empty is none.

        Raises InvalidOption.
        """
        return cls(
            source=Path(source) if source else None,
            objects=objects or None,
            origins=parse(origins or None) or None,
            record_path=Path(record) if record else None,
            history=history or None,
            marker=_key_of(marker, target) if marker else None,
            options=ObjectOptions(storage_class or None, tags or {}, content_types or {}),
            delete=as_bool("delete", delete),
            max_delete_fraction=as_fraction("max_delete_fraction", max_delete_fraction),
            approved_deletions=as_count("approved_deletions", approved_deletions),
            max_concurrency=max_concurrency,
            dry_run=as_bool("dry_run", dry_run),
        )


def _key_of(marker: str, target: S3Target) -> str:
    """Return the key of the marker's URI; raise InvalidOption unless it lies in the bucket, outside the prefix."""
    bucket, _, key = marker.removeprefix("s3://").partition("/")
    if not marker.startswith("s3://") or bucket != target.bucket or not key or key.startswith(target.prefix):
        raise InvalidOption(f"marker {marker!r}: it must be an object of bucket {target.bucket} beside {target.uri}")
    return key
