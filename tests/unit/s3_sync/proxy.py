"""An HTTP proxy before the real S3 server, on loopback, that knows S3's operations and spoils the ones it is told to.

A request that is not spoilt goes through as it came, `Host` included, which SigV4 signs. Where the proxy has to change
one (smaller pages, an ETag that is no MD5) it signs it anew.
"""

from __future__ import annotations

import http.client
import os
import random
import re
import select
import socket
import struct
import sys
import threading
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from local.s3.seaweed import REGION

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterator

    from local.s3.seaweed import S3Server

    Choose = Callable[[str, int], str | None]
    Instead = Callable[["Request"], "Answer | None"]

LISTS = ("ListObjectsV2", "ListObjectVersions", "ListMultipartUploads")
# What is said of a whole bucket, by the query that names it.
OF_A_BUCKET = {
    ("GET", "list-type"): "ListObjectsV2",
    ("GET", "versions"): "ListObjectVersions",
    ("GET", "uploads"): "ListMultipartUploads",
    ("GET", "versioning"): "GetBucketVersioning",
    ("GET", "policy"): "GetBucketPolicy",
    ("GET", "policyStatus"): "GetBucketPolicyStatus",
    ("GET", "acl"): "GetBucketAcl",
    ("GET", "publicAccessBlock"): "GetPublicAccessBlock",
    ("POST", "delete"): "DeleteObjects",
}
OF_AN_UPLOAD = {
    ("POST", "uploads"): "CreateMultipartUpload",
    ("PUT", "partNumber"): "UploadPart",
    ("POST", "uploadId"): "CompleteMultipartUpload",
    ("DELETE", "uploadId"): "AbortMultipartUpload",
}
OF_AN_OBJECT = {"GET": "GetObject", "HEAD": "HeadObject", "PUT": "PutObject", "DELETE": "DeleteObject"}
ENTRY = {
    "ListObjectsV2": rb"<Contents>.*?</Contents>",
    "ListObjectVersions": rb"<Version>.*?</Version>",
    "ListMultipartUploads": rb"<Upload>.*?</Upload>",
}

ERROR = "<Error><Code>{0}</Code><Message>spoiled on purpose</Message></Error>"
ETAG = re.compile(rb"(?<=<ETag>)((?:\"|&#34;|&quot;)?)([0-9a-f]{32})")
STALL_S = 60.0

FAULTS = (
    "500 InternalError",
    "503 SlowDown",
    "reset before",
    "reset after",
    "stall",
    "answer cut off",
    "byte of the request",
    "byte of the answer",
    "200 with an error",
    "page dropped",
    "page in another order",
    "key refused",
)


def can_meet(fault: str, operation: str) -> bool:
    """Say whether ``fault`` is possible at ``operation``, such as ``PutObject latest.json``."""
    name = operation.partition(" ")[0]
    match fault:
        case "page dropped" | "page in another order":
            return name in LISTS
        case "key refused":
            return name == "DeleteObjects"
        case "byte of the request":
            return name in {"PutObject", "UploadPart", "CompleteMultipartUpload", "DeleteObjects"}
        case "byte of the answer":
            return not name.startswith("Head") and name not in {
                "PutObject",
                "UploadPart",
                "DeleteObject",
                "AbortMultipartUpload",
            }
        case "200 with an error":
            return not name.startswith("Head")
    return True


@dataclass
class Proxy:
    """A running proxy. ``choose(operation, number)`` names the fault of an operation's request, counted from 0.

    ``instead(request)``, which sees every request, may give an answer in the server's place; ``rewrite`` makes another
    one of the server's. ``seen`` counts the requests of each operation, ``spoilt`` the faults that were met.
    """

    endpoint: str
    server: S3Server
    choose: Choose = lambda _operation, _number: None
    instead: Instead = lambda _request: None
    page_size: int | None = None
    opaque_etags: bool = False
    rewrite: Callable[[Request, Answer], Answer] = lambda _request, answer: answer
    seed: int = 0
    seen: Counter[str] = field(default_factory=Counter)
    spoilt: Counter[tuple[str, str]] = field(default_factory=Counter)
    errors: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def begin(self, choose: Choose, *, page_size: int | None = None, opaque_etags: bool = False) -> None:
        """Count anew, with other faults."""
        with self.lock:
            self.choose, self.page_size, self.opaque_etags = choose, page_size, opaque_etags
            self.seen, self.spoilt = Counter(), Counter()

    def fault(self, operation: str) -> tuple[str | None, random.Random]:
        with self.lock:
            number = self.seen[operation]
            self.seen[operation] += 1
            fault = self.choose(operation, number)
            if fault and not can_meet(fault, operation):
                fault = None
            if fault:
                self.spoilt[operation, fault] += 1
        return fault, random.Random(f"{self.seed} {operation} {number}")


