"""That what was uploaded is what lies there, for a server that does not compare it with its checksum itself."""

from __future__ import annotations

import base64
import hashlib
from typing import TYPE_CHECKING

from botocore.exceptions import ClientError

from s3_sync.bucket.capabilities import checks_bytes
from s3_sync.bucket.probe import Probe
from s3_sync.bucket.retry import Damaged
from s3_sync.listing import archived

if TYPE_CHECKING:
    from s3_sync.bucket.connection import S3Connection
    from s3_sync.bucket.prefix import S3Prefix

CHUNK = 1 << 20


def is_checked(prefix: S3Prefix) -> bool:
    """Whether the server itself refuses what was damaged on its way; False where that cannot be found out.

    Asking needs leave to write and delete under ``beside``.
    """
    try:
        return checks_bytes(Probe.of(prefix))
    except ClientError as error:
        if error.response["ResponseMetadata"]["HTTPStatusCode"] != 403:
            raise
        return False


def vouch(connection: S3Connection, key: str, etag: str | None, sha256: bytes, content: bytes | None = None) -> str:
    """Check that the object ``key`` (of the bucket), whose upload returned ``etag``, has this SHA-256; return its ETag.

    An ETag that is the MD5 of the ``content`` that was sent says so already; otherwise the object is read back. (Ceph
    RGW 16 returns no ETag for an upload in parts.) Raises Damaged.
    """
    if content is not None and etag and _is_md5_of(content, etag):
        return etag
    found, etag = _read(connection, key)
    if found != sha256:
        raise Damaged("what lies there is not what was sent")
    return etag


def has(connection: S3Connection, key: str, size: int, sha256: bytes, *, checked: bool) -> bool:
    """Whether the object ``key`` (of the bucket) has this SHA-256, by the one that a server keeps, or by reading it.

    A kept one counts only of a server that has ``checked`` it (`is_checked`), and one that is another proves nothing:
    after an upload in parts it is, on many servers, a sum of sums. What has gone meanwhile, or has been archived, has
    none.
    """
    try:
        if checked:
            head = connection.client.head_object(Bucket=connection.bucket, Key=key, ChecksumMode="ENABLED")
            if head["ContentLength"] != size or archived.tells_archived(head):
                return False
            if head.get("ChecksumSHA256") == base64.b64encode(sha256).decode():
                return True
        return _read(connection, key)[0] == sha256
    except ClientError as error:
        if error.response["ResponseMetadata"]["HTTPStatusCode"] == 404 or archived.is_refusal(error):
            return False
        raise


def _read(connection: S3Connection, key: str) -> tuple[bytes, str]:
    """Return the SHA-256 of an object's bytes, and its ETag."""
    answer = connection.client.get_object(Bucket=connection.bucket, Key=key)
    found = hashlib.sha256()
    for block in answer["Body"].iter_chunks(CHUNK):
        found.update(block)
    return found.digest(), str(answer["ETag"])


def _is_md5_of(content: bytes, etag: str) -> bool:
    return etag.strip('"') == hashlib.md5(content, usedforsecurity=False).hexdigest()
