"""Bring back what a versioned bucket still holds: a copy inside S3 in the place of an upload."""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc
from botocore.exceptions import ClientError

from s3_sync.bucket.retry import ask
from s3_sync.errors import NoAnswer
from s3_sync.listing.versions import is_versioned, list_versions
from s3_sync.sync import record

if TYPE_CHECKING:
    from s3_sync.bucket.prefix import S3Prefix

log = logging.getLogger(__name__)


def restore(prefix: S3Prefix, wanted: pa.Table, history: pa.Table, *, max_concurrency: int = 32) -> pa.Table:
    """Copy old versions of ``wanted`` (key, size, sha256) into place; return those restored (``record.SCHEMA``).

    ``history`` (key, sha256, etag) tells what ETag an earlier PUT of the same bytes returned: a version of that
    key with that ETag and size has these bytes. Without versioning nothing is restored; what S3 refuses to copy is
    left to be uploaded.
    """
    known = wanted.select(["key", "size", "sha256"]).join(
        history.select(record.SCHEMA.names), keys=["key", "sha256"], join_type="inner"
    )
    if known.num_rows == 0 or not is_versioned(prefix):
        return record.empty()
    there = list_versions(prefix)
    readable = there.filter(pc.invert(pc.or_(there["marker"], there["archived"])))
    held = readable.group_by(["key", "size", "etag"]).aggregate([("version", "one")])
    found = known.join(held, keys=["key", "size", "etag"], join_type="inner")
    rows = zip(*(found[name].to_pylist() for name in ("key", "sha256", "version_one")), strict=True)
    with ThreadPoolExecutor(max_concurrency) as pool:
        done = pool.map(lambda row: (row[0], row[1], _copy(prefix, row[0], row[2])), rows)
        restored = [row for row in done if row[2] is not None]
    log.info("%d of %d objects copied from versions that S3 still holds", len(restored), wanted.num_rows)
    columns = zip(*restored, strict=True) if restored else ([], [], [])
    arrays = [pa.array(column, field.type) for column, field in zip(columns, record.SCHEMA, strict=True)]
    return pa.table(arrays, schema=record.SCHEMA)


def _copy(prefix: S3Prefix, key: str, version: str) -> str | None:
    full = prefix.key(key)

    def copy() -> str:
        answer = prefix.client.copy_object(
            Bucket=prefix.bucket,
            Key=full,
            CopySource={"Bucket": prefix.bucket, "Key": full, "VersionId": version},
            **prefix.connection.encryption,
        )
        etag: str = answer["CopyObjectResult"]["ETag"].strip('"')
        return etag

    try:
        return ask(prefix.uri, copy)
    except (ClientError, NoAnswer):
        return None


def without(rows: pa.Table, restored: pa.Table) -> pa.Table:
    """Return the rows whose key was not restored."""
    return rows.filter(pc.invert(pc.is_in(rows["key"], value_set=restored["key"].combine_chunks())))
