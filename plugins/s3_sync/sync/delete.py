"""Delete keys of a prefix, the most guarded thing there is here."""

from __future__ import annotations

import base64
import hashlib
from concurrent.futures import ThreadPoolExecutor
from enum import StrEnum
from functools import partial
from typing import TYPE_CHECKING, Any

from botocore.config import Config
from botocore.exceptions import ClientError

from s3_sync.bucket.retry import ATTEMPTS, Damaged, ask, is_for_now
from s3_sync.errors import DeleteFailed, NoAnswer
from s3_sync.listing import contents

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import pyarrow as pa

    from s3_sync.bucket.connection import S3Connection
    from s3_sync.bucket.prefix import S3Prefix

# The most that one DeleteObjects request takes.
BATCH = 1000
ONE_BY_ONE_AT_ONCE = 16
# Of these a refusal says: this request cannot be meant, or: there is no such operation here.
_NOT_IN_THIS_WAY = {400, 405, 411, 501}


class Way(StrEnum):
    """How a server takes deletions; each is tried where the one before is refused."""

    BATCH = "in batches"
    BATCH_WITH_MD5 = "in batches with Content-MD5"
    ONE_BY_ONE = "one by one"

    @property
    def following(self) -> Way | None:
        ways = list(Way)
        return ways[ways.index(self) + 1] if self is not ways[-1] else None


def delete(prefix: S3Prefix, keys: pa.ChunkedArray, *, check: Callable[[], None] = lambda: None) -> int:
    """Delete ``keys``, relative to the prefix and exactly as `listing.list_raw` has them; return how many.

    ``check`` is called before each request. What S3 could not delete at that moment is tried again.

    Raises DeleteFailed with the keys that S3 refused to delete, NoAnswer.
    """
    failures: dict[str, str] = {}
    way = Way.BATCH
    for start in range(0, len(keys), BATCH):
        doomed = [{"Key": prefix.key(key)} for key in keys.slice(start, BATCH).to_pylist()]
        refused, way = remove(prefix.connection, prefix.bucket, doomed, way, check=check)
        failures |= {error["Key"]: f"{error['Code']}: {error.get('Message')}" for error in refused}
    if failures:
        raise DeleteFailed(prefix.uri, failures)
    return len(keys)


def delete_prefix(prefix: S3Prefix, *, check: Callable[[], None] = lambda: None) -> int:
    """Delete all that lies under ``prefix``; return how many. ``check`` and errors as of `delete`."""
    return delete(prefix, contents.list_raw(prefix)["key"], check=check)


def remove(
    connection: S3Connection,
    bucket: str,
    doomed: Sequence[Mapping[str, str]],
    way: Way = Way.BATCH,
    *,
    check: Callable[[], None] = lambda: None,
) -> tuple[list[dict[str, str]], Way]:
    """Delete at most `BATCH` objects, each given by its ``Key`` and, if one version is meant, ``VersionId``.

    Returns what S3 refused (``Key``, ``Code``, ``Message``), and the way in which it took the request: where ``way`` is
    refused as such, the others are tried. What it could not delete at that moment is tried again; ``check`` is called
    before each request.

    Raises ClientError for a request that is refused in every way, NoAnswer.
    """
    left, final = list(doomed), list[dict[str, str]]()
    for _ in range(ATTEMPTS):
        refused, way = _in_some_way(connection, bucket, left, way, check)
        for_now = {(one["Key"], one.get("VersionId")) for one in refused if is_for_now(one["Code"])}
        final += [one for one in refused if not is_for_now(one["Code"])]
        left = [one for one in left if (one["Key"], one.get("VersionId")) in for_now]
        if not left:
            return final, way
    return final + [one for one in refused if is_for_now(one["Code"])], way


def _in_some_way(
    connection: S3Connection, bucket: str, doomed: Sequence[Mapping[str, str]], way: Way, check: Callable[[], None]
) -> tuple[list[dict[str, str]], Way]:
    while True:
        check()
        try:
            if way is Way.ONE_BY_ONE:
                return _one_by_one(connection, bucket, doomed, check), way
            return _in_a_batch(connection, bucket, doomed, with_md5=way is Way.BATCH_WITH_MD5), way
        except (ClientError, NoAnswer) as error:
            refusal = error if isinstance(error, ClientError) else error.__cause__
            if not isinstance(refusal, ClientError) or (following := way.following) is None:
                raise
            if refusal.response["ResponseMetadata"]["HTTPStatusCode"] not in _NOT_IN_THIS_WAY:
                raise
            way = following


def _in_a_batch(
    connection: S3Connection, bucket: str, doomed: Sequence[Mapping[str, str]], *, with_md5: bool
) -> list[dict[str, str]]:
    client = connection.client
    if with_md5:
        client = connection.new_client(Config())
        client.meta.events.register("before-call.s3.DeleteObjects", _add_md5)
    keys = {one["Key"] for one in doomed}

    def request() -> list[dict[str, str]]:
        answer = client.delete_objects(Bucket=bucket, Delete={"Objects": list(doomed), "Quiet": True})
        refused: list[dict[str, str]] = answer.get("Errors", [])
        if not {error["Key"] for error in refused} <= keys:
            raise Damaged("it tells of keys that were not asked about")
        return refused

    return ask(f"deleting in {bucket}", request)


def _add_md5(params: dict[str, Any], **_: Any) -> None:
    """Add the header that S3 once asked of this request (botocore's event ``before-call``); it is signed with it."""
    body = params["body"] if isinstance(params["body"], bytes) else params["body"].encode()
    params["headers"]["Content-MD5"] = base64.b64encode(hashlib.md5(body, usedforsecurity=False).digest()).decode()


def _one_by_one(
    connection: S3Connection, bucket: str, doomed: Sequence[Mapping[str, str]], check: Callable[[], None]
) -> list[dict[str, str]]:
    def one(which: Mapping[str, str]) -> dict[str, str] | None:
        check()
        try:
            ask(f"deleting in {bucket}", partial(connection.client.delete_object, Bucket=bucket, **which))
        except ClientError as error:
            said = error.response["Error"]
            if error.response["ResponseMetadata"]["HTTPStatusCode"] in _NOT_IN_THIS_WAY - {400}:
                raise
            return None if said.get("Code") == "NoSuchKey" else {**which, **said}
        return None

    with ThreadPoolExecutor(ONE_BY_ONE_AT_ONCE) as pool:
        return [refused for refused in pool.map(one, doomed) if refused]
