"""SeaweedFS behind a small proxy, with the manners of servers that cannot be had here, or not in a minute.

Each of them is known from reports: what it refuses, forgets or writes otherwise, and with which words, is theirs.
"""

from __future__ import annotations

import re
from contextlib import contextmanager
from dataclasses import replace
from email.utils import formatdate
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

from tests.unit.s3_sync import proxy
from tests.unit.s3_sync.proxy import Answer, Request

if TYPE_CHECKING:
    from collections.abc import Iterator

    from local.s3.seaweed import S3Server

CONDITIONS = ("if-match", "if-none-match")
CONDITIONS_OF_A_COPY = ("x-amz-copy-source-if-match", "x-amz-copy-source-if-none-match")


class Disguise(proxy._Handler):
    """Passes on every request and every answer; the others change some."""

    def exchange(self, request: Request) -> None:
        self.say(self.answer(request))

    def answer(self, request: Request) -> Answer:
        return self.forward(request)

    def without(self, request: Request, *names: str) -> Request:
        """Return the request without some headers, signed anew."""
        if not any(request.header(name) for name in names):
            return request
        kept = tuple((name, value) for name, value in request.headers if name.lower() not in names)
        return self.signed(replace(request, headers=kept))


@contextmanager
def running(server: S3Server, disguise: type[Disguise]) -> Iterator[S3Server]:
    """Run a disguise before ``server``, whose user is the only one who comes."""
    with proxy.running(server, handler=disguise) as front:
        yield replace(server, endpoint=front.endpoint)


def is_upload(request: Request) -> bool:
    """Whether it writes an object whole: neither a part of one nor a copy."""
    parts = urlsplit(request.path)
    return request.method == "PUT" and "/" in parts.path[1:] and not parts.query and not is_copy(request)


def is_copy(request: Request) -> bool:
    return request.header("x-amz-copy-source") is not None


def is_batch_of_deletions(request: Request) -> bool:
    query = parse_qs(urlsplit(request.path).query, keep_blank_values=True)
    return request.method == "POST" and "delete" in query


def refusal(status: int, code: str, message: str, *headers: tuple[str, str]) -> Answer:
    """Return an error as S3 writes it."""
    text = f'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>{code}</Code><Message>{message}</Message></Error>'
    return Answer(status, code, (("Content-Type", "application/xml"), *headers), text.encode())


NOT_IMPLEMENTED = refusal(501, "NotImplemented", "A header you provided implies functionality that is not implemented.")


class LikeSwift(Disguise):
    """OpenStack Swift's S3 has no conditional PUT."""

    def answer(self, request: Request) -> Answer:
        if is_upload(request) and any(request.header(name) for name in CONDITIONS):
            return NOT_IMPLEMENTED
        return self.forward(request)


class Lies(Disguise):
    """Takes conditions of writes and of copies for decoration, as some versions of Ceph RGW do."""

    def answer(self, request: Request) -> Answer:
        if request.method == "PUT":
            request = self.without(request, *CONDITIONS, *CONDITIONS_OF_A_COPY)
        return self.forward(request)


class WantsMd5(Disguise):
    """Wants Content-MD5 on DeleteObjects, as S3 itself did before other checksums came, and MinIO for longer."""

    def answer(self, request: Request) -> Answer:
        if is_batch_of_deletions(request) and not request.header("content-md5"):
            return refusal(400, "MissingContentMD5", "Missing required header for this request: Content-Md5.")
        return self.forward(request)


class NoBatches(Disguise):
    """Has no DeleteObjects, as Google's XML API for many years."""

    def answer(self, request: Request) -> Answer:
        return NOT_IMPLEMENTED if is_batch_of_deletions(request) else self.forward(request)


class NoTrailers(Disguise):
    """Knows no checksum that comes behind the bytes, as most servers of before 2022."""

    def answer(self, request: Request) -> Answer:
        if "TRAILER" in (request.header("x-amz-content-sha256") or ""):
            return refusal(400, "InvalidRequest", "The value of x-amz-content-sha256 header is invalid.")
        return self.forward(request)


class Forgets(Disguise):
    """Neither compares nor keeps a checksum: it has none of these headers."""

    NAMES = re.compile("x-amz-(sdk-)?checksum|content-md5")
    OF_PARTS = re.compile(rb"<ChecksumSHA256>[^<]*</ChecksumSHA256>")

    def answer(self, request: Request) -> Answer:
        named = [name.lower() for name, _ in request.headers if self.NAMES.match(name.lower())]
        if self.OF_PARTS.search(request.body):
            request = self.signed(replace(request, body=self.OF_PARTS.sub(b"", request.body)))
        answer = self.forward(self.without(request, *named))
        kept = tuple(header for header in answer.headers if not self.NAMES.match(header[0].lower()))
        return replace(answer, headers=kept)


