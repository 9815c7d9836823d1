"""Find out in seconds whether a sync can work, and whether the world could read what it writes."""

from __future__ import annotations

import json
import logging
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from botocore import UNSIGNED
from botocore.config import Config
from botocore.exceptions import ClientError
from obstore.exceptions import BaseError

from s3_sync.bucket import capabilities
from s3_sync.bucket.capabilities import Capabilities
from s3_sync.bucket.clock import time_at
from s3_sync.bucket.privacy import EVERYBODY, is_public
from s3_sync.bucket.probe import Probe
from s3_sync.bucket.refusals import REMEDIES, client_error, region_remedy
from s3_sync.bucket.retry import Damaged, ask
from s3_sync.bucket.roundtrip import check_one_place
from s3_sync.bucket.store import Patience
from s3_sync.errors import DestinationNotReady, NoAnswer, cause
from s3_sync.lease import check_writes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from s3_sync.bucket.prefix import S3Prefix
    from s3_sync.bucket.probe import ProbeObject

log = logging.getLogger(__name__)

CONNECT_TIMEOUT_S = 2
READ_TIMEOUT_S = 3
# No request starts later, so the whole ends within ten seconds.
LAST_REQUEST_S = 10 - CONNECT_TIMEOUT_S - READ_TIMEOUT_S
PROBE = b"probe"
HASTY = Patience(CONNECT_TIMEOUT_S, READ_TIMEOUT_S, 0, LAST_REQUEST_S, 0.1, 1.0)
AT_ONCE = 2 + len(capabilities.QUESTIONS)
_NO_ENCRYPTION = "leave it to the bucket's default, or use an endpoint that has it (on some only with TLS)"
# https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html, RequestTimeTooSkewed
MAX_SKEW = timedelta(minutes=15)


def check_destination(prefix: S3Prefix, *, sole_writer: bool = False) -> Capabilities:
    """Check that a sync to ``target`` can work: within ten seconds, and leaving nothing behind.

    The bucket exists (it is never created), is in the connection's region, and lets these credentials list,
    write and delete; a small object beside the prefix, under ``<prefix>.releases/``, is written and removed for
    that. Nobody may list or read without credentials, neither policy nor ACL may open the bucket to everybody, and
    its block of public access, where it has one, must be whole; what of these the credentials may not see, or the
    server does not have, is logged as unknown. The clocks here and there must agree as far as signing needs. Both
    clients must mean the same place. What the server can do is found out, logged and returned; one that cannot decide
    who has the lease is refused unless ``sole_writer`` (`lease.hold`).

    Raises DestinationNotReady with cause and remedy.
    """
    check = _Check(prefix)
    check.bucket()
    check.listing()
    check.probe()
    found = check.all_else()
    log.info("%s at %s: %s", prefix.bucket, prefix.endpoint, found)
    check_writes(prefix, found.writes, sole_writer=sole_writer)
    return found


