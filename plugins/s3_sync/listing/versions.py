"""Every version and delete marker that a bucket keeps of the keys under a prefix."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from s3_sync.bucket.capabilities import versioning
from s3_sync.bucket.probe import Probe
from s3_sync.bucket.retry import pages
from s3_sync.listing import archived

if TYPE_CHECKING:
    from collections.abc import Mapping

    from s3_sync.bucket.prefix import S3Prefix

log = logging.getLogger(__name__)

VERSION = pa.schema(
    [
        ("key", pa.string()),
        ("size", pa.int64()),
        ("etag", pa.string()),
        ("version", pa.string()),
        ("latest", pa.bool_()),
        ("marker", pa.bool_()),
        ("archived", pa.bool_()),
    ]
)
NEXT = {"NextKeyMarker": "KeyMarker", "NextVersionIdMarker": "VersionIdMarker"}


def list_versions(prefix: S3Prefix, below: str = "") -> pa.Table:
    """Return every version and delete marker (schema VERSION) of the keys under ``prefix`` that begin with ``below``.

    Keys are relative to the prefix. A delete marker has size 0 and no ETag; what is ``archived`` cannot be read.

    Raises ClientError where it is refused, NoAnswer.
    """
    where = {"Bucket": prefix.bucket, "Prefix": prefix.key(below)}
    batches = []
    for page in pages(prefix.uri, prefix.client.list_object_versions, NEXT, **where):
        rows = [_row(prefix, one, marker=False) for one in page.get("Versions", ())]
        rows += [_row(prefix, one, marker=True) for one in page.get("DeleteMarkers", ())]
        batches.append(pa.RecordBatch.from_pylist(rows, schema=VERSION))
    return pa.Table.from_batches(batches, schema=VERSION)


def _row(prefix: S3Prefix, one: Mapping[str, Any], *, marker: bool) -> dict[str, Any]:
    return {
        "key": one["Key"][len(prefix.target.prefix) :],
        "size": one.get("Size", 0),
        "etag": None if marker else one["ETag"].strip('"'),
        "version": one["VersionId"],
        "latest": one["IsLatest"],
        "marker": marker,
        "archived": one.get("StorageClass") in archived.CLASSES,
    }


def is_versioned(prefix: S3Prefix) -> bool:
    """Return whether the bucket keeps versions, or kept them once; False if the credentials may not ask."""
    found = versioning(Probe.of(prefix))
    if found == "unknown":
        log.info("the bucket's versioning cannot be read (s3:GetBucketVersioning): everything is uploaded")
    return found in {"on", "suspended"}
