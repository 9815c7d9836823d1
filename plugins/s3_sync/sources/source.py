"""A prefix that objects are taken from: listed in ranges of keys side by side, and read."""

from __future__ import annotations

import hashlib
import io
import re
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import islice, pairwise
from os.path import commonprefix
from string import ascii_lowercase, ascii_uppercase, digits
from typing import TYPE_CHECKING, Literal
from uuid import uuid4
from xml.etree import ElementTree as ET

import obstore
import pyarrow as pa
import pyarrow.compute as pc
from botocore.exceptions import BotoCoreError, ClientError
from obstore.exceptions import BaseError, PreconditionError

from s3_sync.bucket import retry
from s3_sync.bucket.connection import connect
from s3_sync.bucket.retry import Damaged, ask, list_objects
from s3_sync.bucket.target import S3Target
from s3_sync.errors import NoAnswer, SourceNotReady, cause
from s3_sync.listing import archived
from s3_sync.listing.archived import ObjectArchived
from s3_sync.listing.contents import MAX_RANGES, Unordered, is_ordered, of_range, raw_client, raw_pages, read_page
from s3_sync.sync.plan import MD5_ETAG

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import BinaryIO

    from _typeshed import WriteableBuffer
    from obstore import GetOptions

    from s3_sync.bucket.connection import S3Connection
    from s3_sync.listing.contents import Pages

SCHEMA = pa.schema([("key", pa.string()), ("size", pa.int64()), ("mtime_ns", pa.int64()), ("etag", pa.string())])
# In the order of their bytes, and all behind "/": see `listing.bounds_of`.
ALPHABET = digits + ascii_uppercase + "_" + ascii_lowercase
# Behind every key that goes on from where it stands.
LAST = "\U0010ffff"
READ_AT_ONCE = 128 << 10
# An int64 holds as many µs, in ns, before 1970 and behind: from 1677 to 2262.
MOST_US = (1 << 63) // 1000 - 1


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

        One that is archived, and not restored, has no ETag. One page of each range is in memory. A prefix of more than
        a page is divided where its keys differ; a server that lists in no order is listed without ranges.
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
            pages = retry.pages(self.uri, partial(list_objects, self.connection.client), following, **where)
            found = [one["Prefix"] for page in pages for one in page.get("CommonPrefixes", ())]
        return [prefix.removeprefix(target.prefix).removesuffix("/") for prefix in found]

    def holds(self, below: str) -> bool:
        """Return whether there is any object below, but for a marker of the prefix itself."""
        return self._first(below) is not None

    def read(self, key: str, etag: str) -> bytes | Literal["archived"] | None:
        """Return an object's bytes; None if it is gone, or has another ETag.

        What came over a line without TLS, and does not have the MD5 that the ETag may be, is read once more.
        """
        full = self.target.key(key)
        try:
            with self._explained("read", "s3:GetObject", key):
                content = self._read(full, etag)
                if content is None or not self._may_be_damaged(content, etag):
                    return content
                again = self._read(full, etag)
                if again not in {None, content} and self._may_be_damaged(again, etag):
                    raise OSError("bytes were damaged on the way")
                return again
        except ObjectArchived:
            return "archived"

    def open(self, key: str, etag: str, size: int) -> BinaryIO | Literal["archived"] | None:
        """Return an object of ``size`` bytes as a file that is read in parts; None as `read` does.

        Reading raises FileNotFoundError once the object is gone, or has another ETag, or is archived.
        """
        full = self.target.key(key)

        def part(start: int, end: int) -> bytes | None:
            with self._explained("read", "s3:GetObject", key):
                return self._read(full, etag, (start, end))

        try:
            if part(0, 1) is None:
                return None
        except ObjectArchived:
            return "archived"
        return io.BufferedReader(_Parts(part, size), READ_AT_ONCE)

    def check(self, connection: S3Connection | None, target: S3Target) -> None:
        """Check that the prefix can be listed and, if it holds anything, an object in it be read.

        Also that it lies apart from ``target``, and from what lies beside that, if ``connection`` is to write there.
        """
        same = connection is not None and connection.resolved.realm == self.connection.resolved.realm
        if same and target.bucket == self.target.bucket:
            for ours in (target, target.releases):
                if self.target.prefix.startswith(ours.prefix) or ours.prefix.startswith(self.target.prefix):
                    raise SourceNotReady(
                        f"{self.uri} and {ours.uri}, which is written to, lie in one another: choose others"
                    )
        if (key := self._first("")) is not None:
            self._check_one_place(key)

    def _check_one_place(self, key: str) -> None:
        """Check that both clients see the same object: one of them lists, the other one reads."""
        on, full = self.connection, self.target.key(key)
        with self._explained("read", "s3:GetObject", key):
            one = ask(self.uri, lambda: on.client.head_object(Bucket=on.bucket, Key=full))
            other = ask(self.uri, lambda: obstore.head(on.store, full), credentials=on.credentials)
        if bare(one["ETag"]) != bare(other["e_tag"] or ""):
            raise SourceNotReady(
                f"{self.uri}: an object has one ETag for one of the two clients that read it and another one for the"
                f" other at {on.endpoint}. Look for a proxy, a cache or a redirect before the endpoint, and that nobody"
                " writes there now"
            )

    def _read(self, full: str, etag: str, part: tuple[int, int] | None = None) -> bytes | None:
        on = self.connection
        return ask(self.uri, lambda: read_object(on, full, etag, part), credentials=on.credentials)

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
    def _explained(self, verb: str, permission: str, key: str = "") -> Iterator[None]:
        try:
            yield
        except (BaseError, BotoCoreError, ClientError, ET.ParseError, OSError, NoAnswer, Unordered) as error:
            remedy = self._remedy(error, permission)
            raise SourceNotReady(
                f"{self.uri}{key} cannot be {verb} ({cause(error)}): {remedy}; then clear this task"
            ) from error

    def _remedy(self, error: Exception, permission: str) -> str:
        where = f"check the bucket, the endpoint {self.connection.endpoint} and that connection {self.aws_conn_id!r}"
        denied = isinstance(error, ClientError) and error.response["ResponseMetadata"]["HTTPStatusCode"] == 403
        if denied and not self.connection.resolved.request_payer:
            return (
                f"{where} may read it ({permission}); if whoever asks pays for this bucket, and that is meant, add"
                ' {"service_config": {"s3": {"request_payer": true}}} to its extra'
            )
        return f"{where} may read it ({permission})"


