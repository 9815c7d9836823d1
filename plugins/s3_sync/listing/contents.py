"""What a prefix holds now, listed in ranges of keys side by side."""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus
from itertools import compress, pairwise
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote_plus
from uuid import uuid4
from xml.etree import ElementTree as ET

import pyarrow as pa
import pyarrow.compute as pc
from botocore.config import Config
from botocore.exceptions import ClientError

from s3_sync.bucket.retry import Damaged, ask, list_objects, pages
from s3_sync.errors import DestinationNotReady, NoAnswer, cause
from s3_sync.listing import archived

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from s3_sync.bucket.connection import S3Connection
    from s3_sync.bucket.prefix import S3Prefix
    from s3_sync.bucket.target import S3Target

    Pages = Callable[[str | None], Iterator[pa.RecordBatch]]

log = logging.getLogger(__name__)

SCHEMA = pa.schema([("key", pa.string()), ("size", pa.int64()), ("etag", pa.string())])
PAGE = 1000
BODY, ROWS = "s3_sync.body", "s3_sync.rows"
MAX_RANGES = 8
KEYS_A_RANGE = 20_000
# Only such names are bounds of ranges: behind "/" in ASCII, so that it makes no difference whether a server compares
# whole keys, as S3 does, or folder by folder, as SeaweedFS does.
_BOUND = "^[0-9A-Za-z_]+$"
MARKER = r"(?s)(^|/|_\$folder\$)$"


