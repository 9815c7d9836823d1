"""A sync by one call, from plain values: what the operator does, for a task or a script."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from s3_sync.bucket.connection import connect
from s3_sync.bucket.options import ObjectOptions
from s3_sync.bucket.target import S3Target
from s3_sync.errors import InvalidOption
from s3_sync.lease import hold
from s3_sync.sources.origins import parse
from s3_sync.sync.sync import sync

if TYPE_CHECKING:
    from collections.abc import Mapping


def run(
    *,
    source: str | None,
    destination: str,
    objects: str | None = None,
    origins: str | Mapping[str, Mapping[str, Any]] | None = None,
    record: str | None = None,
    history: str | None = None,
    marker: str | None = None,
    aws_conn_id: str | None = "aws_default",
    region_name: str | None = None,
    verify: bool | str | None = None,
    delete: bool = True,
    max_delete_fraction: float = 0.1,
    approved_deletions: int = 0,
    max_concurrency: int = 64,
    dry_run: bool = False,
    encryption: str | None = None,
    kms_key_id: str | None = None,
    storage_class: str | None = None,
    tags: Mapping[str, str] | None = None,
    content_types: Mapping[str, str] | None = None,
    lease: str | None = None,
    holder: str = "",
    sole_writer: bool = False,
) -> dict[str, Any]:
    """Sync as `operators.S3SyncOperator` documents it and return `sync.SyncResult` as a dict.

    ``holder`` says in words whose ``lease`` it is. A ``dry_run`` takes none.
    """
    target = S3Target.parse(destination)
    connection = connect(
        target.bucket,
        aws_conn_id=aws_conn_id,
        region_name=region_name,
        verify=verify,
        encryption=encryption,
        kms_key_id=kms_key_id,
    )
    held = (
        hold(connection, target, owner=lease, holder=holder or lease, give_back=False, sole_writer=sole_writer)
        if lease and not dry_run
        else nullcontext(lambda: None)
    )
    with held as check:
        result = sync(
            connection,
            target,
            source=Path(source) if source else None,
            objects=objects,
            origins=parse(origins) or None,
            record_path=Path(record) if record else None,
            history=history,
            marker=_key_of(marker, target) if marker else None,
            options=ObjectOptions(storage_class, tags or {}, content_types or {}),
            delete=delete,
            max_delete_fraction=max_delete_fraction,
            approved_deletions=approved_deletions,
            max_concurrency=max_concurrency,
            dry_run=dry_run,
            check=check,
        )
    return asdict(result)


def _key_of(marker: str, target: S3Target) -> str:
    """Return the key of the marker's URI; raise InvalidOption unless it lies in the bucket, outside the prefix."""
    bucket, _, key = marker.removeprefix("s3://").partition("/")
    if not marker.startswith("s3://") or bucket != target.bucket or not key or key.startswith(target.prefix):
        raise InvalidOption(f"marker {marker!r}: it must be an object of bucket {target.bucket} beside {target.uri}")
    return key