class _Parts(io.RawIOBase):
    """An object as a file, of which ``part`` returns the bytes from a place up to another."""

    def __init__(self, part: Callable[[int, int], bytes | None], size: int) -> None:
        self.part, self.size, self.at = part, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self.at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self.at, io.SEEK_END: self.size}[whence]
        return self.at

    def readinto(self, buffer: WriteableBuffer) -> int:
        view = memoryview(buffer).cast("B")
        end = min(self.at + len(view), self.size)
        if end <= self.at:
            return 0
        try:
            content = self.part(self.at, end)
        except ObjectArchived:
            content = None
        if content is None:
            raise FileNotFoundError
        view[: len(content)] = content
        self.at += len(content)
        return len(content)


def bare(etag: str) -> str:
    """Return an ETag without its quotes, and without the mark of a weak one."""
    return etag.removeprefix("W/").strip('"')


def read_object(
    connection: S3Connection, key: str, etag: str | None, part: tuple[int, int] | None = None
) -> bytes | None:
    """Return the bytes of the object ``key`` (of the bucket); None if it is gone, or has another ETag than given.

    ``part`` are the first byte wanted and the one behind the last. Raises ObjectArchived.
    """
    options: GetOptions = {"if_match": f'"{etag}"'} if etag else {}
    if part is not None:
        options["range"] = part
    try:
        answer = obstore.get(connection.store, key, options=options)
        if etag and bare(answer.meta["e_tag"] or "") != etag:
            return None
        content = bytes(answer.bytes())
    except (PreconditionError, FileNotFoundError):
        return None
    except (BaseError, OSError) as error:
        if archived.is_refusal(error):
            raise ObjectArchived from error
        raise
    if part is not None and len(content) != part[1] - part[0]:
        raise Damaged("an answer has fewer bytes than were asked for")
    return content


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
    keys, sizes, etags, written, classes, restored = read_page(
        body, len(target.prefix), "LastModified", "StorageClass", "RestoreStatus/RestoreExpiryDate"
    )
    if not all(etags):
        raise ET.ParseError("it names no ETags, which tell whether an object has changed")
    if not archived.CLASSES.isdisjoint(classes):
        rows = zip(etags, classes, restored, strict=True)
        etags = [None if one in archived.CLASSES and not until else etag for etag, one, until in rows]
    return pa.record_batch([keys, sizes, _times(written), etags], schema=SCHEMA)


def _times(written: list[str]) -> pa.Array:
    """Return times as a listing has them (ISO 8601) in ns since 1970; what an int64 does not reach, at its end.

    Some servers say nothing, or the year 1, of what they do not know.
    """
    texts = pa.array([text or "0001-01-01T00:00:00Z" for text in written], pa.string())
    texts = pc.replace_substring_regex(texts, r"(\.\d{6})\d+", r"\1")
    with_zone = pc.match_substring_regex(texts, r"(Z|[+-]\d\d:?\d\d)$")
    texts = pc.if_else(with_zone, texts, pc.binary_join_element_wise(texts, "Z", ""))
    micros = texts.cast(pa.timestamp("us", "UTC")).cast(pa.int64())
    within = pc.max_element_wise(pc.min_element_wise(micros, MOST_US), -MOST_US)
    return pc.multiply(within, 1000)
