"""What a server can do, found out by asking it: nothing that safety rests on is taken for granted.

Servers that speak S3 differ just there. Ceph RGW 16 lets ``If-None-Match: *`` overwrite and copies in spite of a wrong
``x-amz-copy-source-if-match``; Swift has no conditional writes; others take no deletions in batches. Each question here
is a few small requests about objects of its own beside the destination, which it removes. An answer that was lost or
damaged on its way looks like a server that cannot: so only a whole round in which all went right says that one can, and
there are some rounds. One that never goes right says that it cannot.
"""

from __future__ import annotations

import base64
import hashlib
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from botocore.exceptions import ClientError

from s3_sync.bucket.probe import ONE, THREE, TWO, Probe, ProbeObject, Quoting, written
from s3_sync.errors import DestinationNotReady
from s3_sync.sync.delete import Way, remove

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


Order = Literal["by key", "by folder", "in no order"]
Versions = Literal["on", "suspended", "off", "unknown"]

ROUNDS = 3


@dataclass(frozen=True)
class Writes:
    """Which conditional writes a server decides about.

    ``creates``: ``If-None-Match: *`` writes where nothing is, and nowhere else. ``replaces``: ``If-Match`` writes over
    the object that has this ETag and over no other, and whether it wants the ETag in quotes; None: it does not.
    """

    creates: bool
    replaces: Quoting | None

    @property
    def both(self) -> bool:
        return self.creates and self.replaces is not None


class Listing(NamedTuple):
    """How a server lists: in which order, and whether it is ``whole``: no key is lost where a page ends."""

    order: Order
    whole: bool


@dataclass(frozen=True)
class Capabilities:
    """What a server can do, in the order of `QUESTIONS`.

    ``copies``: it copies an object only while that has the ETag which is asked for. ``checks``: it refuses bytes that
    are no longer those which were sent. ``keeps``: it gives back the SHA-256 that an upload carried. ``deletes``: how
    it takes deletions.
    """

    writes: Writes
    copies: bool
    checks: bool
    keeps: bool
    listing: Listing
    deletes: Way
    versions: Versions

    def __str__(self) -> str:
        return (
            f"creates on condition: {_yes(self.writes.creates)}; replaces on condition: {_yes(self.writes.replaces)};"
            f" copies on condition: {_yes(self.copies)}; checks uploads: {_yes(self.checks)}; keeps SHA-256:"
            f" {_yes(self.keeps)}; deletes: {self.deletes.value}; lists: {self.listing.order}"
            f"{'' if self.listing.whole else ', and leaves names beyond ASCII out of listings of many pages'};"
            f" versions: {self.versions}"
        )


def _yes(able: object) -> str:
    return ("yes" if able is True else str(able)) if able else "no"


def conditional_writes(probe: Probe) -> Writes:
    """Find out which conditional writes a server decides about."""
    found = Writes(creates=False, replaces=None)
    for _ in range(ROUNDS):
        with probe.objects("") as (one,):
            now = _writes_on_condition(one)
        if now.both:
            return now
        found = now if now.creates else found
    return found


def _writes_on_condition(one: ProbeObject) -> Writes:
    first = one.put(ONE, IfNoneMatch="*")
    creates = first is not None and one.put(TWO, IfNoneMatch="*") is None and one.content() == ONE
    if not creates or first is None:
        return Writes(creates=False, replaces=None)
    quoting: Quoting
    for quoting in ("quoted", "bare"):
        replaced = one.put(THREE, IfMatch=written(first, quoting)) is not None
        if replaced and one.put(TWO, IfMatch=written(first, quoting)) is None and one.content() == THREE:
            return Writes(creates=True, replaces=quoting)
        if replaced:
            break
    return Writes(creates=True, replaces=None)


def conditional_copy(probe: Probe) -> bool:
    """Find out whether a server copies an object only while that has the ETag which is asked for."""
    for _ in range(ROUNDS):
        with probe.objects("", "-copy") as (source, copied):
            first, second = source.put(ONE), source.put(TWO)
            if first is None or second is None:
                continue
            outdated, right = written(first, "quoted"), written(second, "quoted")
            if copied.copy(source, CopySourceIfMatch=outdated) is not None:
                continue
            if copied.copy(source, CopySourceIfMatch=right) is not None and copied.content() == TWO:
                return True
    return False


