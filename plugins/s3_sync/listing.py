"""What a prefix holds now."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote_plus
from xml.etree import ElementTree as ET

import obstore
import pyarrow as pa
import pyarrow.compute as pc
from botocore.config import Config
from obstore.exceptions import BaseError, InvalidPathError

from s3_sync.errors import DestinationNotReady, cause

if TYPE_CHECKING:
    from s3_sync.connection import S3Connection
    from s3_sync.target import S3Target

SCHEMA = pa.schema([("key", pa.string()), ("size", pa.int64()), ("etag", pa.string())])
CHUNK = 10_000
BODY = "s3_sync.body"


def list_prefix(connection: S3Connection, target: S3Target) -> pa.Table:
    """Return ``key`` (relative to the prefix), ``size`` (bytes) and ``etag`` (unquoted), in no order.

    obstore lists with little CPU time, but with normalised paths: a last slash is dropped, and
    some keys are refused. So whatever gives a reason for doubt (a refused key, a key twice, the prefix itself, an
    empty object, which may be a folder's marker) is listed again with `list_raw`. Not caught is an object that is
    *not* empty and whose key ends with a slash: it looks like the key without. Hence deletions and verification
    go by `list_raw` alone.

    Raises DestinationNotReady when S3, after all retries, does not list.
    """
    start = len(target.prefix)
    batches = []
    try:
        for listed in obstore.list(connection.store, target.prefix, chunk_size=CHUNK, return_arrow=True):
            rows = pa.record_batch(listed)
            paths = rows["path"].cast(pa.string())
            if not pc.all(pc.starts_with(paths, target.prefix)).as_py() or pc.min(rows["size"]).as_py() == 0:
                return list_raw(connection, target)
            keys = pc.utf8_slice_codeunits(paths, start=start)
            etags = pc.utf8_trim(rows["e_tag"].cast(pa.string()), characters='"')
            batches.append(pa.record_batch([keys, rows["size"].cast(pa.int64()), etags], schema=SCHEMA))
    except InvalidPathError:
        return list_raw(connection, target)
    except (BaseError, OSError) as error:
        raise DestinationNotReady(
            f"{target.uri} cannot be listed ({cause(error)}): check the bucket, the endpoint {connection.endpoint} and"
            " that the connection's credentials may list it (s3:ListBucket)"
        ) from error
    table = pa.Table.from_batches(batches, schema=SCHEMA)
    twice = pc.count_distinct(table["key"]).as_py() < table.num_rows
    return list_raw(connection, target) if twice else table


def list_raw(connection: S3Connection, target: S3Target) -> pa.Table:
    """Return the same as `list_prefix` with every key exactly as S3 has it.

    A page is read by a thread of its own while S3 makes the next one. Raises DestinationNotReady for an answer that is
    no listing.
    """
    client = connection.new_client(Config())
    client.meta.events.register("before-parse.s3.ListObjectsV2", _take_contents)
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=target.bucket, Prefix=target.prefix)
    with ThreadPoolExecutor(1) as reader:
        batches = [reader.submit(_rows, page[BODY], len(target.prefix)) for page in pages]
    try:
        return pa.Table.from_batches([batch.result() for batch in batches], schema=SCHEMA)
    except ET.ParseError as error:
        raise DestinationNotReady(
            f"{target.uri}: the endpoint {connection.endpoint} answers with something that is no listing ({error})"
        ) from error


def _take_contents(response_dict: dict[str, Any], customized_response_dict: dict[str, Any], **_: Any) -> None:
    """Take the objects out of a page before botocore reads it, which needs 50 ms a page for them (40 for times).

    Botocore's event ``before-parse``: what is put into the customized dict is part of the answer.
    """
    if response_dict["status_code"] != HTTPStatus.OK:
        return
    body: bytes = response_dict["body"]
    customized_response_dict[BODY] = body
    first, end = body.find(b"<Contents>"), body.rfind(b"</Contents>") + len(b"</Contents>")
    # What says how the listing goes on must be left to botocore.
    if first >= 0 and body.find(b"Token>", first, end) < 0 and body.find(b"<IsTruncated>", first, end) < 0:
        response_dict["body"] = body[:first] + body[end:]


def _rows(body: bytes, start: int) -> pa.RecordBatch:
    """Return the objects of a page, their keys from the character ``start`` on."""
    root = ET.fromstring(body)  # noqa: S314 botocore parses the same bytes the same way
    namespace = root.tag.removesuffix("ListBucketResult")
    if namespace == root.tag:
        raise ET.ParseError(f"it is a {root.tag}")
    # Keys come URL-encoded (botocore asks for it), because XML cannot carry every character that a key may have.
    encoded = root.findtext(f"{namespace}EncodingType") == "url"
    keys, sizes, etags = [], [], []
    for item in root.iterfind(f"{namespace}Contents"):
        key = item.findtext(f"{namespace}Key", "")
        keys.append((unquote_plus(key) if encoded else key)[start:])
        sizes.append(int(item.findtext(f"{namespace}Size", "")))
        etags.append(item.findtext(f"{namespace}ETag", "").strip('"'))
    return pa.record_batch([keys, sizes, etags], schema=SCHEMA)
