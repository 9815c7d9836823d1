from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from botocore.exceptions import ClientError

from local.s3.errors import SeaweedError
from local.s3.identities import Credentials
from local.s3.seaweed import S3Server, running
from tests.s3_client import client

pytestmark = pytest.mark.long

if TYPE_CHECKING:
    from collections.abc import Iterator

DOTTED = "data.example.com"
OTHER = "second"


def is_running(pid: int) -> bool:
    """Say whether ``pid`` lives; one that ended but was not waited for counts as gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_objects_and_credentials_outlive_the_server(tmp_path: Path) -> None:
    with running(tmp_path / "s3", [DOTTED]) as first:
        client(first, first.user).put_object(Bucket=DOTTED, Key="a/b", Body=b"kept")
    assert not is_running(first.pid)

    with running(tmp_path / "s3", [DOTTED, OTHER]) as second:
        s3 = client(second, first.user)
        assert s3.get_object(Bucket=DOTTED, Key="a/b")["Body"].read() == b"kept"
        s3.put_object(Bucket=OTHER, Key="x", Body=b"new bucket")
        s3.put_object(Bucket=DOTTED, Key="a/c", Body=b"more")
    assert (second.admin, second.user) == (first.admin, first.user)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with running(tmp_path_factory.mktemp("seaweed") / "s3", [DOTTED]) as server:
        yield server


def test_the_user_is_confined_to_the_buckets_named(server: S3Server) -> None:
    client(server, server.admin).create_bucket(Bucket="private")
    user = client(server, server.user)
    for bucket in ("private", "missing"):
        with pytest.raises(ClientError, match="AccessDenied"):
            user.put_object(Bucket=bucket, Key="x", Body=b"")
        with pytest.raises(ClientError, match="403"):
            user.head_bucket(Bucket=bucket)
    names = {bucket["Name"] for bucket in client(server, server.admin).list_buckets()["Buckets"]}
    assert names == {DOTTED, "private"}


def test_wrong_credentials_are_refused(server: S3Server) -> None:
    with pytest.raises(ClientError, match="SignatureDoesNotMatch"):
        client(server, Credentials(server.user.access_key, "wrong")).list_objects_v2(Bucket=DOTTED)


def test_it_listens_on_loopback_only(server: S3Server) -> None:
    inodes = set()
    for descriptor in Path(f"/proc/{server.pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # closed since it was listed
            target = str(descriptor.readlink())
            inodes |= {target[len("socket:[") : -1]} if target.startswith("socket:[") else set()
    listening = [
        line.split()
        for table in ("tcp", "tcp6")
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]
        if line.split()[3] == "0A" and line.split()[9] in inodes
    ]
    assert {row[1].partition(":")[0] for row in listening} == {socket.inet_aton("127.0.0.1")[::-1].hex().upper()}


def test_secrets_are_hidden_and_private(server: S3Server, tmp_path: Path) -> None:
    assert server.user.secret_key not in repr(server)
    assert server.user.secret_key not in Path(f"/proc/{server.pid}/cmdline").read_text()
    with running(tmp_path / "s3", [DOTTED]) as other:
        kept = json.loads((tmp_path / "s3/credentials.json").read_text())
        assert kept["user"]["secret_key"] == other.user.secret_key != server.user.secret_key
        for name in ("credentials.json", "s3.json"):
            assert (tmp_path / "s3" / name).stat().st_mode & 0o077 == 0


def test_it_stops_when_the_block_fails(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), running(tmp_path / "s3", [DOTTED]) as server:
        raise ZeroDivisionError
    assert not is_running(server.pid)


def test_it_dies_with_its_parent_and_keeps_what_was_put(tmp_path: Path) -> None:
    program = (
        "import sys, time, pathlib; from local.s3.seaweed import running\n"
        f"with running(pathlib.Path(sys.argv[1]), [{DOTTED!r}]) as server:\n"
        "    print(server.pid, server.endpoint, flush=True); time.sleep(600)\n"
    )
    data = tmp_path / "s3"
    with subprocess.Popen(
        [sys.executable, "-c", program, str(data)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    ) as parent:
        assert parent.stdout is not None
        pid, endpoint = parent.stdout.readline().split()
        user = Credentials(**json.loads((data / "credentials.json").read_text())["user"])
        server = S3Server(endpoint, user, user, int(pid))
        client(server, user).put_object(Bucket=DOTTED, Key="x", Body=b"kept")
        parent.send_signal(signal.SIGKILL)
    while is_running(int(pid)):  # pytest's caller ends this if it never does
        time.sleep(0.1)
    with running(data, [DOTTED]) as again:
        assert client(again, user).get_object(Bucket=DOTTED, Key="x")["Body"].read() == b"kept"


def test_two_servers_never_share_one_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("local.s3.seaweed.LOCK_TIMEOUT_S", 0.0)
    with (
        running(tmp_path / "s3", [DOTTED]),
        pytest.raises(SeaweedError, match="in use by another S3 server"),
        running(tmp_path / "s3", [DOTTED]),
    ):
        pass


def test_an_impossible_bucket_name_is_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(SeaweedError, match="'B2' is no bucket name"), running(tmp_path / "s3", ["B2"]):
        pass
