"""Single files beside a synced prefix: what describes it, rather than what it holds."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

import obstore
from botocore.exceptions import ClientError
from obstore.exceptions import BaseError

from s3_sync.bucket.options import ObjectOptions
from s3_sync.bucket.retry import ask
from s3_sync.errors import NoAnswer, UploadFailed, cause
from s3_sync.proof.vouch import is_checked, vouch
from s3_sync.sync.unfinished import abort_unfinished

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from s3_sync.bucket.connection import S3Connection
    from s3_sync.bucket.target import S3Target

POINTER = "latest.json"


def publish(
    connection: S3Connection,
    releases: S3Target,
    folder: Path,
    names: Sequence[str],
    pointer: Mapping[str, Any],
    *,
    check: Callable[[], None] = lambda: None,
) -> None:
    """Put the files ``names`` of ``folder`` under ``releases``/<folder's name>/ and then, last of all, the pointer.

    ``latest.json`` under ``releases`` holds ``pointer`` as JSON: call this only for a destination that is proven.
    ``check`` is called before each of them: it raises if the destination is no longer the caller's (`lease.hold`).

    Raises UploadFailed.
    """
    checked = is_checked(connection, releases)
    for name in names:
        check()
        put_file(connection, releases, folder / name, f"{folder.name}/{name}", checked=checked)
    abort_unfinished(connection, releases)
    check()
    put_bytes(connection, releases, json.dumps(pointer, indent=2).encode(), POINTER, checked=checked)


def read_pointer(connection: S3Connection, releases: S3Target) -> dict[str, Any]:
    """Return what ``latest.json`` under ``releases`` holds; nothing where there is none. Raises as `get_bytes` does."""
    content = get_bytes(connection, releases, POINTER)
    found: dict[str, Any] = json.loads(content) if content is not None else {}
    return found


def put_file(connection: S3Connection, target: S3Target, path: Path, key: str, *, checked: bool = False) -> str | None:
    """Upload the file at ``path`` as ``key`` under ``target``; return its ETag.

    The object appears whole or not at all. Unless the server is known to have ``checked`` its SHA-256 it is compared
    by its ETag, or read back. Raises UploadFailed.
    """
    return _put(connection, target, path, key, checked=checked)


def put_bytes(
    connection: S3Connection, target: S3Target, content: bytes, key: str, *, checked: bool = False
) -> str | None:
    """Upload ``content`` as ``key`` under ``target``; otherwise as `put_file`."""
    return _put(connection, target, content, key, checked=checked)


def _put(connection: S3Connection, target: S3Target, content: Path | bytes, key: str, *, checked: bool) -> str | None:
    full, attributes = target.key(key), ObjectOptions().attributes(key)

    def put() -> str | None:
        etag = obstore.put(connection.store, full, content, attributes=attributes)["e_tag"]
        if not checked or not etag:
            etag = vouch(connection, full, etag, _sha256(content), content if isinstance(content, bytes) else None)
        return etag

    try:
        etag = ask(key, put, credentials=connection.credentials)
    except (BaseError, ClientError, OSError, NoAnswer) as error:
        raise UploadFailed(target.uri, {key: cause(error)}) from error
    return etag.strip('"') if etag else None


def _sha256(content: Path | bytes) -> bytes:
    if isinstance(content, bytes):
        return hashlib.sha256(content).digest()
    with content.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


def get_bytes(connection: S3Connection, target: S3Target, key: str) -> bytes | None:
    """Return the object ``key`` under ``target``, None if there is none.

    Raises botocore's ClientError for everything else: a missing bucket, or credentials that may not read. (S3
    answers 403 for a missing key too when the credentials may not list.) NoAnswer for one that cannot be read.
    """

    def get() -> bytes:
        answer = connection.client.get_object(Bucket=target.bucket, Key=target.key(key))
        content: bytes = answer["Body"].read()
        return content

    try:
        return ask(target.uri, get)
    except connection.client.exceptions.NoSuchKey:
        return None
