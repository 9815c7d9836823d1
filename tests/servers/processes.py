"""A server's processes: on loopback, in a folder of their own, and ended whatever happens to the test."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import httpx

from local.airflow.settings import ROOT
from local.s3.ports import HOST

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

START_TIMEOUT_S = 60.0
LEASH = ROOT / "local/airflow/leash.py"


class ServerError(RuntimeError):
    """A server did not start; the message holds the end of its log."""


@contextmanager
def running(
    name: str, command: Sequence[str | Path], folder: Path, environment: Mapping[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """Run ``command`` in ``folder`` until the block, or this process, ends; what it says goes to ``<name>.log``."""
    with (folder / f"{name}.log").open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, LEASH, str(os.getpid()), *command],
            cwd=folder,
            env={**os.environ, **(environment or {})},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        process.terminate()  # the leash ends all that it holds
        process.wait()


def wait_until_it_answers(endpoint: str, process: subprocess.Popen[bytes], log: Path) -> None:
    """Wait for any answer of the endpoint. Raises ServerError."""
    deadline = time.monotonic() + START_TIMEOUT_S
    with httpx.Client(trust_env=False, timeout=5) as client:
        while process.poll() is None and time.monotonic() < deadline:
            try:
                client.get(endpoint)
            except httpx.TransportError:
                time.sleep(0.1)
            else:
                return
    raise ServerError(f"nothing answers at {endpoint}; {log} ends with: {log.read_text(errors='replace')[-1000:]}")


def endpoint_at(port: int) -> str:
    return f"http://{HOST}:{port}"
