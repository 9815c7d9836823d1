"""A prefix that objects are taken from: listed in ranges of keys side by side, and read."""

from __future__ import annotations

import hashlib
import re
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import islice, pairwise
from os.path import commonprefix
from string import ascii_lowercase, ascii_uppercase, digits
from typing import TYPE_CHECKING
from uuid import uuid4
from xml.etree import ElementTree as ET

import obstore
import pyarrow as pa
from botocore.exceptions import BotoCoreError, ClientError
from obstore.exceptions import BaseError, PreconditionError

from s3_sync import asking
from s3_sync.asking import ask, list_objects
from s3_sync.connection import connect
from s3_sync.errors import NoAnswer, SourceNotReady, cause
from s3_sync.listing import MAX_RANGES, Unordered, is_ordered, of_range, raw_client, raw_pages, read_page
from s3_sync.plan import MD5_ETAG
from s3_sync.target import S3Target

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from s3_sync.connection import S3Connection
    from s3_sync.listing import Pages

SCHEMA = pa.schema([("key", pa.string()), ("size", pa.int64()), ("mtime_ns", pa.int64()), ("etag", pa.string())])
# In the order of their bytes, and all behind "/": see `listing.bounds_of`.
ALPHABET = digits + ascii_uppercase + "_" + ascii_lowercase
# Behind every key that goes on from where it stands.
LAST = "\U0010ffff"


@dataclass(frozen=True)
class S3Source:
    """The prefix ``uri``, with the credentials of an Airflow connection; nothing is sent before it is used.

    Keys are relative to the prefix; ``below`` is empty, or such a key that ends with a slash. Every method raises
    SourceNotReady, or CredentialsNotReady, with cause and remedy.
    """

    uri: str
    aws_conn_id: str | None = "aws_default"

    @cached_property
    def target(self) -> S3Target:
        return S3Target.parse(self.uri)

    @cached_property
    def connection(self) -> S3Connection:
        return connect(self.target.bucket, aws_conn_id=self.aws_conn_id)

    def listing(self, below: str) -> Iterator[pa.RecordBatch]:
        """Yield every object (``SCHEMA``; the key without ``below``, the ETag unquoted) as S3 has it, in no order.

        One page of each range is in memory. A prefix of more than a page is divided where its keys differ; a server
        that lists in no order is listed without ranges.
        """
        target = self._at(below)
        client = raw_client(self.connection)

        def pages(after: str | None) -> Iterator[pa.RecordBatch]:
            return raw_pages(client, target, after, lambda body: _rows(body, target))

        with self._explained("listed", "s3:ListBucket"):
            first, *second = islice(pages(None), 2)
            if not second:
                yield first
                return
            keys = first["key"]
            divisible = len(keys) > 0 and is_ordered(keys, None)
            yield from in_ranges(pages, bounds_of(keys, self._first_behind(target)) if divisible else [])

    def folders(self, below: str) -> list[str]:
        """Return the names up to the next slash of what lies below, each once."""
        target = self._at(below)
        where = {"Bucket": target.bucket, "Prefix": target.prefix, "Delimiter": "/"}
        following = {"NextContinuationToken": "ContinuationToken"}
        with self._explained("listed", "s3:ListBucket"):
            pages = asking.pages(self.uri, partial(list_objects, self.connection.client), following, **where)
            found = [one["Prefix"] for page in pages for one in page.get("CommonPrefixes", ())]
        return [prefix.removeprefix(target.prefix).removesuffix("/") for prefix in found]

    def holds(self, below: str) -> bool:
        """Return whether there is any object below, but for a marker of the prefix itself."""
        return self._first(below) is not None

    def read(self, key: str, etag: str) -> bytes | None:
        """Return an object's bytes; None if it is gone, or has another ETag.

        What came over a line without TLS, and does not have the MD5 that the ETag may be, is read once more.
        """
        full = self.target.key(key)
        with self._explained("read", "s3:GetObject"):
            content = self._read(full, etag)
            if content is None or not self._may_be_damaged(content, etag):
                return content
            again = self._read(full, etag)
            if again not in {None, content} and self._may_be_damaged(again, etag):
                raise OSError("bytes were damaged on the way")
            return again

    def check(self, connection: S3Connection | None, target: S3Target) -> None:
        """Check that the prefix can be listed and, if it holds anything, an object in it be read.

        Also that it lies apart from ``target``, and from what lies beside that, if ``connection`` is to write there.
        """
        same = connection is not None and connection.resolved.realm == self.connection.resolved.realm
        if same and target.bucket == self.target.bucket:
            for ours in (target, target.sibling(".releases")):
                if self.target.prefix.startswith(ours.prefix) or ours.prefix.startswith(self.target.prefix):
                    raise SourceNotReady(
                        f"{self.uri} and {ours.uri}, which is written to, lie in one another: choose others"
                    )
        if (key := self._first("")) is not None:
            with self._explained("read", "s3:GetObject"):
                where = {"Bucket": self.target.bucket, "Key": self.target.key(key)}
                ask(self.uri, lambda: self.connection.client.head_object(**where))

    def _read(self, full: str, etag: str) -> bytes | None:
        return ask(self.uri, lambda: read_object(self.connection, full, etag), credentials=self.connection.credentials)

    def _may_be_damaged(self, content: bytes | None, etag: str) -> bool:
        if self.connection.endpoint.startswith("https://") or not re.fullmatch(MD5_ETAG, etag):
            return False
        return hashlib.md5(content or b"", usedforsecurity=False).hexdigest() != etag

    def _at(self, below: str) -> S3Target:
        return self.target.below(below) if below else self.target

    def _first(self, below: str) -> str | None:
        """Return the first key below."""
        target = self._at(below)
        with self._explained("listed", "s3:ListBucket"):
            where = {"Bucket": target.bucket, "Prefix": target.prefix, "MaxKeys": 2}
            answer = ask(self.uri, lambda: list_objects(self.connection.client, **where))
        keys = (item["Key"] for item in answer.get("Contents", ()) if item["Key"] != target.prefix)
        return next((str(key).removeprefix(target.prefix) for key in keys), None)

    def _first_behind(self, target: S3Target) -> Callable[[str], str | None]:
        def first_behind(place: str) -> str | None:
            where = {"Bucket": target.bucket, "Prefix": target.prefix, "StartAfter": target.key(place), "MaxKeys": 1}
            answer = ask(self.uri, lambda: list_objects(self.connection.client, **where))
            return next((item["Key"].removeprefix(target.prefix) for item in answer.get("Contents", ())), None)

        return first_behind

    @contextmanager
    def _explained(self, verb: str, permission: str) -> Iterator[None]:
        try:
            yield
        except (BaseError, BotoCoreError, ClientError, ET.ParseError, OSError, NoAnswer, Unordered) as error:
            raise SourceNotReady(
                f"{self.uri} cannot be {verb} ({cause(error)}): check the bucket, the endpoint"
                f" {self.connection.endpoint} and that connection {self.aws_conn_id!r} may read it ({permission});"
                " then clear this task"
            ) from error


