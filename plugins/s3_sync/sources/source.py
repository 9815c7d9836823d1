"""A prefix that objects are taken from: listed in ranges of keys side by side, and read."""

from __future__ import annotations

import hashlib
import io
import re
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import islice
from typing import TYPE_CHECKING, Literal
from xml.etree import ElementTree as ET

import obstore
from botocore.exceptions import BotoCoreError, ClientError
from obstore.exceptions import BaseError

from s3_sync.bucket import retry
from s3_sync.bucket.connection import connect
from s3_sync.bucket.retry import ask, list_objects
from s3_sync.bucket.target import S3Target
from s3_sync.errors import NoAnswer, SourceNotReady, cause
from s3_sync.listing.archived import ObjectArchived
from s3_sync.listing.contents import Unordered, is_ordered, raw_client, raw_pages
from s3_sync.sources.ranges import bounds_from, in_ranges, rows
from s3_sync.sources.reading import READ_AT_ONCE, Parts, bare, read_object
from s3_sync.sync.plan import MD5_ETAG

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import BinaryIO

    import pyarrow as pa

    from s3_sync.bucket.connection import S3Connection


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
            return raw_pages(client, target, after, lambda body: rows(body, target))

        with self._explained("listed", "s3:ListBucket"):
            first, *second = islice(pages(None), 2)
            if not second:
                yield first
                return
            keys = first["key"]
            divisible = len(keys) > 0 and is_ordered(keys, None)
            yield from in_ranges(pages, bounds_from(keys, self._first_behind(target)) if divisible else [])

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
        return io.BufferedReader(Parts(part, size), READ_AT_ONCE)

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