@contextmanager
def running(
    server: S3Server, tls: ssl.SSLContext | None = None, handler: type[_Handler] | None = None
) -> Iterator[Proxy]:
    """Run a proxy before ``server`` on a free loopback port, speaking TLS if a context is given.

    Another ``handler`` changes what it likes.
    """
    scheme = "https" if tls else "http"
    listener = _Listener(("127.0.0.1", 0), handler or _Handler)
    if tls:
        listener.socket = tls.wrap_socket(listener.socket, server_side=True, do_handshake_on_connect=False)
    listener.proxy = Proxy(f"{scheme}://127.0.0.1:{listener.server_port}", server)
    thread = threading.Thread(target=listener.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield listener.proxy
    finally:
        listener.shutdown()
        listener.server_close()
        thread.join()
        assert not listener.proxy.errors


@dataclass(frozen=True)
class Request:
    """A request as it came; ``path`` is raw, with its query."""

    method: str
    path: str
    headers: tuple[tuple[str, str], ...]
    body: bytes

    def header(self, name: str) -> str | None:
        return next((value for key, value in self.headers if key.lower() == name), None)

    @property
    def operation(self) -> str:
        """S3's name of it, followed by the object's if that has a role of its own: lease, pointer, probe."""
        url = urlsplit(self.path)
        query = parse_qs(url.query, keep_blank_values=True)
        key = url.path.lstrip("/").partition("/")[2]
        if not key:
            found = [name for (method, part), name in OF_A_BUCKET.items() if method == self.method and part in query]
            if self.method == "HEAD":
                found = ["HeadBucket"]
            (name,) = found
            return name
        for (method, part), name in OF_AN_UPLOAD.items():
            if method == self.method and part in query:
                return name
        name = OF_AN_OBJECT[self.method]
        if self.header("x-amz-copy-source"):
            return "CopyObject"
        last = key.rpartition("/")[2]
        role = {"lease.json": " lease.json", "latest.json": " latest.json"}.get(last, "")
        return name + (" probe" if "/.probe-" in key else role)

    def with_headers(self, **changed: str) -> Request:
        """Return the request with other values of headers, whose names are written with ``_`` for ``-``."""
        names = {name.replace("_", "-"): value for name, value in changed.items()}
        kept = tuple((key, value) for key, value in self.headers if key.lower() not in names)
        return replace(self, headers=kept + tuple(names.items()))


@dataclass(frozen=True)
class Answer:
    """What the server said."""

    status: int
    reason: str
    headers: tuple[tuple[str, str], ...]
    body: bytes


class _Listener(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256
    proxy: Proxy

    def handle_error(self, _request: object, _client_address: object) -> None:
        error = sys.exception()
        if not isinstance(error, OSError):  # a client that goes away is no fault of the proxy's
            self.proxy.errors.append(repr(error))


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Listener

    def handle_one_request(self) -> None:
        self.raw_requestline = self.rfile.readline(65537)
        if not self.raw_requestline or not self.parse_request():
            self.close_connection = True
            return
        self.exchange(Request(self.command, self.path, tuple(self.headers.items()), b"".join(self.body())))

    def body(self) -> Iterator[bytes]:
        if self.headers.get("transfer-encoding") != "chunked":
            yield self.rfile.read(int(self.headers.get("content-length", 0)))
            return
        while size := int(self.rfile.readline(), 16):
            yield self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()

    def exchange(self, request: Request) -> None:
        proxy, operation = self.server.proxy, request.operation
        if (answer := proxy.instead(request)) is not None:
            self.say(answer)
            return
        fault, drawn = proxy.fault(operation)
        match fault:
            case None:
                self.say(self.forward(request))
            case "500 InternalError" | "503 SlowDown" | "200 with an error":
                self.say(made_up(fault))
            case "reset before":
                self.reset()
            case "reset after":
                self.forward(request)
                self.reset()
            case "stall":
                self.forward(request)
                select.select([self.connection], [], [], STALL_S)  # until the client goes away
                self.close_connection = True
            case "answer cut off":
                head, body = self.bytes_of(self.forward(request))
                self.connection.sendall(head + body[: len(body) // 2] if body else head[: len(head) // 2])
                self.close_connection = True
            case "byte of the request":
                self.say(self.forward(replace(request, body=flipped(request.body, drawn))))
            case "key refused":
                self.say(self.forward_but_one_key(request))
            case _:
                answer = self.forward(request)
                self.say(replace(answer, body=spoilt(answer.body, operation, fault, drawn)))

    def forward(self, request: Request) -> Answer:
        """Send the request to the server as it came, but for smaller pages and opaque ETags."""
        proxy = self.server.proxy
        if request.header("x-amz-security-token"):
            request = self.signed(request)
        if proxy.page_size and request.operation in LISTS:
            request = self.signed(paged(request, proxy.page_size))
        if proxy.opaque_etags:
            request = self.signed(with_true_etags(request))
        real = urlsplit(proxy.server.endpoint)
        connection = http.client.HTTPConnection(real.hostname or "", real.port, timeout=STALL_S)
        try:
            connection.putrequest(request.method, request.path, skip_host=True, skip_accept_encoding=True)
            for name, value in request.headers:
                if name.lower() not in {"connection", "expect"}:
                    connection.putheader(name, value)
            chunked = request.header("transfer-encoding") == "chunked"
            connection.endheaders([request.body] if chunked else request.body or None, encode_chunked=chunked)
            response = connection.getresponse()
            left = {"connection", "transfer-encoding", "content-length"}
            headers = [(name, value) for name, value in response.getheaders() if name.lower() not in left]
            if request.method == "HEAD" and (length := response.getheader("content-length")):
                headers.append(("Content-Length", length))
            answer = Answer(response.status, response.reason, tuple(headers), response.read())
        finally:
            connection.close()
        return proxy.rewrite(request, with_opaque_etags(answer) if proxy.opaque_etags else answer)

    def forward_but_one_key(self, request: Request) -> Answer:
        """Let the server delete all keys but the first, and say of that one that it could not."""
        first = re.search(rb"(?s)<Object>.*?<Key>(.*?)</Key>.*?</Object>", request.body)
        assert first
        rest = request.body.replace(first[0], b"", 1)
        if b"<Object>" in rest:
            digest = sha256(rest).hexdigest()
            trimmed = tuple(
                (name, value)
                for name, value in request.headers
                if not name.lower().startswith(("x-amz-checksum", "x-amz-sdk-checksum", "content-md5"))
            )
            shorter = replace(request, headers=trimmed, body=rest)
            shorter = shorter.with_headers(x_amz_content_sha256=digest, content_length=str(len(rest)))
            answer = self.forward(self.signed(shorter))
        else:
            root = b"<DeleteResult></DeleteResult>"
            answer = Answer(200, "OK", (("Content-Type", "application/xml"),), root)
        refused = b"<Error><Key>%s</Key><Code>InternalError</Code><Message>not now</Message></Error>" % first[1]
        body = answer.body.replace(b"</DeleteResult>", refused + b"</DeleteResult>")
        if refused not in body:
            body = b"<DeleteResult>" + refused + b"</DeleteResult>"
        return replace(answer, body=body)

    def signed(self, request: Request) -> Request:
        """Return the request with the signature that its content needs; an anonymous one as it is."""
        if not request.header("authorization"):
            return request
        user = self.server.proxy.server.user
        assert user.access_key in (request.header("authorization") or ""), "another identity's request was changed"
        # The real server knows its user and no session.
        left = {"authorization", "x-amz-date", "x-amz-security-token"}
        unsigned = {key: value for key, value in request.headers if key.lower() not in left}
        ready = AWSRequest(request.method, self.server.proxy.server.endpoint + request.path, unsigned, request.body)
        _Signer(Credentials(user.access_key, user.secret_key), "s3", REGION).add_auth(ready)
        return replace(request, headers=tuple(ready.headers.items()))

    def say(self, answer: Answer) -> None:
        self.connection.sendall(b"".join(self.bytes_of(answer)))

    def bytes_of(self, answer: Answer) -> tuple[bytes, bytes]:
        headers = list(answer.headers)
        if not any(name.lower() == "content-length" for name, _ in headers) and answer.status != 204:
            headers.append(("Content-Length", str(len(answer.body))))
        lines = [f"HTTP/1.1 {answer.status} {answer.reason}", *(f"{name}: {value}" for name, value in headers)]
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1"), b"" if self.command == "HEAD" else answer.body

    def reset(self) -> None:
        """Send RST."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_connection = True
        os.close(self.connection.detach())


class _Signer(S3SigV4Auth):
    def payload(self, request: AWSRequest) -> str:
        return sha256(request.data or b"").hexdigest()


def made_up(fault: str) -> Answer:
    """Return an answer that the server never gave."""
    status, _, code = fault.partition(" ")
    code = "InternalError" if status == "200" else code
    return Answer(int(status), code, (("Content-Type", "application/xml"),), ERROR.format(code).encode())


def spoilt(body: bytes, operation: str, fault: str, drawn: random.Random) -> bytes:
    """Return what ``fault`` makes of the body of an answer."""
    if fault == "byte of the answer":
        return flipped(body, drawn)
    entry = re.compile(ENTRY[operation], re.DOTALL)
    if fault == "page dropped":
        return re.sub(rb"<KeyCount>\d+<", b"<KeyCount>0<", entry.sub(b"", body))
    assert fault == "page in another order"
    found = entry.findall(body)
    shuffled = iter(drawn.sample(found, len(found)))
    return entry.sub(lambda _: next(shuffled), body)


def flipped(content: bytes, drawn: random.Random) -> bytes:
    """Return ``content`` with one bit of one byte turned."""
    if not content:
        return content
    place = drawn.randrange(len(content))
    return content[:place] + bytes([content[place] ^ 1 << drawn.randrange(8)]) + content[place + 1 :]


def paged(request: Request, size: int) -> Request:
    """Return a listing's request for no more than ``size`` entries."""
    name = "max-uploads" if request.operation == "ListMultipartUploads" else "max-keys"
    path, _, query = request.path.partition("?")
    asked = int(parse_qs(query).get(name, ["1000"])[0])
    parts = [part for part in query.split("&") if part and not part.startswith(f"{name}=")]
    return replace(request, path=f"{path}?{'&'.join([*parts, f'{name}={min(size, asked)}'])}")


def with_opaque_etags(answer: Answer) -> Answer:
    """Return the answer with ETags that are no MD5, as SSE-KMS has them: the same everywhere, of the same form."""
    headers = tuple((key, _reversed(value) if key.lower() == "etag" else value) for key, value in answer.headers)
    is_xml = ("content-type", "application/xml") in [(key.lower(), value) for key, value in headers]
    return replace(answer, headers=headers, body=ETAG.sub(_backwards, answer.body) if is_xml else answer.body)


def with_true_etags(request: Request) -> Request:
    """Undo `with_opaque_etags` in what a client sends back."""
    names = {"if-match", "if-none-match"}
    headers = tuple((key, _reversed(value) if key.lower() in names else value) for key, value in request.headers)
    body = ETAG.sub(_backwards, request.body) if request.operation == "CompleteMultipartUpload" else request.body
    return replace(request, headers=headers, body=body)


def _backwards(found: re.Match[bytes]) -> bytes:
    return found[1] + found[2][::-1]


def _reversed(etag: str) -> str:
    return re.sub("[0-9a-f]{32}", lambda found: found[0][::-1], etag)