def read_object(connection: S3Connection, key: str, etag: str | None) -> bytes | None:
    """Return the bytes of the object ``key`` (of the bucket); None if it is gone, or has another ETag than given."""
    try:
        answer = obstore.get(connection.store, key, options={"if_match": f'"{etag}"'} if etag else None)
        if etag and (answer.meta["e_tag"] or "").removeprefix("W/").strip('"') != etag:
            return None
        return bytes(answer.bytes())
    except (PreconditionError, FileNotFoundError):
        return None


def bounds_of(first_page: pa.Array, first_behind: Callable[[str], str | None]) -> list[str]:
    """Return where to divide the keys of a prefix, so that its ranges hold some each.

    Asks where keys begin that have another character in the first place in which they differ at all. As those of
    `listing.bounds_of`, the bounds mean the same to a server that sorts by key and to one that goes folder by folder.

    Args:
        first_page: the first keys.
        first_behind: the first key behind a place; None if there is none.
    """
    common = _shared_start(first_page[0].as_py(), first_page[-1].as_py())
    while common and (beyond := first_behind(common + LAST)) is not None:
        if beyond.startswith(common):  # no order that ranges could go by
            return []
        common = _shared_start(common, beyond)
    if "/" in common:
        return []
    with ThreadPoolExecutor(MAX_RANGES, thread_name_prefix="s3-bounds") as pool:
        firsts = pool.map(first_behind, [common + character for character in ALPHABET])
        found = [key is not None and key.startswith(common + one) for one, key in zip(ALPHABET, firsts, strict=True)]
    starts = [character for character, there in zip(ALPHABET, found, strict=True) if there]
    wanted = min(MAX_RANGES, len(starts))
    places = sorted({len(starts) * number // wanted for number in range(1, wanted)}) if starts else []
    # Behind all that begins as the character before does, and drawn: no folder has this very name.
    return [f"{common}{starts[place - 1]}zzz{uuid4().hex}" for place in places]


def _shared_start(one: str, other: str) -> str:
    return commonprefix([one, other])  # noqa: RUF071 of names, character by character


def in_ranges(pages: Pages, bounds: list[str]) -> Iterator[pa.RecordBatch]:
    """Yield all pages, with a thread for each range between ``bounds``; a page of each is fetched ahead.

    Raises Unordered.
    """
    edges: list[str | None] = [None, *bounds, None]
    with ThreadPoolExecutor(len(edges) - 1, thread_name_prefix="s3-source") as pool:
        ranges = [of_range(pages, after, until) for after, until in pairwise(edges)]
        coming: dict[Future[pa.RecordBatch | None], Iterator[pa.RecordBatch]] = {
            pool.submit(next, one, None): one for one in ranges
        }
        while coming:
            done, _ = wait(coming, return_when=FIRST_COMPLETED)
            for future in done:
                rest = coming.pop(future)
                if (page := future.result()) is not None:
                    coming[pool.submit(next, rest, None)] = rest
                    yield page


def _rows(body: bytes, target: S3Target) -> pa.RecordBatch:
    """Return the objects of a page."""
    keys, sizes, etags, written = read_page(body, len(target.prefix), "LastModified")
    if not all(etags):
        raise ET.ParseError("it names no ETags, which tell whether an object has changed")
    times = pa.array(written, pa.string()).cast(pa.timestamp("ns", "UTC")).cast(pa.int64())
    return pa.record_batch([keys, sizes, times, etags], schema=SCHEMA)
