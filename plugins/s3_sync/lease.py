"""Who may change a destination: a lease beside it, so that two deployments never mix their objects.

The lease is a small object, written with conditions that S3 decides about: create it if there is none, replace it if
it is still the one that was read (https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes.html).
Whether the server decides about them is asked first: one that does not is refused, unless somebody has said that nobody
else writes there (``sole_writer``). The lease then only tells of those who are not there at the same moment.

Its age is told by S3's own clock alone. A holder that is killed or cut off loses it after `TTL_S`; one that wakes up
later stops before its next request.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

from botocore.exceptions import BotoCoreError, ClientError

from s3_sync.bucket.capabilities import Writes, conditional_writes
from s3_sync.bucket.clock import aware, time_at
from s3_sync.bucket.connection import REQUEST_TIMEOUT_S, RETRY_TIMEOUT_S
from s3_sync.bucket.probe import Probe, sweep, written
from s3_sync.bucket.retry import ATTEMPTS, ask
from s3_sync.bucket.target import LEASE
from s3_sync.errors import DestinationNotReady, LeaseHeld, LeaseLost, S3SyncError, cause

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from s3_sync.bucket.prefix import S3Prefix

log = logging.getLogger(__name__)

TTL_S = 900.0
RENEW_EVERY_S = 60.0
# A request that has begun may still be tried again for so long: none begins when less is left.
SPARE_S = REQUEST_TIMEOUT_S + RETRY_TIMEOUT_S


@dataclass(frozen=True)
class Claim:
    """What the object says: whose it is (``owner``), who that is in words, and whether it was given back."""

    owner: str
    holder: str
    free: bool = False


class _Found(NamedTuple):
    """The lease as it lies there: its claim (None if it is none), its ETag and its age by S3's clock in seconds."""

    claim: Claim | None
    etag: str
    age_s: float


@contextmanager
def hold(
    prefix: S3Prefix,
    *,
    owner: str,
    holder: str,
    give_back: bool,
    sole_writer: bool = False,
) -> Iterator[Callable[[], None]]:
    """Hold the lease of ``target`` while the block runs; give a function that raises LeaseLost once it is lost.

    ``owner`` is the same for all that may follow one another without asking, such as the tasks of a run. What stands
    before a slash in it may take the lease from itself: a deployment that has one run at a time, for its next run.
    ``holder`` says in words who that is. ``sole_writer``: somebody vouches that no other deployment writes there, so a
    server that cannot decide between two will do.

    After a block that ends well the lease stays, until it runs out or another block gives it back; with ``give_back``
    this one does. After one that fails it is given back: all its requests are over.

    Raises LeaseHeld, with the holder, if somebody else has it; DestinationNotReady for a server that cannot decide
    (`check_writes`).
    """
    beside = prefix.releases.target
    writes = conditional_writes(Probe.of(prefix.connection.at(beside)))
    check_writes(prefix, writes, sole_writer=sole_writer)
    lease = _Lease(prefix, Claim(owner, holder), writes)
    lease.take()
    sweep(prefix.connection.at(beside))
    over = threading.Event()
    renewing = threading.Thread(target=lease.keep, args=(over,), name="s3-lease", daemon=True)
    renewing.start()
    try:
        yield lease.check
        lease.check()
    except BaseException:
        give_back = not lease.lost
        raise
    finally:
        over.set()
        renewing.join()
        if give_back:
            lease.give_back()


def check_writes(prefix: S3Prefix, writes: Writes, *, sole_writer: bool) -> None:
    """Check that a server decides who has the lease of ``target``, or that ``sole_writer`` is said.

    Raises DestinationNotReady.
    """
    if writes.both or sole_writer:
        return
    lacks = "If-Match (replace only what was read)" if writes.creates else "If-None-Match: * (create only what is new)"
    raise DestinationNotReady(
        f"the server at {prefix.endpoint} does not decide about conditional writes: it disregards {lacks}. So two"
        f" deployments that sync to {prefix.uri} at the same time could mix their objects, and nobody would know. Use"
        " a server that does, as S3 does (Ceph RGW 16 does in a bucket without versioning); or, if nobody but this"
        " deployment ever writes there, say so: sole_writer: true in the dataset file (or sole_writer of the operator)"
    )


