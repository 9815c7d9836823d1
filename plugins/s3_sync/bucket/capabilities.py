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
import logging
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeVar
from uuid import uuid4

from botocore.config import Config
from botocore.exceptions import ClientError

from s3_sync.bucket.retry import FOR_NOW, FOR_NOW_STATUS, ask
from s3_sync.errors import DestinationNotReady, NoAnswer, cause
from s3_sync.sync.delete import Way, remove

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from s3_sync.bucket.prefix import S3Prefix

log = logging.getLogger(__name__)

T = TypeVar("T")
Quoting = Literal["quoted", "bare"]
Order = Literal["by key", "by folder", "in no order"]
Versions = Literal["on", "suspended", "off", "unknown"]

ROUNDS = 3
NAME = ".probe-"
ONE, TWO, THREE = b"one", b"two", b"three"


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


class Probe:
    """Small objects under ``beside`` to ask questions with, by the connection's boto3 client.

    ``send(call, late=…, **arguments)`` sends a request about the bucket, which may be ``late`` if
    it only tidies up, and raises ClientError where it is refused. All objects go when the block of `objects` ends, with
    the versions that they got.
    """

    def __init__(self, prefix: S3Prefix, send: Callable[..., Any]) -> None:
        self.prefix, self.client, self.send = prefix, prefix.client, send

    @classmethod
    def of(cls, prefix: S3Prefix) -> Probe:
        """Return one that asks until S3 answers, as everything but a preflight does."""

        def send(call: Callable[..., Any], *, late: bool = False, **arguments: Any) -> Any:  # noqa: ARG001
            return ask(prefix.uri, lambda: call(Bucket=prefix.bucket, **arguments))

        return cls(prefix, send)

    @contextmanager
    def objects(self, *endings: str) -> Iterator[list[ProbeObject]]:
        name = self.prefix.key(f"{NAME}{uuid4().hex}")
        objects = [ProbeObject(self, f"{name}{ending}") for ending in endings]
        try:
            yield objects
        finally:
            self._clear(name, [one for one in objects if one.written])

    def listed(self, prefix: str) -> list[str]:
        """Return the keys that begin with ``prefix``, in the server's order."""
        answer = self.send(self.client.list_objects_v2, Prefix=prefix)
        return [item["Key"] for item in answer.get("Contents", ())]

    def _clear(self, name: str, written: list[ProbeObject]) -> None:
        """Delete what was written: in a bucket with versioning by its versions, so that no marker is left either."""
        if any(one.versioned for one in written):
            try:
                self._delete_versions(name)
            except ClientError:  # versions may be neither listed nor deleted: a marker on top will do
                pass
            else:
                return
        for one in written:
            one.delete(late=True)

    def _delete_versions(self, name: str) -> None:
        before: list[dict[str, str]] = []
        # Some servers say that they have deleted a version, and keep it: a page that comes again is the last.
        while (found := self._versions(name)) and found != before:
            for version in found:
                where = {"Key": version["Key"], "VersionId": version["VersionId"]}
                self.send(self.client.delete_object, late=True, **where)
            before = found

    def _versions(self, name: str) -> list[dict[str, str]]:
        """Return the first page of what there is of the keys that begin with ``name``.

        One that is empty is asked for once more, as `asking.list_objects` does.
        """
        for _ in range(2):
            page = self.send(self.client.list_object_versions, late=True, Prefix=name)
            if found := [*page.get("Versions", ()), *page.get("DeleteMarkers", ())]:
                return found
        return []


