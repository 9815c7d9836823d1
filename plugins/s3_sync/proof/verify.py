"""Prove that a prefix holds exactly the expected objects."""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from s3_sync.bucket.retry import ask
from s3_sync.errors import VerifyFailed
from s3_sync.listing import contents
from s3_sync.proof.vouch import has, is_checked
from s3_sync.sync.plan import plan

if TYPE_CHECKING:
    from s3_sync.bucket.prefix import S3Prefix

log = logging.getLogger(__name__)

# A difference that is there is there in each of so many listings; one that a damaged page told of is not.
LISTINGS = 3


@dataclass(frozen=True)
class VerifyResult:
    """``objects`` has a row (key, size, sha256, etag) for every object; each one was proven in one of two ways."""

    objects: pa.Table
    by_record: int
    by_checksum: int


def verify(
    prefix: S3Prefix,
    expected: pa.Table,
    record: pa.Table,
    *,
    max_concurrency: int = 32,
) -> VerifyResult:
    """List ``target`` afresh and compare every key, size and checksum with ``expected`` (key, size, sha256).

    An object is proven by ``record`` (key, sha256, etag: what its PUT returned) when its ETag is still the
    recorded one; otherwise by the SHA-256 that S3 keeps of it, where S3 checks that itself, or by downloading and
    hashing it. The listing is another client's than the one that uploaded.

    Raises VerifyFailed on any difference that is still there when everything is listed and compared again.
    """
    for _ in range(LISTINGS - 1):
        try:
            return _compare(prefix, expected, record, max_concurrency)
        except VerifyFailed as error:
            log.warning("listing it again: %d missing, %d unexpected, %d differing", *map(len, error.groups.values()))
    return _compare(prefix, expected, record, max_concurrency)


def _compare(prefix: S3Prefix, expected: pa.Table, record: pa.Table, max_concurrency: int) -> VerifyResult:
    """Do what `verify` does with one listing."""
    listed = contents.list_raw(prefix, contents.bounds_of(expected["key"]))
    todo = plan(expected, listed, record)
    open_questions = pa.concat_tables([todo.compare, todo.upload])
    at = pc.index_in(open_questions["key"], value_set=listed["key"])
    there = pc.is_valid(at)
    missing = open_questions.filter(pc.invert(there))["key"]
    present = open_questions.filter(there)
    # What is archived has no ETag, and cannot be downloaded.
    alike = pc.and_(pc.equal(listed["size"].take(at.filter(there)), present["size"]), pc.is_valid(present["etag"]))
    differing = present.filter(pc.invert(alike))["key"].to_pylist()

    unproven = present.filter(alike)
    if unproven.num_rows:
        log.info("%d objects have no record: asking for their checksums", unproven.num_rows)
    checked = unproven.num_rows > 0 and is_checked(prefix.releases)
    with ThreadPoolExecutor(max_concurrency) as pool:
        keys, *wanted = (unproven[name].to_pylist() for name in ("key", "size", "sha256"))
        proven = pool.map(
            lambda key, *one: ask(key, lambda: has(prefix.connection, prefix.key(key), *one, checked=checked)),
            keys,
            *wanted,
        )
        differing += [key for key, right in zip(keys, proven, strict=True) if not right]

    # Not every server lets the mark of the prefix itself go while something lies there.
    unexpected = [*todo.delete["key"].to_pylist(), *filter(None, todo.markers["key"].to_pylist())]
    if len(missing) or unexpected or differing:
        raise VerifyFailed(
            prefix.uri,
            missing=missing.to_pylist(),
            unexpected=unexpected,
            differing=differing,
        )
    return VerifyResult(pa.concat_tables([todo.skip, unproven]), todo.skip.num_rows, unproven.num_rows)
