"""What a prefix holds now."""

from __future__ import annotations

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
ROWS = "s3_sync.rows"


def list_prefix(connection: S3Connection, target: S3Target) -> pa.Table:
    """Return ``key`` (relative to the prefix), ``size`` (bytes) and ``etag`` (unquoted), in no order.

    obstore lists with little CPU time, but with normalised paths: a last slash is dropped, and
    some keys are refused. So whatever gives a reason for doubt (a refused key, a key twice, the prefix itself, an
    empty object, which may be a folder's marker) is listed again with `list_raw`. Not caught is an object that is
    *not* empty and whose key ends with a slash: it looks like the key without. Hence deletions and verification
    go by `list_raw` alone.

    Raises DestinationNotReady when S3, after all retries, does not list.
    """
    try:
        batches = [
            pa.record_batch(batch)
            for batch in obstore.list(connection.store, target.prefix, chunk_size=CHUNK, return_arrow=True)
        ]
    except InvalidPathError:
        return list_raw(connection, target)
    except (BaseError, OSError) as error:
        raise DestinationNotReady(
            f"{target.uri} cannot be listed ({cause(error)}): check the bucket, the endpoint {connection.endpoint} and"
            " that the connection's credentials may list it (s3:ListBucket)"
        ) from error
    if not batches:
        return SCHEMA.empty_table()
    listed = pa.Table.from_batches(batches)
    paths = listed["path"]
    doubtful = (
        not pc.all(pc.starts_with(paths, target.prefix)).as_py()
        or pc.min(listed["size"]).as_py() == 0
        or pc.count_distinct(paths).as_py() < len(paths)
    )
    if doubtful:
        return list_raw(connection, target)
    keys = pc.utf8_slice_codeunits(paths, start=len(target.prefix))
    etags = pc.utf8_trim(listed["e_tag"], characters='"')
    return pa.table({"key": keys, "size": listed["size"], "etag": etags}).cast(SCHEMA)


def list_raw(connection: S3Connection, target: S3Target) -> pa.Table:
    """Return the same as `list_prefix` with every key exactly as S3 has it."""
    client = connection.new_client(Config())
    client.meta.events.register("before-parse.s3.ListObjectsV2", _take_contents)
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=target.bucket, Prefix=target.prefix)
    start = len(target.prefix)
    batches = []
    for page in pages:
        keys, sizes, etags = zip(*found, strict=True) if (found := page[ROWS]) else ((), (), ())
        columns = [[key[start:] for key in keys], sizes, etags]
        batches.append(pa.record_batch([pa.array(column) for column in columns], SCHEMA.names).cast(SCHEMA))
    return pa.Table.from_batches(batches, schema=SCHEMA)


def _take_contents(response_dict: dict[str, Any], customized_response_dict: dict[str, Any], **_: Any) -> None:
    """Read the objects of a page before botocore does, which needs 50 ms a page for it (40 of them for times).

    Botocore's event ``before-parse``: what is put into the customized dict is part of the answer. An answer that is
    no listing is left to botocore.
    """
    if response_dict["status_code"] != HTTPStatus.OK:
        return
    try:
        root = ET.fromstring(response_dict["body"])  # noqa: S314 botocore parses the same bytes the same way
    except ET.ParseError:
        return
    namespace = root.tag.removesuffix("ListBucketResult")
    if namespace == root.tag:
        return
    # Keys come URL-encoded (botocore asks for it), because XML cannot carry every character that a key may have.
    encoded = root.findtext(f"{namespace}EncodingType") == "url"
    rows = []
    for item in root.findall(f"{namespace}Contents"):
        key = item.findtext(f"{namespace}Key", "")
        size, etag = item.findtext(f"{namespace}Size", ""), item.findtext(f"{namespace}ETag", "")
        rows.append((unquote_plus(key) if encoded else key, int(size), etag.strip('"')))
    root[:] = [child for child in root if child.tag != f"{namespace}Contents"]
    response_dict["body"] = ET.tostring(root)
    customized_response_dict[ROWS] = rows