class _Check:
    def __init__(self, prefix: S3Prefix) -> None:
        short = Config(
            connect_timeout=CONNECT_TIMEOUT_S, read_timeout=READ_TIMEOUT_S, retries={"total_max_attempts": 1}
        )
        self.client = prefix.connection.new_client(short)
        self.anonymous = prefix.connection.new_client(short.merge(Config(signature_version=UNSIGNED)))
        self.connection, self.target, self.beside = prefix.connection, prefix.target, prefix.target.releases
        new_client = prefix.connection.new_client
        hasty = replace(prefix.connection, client=self.client, new_client=lambda own: new_client(short.merge(own)))
        self.asking = Probe(hasty.at(self.beside), self._ask)
        self.begun = time.monotonic()

    def bucket(self) -> None:
        try:
            head = self._ask(self.client.head_bucket)
        except ClientError as error:
            self._same_time(error.response)
            status = error.response["ResponseMetadata"]["HTTPStatusCode"]
            region = error.response["ResponseMetadata"]["HTTPHeaders"].get("x-amz-bucket-region")
            if status == 404:
                raise self._not_ready("cannot be found", REMEDIES["NoSuchBucket"], error) from error
            if status == 301 or (region and region != self.connection.resolved.region):
                raise self._not_ready("is elsewhere", region_remedy(region)) from error
            # HEAD has no body, so no code that would tell why: the listing has one.
            self.listing()
            remedy = "it is missing, or these credentials may not see it (s3:ListBucket)"
            raise self._not_ready("is not accessible", remedy, error) from error
        self._same_time(head)
        if time_at(head) is None:
            remedy = "see to the server, or to the proxy before it: how old a lease is goes by its clock"
            raise self._not_ready("does not tell what time it is there (header Date)", remedy)
        region = head.get("BucketRegion")
        if region and region != self.connection.resolved.region and "amazonaws.com" in self.connection.endpoint:
            raise self._not_ready(f"is in {region}", region_remedy(region))

    def _same_time(self, answer: Any) -> None:
        if (there := time_at(answer)) is not None:
            ahead = datetime.now(UTC) - there
            if abs(ahead) > MAX_SKEW:
                minutes = f"{abs(ahead) / timedelta(minutes=1):.0f} minutes {'ahead' if ahead > MAX_SKEW else 'behind'}"
                what = f"would refuse what is signed here: the clock of this machine is {minutes}"
                raise self._not_ready(what, "synchronise it (timedatectl set-ntp true)")

    def listing(self) -> None:
        try:
            self._ask(self.client.list_objects_v2, Prefix=self.target.prefix, MaxKeys=1)
        except ClientError as error:
            remedy = "the bucket is missing, or these credentials may not list it (s3:ListBucket)"
            raise self._not_ready("cannot be listed", remedy, error) from error

    def probe(self) -> None:
        """See that an object can be written, that no stranger reads it, and that it can be deleted."""
        with self._allowed(), self.asking.objects("") as (one,):
            self._put(one)
            self._refuses_strangers(one)

    def _put(self, one: ProbeObject) -> None:
        """Write an object as an upload would be, or find out what stands against it."""
        put, plain = self.client.put_object, {"Key": one.key, "Body": PROBE}
        wanted: dict[str, Any] = {**plain, **self.connection.encryption}
        asked = self.connection.encryption.get("ServerSideEncryption", "")
        one.written = True
        try:
            done = self._ask(put, **wanted)
        except (ClientError, DestinationNotReady) as error:
            refusal = client_error(error)
            if asked and refusal and self._is_taken(put, **plain, late=True):
                raise self._not_ready(f"does not encrypt with {asked} as asked", _NO_ENCRYPTION, refusal) from error
            if error is refusal and self._is_taken(put, **wanted, IfNoneMatch="*"):
                remedy = (
                    "its policy asks for a condition on every write (s3:if-none-match), but a sync replaces objects:"
                    f" exempt these credentials from that on {self.target.uri}* and {self.beside.uri}*"
                )
                raise self._not_ready("takes no plain uploads", remedy, refusal) from error
            raise
        one.versioned = "VersionId" in done
        if asked and done.get("ServerSideEncryption") != asked:
            raise self._not_ready(f"does not encrypt with {asked} as asked, and says nothing", _NO_ENCRYPTION)

    def _is_taken(self, call: Callable[..., Any], **arguments: Any) -> bool:
        try:
            self._ask(call, **arguments)
        except ClientError:
            return False
        return True

    def all_else(self) -> Capabilities:
        """Do all other checks, and find out what the server can do.

        At the same time: one after the other they would take too long where the server is far away.
        """
        store = self.connection.new_store(HASTY)
        with ThreadPoolExecutor(AT_ONCE) as pool, self._allowed():
            policy = pool.submit(self.policy)
            place = pool.submit(check_one_place, self.asking, store)
            asked = [pool.submit(question, self.asking) for question in capabilities.QUESTIONS]
            policy.result()
            place.result()
            return Capabilities(*(one.result() for one in asked))

    @contextmanager
    def _allowed(self) -> Iterator[None]:
        try:
            yield
        except (ClientError, BaseError) as error:
            actions = "s3:PutObject, s3:GetObject and s3:DeleteObject"
            remedy = f"allow {actions} on {self.target.uri}* and {self.beside.uri}* (and the KMS key, if one is used)"
            raise self._not_ready("cannot be used as a sync needs it", remedy, error) from error

    def _refuses_strangers(self, one: ProbeObject) -> None:
        questions: tuple[tuple[str, Callable[..., Any], dict[str, Any]], ...] = (
            ("be listed", self.anonymous.list_objects_v2, {"Prefix": self.target.prefix, "MaxKeys": 1}),
            ("be read", self._read_by_a_stranger, {"Key": one.key}),
        )
        for what, call, arguments in questions:
            try:
                self._ask(call, **arguments)
            except ClientError:
                continue
            raise self._not_ready(
                f"is public: it can {what} without credentials", "block public access to the bucket first"
            )

    def _read_by_a_stranger(self, **where: str) -> None:
        if self.anonymous.get_object(**where)["Body"].read() != PROBE:
            raise Damaged("an object has other bytes than were written")

    def _policy(self, **where: str) -> dict[str, Any]:
        policy: dict[str, Any] = json.loads(self.client.get_bucket_policy(**where)["Policy"])
        return policy

    def policy(self) -> None:
        status = self._readable("policy status", self.client.get_bucket_policy_status)
        if status["PolicyStatus"].get("IsPublic") if status else is_public(self._readable("policy", self._policy)):
            raise self._not_ready("has a public policy", "remove the public statement from the bucket's policy")
        acl = self._readable("ACL", self.client.get_bucket_acl)
        grantees = {grant.get("Grantee", {}).get("URI") for grant in (acl or {}).get("Grants", ())}
        if grantees & set(EVERYBODY):
            raise self._not_ready("has an ACL that grants access to everybody", "make the ACL private")
        block = self._readable("public access block", self.client.get_public_access_block)
        settings = (block or {}).get("PublicAccessBlockConfiguration", {}).values()
        # Ceph says of a bucket that never got a block that none of the four is on.
        if any(settings) and not all(settings):
            raise self._not_ready(
                "has a block of public access with gaps",
                "switch on all four settings of the bucket's block public access",
            )

    def _readable(self, what: str, call: Callable[..., Any]) -> dict[str, Any] | None:
        """Return the answer, None if there is nothing or these credentials may not see it."""
        try:
            answer: dict[str, Any] = self._ask(call)
        except ClientError as error:
            log.info("%s: %s unknown (%s)", self.target.bucket, what, error.response["Error"].get("Code"))
            return None
        return answer

    def _ask(self, call: Callable[..., Any], *, late: bool = False, **arguments: Any) -> Any:
        """Send one request about the bucket; only tidying up may be ``late``."""
        if not late and time.monotonic() - self.begun > LAST_REQUEST_S:
            raise self._not_ready(
                "answers too slowly", f"check the endpoint {self.connection.endpoint} and the network"
            )
        left = LAST_REQUEST_S - (time.monotonic() - self.begun)
        try:
            return ask("the bucket", lambda: call(Bucket=self.target.bucket, **arguments), within_s=max(left, 1))
        except NoAnswer as error:
            remedy = f"check the endpoint {self.connection.endpoint}, the network and the certificates"
            raise self._not_ready("cannot be reached", remedy, error.__cause__) from error

    def _not_ready(self, what: str, remedy: str, error: BaseException | None = None) -> DestinationNotReady:
        why = f" ({cause(error)})" if error else ""
        if isinstance(error, ClientError):
            remedy = REMEDIES.get(error.response["Error"].get("Code", ""), remedy)
        return DestinationNotReady(f"bucket {self.target.bucket} {what}{why}: {remedy}")