def bounds_of(keys: pa.ChunkedArray) -> list[str]:
    """Return where to divide a prefix that is expected to hold ``keys``, so that its ranges hold about as many each.

    A bound lies behind all keys of a top-level folder and is drawn, so that no folder has its very name: a server that
    goes folder by folder takes "behind x" for "behind all of the folder x". Keys may lie anywhere.
    """
    wanted = min(MAX_RANGES, len(keys) // KEYS_A_RANGE)
    if wanted < 2:
        return []
    folders = pc.replace_substring_regex(keys, "(?s)/.*", "")
    usable = folders.filter(pc.match_substring_regex(folders, _BOUND)).combine_chunks().sort()
    places = [len(usable) * number // wanted for number in range(1, wanted)]
    return sorted({f"{usable[place].as_py()}0{uuid4().hex}" for place in places}) if len(usable) else []


def list_prefix(prefix: S3Prefix, bounds: Sequence[str] = ()) -> pa.Table:
    """Return the data that a prefix holds: what `list_raw` returns, without the markers of folders."""
    listed = list_raw(prefix, bounds)
    return listed.filter(pc.invert(are_markers(listed)))


def list_raw(prefix: S3Prefix, bounds: Sequence[str] = ()) -> pa.Table:
    """Return ``key`` (relative to the prefix, exactly as S3 has it), ``size`` (bytes) and ``etag``, in no order.

    ``etag`` is unquoted; it is null of an object that is archived: what cannot be downloaded is proven by nothing. Not
    listed with obstore, which knows no storage class and normalises keys.

    Args:
        connection: of the bucket.
        target: the prefix.
        bounds: of `bounds_of`; the ranges between them are listed at the same time.

    Raises DestinationNotReady when S3 refuses to list, or what it answers is, again and again, no listing.
    """
    client = raw_client(prefix.connection)
    start = len(prefix.target.prefix)
    may_be_archived = set[str]()

    def rows(body: bytes) -> pa.RecordBatch:
        keys, sizes, etags, classes, written = read_page(body, start, "StorageClass", "LastModified")
        may_be_archived.update(compress(keys, map(archived.may_be_tiered, classes, written)))
        if not archived.CLASSES.isdisjoint(classes):
            etags = [None if one in archived.CLASSES else etag for etag, one in zip(etags, classes, strict=True)]
        return pa.record_batch([keys, sizes, etags], schema=SCHEMA)

    def whole() -> pa.Table:
        table = _in_ranges(lambda after: raw_pages(client, prefix.target, after, rows), bounds)
        if pc.count_distinct(table["key"]).as_py() < table.num_rows:
            raise Damaged("it lists a key twice")
        return table

    try:
        table = ask(prefix.uri, whole)
        if may_be_archived:
            tiered = pc.is_in(table["key"], value_set=pa.array(archived.among(prefix, may_be_archived)))
            table = table.set_column(2, "etag", pc.if_else(tiered, None, table["etag"]))
    except (ClientError, NoAnswer) as error:
        raise _not_listed(prefix, error) from error
    if count := table["etag"].null_count:
        log.info("%s: %d objects are archived, and so cannot be read", prefix.uri, count)
    return table


def are_markers(listed: pa.Table) -> pa.ChunkedArray:
    """Say of each row of a listing whether it is no data but the mark of a folder.

    Consoles and mounted buckets make an empty object whose key ends with a slash, Hadoop one that ends as below.
    """
    return pc.and_(pc.equal(listed["size"], 0), pc.match_substring_regex(listed["key"], MARKER))


def _not_listed(prefix: S3Prefix, error: Exception) -> DestinationNotReady:
    return DestinationNotReady(
        f"{prefix.uri} cannot be listed ({cause(error)}): check the bucket, the endpoint {prefix.endpoint}"
        " and that the connection's credentials may list it (s3:ListBucket)"
    )


def raw_client(connection: S3Connection) -> Any:
    """Return a client whose pages of a listing are left as they came, for `raw_pages`."""
    client = connection.new_client(Config())
    # By this name it is called before botocore's own handler, which parses all that is there to look for an error.
    client.meta.events.register("before-parse.*.ListObjectsV2", _take_contents, unique_id=BODY)
    return client


def raw_pages(
    client: Any, target: S3Target, after: str | None, read: Callable[[bytes], pa.RecordBatch]
) -> Iterator[pa.RecordBatch]:
    """Yield what ``read`` makes of the XML of each page of a listing of ``target``, from behind the key ``after`` on.

    A page that cannot be read, or does not hold as many keys as it says, is asked for again. Raises NoAnswer.
    """

    def page(**where: Any) -> dict[str, Any]:
        what = {"MaxKeys": PAGE, "OptionalObjectAttributes": ["RestoreStatus"]}
        answer = list_objects(client, Bucket=target.bucket, Prefix=target.prefix, **what, **where)
        rows = read(answer[BODY])
        if answer.get("KeyCount", rows.num_rows) != rows.num_rows:
            raise Damaged(f"a page of {answer['KeyCount']} keys holds {rows.num_rows}")
        return {**answer, ROWS: rows}

    later = {} if after is None else {"StartAfter": target.key(after)}
    for one in pages(target.uri, page, {"NextContinuationToken": "ContinuationToken"}, **later):
        yield one[ROWS]


class Unordered(Exception):  # noqa: N818
    """A listing that goes neither by key nor by folder, so that no range of it has an end."""


def _in_ranges(pages: Pages, bounds: Sequence[str]) -> pa.Table:
    """Return all rows, with a thread for each range between ``bounds``; one after the other if they have no order."""
    edges: list[str | None] = [None, *bounds, None]
    with ThreadPoolExecutor(len(edges) - 1, thread_name_prefix="s3-list") as pool:
        ranges = [pool.submit(list, of_range(pages, after, until)) for after, until in pairwise(edges)]
        try:
            batches = [batch for one in ranges for batch in one.result()]
        except Unordered:
            log.info("the server lists keys in an order of its own: listing without ranges")
            batches = list(pages(None))
    # Pages came in small pieces, in several threads: unless told to, malloc keeps what these took.
    pa.default_memory_pool().release_unused()
    return pa.Table.from_batches(batches, schema=SCHEMA)


def of_range(pages: Pages, after: str | None, until: str | None) -> Iterator[pa.RecordBatch]:
    """Yield the rows with a key behind ``after``, up to ``until``, of ``pages`` from behind a key on.

    Raises Unordered.
    """
    last = after
    for page in pages(after):
        if (after, until) != (None, None) and not is_ordered(page["key"], last):
            raise Unordered("the server listed its keys out of order")
        inside = page if until is None else page.filter(pc.less_equal(page["key"], until))
        yield inside
        if inside.num_rows < page.num_rows:
            return
        last = page["key"][-1].as_py() if page.num_rows else last


def is_ordered(keys: pa.Array, last: str | None) -> bool:
    """Whether keys go on from ``last`` in the order of their bytes, or of the bytes folder by folder."""
    both = keys if last is None else pa.concat_arrays([pa.array([last], pa.string()), keys])
    by_folder = pc.replace_substring(both, "/", "\0")
    return any(pc.all(pc.less(one[:-1], one[1:])).as_py() for one in (both, by_folder))


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


def read_page(body: bytes, start: int, *also: str) -> list[list[Any]]:
    """Return the objects of a page as columns: key from the character ``start`` on, size in bytes, unquoted ETag.

    ``also`` are names of elements (``LastModified``, ``Owner/ID``) whose texts follow, empty where there is none.
    Raises ElementTree.ParseError.
    """
    root = ET.fromstring(body)  # noqa: S314 botocore parses the same bytes the same way
    namespace = root.tag.removesuffix("ListBucketResult")
    if namespace == root.tag:
        raise ET.ParseError(f"it is a {root.tag}")
    items = list(root.iterfind(f"{namespace}Contents"))

    def texts(name: str) -> list[str]:
        path = "/".join(f"{namespace}{part}" for part in name.split("/"))
        return [item.findtext(path, "") for item in items]

    keys = texts("Key")
    # Keys come URL-encoded (botocore asks for it), because XML cannot carry every character that a key may have.
    if root.findtext(f"{namespace}EncodingType") == "url":
        keys = [unquote_plus(key) for key in keys]
    etags = [etag.strip('"') for etag in texts("ETag")]
    return [[key[start:] for key in keys], [int(size) for size in texts("Size")], etags, *map(texts, also)]