class _Lease:
    def __init__(self, prefix: S3Prefix, mine: Claim, writes: Writes) -> None:
        self.client, self.mine, self.uri, self.writes = prefix.client, mine, prefix.uri, writes
        self.encryption = prefix.connection.encryption
        self.where = {"Bucket": prefix.bucket, "Key": prefix.releases.key(LEASE)}
        self.etag = ""
        self.taken_s = 0.0
        self.lost = ""

    def check(self) -> None:
        left = self.taken_s + TTL_S - time.monotonic()
        if not self.lost and left < min(SPARE_S, TTL_S / 2):
            self.lost = "it could not be renewed in time"
        if self.lost:
            raise LeaseLost(
                f"the lease of {self.uri} is lost: {self.lost}. Nothing more is changed there; run again from the sync"
            )

    def take(self) -> None:
        """Take the lease, or take it on."""
        for _ in range(ATTEMPTS):
            found = self._read()
            if found and found.age_s < TTL_S and not (found.claim and self._may_take(found.claim)):
                who = found.claim.holder if found.claim else "an unknown client"
                raise LeaseHeld(
                    f"{self.uri} is being changed by {who}, seen {found.age_s:.0f} s ago. Let it end; if it is dead, "
                    f"its lease runs out in {TTL_S - found.age_s:.0f} s"
                )
            if self._write(self.mine, found.etag if found else None):
                return
        raise LeaseHeld(f"{self.uri}: others take its lease at this moment; run again")

    def keep(self, over: threading.Event) -> None:
        """Renew the lease until ``over`` is set, or it is lost."""
        while not over.wait(RENEW_EVERY_S) and not self.lost:
            try:
                self.renew()
            except (BotoCoreError, ClientError, S3SyncError) as error:
                log.warning("the lease of %s could not be renewed: %s", self.uri, cause(error))

    def renew(self) -> None:
        """Take the lease on if nobody had it in between. (A refused write may be an own one whose answer was lost.)"""
        for _ in range(ATTEMPTS):
            found = self._read()
            if not (found and found.claim and found.claim.owner == self.mine.owner and not found.claim.free):
                self.lost = f"{found.claim.holder if found and found.claim else 'somebody'} took it"
                return
            if self._write(self.mine, found.etag):
                return

    def give_back(self) -> None:
        """Leave the lease to whoever comes; where S3 does not answer, it runs out."""
        try:
            for _ in range(ATTEMPTS):
                if self._write(replace(self.mine, free=True), self.etag):
                    return
                # Another's by now; or an own write's answer was lost, and with it the ETag.
                found = self._read()
                if not (found and found.claim == self.mine):
                    return
                self.etag = found.etag
        except (BotoCoreError, ClientError, S3SyncError) as error:
            log.warning("the lease of %s could not be given back: %s", self.uri, cause(error))

    def _may_take(self, claim: Claim) -> bool:
        return claim.free or claim.owner.partition("/")[0] == self.mine.owner.partition("/")[0]

    def _read(self) -> _Found | None:
        try:
            return ask(f"the lease of {self.uri}", self._get)
        except ClientError as error:
            if error.response["ResponseMetadata"]["HTTPStatusCode"] == 404:
                return None
            raise

    def _get(self) -> _Found:
        answer = self.client.get_object(**self.where)
        content = answer["Body"].read()
        if (now := time_at(answer)) is None:
            raise DestinationNotReady(
                f"the server of {self.uri} does not tell what time it is (header Date), so nobody can tell how old the"
                " lease is: see to the server, or to the proxy before it"
            )
        return _Found(_parsed(content), answer["ETag"], (now - aware(answer["LastModified"])).total_seconds())

    def _write(self, claim: Claim, over: str | None) -> bool:
        """Write the claim over the lease of that ETag, or where there is none; False if it is another by now."""
        begun = time.monotonic()
        said = json.dumps({**asdict(claim), "written": time.time()}).encode()
        arguments = {**self.where, "Body": said, **self.encryption, **self._condition(over)}
        try:
            etag = ask(f"the lease of {self.uri}", lambda: self.client.put_object(**arguments)["ETag"])
        except ClientError as error:
            if error.response["ResponseMetadata"]["HTTPStatusCode"] in {404, 409, 412}:
                return False
            raise
        self.etag, self.taken_s = etag, begun
        return True

    def _condition(self, over: str | None) -> dict[str, str]:
        if over is None:
            return {"IfNoneMatch": "*"} if self.writes.creates else {}
        return {"IfMatch": written(over, self.writes.replaces)} if self.writes.replaces else {}


def _parsed(content: bytes) -> Claim | None:
    try:
        said = json.loads(content)
        return Claim(said["owner"], said["holder"], bool(said["free"]))
    except (ValueError, KeyError, TypeError):
        return None
