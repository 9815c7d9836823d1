"""The listing of a source in ranges of keys side by side, from what its first page tells."""

from __future__ import annotations

from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from itertools import pairwise
from os.path import commonprefix
from string import ascii_lowercase, ascii_uppercase, digits
from typing import TYPE_CHECKING
from uuid import uuid4
from xml.etree import ElementTree as ET

import pyarrow as pa
import pyarrow.compute as pc

from s3_sync.listing import archived
from s3_sync.listing.contents import MAX_RANGES, of_range, read_page

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from s3_sync.bucket.target import S3Target
    from s3_sync.listing.contents import Pages

SCHEMA = pa.schema([("key", pa.string()), ("size", pa.int64()), ("mtime_ns", pa.int64()), ("etag", pa.string())])


# In the order of their bytes, and all behind "/": see `listing.bounds_from`.
ALPHABET = digits + ascii_uppercase + "_" + ascii_lowercase


# Behind every key that goes on from where it stands.
LAST = "\U0010ffff"


# An int64 holds as many µs, in ns, before 1970 and behind: from 1677 to 2262.
MOST_US = (1 << 63) // 1000 - 1


def bounds_from(first_page: pa.Array, first_behind: Callable[[str], str | None]) -> list[str]:
    """Return where to divide the keys of a prefix, so that its ranges hold some each.

    Asks where keys begin that have another character in the first place in which they differ at all. As those of
    `listing.bounds_from`, the bounds mean the same to a server that sorts by key and to one that goes folder by folder.

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


def rows(body: bytes, target: S3Target) -> pa.RecordBatch:
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
