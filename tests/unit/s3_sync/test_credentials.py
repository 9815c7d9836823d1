"""Sessions that end while a sync runs: they are renewed, seldom, or the run stops at once and says what to do."""

import json
import os
import socket
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from hashlib import md5, sha1
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from botocore.credentials import RefreshableCredentials
from botocore.exceptions import ClientError
from obstore.exceptions import GenericError

from local.s3.seaweed import S3Server
from s3_sync import lease
from s3_sync.bucket.connection import S3Connection, connect
from s3_sync.bucket.credentials import S3Credentials
from s3_sync.bucket.retry import ask
from s3_sync.bucket.target import S3Target
from s3_sync.erasure import erase
from s3_sync.errors import CredentialsNotReady, UploadFailed
from s3_sync.listing import contents, versions
from s3_sync.preflight import check_destination
from s3_sync.proof import publish
from s3_sync.proof.verify import verify
from s3_sync.sources.source import S3Source
from s3_sync.sync import expected as expected_objects
from s3_sync.sync import record
from s3_sync.sync.bring import MULTIPART_ABOVE
from s3_sync.sync.delete import delete
from s3_sync.sync.request import SyncRequest
from s3_sync.sync.sync import sync
from s3_sync.sync.unfinished import abort_unfinished
from tests.unit.s3_sync import proxy, sessions
from tests.unit.s3_sync.proxy import Answer, Proxy, Request
from tests.unit.s3_sync.sessions import Sessions

pytestmark = pytest.mark.long

ROLE = "arn:aws:iam::123456789012:role/labels"
START = "https://login.example/start"


@pytest.fixture
def giver(server: S3Server) -> Iterator[Sessions]:
    with sessions.running(server.user) as running:
        yield running


