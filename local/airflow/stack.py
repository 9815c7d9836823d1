"""Airflow on one machine: its parts as child processes on free loopback ports, with SQLite and LocalExecutor.

    with running(home) as stack:
        run = stack.trigger("reidnet_v3", {"min_images": 3})
        state = stack.wait(run)

Whatever ends the block, or this process, ends every process that was started (see local/airflow/leash.py).
"""

import fcntl
import json
import os
import secrets
import socket
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import httpx

from local.airflow.api import Stack
from local.airflow.errors import StackError
from local.airflow.login import Login
from local.airflow.process import Component, end_of, stop
from local.airflow.settings import HOST, ROOT, START_TIMEOUT_S, USER, kept, settings


@contextmanager
def running(
    home: Path,
    *,
    dags: Path = ROOT / "dags",
    environment: Mapping[str, str] | None = None,
    service: bool = False,
) -> Iterator[Stack]:
    """Run Airflow with its state in `home` until the block ends, and then leave no process behind.

    `environment` is added to what the processes see, for example a connection. With `service` it is an Airflow to
    work with: schedules run, so do deferred tasks, and runs that a stop interrupted go on. Without, only what is
    triggered here runs, and runs that were interrupted are marked as failed. Enter from a thread that lives as long
    as the stack (see local/airflow/leash.py).

    Raises:
        StackError: `home` is in use by another stack, or a part does not start.
    """
    home = home.resolve()
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    logs = home / "logs"
    logs.mkdir(exist_ok=True)
    with _locked(home), ExitStack() as stops:
        base_url = f"http://{HOST}:{_free_port()}"
        password = kept(home / "passwords.json", lambda: json.dumps({USER: secrets.token_urlsafe(16)}))
        everything = {**os.environ, **settings(home, dags, base_url, service=service), **(environment or {})}
        _migrate(home, everything)
        components: list[Component] = []
        stops.callback(stop, components)
        login = Login(base_url, json.loads(password)[USER])
        client = stops.enter_context(
            httpx.Client(base_url=f"{base_url}/api/v2", auth=login, timeout=30, trust_env=False)
        )
        stack = Stack(base_url, home, home / "passwords.json", client, everything, components, datetime.now(UTC))

        def start(name: str, *arguments: str) -> None:
            components.append(Component.start(name, [name, *arguments], everything, logs / f"{name}.log"))

        start("api-server", "--host", HOST, "--port", base_url.rpartition(":")[2], "--workers", "1")
        start("dag-processor")
        stack.until(lambda: _answers(client), "Airflow's API server", START_TIMEOUT_S)
        if not service:
            stack.fail_unfinished()
        # Task logs are read from the disk that they are written to: nobody needs to serve them.
        start("scheduler", "--skip-serve-logs")
        if service:
            start("triggerer", "--skip-serve-logs")
        yield stack


def _migrate(home: Path, environment: Mapping[str, str]) -> None:
    """Create the database or bring it up to date; a note beside it spares the four seconds next time."""
    done, now = home / "migrated-by", version("apache-airflow")
    if done.exists() and (home / "airflow.db").exists() and done.read_text() == now:
        return
    log = home / "logs" / "migrate.log"
    component = Component.start("db migrate", ["db", "migrate"], environment, log)
    try:
        code = component.process.wait(START_TIMEOUT_S)
    except subprocess.TimeoutExpired as error:
        raise StackError(f"airflow db migrate did not end in {START_TIMEOUT_S:.0f} s. {end_of(log)}") from error
    finally:
        stop([component])
    if code != 0:
        raise StackError(f"airflow db migrate ended with exit code {code}. {end_of(log)}")
    done.write_text(now)


def _answers(client: httpx.Client) -> bool:
    try:
        return client.get("/monitor/health").is_success
    except httpx.ConnectError:
        return False


@contextmanager
def _locked(home: Path) -> Iterator[None]:
    with (home / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise StackError(
                f"{home} is in use: `make run` or `make up` of this checkout is running. "
                "Wait for it or stop it; or set AIRFLOW_HOME to another folder."
            ) from error
        yield


def _free_port() -> int:
    with socket.create_server((HOST, 0)) as probe:
        return int(probe.getsockname()[1])