class KeepsUnread(Disguise):
    """Gives back the SHA-256 that an upload carried, and has not compared it, as moto does with some."""

    NAMES = ("x-amz-checksum-sha256", "x-amz-sdk-checksum-algorithm")
    kept: dict[str, str] = {}  # noqa: RUF012 of the class, as a handler lives for one connection

    def answer(self, request: Request) -> Answer:
        if is_upload(request) and (carried := request.header(self.NAMES[0])):
            self.kept[request.path] = carried
            request = self.without(request, *self.NAMES)
        answer = self.forward(request)
        told = self.kept.get(request.path) if request.method == "HEAD" and answer.status == 200 else None
        return replace(answer, headers=(*answer.headers, (self.NAMES[0], told))) if told else answer


class GoesInCircles(Disguise):
    """Its listings come back to their first page, as LocalStack's do after a name that is not ASCII."""

    def answer(self, request: Request) -> Answer:
        path, _, query = request.path.partition("?")
        kept = [part for part in query.split("&") if not part.startswith("continuation-token=")]
        if "list-type=2" in kept:
            request = self.signed(replace(request, path=f"{path}?{'&'.join(kept)}"))
        return self.forward(request)


class DoublesDates(Disguise):
    """A proxy before the server adds a Date of its own."""

    def answer(self, request: Request) -> Answer:
        answer = self.forward(request)
        return replace(answer, headers=(*answer.headers, ("Date", formatdate(usegmt=True))))


class NoZones(Disguise):
    """Leaves the zone out of Date."""

    def answer(self, request: Request) -> Answer:
        answer = self.forward(request)
        zoneless = ((name, value.removesuffix(" GMT")) for name, value in answer.headers if name.lower() == "date")
        others = tuple(header for header in answer.headers if header[0].lower() != "date")
        return replace(answer, headers=(*others, *zoneless))


class OnlyOnCondition(Disguise):
    """The bucket's policy denies every PUT without a condition (docs.aws.amazon.com, "Enforce conditional writes")."""

    def answer(self, request: Request) -> Answer:
        if is_upload(request) and not any(request.header(name) for name in CONDITIONS):
            return refusal(403, "AccessDenied", "Access Denied")
        return self.forward(request)


class Locked(Disguise):
    """A bucket with Object Lock: every PUT must come with a checksum."""

    def answer(self, request: Request) -> Answer:
        names = [name.lower() for name, _ in request.headers]
        checked = any(name == "content-md5" or name.startswith(("x-amz-checksum-", "x-amz-sdk-")) for name in names)
        if is_upload(request) and not checked:
            wanted = "Content-MD5 OR x-amz-checksum- HTTP header is required for Put Object requests with Object Lock"
            return refusal(400, "InvalidRequest", f"{wanted} parameters")
        return self.forward(request)


class WithKms(Disguise):
    """Encrypts with a key of KMS: no ETag is an MD5."""

    def forward(self, request: Request) -> Answer:
        self.server.proxy.opaque_etags = True
        if condition := request.header(CONDITIONS_OF_A_COPY[0]):
            request = request.with_headers(x_amz_copy_source_if_match=proxy._reversed(condition))
        return super().forward(request)


class Elsewhere(Disguise):
    """The bucket is in another region, as S3 says it."""

    def answer(self, request: Request) -> Answer:
        where = ("x-amz-bucket-region", "eu-central-1")
        if request.method == "HEAD":
            return Answer(400, "Bad Request", (where,), b"")
        message = "The authorization header is malformed; the region 'us-east-1' is wrong; expecting 'eu-central-1'"
        return refusal(400, "AuthorizationHeaderMalformed", message, where)


class RequesterPays(Disguise):
    """Whoever reads must say that they pay."""

    def answer(self, request: Request) -> Answer:
        if request.method in {"GET", "HEAD"} and request.header("x-amz-request-payer") != "requester":
            return refusal(403, "AccessDenied", "Access Denied")
        return self.forward(self.without(request, "x-amz-request-payer"))


class Damages(Disguise):
    """The line before a server: it turns a bit of the first upload of each object under ``/set/``."""

    seen: set[str] = set()  # noqa: RUF012

    def answer(self, request: Request) -> Answer:
        if is_upload(request) and "/set/" in request.path and request.path not in self.seen:
            self.seen.add(request.path)
            request = replace(request, body=bytes([request.body[0] ^ 1]) + request.body[1:])
        return self.forward(request)