@pytest.fixture
def endpoint(server: S3Server, giver: Sessions, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Proxy]:
    """S3 that refuses old tokens; nothing else of credentials is in the environment."""
    for name in [name for name in os.environ if name.startswith(("AWS_", "AIRFLOW_CONN_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setattr("botocore.utils.ContainerMetadataFetcher.SLEEP_TIME", 0.0)
    with proxy.running(server) as running:
        running.instead = giver.refuse_old
        yield running


def say(monkeypatch: pytest.MonkeyPatch, endpoint: Proxy, *, login: bool = False, **extra: Any) -> None:
    """Make this Airflow's connection."""
    user = endpoint.server.user
    who = {"login": user.access_key, "password": user.secret_key} if login else {}
    extra = {"endpoint_url": endpoint.endpoint, "region_name": "us-east-1", **extra}
    monkeypatch.setenv("AIRFLOW_CONN_AWS_DEFAULT", json.dumps({"conn_type": "aws", **who, "extra": extra}))


Way = Callable[[pytest.MonkeyPatch, Proxy, Sessions, Path], None]


def by_container(monkeypatch: pytest.MonkeyPatch, endpoint: Proxy, giver: Sessions, _folder: Path) -> None:
    monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"{giver.url}/container")
    say(monkeypatch, endpoint)


def by_role(monkeypatch: pytest.MonkeyPatch, endpoint: Proxy, giver: Sessions, _folder: Path) -> None:
    sts = {"sts": {"endpoint_url": giver.url}}
    say(monkeypatch, endpoint, login=True, role_arn=ROLE, service_config=sts)


def by_profile(monkeypatch: pytest.MonkeyPatch, endpoint: Proxy, giver: Sessions, folder: Path) -> None:
    (folder / "config").write_text(
        f"[profile labels]\nrole_arn = {ROLE}\nsource_profile = base\nservices = labels\n"
        f"[profile base]\nservices = labels\n[services labels]\nsts =\n    endpoint_url = {giver.url}\n"
    )
    user = endpoint.server.user
    (folder / "credentials").write_text(
        f"[base]\naws_access_key_id = {user.access_key}\naws_secret_access_key = {user.secret_key}\n"
    )
    say(monkeypatch, endpoint, profile_name="labels")


def by_login(monkeypatch: pytest.MonkeyPatch, endpoint: Proxy, giver: Sessions, folder: Path) -> None:
    (folder / "config").write_text(
        f"[profile labels]\nsso_start_url = {START}\nsso_region = us-east-1\nsso_account_id = 123456789012\n"
        f"sso_role_name = labels\nservices = labels\n[services labels]\nsso =\n    endpoint_url = {giver.url}\n"
    )
    cache = folder / "sso"
    cache.mkdir()
    monkeypatch.setattr("botocore.credentials.SSOProvider._SSO_TOKEN_CACHE_DIR", str(cache))
    token = {"accessToken": "token", "expiresAt": (datetime.now(UTC) + timedelta(hours=1)).isoformat()}
    (cache / f"{sha1(START.encode(), usedforsecurity=False).hexdigest()}.json").write_text(json.dumps(token))
    say(monkeypatch, endpoint, profile_name="labels")


def by_instance(monkeypatch: pytest.MonkeyPatch, endpoint: Proxy, giver: Sessions, _folder: Path) -> None:
    monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", f"{giver.url}/")
    say(monkeypatch, endpoint)


WAYS: dict[str, Way] = {
    "container": by_container,
    "role": by_role,
    "profile": by_profile,
    "login": by_login,
    "instance": by_instance,
}
REMEDIES = {
    "container": "check the container's credentials endpoint",
    "role": r"check that the role may be assumed \(sts:AssumeRole",
    "profile": r"check that the role may be assumed \(sts:AssumeRole",
    "login": "log in again where the workers run: aws sso login --profile labels",
    "instance": "check that the instance has a role, and that its metadata service answers",
}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    for number in range(80):
        path = tmp_path / f"source/{number % 7}/{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(str(number).encode())
    return tmp_path / "source"


def slowly(giver: Sessions) -> Callable[[Request], Answer | None]:
    """S3 that takes so long for an object that a session of seconds does not last for all of them."""

    def answer(request: Request) -> Answer | None:
        if request.operation == "PutObject":
            time.sleep(0.1)
        return giver.refuse_old(request)

    return answer


@pytest.mark.long
@pytest.mark.parametrize("way", ["container", "role", "profile", "login"])
def test_a_sync_outlives_its_sessions(
    way: str,
    endpoint: Proxy,
    giver: Sessions,
    target: S3Target,
    source: Path,
    *,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    giver.life_s = 1.2
    WAYS[way](monkeypatch, endpoint, giver, tmp_path)
    endpoint.instead = slowly(giver)
    connection = connect(target.bucket)
    assert sync(connection.at(target), SyncRequest(source=source, max_concurrency=2)).uploaded == 80
    verify(connection.at(target), expected_objects.walk(source), record.empty())
    renewals = len(set(giver.used)) - 1
    assert renewals >= 3
    assert giver.asked < len(giver.used) / 5


@pytest.mark.parametrize(
    ("way", "refusal"),
    [(way, (400, "ExpiredToken")) for way in WAYS] + [("role", (403, "ExpiredToken")), ("role", (400, "InvalidToken"))],
)
def test_a_session_that_s3_ends_before_its_time_is_renewed_once_for_all_threads(
    way: str,
    refusal: tuple[int, str],
    endpoint: Proxy,
    giver: Sessions,
    target: S3Target,
    *,
    source: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    giver.refusal = refusal
    WAYS[way](monkeypatch, endpoint, giver, tmp_path)
    connection = connect(target.bucket)
    assert sync(connection.at(target), SyncRequest(source=source, dry_run=True)).uploaded == 80
    giver.end_all()
    before = len(giver.given)
    with_large = source / "large.jpg"
    with_large.write_bytes(bytes(MULTIPART_ABOVE + 1))
    assert sync(connection.at(target), SyncRequest(source=source, max_concurrency=16)).uploaded == 81
    assert len(giver.given) == before + 1


def verbs(connection: S3Connection, target: S3Target) -> dict[str, Callable[[], Any]]:
    """Every kind of request that is sent, by both clients, each of which works after those before it."""
    source, client = S3Source(target.uri), connection.client
    where = {"Bucket": target.bucket, "Key": target.key("x")}
    etag = md5(b"x", usedforsecurity=False).hexdigest()
    return {
        "preflight": lambda: check_destination(connection.at(target)),
        "lease": lambda: leased(connection, target),
        "put": lambda: publish.put_bytes(connection.at(target), b"x", "x"),
        "put by boto3": lambda: client.put_object(**where, Body=b"x"),
        "list": lambda: contents.list_prefix(connection.at(target)),
        "list with true keys": lambda: contents.list_raw(connection.at(target)),
        "list an export": lambda: list(source.listing("")),
        "read an export": lambda: source.read("x", etag),
        "read": lambda: publish.read_pointer(connection.at(target)),
        "head": lambda: client.head_object(**where),
        "copy": lambda: client.copy_object(**where | {"Key": target.key("y")}, CopySource=where),
        "versions": lambda: versions.is_versioned(connection.at(target)),
        "versions to erase": lambda: erase.list_all(connection.at(target)),
        "delete": lambda: delete(connection.at(target), pa.chunked_array([["x", "y"]])),
        "unfinished": lambda: abort_unfinished(connection.at(target)),
    }


def leased(connection: S3Connection, target: S3Target) -> None:
    with lease.hold(connection.at(target), owner="a", holder="a", give_back=True):
        pass


@pytest.mark.quick
def test_every_verb_goes_on_with_a_new_session(
    endpoint: Proxy, giver: Sessions, target: S3Target, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    by_container(monkeypatch, endpoint, giver, tmp_path)
    # Each verb is refused soon after the one before it.
    monkeypatch.setattr("s3_sync.bucket.credentials.AT_ONCE_S", 0.0)
    for verb in verbs(connect(target.bucket), target).values():
        giver.end_all()
        verb()
    assert len(giver.given) >= 15


VERBS = ["preflight", "lease", "put", "list", "list with true keys", "read an export", "read", "copy", "delete"]


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_says_that_a_session_of_no_service_has_ended(
    verb: str, endpoint: Proxy, target: S3Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    say(monkeypatch, endpoint, login=True, aws_session_token="over")  # noqa: S106
    with pytest.raises(
        CredentialsNotReady,
        match=r"^the credentials of connection 'aws_default' are refused by S3, because their session has ended: get"
        r" new ones and set them where they come from: .* aws_session_token",
    ):
        verbs(connect(target.bucket), target)[verb]()


@pytest.mark.parametrize(
    ("way", "verb"), [("login", verb) for verb in VERBS] + [(way, "put") for way in WAYS if way != "login"]
)
def test_every_verb_says_why_there_are_no_credentials(
    way: str,
    verb: str,
    endpoint: Proxy,
    giver: Sessions,
    target: S3Target,
    *,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    giver.works = False
    WAYS[way](monkeypatch, endpoint, giver, tmp_path)
    with pytest.raises(CredentialsNotReady, match=REMEDIES[way] if way != "instance" else "AWS_") as failed:
        verbs(connect(target.bucket), target)[verb]()
    assert sessions.QUOTED not in "".join(traceback.format_exception(failed.value))
    assert not giver.used


@pytest.mark.parametrize(
    ("environment", "extra", "message"),
    [
        ({"AWS_PROFILE": "nobody"}, {}, r"profile \(nobody\) could not be found\): correct AWS_PROFILE"),
        ({}, {"profile_name": "nobody"}, r"profile \(nobody\) could not be found\): .*profile_name"),
        ({"AWS_ACCESS_KEY_ID": "half"}, {}, r"Partial credentials found in env.*\): get new ones and set them"),
        ({"AWS_EC2_METADATA_DISABLED": "true"}, {}, r"Unable to locate credentials\): get new ones and set them"),
        ({"AWS_CA_BUNDLE": " "}, {"aws_access_key_id": "a"}, r"Invalid CA bundle.*\): correct what it names"),
        (
            {},
            {"endpoint_url": "localhost:9000", "aws_access_key_id": "a"},
            r"Invalid endpoint.*: correct what it names",
        ),
    ],
)
def test_what_is_wrong_with_a_connection_is_said_at_once(
    environment: Mapping[str, str],
    extra: dict[str, str],
    message: str,
    endpoint: Proxy,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if "aws_access_key_id" in extra:
        extra = extra | {"aws_secret_access_key": "b"}
    say(monkeypatch, endpoint, **extra)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(CredentialsNotReady, match=rf"^connection 'aws_default' gives no usable .*{message}"):
        connect("faces")


@pytest.mark.parametrize("way", ["role", "profile", "login"])
def test_whoever_gives_sessions_and_never_answers_is_given_up(
    way: str,
    endpoint: Proxy,
    giver: Sessions,
    target: S3Target,
    tmp_path: Path,
    *,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("s3_sync.bucket.boto.READ_TIMEOUT_S", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        giver.url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        WAYS[way](monkeypatch, endpoint, giver, tmp_path)
        with pytest.raises(CredentialsNotReady, match=f"Read timeout on endpoint URL.*{REMEDIES[way]}"):
            contents.list_raw(connect(target.bucket).at(target))


@pytest.mark.parametrize("way", WAYS)
def test_a_sync_stops_at_once_when_its_session_cannot_be_renewed(
    way: str,
    endpoint: Proxy,
    giver: Sessions,
    target: S3Target,
    source: Path,
    *,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    WAYS[way](monkeypatch, endpoint, giver, tmp_path)

    def until_it_ends(request: Request) -> Answer | None:
        if endpoint.seen["PutObject"] == 20:
            giver.end_all()
            giver.works = False
        return giver.refuse_old(request)

    connection = connect(target.bucket)
    endpoint.instead = until_it_ends
    with pytest.raises(UploadFailed, match=REMEDIES[way]) as failed:
        sync(connection.at(target), SyncRequest(source=source, max_concurrency=8))
    assert "certificates" not in str(failed.value)
    assert sessions.QUOTED not in "".join(traceback.format_exception(failed.value)) + caplog.text
    assert len(failed.value.failures) <= 8
    giver.works, endpoint.instead = True, giver.refuse_old
    assert sync(connect(target.bucket).at(target), SyncRequest(source=source)).skipped >= 10


def test_the_lease_is_tried_again_while_there_are_no_credentials(
    endpoint: Proxy, giver: Sessions, target: S3Target, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    by_container(monkeypatch, endpoint, giver, tmp_path)
    monkeypatch.setattr(lease, "RENEW_EVERY_S", 0.05)
    monkeypatch.setattr("s3_sync.bucket.credentials.FAILED_FOR_S", 0.0)
    monkeypatch.setattr("s3_sync.bucket.credentials.AT_ONCE_S", 0.0)

    def written() -> int:
        return endpoint.seen["PutObject lease.json"]

    def waits_for(more: Callable[[], bool]) -> None:
        until = time.monotonic() + 30
        while not more() and time.monotonic() < until:
            time.sleep(0.02)
        assert more()

    with lease.hold(connect(target.bucket).at(target), owner="a", holder="a", give_back=True) as check:
        waits_for(lambda: written() >= 2)
        giver.works = False
        giver.end_all()
        asked = giver.asked
        waits_for(lambda: giver.asked >= asked + 6)
        before = written()
        giver.works = True
        waits_for(lambda: written() >= before + 2)
        check()


def renewable(renew: Callable[[], dict[str, str]], method: str = "iam-role") -> S3Credentials:
    return S3Credentials(RefreshableCredentials.create_from_metadata(renew(), renew, method), "connection 'a'")


def session_until(ends: float, token: str) -> dict[str, str]:
    told = datetime.fromtimestamp(ends, UTC).isoformat()
    return {"access_key": "a", "secret_key": "b", "token": token, "expiry_time": told}


def test_what_was_refused_late_is_sent_again_and_once() -> None:
    given = iter(["first", "second", "third"])
    credentials = renewable(lambda: session_until(time.time() + 3600, next(given)))
    used = []

    def refused(times: int) -> str:
        used.append(credentials()["token"])
        if len(used) <= times:
            raise GenericError("<Code>ExpiredToken</Code>")
        return "done"

    assert ask("x", lambda: refused(1), within_s=0, credentials=credentials) == "done"
    assert used == ["first", "second"]
    used.clear()
    with pytest.raises(CredentialsNotReady, match="are refused by S3, renewed as they are"):
        ask("x", lambda: refused(2), within_s=0, credentials=credentials)


def test_a_bad_head_is_not_blamed_on_a_session_that_cannot_be_another(
    endpoint: Proxy, giver: Sessions, target: S3Target, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    by_container(monkeypatch, endpoint, giver, tmp_path)
    connection = connect(target.bucket)
    only = connection.credentials()
    ends = giver.given[only["token"] or ""]
    monkeypatch.setattr(giver, "new", lambda: as_before | {"Expiration": datetime.fromtimestamp(ends, UTC).isoformat()})
    as_before = {"AccessKeyId": only["access_key_id"], "SecretAccessKey": only["secret_access_key"]}
    as_before |= {"Token": only["token"] or ""}
    endpoint.instead = lambda _: Answer(400, "Bad Request", (), b"")
    with pytest.raises(ClientError, match="400"):
        connection.client.head_object(Bucket=target.bucket, Key="x")


def test_obstore_is_told_when_they_end(
    endpoint: Proxy, giver: Sessions, target: S3Target, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    giver.life_s = 60
    by_container(monkeypatch, endpoint, giver, tmp_path)
    said = connect(target.bucket).credentials()
    ((token, ends),) = giver.given.items()
    assert (said["token"], said["expires_at"]) == (token, datetime.fromtimestamp(ends, UTC))


def test_obstore_is_told_nothing_of_an_end_that_nobody_knows(endpoint: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    say(monkeypatch, endpoint, login=True)
    user = endpoint.server.user
    assert connect("faces").credentials() == {
        "access_key_id": user.access_key,
        "secret_access_key": user.secret_key,
        "token": None,
        "expires_at": None,
    }


def test_a_service_that_gives_the_same_session_until_it_ends_is_asked_seldom() -> None:
    ends, asked = time.time() + 1.5, []

    def same() -> dict[str, str]:
        asked.append(time.time())
        return session_until(ends, "c")

    credentials = renewable(same)
    while time.time() < ends - 0.01:
        assert credentials()["token"] == "c"  # noqa: S105
    assert 2 <= len(asked) <= 8
    time.sleep(max(ends - time.time(), 0))
    with pytest.raises(CredentialsNotReady, match="are renewed, but the new ones have ended already"):
        credentials()


def test_a_renewal_that_fails_is_no_hindrance_while_they_are_good(caplog: pytest.LogCaptureFixture) -> None:
    given = [session_until(time.time() + 30.5, "c")]

    def once() -> dict[str, str]:
        if not given:
            raise ConnectionError("nobody there")
        return given.pop()

    credentials = renewable(once)
    credentials._good_for_s = 3600.0  # as if most of the time had passed
    assert credentials()["token"] == "c"  # noqa: S105
    assert "They are good for another 30 s" in caplog.text
    assert caplog.text.count("nobody there)") == 1
    assert credentials()["token"] == "c"  # noqa: S105
    assert caplog.text.count("nobody there)") == 1