class ProbeObject:
    """One of them. Its methods return None, or False, where the server refuses for another reason than permission.

    ``written`` tells whether it may be there, ``versioned`` whether the server named a version of it.
    """

    def __init__(self, probe: Probe, key: str) -> None:
        self.probe, self.key = probe, key
        self.written = self.versioned = False

    def put(self, content: bytes, **condition: str) -> str | None:
        """Write it; return its ETag as the server wrote it."""
        return self._written(self.probe.client.put_object, Body=content, **condition)

    def copy(self, other: ProbeObject, **condition: str) -> str | None:
        """Make it a copy of another; return its ETag."""
        source = {"Bucket": self.probe.prefix.bucket, "Key": other.key}
        return self._written(self.probe.client.copy_object, CopySource=source, **condition)

    def takes_damaged(self, content: bytes) -> bool:
        """Send an upload of which a byte was changed after it had been signed; whether the server writes it."""
        signing = {**(self.probe.client.meta.config.s3 or {}), "payload_signing_enabled": True}
        client = self.probe.prefix.connection.new_client(Config(s3=signing))
        client.meta.events.register("before-send.s3.PutObject", _damage)

        def put(**where: Any) -> dict[str, Any] | None:
            try:
                answer: dict[str, Any] = client.put_object(**where, Body=content)
            except ClientError as error:
                # Each of them has a code of its own for it. Some say that the signature does not fit, which is as good.
                if error.response["ResponseMetadata"]["HTTPStatusCode"] // 100 == 4:
                    return None
                raise
            return answer

        taken = self._written(put) is not None
        self.written = taken
        return taken

    def _written(self, call: Callable[..., Any], **arguments: Any) -> str | None:
        self.written = True

        def write(**where: Any) -> str | None:
            answer = call(**where)
            if answer is None:
                return None
            self.versioned |= "VersionId" in answer
            etag: str = answer.get("CopyObjectResult", answer)["ETag"]
            return etag

        return self._asked(write, **arguments, **self.probe.prefix.connection.encryption)

    def content(self) -> bytes | None:
        def read(**where: Any) -> bytes:
            content: bytes = self.probe.client.get_object(**where)["Body"].read()
            return content

        return self._asked(read)

    def kept_sum(self) -> str:
        """Return the SHA-256 that the server tells of it, in base64; an empty text if it tells none."""
        answer = self._asked(self.probe.client.head_object, ChecksumMode="ENABLED") or {}
        return str(answer.get("ChecksumSHA256", ""))

    def delete(self, *, late: bool = False) -> None:
        self.probe.send(self.probe.client.delete_object, late=late, Key=self.key)

    def _asked(self, call: Callable[..., T], **arguments: Any) -> T | None:
        try:
            answer: T = self.probe.send(call, Key=self.key, **arguments)
        except ClientError as error:
            if not is_refused(error):
                raise
            return None
        return answer


def is_refused(error: ClientError) -> bool:
    """Whether a server has understood a request and says no, for another reason than that the caller may not."""
    status = error.response["ResponseMetadata"].get("HTTPStatusCode", 0)
    code = error.response["Error"].get("Code", "")
    return code not in FOR_NOW and (400 <= status < 500 or status == 501) and status not in {401, 403, *FOR_NOW_STATUS}


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


def written(etag: str, quoting: Quoting) -> str:
    """Return an ETag, with quotes or without, as a condition names it."""
    bare = etag.strip('"')
    return bare if quoting == "bare" else f'"{bare}"'


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


def _damage(request: Any, **_: Any) -> None:
    """Change a byte of a request that is about to be sent (botocore's event ``before-send``)."""
    request.body = THREE[: len(ONE)]


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


def sweep(prefix: S3Prefix) -> None:
    """Remove what questions that were killed have left. (One that is being asked meanwhile has another round.)"""
    where = {"Bucket": prefix.bucket, "Prefix": prefix.key(NAME)}
    try:
        page = ask(prefix.uri, lambda: prefix.client.list_objects_v2(**where))
        if left := [
            {"Key": item["Key"]} for item in page.get("Contents", ()) if item["Key"].startswith(where["Prefix"])
        ]:
            remove(prefix.connection, prefix.bucket, left)
    except (ClientError, NoAnswer) as error:
        log.info("what an earlier check left beside %s could not be removed: %s", prefix.uri, cause(error))
