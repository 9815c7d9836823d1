"""Single files beside a synced prefix: what describes it, rather than what it holds."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

import obstore
from botocore.exceptions import ClientError
from obstore.exceptions import BaseError

from s3_sync.bucket.options import ObjectOptions
from s3_sync.bucket.retry import Damaged, ask
from s3_sync.bucket.target import POINTER
from s3_sync.errors import NoAnswer, UploadFailed, cause
from s3_sync.proof.vouch import is_checked, vouch
from s3_sync.sync.unfinished import abort_unfinished

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from s3_sync.bucket.prefix import S3Prefix


def publish(
    prefix: S3Prefix,
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
    checked = is_checked(prefix)
    for name in names:
        check()
        put_file(prefix, folder / name, f"{folder.name}/{name}", checked=checked)
    abort_unfinished(prefix)
    check()
    put_bytes(prefix, json.dumps(pointer, indent=2).encode(), POINTER, checked=checked)


def read_pointer(prefix: S3Prefix) -> dict[str, Any]:
    """Return what ``latest.json`` under ``prefix`` holds; nothing where there is none.

    Raises botocore's ClientError for everything else: a missing bucket, or credentials that may not read. (S3 answers
    403 for a missing key too when the credentials may not list.) NoAnswer for one that cannot be read.
    """

    def get() -> dict[str, Any]:
        content = _get(prefix, POINTER)
        try:
            found: dict[str, Any] = json.loads(content)
        except ValueError as error:
            raise Damaged("it is no JSON") from error
        return found

    try:
        return ask(f"{prefix.uri}{POINTER}", get)
    except prefix.client.exceptions.NoSuchKey:
        return {}


def put_file(prefix: S3Prefix, path: Path, key: str, *, checked: bool = False) -> str | None:
    """Upload the file at ``path`` as ``key`` under ``target``; return its ETag.

    The object appears whole or not at all. Unless the server is known to have ``checked`` its SHA-256 it is compared
    by its ETag, or read back. Raises UploadFailed.
    """
    return _put(prefix, path, key, checked=checked)


def put_bytes(prefix: S3Prefix, content: bytes, key: str, *, checked: bool = False) -> str | None:
    """Upload ``content`` as ``key`` under ``target``; otherwise as `put_file`."""
    return _put(prefix, content, key, checked=checked)


def _put(prefix: S3Prefix, content: Path | bytes, key: str, *, checked: bool) -> str | None:
    full, attributes = prefix.key(key), ObjectOptions().attributes(key)

    def put() -> str | None:
        etag = obstore.put(prefix.store, full, content, attributes=attributes)["e_tag"]
        if not checked or not etag:
            etag = vouch(
                prefix.connection, full, etag, _sha256(content), content if isinstance(content, bytes) else None
            )
        return etag

    try:
        etag = ask(key, put, credentials=prefix.connection.credentials)
    except (BaseError, ClientError, OSError, NoAnswer) as error:
        raise UploadFailed(prefix.uri, {key: cause(error)}) from error
    return etag.strip('"') if etag else None


def _sha256(content: Path | bytes) -> bytes:
    if isinstance(content, bytes):
        return hashlib.sha256(content).digest()
    with content.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


def _get(prefix: S3Prefix, key: str) -> bytes:
    answer = prefix.client.get_object(Bucket=prefix.bucket, Key=prefix.key(key))
    content: bytes = answer["Body"].read()
    return content
