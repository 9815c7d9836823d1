"""One object, brought from where its bytes lie to the prefix: left as it is, copied inside S3, streamed or sent."""

from __future__ import annotations

import hashlib
import threading
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import obstore

from s3_sync.bucket.retry import ask
from s3_sync.errors import InvalidObjects
from s3_sync.proof.vouch import vouch
from s3_sync.sources import origins
from s3_sync.sync import expected
from s3_sync.sync.progress import Outcome

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from s3_sync.bucket.options import ObjectOptions
    from s3_sync.bucket.prefix import S3Prefix
    from s3_sync.sources.origins import Place
    from s3_sync.sources.source import S3Source
    from s3_sync.sync.expected import Item

MULTIPART_ABOVE = 16 << 20
PART = 8 << 20
# https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html
MAX_PARTS = 10_000
# The largest object that CopyObject takes.
MAX_COPY = 5 << 30
# Files that go in parts hold several parts in memory each.
MULTIPART_CONCURRENCY = 2
# Each system call of a reading thread gives up Python's lock, and the more threads then wait for it the dearer that
# gets: with 64 reading at once, half of all CPU time went into it. Two keep a disk busy while others wait for S3.
READERS = 2

Brought = tuple[str | None, Outcome]


class FileChanged(InvalidObjects):
    """A local file has other bytes than were expected of it."""

    def __init__(self) -> None:
        super().__init__("the local file has changed since its checksum was taken; make the list of objects anew")


@dataclass(frozen=True)
class Delivery:
    """Where objects are brought to, and how.

    ``check`` is called before each request that changes something: it raises if the prefix is no longer the caller's.
    ``checked``: the server is known to compare what it gets with its SHA-256. ``reading`` and ``large`` bound how many
    threads read small files and send large ones at a time.
    """

    prefix: S3Prefix
    options: ObjectOptions
    check: Callable[[], None]
    checked: bool
    reading: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(READERS))
    large: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(MULTIPART_CONCURRENCY))

    def put(self, item: Item, content: Callable[[], bytes | Iterator[bytes]], **how: Any) -> str | None:
        """Upload what ``content`` gives, anew for each try; return its ETag."""

        def once() -> str | None:
            self.check()
            key, body = self.prefix.key(item.key), content()
            attributes, tags = self.options.attributes(item.key), dict(self.options.tags) or None
            etag = obstore.put(self.prefix.store, key, body, attributes=attributes, tags=tags, **how)["e_tag"]
            if not self.checked or not etag:
                in_memory = body if isinstance(body, bytes) else None
                etag = vouch(self.prefix.connection, key, etag, item.sha256, in_memory)
            return etag

        return ask(item.key, once, credentials=self.prefix.connection.credentials)

    def put_in_parts(self, item: Item, blocks: Callable[[int], Iterator[bytes]]) -> str | None:
        """Upload what ``blocks`` gives for a size of parts in bytes; return its ETag."""
        part = max(PART, -(-item.size // MAX_PARTS))
        return self.put(item, lambda: blocks(part), chunk_size=part)


def bring(delivery: Delivery, place: Place, item: Item) -> Brought:
    """Bring one object up to date; return its ETag and what was done.

    Raises FileChanged, ObjectChanged and what the requests raise.
    """
    if place.source is None:
        return _from_file(delivery, place.folder, item)
    return _from_s3(delivery, place.source, item, inside=place.inside)


def _from_s3(delivery: Delivery, source: S3Source, item: Item, *, inside: bool) -> Brought:
    if item.etag and item.etag == item.origin_etag:
        return item.etag, "unchanged"
    if inside and item.origin_etag and item.size <= MAX_COPY:

        def copy() -> str:
            delivery.check()
            return origins.copy(delivery.prefix, source, item, delivery.options)

        return ask(item.key, copy), "copied"
    if item.size > MULTIPART_ABOVE:
        with delivery.large:
            return delivery.put_in_parts(item, lambda part: origins.stream(source, item, part)), "uploaded"
    content = origins.fetch(source, item)
    return delivery.put(item, lambda: content), "uploaded"


def _from_file(delivery: Delivery, root: int, item: Item) -> Brought:
    if item.size > MULTIPART_ABOVE:
        with delivery.large:
            if item.etag and _streamed_md5(root, item) == item.etag:
                return item.etag, "unchanged"
            return delivery.put_in_parts(item, lambda part: _checked_parts(root, item, part)), "uploaded"
    with delivery.reading:
        content = expected.read_key(root, item.file, item.size)
        if hashlib.sha256(content).digest() != item.sha256:
            raise FileChanged
        if item.etag and hashlib.md5(content, usedforsecurity=False).hexdigest() == item.etag:
            return item.etag, "unchanged"
    return delivery.put(item, lambda: content, use_multipart=False), "uploaded"


def _checked_parts(root: int, item: Item, part: int) -> Iterator[bytes]:
    with expected.open_key(root, item.file) as file:
        yield from expected.checked(iter(partial(file.read, part), b""), item.sha256, FileChanged)


def _streamed_md5(root: int, item: Item) -> str:
    """Return the MD5 of a file that has the expected SHA-256."""
    md5 = hashlib.md5(usedforsecurity=False)
    for block in _checked_parts(root, item, PART):
        md5.update(block)
    return md5.hexdigest()