def checks_bytes(probe: Probe) -> bool:
    """Find out whether a server refuses an upload of which a byte was changed after it had been signed."""
    with probe.objects("") as (one,):
        return not one.takes_damaged(ONE)


def keeps_sums(probe: Probe) -> bool:
    """Find out whether a server gives back the SHA-256 that an upload carried."""
    with probe.objects("") as (one,):
        return one.put(ONE) is not None and one.kept_sum() == base64.b64encode(hashlib.sha256(ONE).digest()).decode()


def order_of_listing(probe: Probe) -> Listing:
    """Find out how a server lists.

    LocalStack 4.13 leaves out names beyond ASCII where a page begins.

    Raises DestinationNotReady for a server that lists too late what was written.
    """
    for _ in range(ROUNDS):
        # As whole keys "-" < "/" < "0"; folder by folder, what lies in a folder comes first.
        with _written_at_once(probe, "-", "/1", "0", "é") as keys:
            name = keys[0].removesuffix("-")
            listed = probe.listed(name)
            if sorted(listed) != sorted(keys):
                continue
            whole = sorted(key for page in _pages(probe, name, len(keys)) for key in page) == sorted(keys)
            by_folder = [keys[1], keys[0], *keys[2:]]
            return Listing("by key" if listed == keys else "by folder" if listed == by_folder else "in no order", whole)
    raise DestinationNotReady(
        f"bucket {probe.prefix.bucket} at {probe.prefix.endpoint} does not list what has just been written there: a"
        " sync would take it for missing. Use a server whose listings are up to date, as S3's are"
    )


def way_of_deletion(probe: Probe) -> Way:
    """Find out how a server takes deletions. Raises DestinationNotReady for one that deletes nothing in any way."""
    with _written_at_once(probe, "-1", "-2") as keys:
        refused, way = remove(probe.prefix.connection, probe.prefix.bucket, [{"Key": key} for key in keys])
        if refused or probe.listed(keys[0].removesuffix("1")):
            why = f"{refused[0]['Code']}: {refused[0].get('Message')}" if refused else "they are still listed"
            raise DestinationNotReady(
                f"bucket {probe.prefix.bucket} lets nothing be deleted ({why}): allow s3:DeleteObject"
            )
        return way


@contextmanager
def _written_at_once(probe: Probe, *endings: str) -> Iterator[list[str]]:
    """Give the keys of objects that are there."""
    with probe.objects(*endings) as objects, ThreadPoolExecutor(len(endings)) as pool:
        list(pool.map(lambda one: one.put(ONE), objects))
        yield [one.key for one in objects]


def _pages(probe: Probe, prefix: str, most: int) -> Iterator[list[str]]:
    """Yield the keys of pages of two; of no more than ``most`` pages, should a listing go in circles."""
    following: dict[str, str] = {}
    for _ in range(most):
        page = probe.send(probe.client.list_objects_v2, Prefix=prefix, MaxKeys=2, **following)
        yield [item["Key"] for item in page.get("Contents", ())]
        if not page.get("IsTruncated"):
            return
        following = {"ContinuationToken": page["NextContinuationToken"]}


def versioning(probe: Probe) -> Versions:
    """Find out whether a bucket keeps versions; unknown where that may not be asked."""
    try:
        answer = probe.send(probe.client.get_bucket_versioning)
    except ClientError as error:
        if error.response["ResponseMetadata"]["HTTPStatusCode"] not in {403, 501}:
            raise
        return "unknown"
    said: dict[str | None, Versions] = {"Enabled": "on", "Suspended": "suspended"}
    return said.get(answer.get("Status"), "off")


QUESTIONS: tuple[Callable[[Probe], Any], ...] = (
    conditional_writes,
    conditional_copy,
    checks_bytes,
    keeps_sums,
    order_of_listing,
    way_of_deletion,
    versioning,
)
"""All of them; each may be asked while the others are."""
