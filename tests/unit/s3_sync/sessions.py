"""A session server on loopback, as containers, STS, SSO and instances have one, and S3's part: it refuses old tokens.

Every session is one of the real server's own user, who needs none: a proxy before it takes the token off.
"""

from __future__ import annotations

import json
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING
from urllib.parse import urlsplit
from uuid import uuid4

from tests.unit.s3_sync.proxy import Answer, Request

if TYPE_CHECKING:
    from collections.abc import Iterator

    from local.s3.identities import Credentials

STS = """<AssumeRoleResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><AssumeRoleResult><Credentials>
<AccessKeyId>{AccessKeyId}</AccessKeyId><SecretAccessKey>{SecretAccessKey}</SecretAccessKey>
<SessionToken>{Token}</SessionToken><Expiration>{Expiration}</Expiration>
</Credentials></AssumeRoleResult></AssumeRoleResponse>"""
QUOTED = "half of a session"
DENIED = """<ErrorResponse><Error><Type>Sender</Type><Code>AccessDenied</Code>
<Message>not authorized to perform sts:AssumeRole</Message></Error></ErrorResponse>"""


@dataclass
class Sessions:
    """What the server hands out: sessions of ``life_s`` seconds, of which it says that they live for ``told_s``.

    ``given`` maps each token to when it ends. Without ``works`` it refuses to give any more.
    """

    url: str
    user: Credentials
    life_s: float = 3600
    told_s: float | None = None
    works: bool = True
    refusal: tuple[int, str] = (400, "ExpiredToken")
    given: dict[str, float] = field(default_factory=dict)
    used: list[str | None] = field(default_factory=list)
    asked: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def new(self) -> dict[str, str]:
        token, now = uuid4().hex, time.time()
        told = datetime.fromtimestamp(now + (self.told_s or self.life_s), UTC)
        with self.lock:
            self.given[token] = now + self.life_s
        return {
            "AccessKeyId": self.user.access_key,
            "SecretAccessKey": self.user.secret_key,
            "Token": token,
            "Expiration": told.isoformat(),
        }

    def end_all(self) -> None:
        """End every session that there is, which nobody was told."""
        with self.lock:
            self.given = dict.fromkeys(self.given, 0.0)

    def refuse_old(self, request: Request) -> Answer | None:
        """Answer in S3's place where the token has ended; let a stranger through."""
        token = request.header("x-amz-security-token")
        if not request.header("authorization"):
            return None
        with self.lock:
            self.used.append(token)
            if token and self.given.get(token, 0.0) > time.time():
                return None
        status, code = self.refusal
        # The answer to a HEAD has no body.
        body = f"<Error><Code>{code}</Code><Message>The provided token has expired.</Message></Error>".encode()
        return Answer(status, "Refused", (("Content-Type", "application/xml"),), body)


@contextmanager
def running(user: Credentials) -> Iterator[Sessions]:
    """Run a session server for the real server's ``user``."""

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            sessions.asked += 1
            said, body = 200 if sessions.works else 500, ""
            match urlsplit(self.path).path:
                case "/container":
                    body = json.dumps(sessions.new()) if sessions.works else QUOTED
                case "/":
                    said = said if sessions.works else 403
                    body = STS.format(**sessions.new()) if sessions.works else DENIED
                case "/federation/credentials":
                    said, body = (
                        (200, sso(sessions.new())) if sessions.works else (401, json.dumps({"message": "over"}))
                    )
                case "/latest/api/token":
                    body = "token"
                case "/latest/meta-data/iam/security-credentials/":
                    body = "role"
                case "/latest/meta-data/iam/security-credentials/role":
                    body = json.dumps({"Code": "Success", **whole_seconds(sessions.new())})
                case _:
                    said = 404
            self.send_response(said)
            self.send_header("Content-Length", str(len(body)))
            if said == 401:
                self.send_header("x-amzn-errortype", "UnauthorizedException")
            self.end_headers()
            self.wfile.write(body.encode())

        do_GET = do_POST = do_PUT = answer  # noqa: N815 http.server's names

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listener:
        sessions = Sessions(f"http://127.0.0.1:{listener.server_port}", user)
        thread = threading.Thread(target=listener.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        yield sessions
        listener.shutdown()
        thread.join()


def sso(one: dict[str, str]) -> str:
    """Return a session as SSO tells it: with its end in milliseconds."""
    ends = datetime.fromisoformat(one["Expiration"]).timestamp() * 1000
    named = {"accessKeyId": "AccessKeyId", "secretAccessKey": "SecretAccessKey", "sessionToken": "Token"}
    return json.dumps({"roleCredentials": {name: one[key] for name, key in named.items()} | {"expiration": int(ends)}})


def whole_seconds(one: dict[str, str]) -> dict[str, str]:
    """Return a session as an instance's metadata tell it."""
    return one | {"Expiration": f"{datetime.fromisoformat(one['Expiration']):%Y-%m-%dT%H:%M:%SZ}"}
