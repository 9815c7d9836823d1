"""Single files beside a synced prefix: what describes it, rather than what it holds."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import obstore
from botocore.exceptions import ClientError
from obstore.exceptions import BaseError

from s3_sync.asking import ask
from s3_sync.errors import NoAnswer, UploadFailed, cause
from s3_sync.options import ObjectOptions
from s3_sync.unfinished import abort_unfinished

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from s3_sync.connection import S3Connection
    from s3_sync.target import S3Target

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
    for name in names:
        check()
        put_file(connection, releases, folder / name, f"{folder.name}/{name}")
    abort_unfinished(connection, releases)
    check()
    put_bytes(connection, releases, json.dumps(pointer, indent=2).encode(), POINTER)


def read_pointer(connection: S3Connection, releases: S3Target) -> dict[str, Any]:
    """Return what ``latest.json`` under ``releases`` holds; nothing where there is none."""
    try:
        answer = connection.client.get_object(Bucket=releases.bucket, Key=releases.key(POINTER))
        found: dict[str, Any] = json.loads(answer["Body"].read())
    except ClientError as error:
        if error.response["ResponseMetadata"]["HTTPStatusCode"] != 404:
            raise
        return {}
    return found


def put_file(
    connection: S3Connection, target: S3Target, path: Path, key: str, *, options: ObjectOptions | None = None
) -> str | None:
    """Upload the file at ``path`` as ``key`` under ``target``; return its ETag.

    The server checks the SHA-256. The object appears whole or not at all. Raises UploadFailed.
    """
    return _put(connection, target, path, key, options)


def put_bytes(
    connection: S3Connection, target: S3Target, content: bytes, key: str, *, options: ObjectOptions | None = None
) -> str | None:
    """Upload ``content`` as ``key`` under ``target``; otherwise as `put_file`."""
    return _put(connection, target, content, key, options)


def _put(
    connection: S3Connection, target: S3Target, content: Path | bytes, key: str, options: ObjectOptions | None
) -> str | None:
    options = options or ObjectOptions()
    attributes, tags = options.attributes(key), dict(options.tags) or None

    def put() -> str | None:
        return obstore.put(connection.store, target.key(key), content, attributes=attributes, tags=tags)["e_tag"]

    try:
        etag = ask(key, put)
    except (BaseError, OSError, NoAnswer) as error:
        raise UploadFailed(target.uri, {key: cause(error)}) from error
    return etag.strip('"') if etag else None


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
