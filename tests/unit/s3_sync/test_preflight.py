"""The check before a sync: who else could read what it writes, and what is stored how."""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from local.s3 import storage
from local.s3.identities import Credentials
from local.s3.seaweed import S3Server
from s3_sync.bucket.connection import S3Connection, connect
from s3_sync.bucket.target import S3Target
from s3_sync.errors import DestinationNotReady, InvalidOption
from s3_sync.preflight import LAST_REQUEST_S, READ_TIMEOUT_S, check_destination
from s3_sync.sync.request import SyncRequest
from s3_sync.sync.sync import sync
from tests.unit.s3_sync import proxy
from tests.unit.s3_sync.conftest import airflow_connection

pytestmark = pytest.mark.long

EMPTY = b"<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>"
ACTIONS = {"s3:GetObject": "be read", "s3:ListBucket": "be listed"}


@pytest.mark.quick
@pytest.mark.parametrize("action", ACTIONS)
def test_a_bucket_that_anybody_may_read_or_list_is_refused(
    admin: Any, connection: S3Connection, target: S3Target, action: str
) -> None:
    bucket = f"arn:aws:s3:::{target.bucket}"
    statement = {"Effect": "Allow", "Principal": "*", "Action": action, "Resource": [bucket, f"{bucket}/*"]}
    admin.put_bucket_policy(
        Bucket=target.bucket, Policy=json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    )
    try:
        with pytest.raises(DestinationNotReady, match=rf"is public: it can {ACTIONS[action]} without credentials"):
            check_destination(connection.at(target))
    finally:
        admin.delete_bucket_policy(Bucket=target.bucket)
    left = admin.list_objects_v2(Bucket=target.bucket, Prefix=target.prefix.removesuffix("/"))
    assert left.get("KeyCount", 0) == 0


def test_a_policy_that_opens_the_prefix_alone_is_refused(
    admin: Any, connection: S3Connection, target: S3Target
) -> None:
    """The probe, which lies beside the prefix, stays private then."""
    there = f"arn:aws:s3:::{target.bucket}/{target.prefix}*"
    statement = {"Effect": "Allow", "Principal": {"AWS": ["*"]}, "Action": "s3:GetObject", "Resource": there}
    admin.put_bucket_policy(
        Bucket=target.bucket, Policy=json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    )
    try:
        with pytest.raises(DestinationNotReady, match="has a public policy: remove the public statement"):
            check_destination(connection.at(target))
    finally:
        admin.delete_bucket_policy(Bucket=target.bucket)


class Answers(ThreadingHTTPServer):
    """An endpoint that says yes to all who sign, `behind` by that much and after `delay_s` seconds."""

    behind = timedelta()
    delay_s = 0.0
    requests = 0


class Answer(BaseHTTPRequestHandler):
    server: Answers

    def do_any(self) -> None:
        self.server.requests += 1
        time.sleep(self.server.delay_s)
        signed = "Authorization" in self.headers
        body = "<ListBucketResult/>" if "list-type" in self.path else ""
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.send_response_only(200 if signed else 403)
        self.send_header("Date", format_datetime(datetime.now(UTC) - self.server.behind, usegmt=True))
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body.encode())

    do_HEAD = do_GET = do_PUT = do_DELETE = do_any  # noqa: N815 (http.server's names)

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> Iterator[Answers]:
    with Answers(("127.0.0.1", 0), Answer) as server, ThreadPoolExecutor(1) as pool:
        served = pool.submit(server.serve_forever)
        lead_to(f"http://127.0.0.1:{server.server_address[1]}", Credentials("anybody", "anything"), monkeypatch)
        try:
            yield server
        finally:
            server.shutdown()
            served.result()


