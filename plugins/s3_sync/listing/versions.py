"""Bring back what a versioned bucket still holds: a copy inside S3 in the place of an upload."""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc
from botocore.exceptions import ClientError

from s3_sync.bucket.capabilities import Probe, versioning
from s3_sync.bucket.retry import ask, pages
from s3_sync.errors import NoAnswer
from s3_sync.listing import archived
from s3_sync.sync import record

if TYPE_CHECKING:
    from s3_sync.bucket.connection import S3Connection
    from s3_sync.bucket.target import S3Target

log = logging.getLogger(__name__)

VERSION = pa.schema([("key", pa.string()), ("size", pa.int64()), ("etag", pa.string()), ("version", pa.string())])


def restore(
    connection: S3Connection, target: S3Target, wanted: pa.Table, history: pa.Table, *, max_concurrency: int = 32
) -> pa.Table:
    """Copy old versions of ``wanted`` (key, size, sha256) into place; return those restored (``record.SCHEMA``).

    ``history`` (key, sha256, etag) tells what ETag an earlier PUT of the same bytes returned: a version of that
    key with that ETag and size has these bytes. Without versioning nothing is restored; what S3 refuses to copy is
    left to be uploaded.
    """
    known = wanted.select(["key", "size", "sha256"]).join(
        history.select(record.SCHEMA.names), keys=["key", "sha256"], join_type="inner"
    )
    if known.num_rows == 0 or not is_versioned(connection, target):
        return record.empty()
    held = list_versions(connection, target).group_by(["key", "size", "etag"]).aggregate([("version", "one")])
    found = known.join(held, keys=["key", "size", "etag"], join_type="inner")
    rows = zip(*(found[name].to_pylist() for name in ("key", "sha256", "version_one")), strict=True)
    with ThreadPoolExecutor(max_concurrency) as pool:
        done = pool.map(lambda row: (row[0], row[1], _copy(connection, target, row[0], row[2])), rows)
        restored = [row for row in done if row[2] is not None]
    log.info("%d of %d objects copied from versions that S3 still holds", len(restored), wanted.num_rows)
    columns = zip(*restored, strict=True) if restored else ([], [], [])
    arrays = [pa.array(column, field.type) for column, field in zip(columns, record.SCHEMA, strict=True)]
    return pa.table(arrays, schema=record.SCHEMA)


def is_versioned(connection: S3Connection, target: S3Target) -> bool:
    """Return whether the bucket keeps versions, or kept them once; False if the credentials may not ask."""
    found = versioning(Probe.of(connection, target))
    if found == "unknown":
        log.info("the bucket's versioning cannot be read (s3:GetBucketVersioning): everything is uploaded")
    return found in {"on", "suspended"}


def list_versions(connection: S3Connection, target: S3Target) -> pa.Table:
    """Return every version under ``target`` (schema VERSION) that can be read; no delete markers."""
    start = len(target.prefix)
    batches = []
    where = {"Bucket": target.bucket, "Prefix": target.prefix}
    markers = {"NextKeyMarker": "KeyMarker", "NextVersionIdMarker": "VersionIdMarker"}
    for page in pages(target.uri, connection.client.list_object_versions, markers, **where):
        found = [one for one in page.get("Versions", ()) if one.get("StorageClass") not in archived.CLASSES]
        columns = (
            [item["Key"][start:] for item in found],
            [item["Size"] for item in found],
            [item["ETag"].strip('"') for item in found],
            [item["VersionId"] for item in found],
        )
        batches.append(pa.record_batch(list(columns), schema=VERSION))
    return pa.Table.from_batches(batches, schema=VERSION)


def _copy(connection: S3Connection, target: S3Target, key: str, version: str) -> str | None:
    full = target.key(key)

    def copy() -> str:
        answer = connection.client.copy_object(
            Bucket=target.bucket,
            Key=full,
            CopySource={"Bucket": target.bucket, "Key": full, "VersionId": version},
            **connection.encryption,
        )
        etag: str = answer["CopyObjectResult"]["ETag"].strip('"')
        return etag

    try:
        return ask(target.uri, copy)
    except (ClientError, NoAnswer):
        return None


def without(rows: pa.Table, restored: pa.Table) -> pa.Table:
    """Return the rows whose key was not restored."""
    return rows.filter(pc.invert(pc.is_in(rows["key"], value_set=restored["key"].combine_chunks())))