@pytest.mark.parametrize(("behind", "said"), [(2, "120 minutes ahead"), (-2, "120 minutes behind")])
def test_a_clock_two_hours_off_is_refused(answers: Answers, target: S3Target, behind: int, said: str) -> None:
    answers.behind = timedelta(hours=behind)
    with pytest.raises(DestinationNotReady, match=f"the clock of this machine is {said}: synchronise it"):
        check_destination(connect(target.bucket).at(target))
    assert answers.requests == 1


@pytest.mark.long
def test_an_endpoint_that_takes_long_to_answer_is_given_up(answers: Answers, target: S3Target) -> None:
    answers.delay_s = READ_TIMEOUT_S - 0.5
    with pytest.raises(DestinationNotReady, match=r"answers too slowly: check the endpoint http://127\.0\.0\.1:"):
        check_destination(connect(target.bucket).at(target))
    # Requests begin within LAST_REQUEST_S, and tidying up is one more.
    assert answers.requests <= LAST_REQUEST_S / answers.delay_s + 2


@pytest.mark.long
def test_an_endpoint_that_never_answers_is_given_up(target: S3Target, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        lead_to(f"http://127.0.0.1:{silent.getsockname()[1]}", Credentials("anybody", "anything"), monkeypatch)
        with pytest.raises(DestinationNotReady, match=r"cannot be reached .*: check the endpoint"):
            check_destination(connect(target.bucket).at(target))


@pytest.mark.quick
def test_wrong_credentials_and_a_missing_bucket_are_told_apart(
    admin: Any, connection: S3Connection, server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    absent = S3Target.parse("s3://absent.example.com/set/")
    with pytest.raises(DestinationNotReady, match=r"absent\.example\.com .*correct the destination|may not"):
        check_destination(connect(absent.bucket).at(absent))
    there = {bucket["Name"] for bucket in admin.list_buckets()["Buckets"]}
    assert absent.bucket not in there
    target = S3Target.parse(f"s3://{next(iter(there))}/set/")
    for wrong, said in (
        (Credentials(server.user.access_key, "wrong"), "the secret key does not fit the access key"),
        (Credentials("nobody", "wrong"), "the access key is unknown"),
    ):
        lead_to(server.endpoint, wrong, monkeypatch)
        with pytest.raises(DestinationNotReady, match=said):
            check_destination(connect(target.bucket).at(target))


def lead_to(endpoint: str, credentials: Credentials, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the connection `aws_default` lead there."""
    for name, value in storage.connection(S3Server(endpoint, credentials, credentials, 0)).items():
        monkeypatch.setenv(name, value)


@pytest.mark.long
@pytest.mark.usefixtures("connection")
def test_a_stranger_who_gets_no_answer_is_not_taken_for_one_who_was_refused(
    server: S3Server, target: S3Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    def choose(operation: str, number: int) -> str | None:
        return "500 InternalError" if (operation, number > 0) == ("ListObjectsV2", True) else None

    with proxy.running(server) as spoiling:
        spoiling.begin(choose)  # all listings but the first, which is ours
        monkeypatch.setenv("AIRFLOW_CONN_SPOILT", airflow_connection(server, spoiling.endpoint))
        with pytest.raises(DestinationNotReady, match=r"cannot be reached \(.*InternalError"):
            check_destination(connect(target.bucket, aws_conn_id="spoilt").at(target))
        assert spoiling.seen["DeleteObject probe"] == 1


@pytest.mark.parametrize(
    "gap", [None, "BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets"]
)
def test_a_block_of_public_access_with_a_gap_is_refused(
    server: S3Server, target: S3Target, gap: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SeaweedFS has no such block: the proxy before it says what S3 would."""
    settings = ["BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets"]
    said = "".join(f"<{name}>{str(name != gap).lower()}</{name}>" for name in settings)
    block = f"<PublicAccessBlockConfiguration>{said}</PublicAccessBlockConfiguration>".encode()
    with proxy.running(server) as saying:
        said_of_block = proxy.Answer(200, "OK", (), block)
        saying.instead = lambda request: said_of_block if request.operation == "GetPublicAccessBlock" else None
        monkeypatch.setenv("AIRFLOW_CONN_SAYING", airflow_connection(server, saying.endpoint))
        with nullcontext() if gap is None else pytest.raises(DestinationNotReady, match="switch on all four"):
            check_destination(connect(target.bucket, aws_conn_id="saying").at(target))


@pytest.mark.parametrize("verb", ["PutObject", "GetObject", "ListObjectsV2", "CopyObject", "DeleteObjects"])
def test_two_places_behind_one_endpoint_are_noticed(
    server: S3Server, target: S3Target, verb: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As if one of the clients were led elsewhere: what it says is done is not, what it looks for is not there."""
    nowhere = {
        "PutObject": proxy.Answer(200, "OK", (("ETag", '"x"'),), b""),
        "GetObject": proxy.Answer(404, "Not Found", (), b"<Error><Code>NoSuchKey</Code></Error>"),
        "ListObjectsV2": proxy.Answer(200, "OK", (), EMPTY),
        "CopyObject": proxy.Answer(200, "OK", (), b"<CopyObjectResult><ETag>x</ETag></CopyObjectResult>"),
        "DeleteObjects": proxy.Answer(200, "OK", (), b"<DeleteResult><Deleted><Key>x</Key></Deleted></DeleteResult>"),
    }

    def led_away(request: proxy.Request) -> proxy.Answer | None:
        by_obstore = (request.header("user-agent") or "").startswith("object_store")
        return nowhere[verb] if by_obstore and request.operation.partition(" ")[0] == verb else None

    with proxy.running(server) as leading:
        leading.instead = led_away
        monkeypatch.setenv("AIRFLOW_CONN_LEADING", airflow_connection(server, leading.endpoint))
        done = verb.removesuffix("Objects").removesuffix("Object").removesuffix("ObjectsV2")
        shown = {"Get": "PUT"}.get(done, done.upper())
        with pytest.raises(DestinationNotReady, match=f"after a {shown} by one of the two clients"):
            check_destination(connect(target.bucket, aws_conn_id="leading").at(target))


def test_a_server_that_does_not_tell_the_time_is_refused(
    server: S3Server, target: S3Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    def timeless(_: proxy.Request, answer: proxy.Answer) -> proxy.Answer:
        return replace(answer, headers=tuple(one for one in answer.headers if one[0].lower() != "date"))

    with proxy.running(server) as saying:
        saying.rewrite = timeless
        monkeypatch.setenv("AIRFLOW_CONN_SAYING", airflow_connection(server, saying.endpoint))
        with pytest.raises(DestinationNotReady, match=r"does not tell what time it is there \(header Date\)"):
            check_destination(connect(target.bucket, aws_conn_id="saying").at(target))


@pytest.mark.usefixtures("connection")
def test_objects_are_encrypted_as_asked(admin: Any, target: S3Target, tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"face")
    encrypted = connect(target.bucket, encryption="AES256")
    check_destination(encrypted.at(target))
    sync(encrypted.at(target), SyncRequest(source=tmp_path))
    head = admin.head_object(Bucket=target.bucket, Key=target.key("a.jpg"))
    assert head["ServerSideEncryption"] == "AES256"
    assert sync(encrypted.at(target), SyncRequest(source=tmp_path)).skipped == 1


@pytest.mark.parametrize(
    "options", [{"encryption": "rot13"}, {"kms_key_id": "k"}, {"encryption": "AES256", "kms_key_id": "k"}]
)
def test_an_encryption_that_cannot_be_meant_is_refused(options: dict[str, str]) -> None:
    with pytest.raises(InvalidOption):
        connect("bucket", **options)


def test_importing_the_operator_loads_no_s3_client_and_no_arrow() -> None:
    program = (
        "import sys, s3_sync.operators\n"
        "print(*{'boto3', 'obstore', 'pyarrow', 'airflow.providers.amazon.aws.hooks.s3'} & sys.modules.keys())"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
