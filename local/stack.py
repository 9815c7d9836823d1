"""Airflow on one machine: its parts as child processes on free loopback ports, with SQLite and LocalExecutor.

    with running(home) as stack:
        run = stack.trigger("reidnet_v3", {"min_images": 3})
        state = stack.wait(run)

Whatever ends the block, or this process, ends every process that was started (see local/leash.py).
"""

import fcntl
import json
import os
import secrets
import socket
import subprocess
import sys
import time
from base64 import urlsafe_b64encode
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote

import httpx

ROOT = Path(__file__).resolve().parent.parent
HOST = "127.0.0.1"
USER = "admin"

START_TIMEOUT_S = 180.0
STOP_TIMEOUT_S = 20.0
IMPORT_GRACE_S = 15.0
POLL_S = 0.5
FINISHED = frozenset({"success", "failed"})


class StackError(RuntimeError):
    """Airflow did not start, or one of its parts ended; the message holds the end of its log."""


@dataclass(frozen=True)
class Run:
    """A DAG run, by its two names in Airflow."""

    dag_id: str
    run_id: str


@dataclass(frozen=True)
class Question:
    """What a task asks a person: in a line, and at length (Markdown); and whether it has its answer."""

    subject: str
    body: str
    answered: bool


@dataclass(frozen=True)
class TaskInstance:
    """One task of a run. `map_index` is -1 unless it is mapped; `duration` (s) is from `start` to `end` on `host`."""

    task_id: str
    map_index: int
    label: str
    state: str | None
    try_number: int
    duration: float | None
    start: datetime | None = None
    end: datetime | None = None
    host: str | None = None

    @classmethod
    def of(cls, answer: Mapping[str, Any]) -> Self:
        return cls(
            task_id=answer["task_id"],
            map_index=answer["map_index"],
            label=answer.get("rendered_map_index") or str(answer["map_index"]),
            state=answer["state"],
            try_number=answer["try_number"],
            duration=answer["duration"],
            start=_moment(answer["start_date"]),
            end=_moment(answer["end_date"]),
            host=answer["hostname"],
        )


def _moment(written: str | None) -> datetime | None:
    return None if written is None else datetime.fromisoformat(written)


class Login(httpx.Auth):
    """A token of Airflow's REST API, fetched when there is none or the old one has run out."""

    requires_response_body = True

    def __init__(self, base_url: str, password: str) -> None:
        self._request = httpx.Request("POST", f"{base_url}/auth/token", json={"username": USER, "password": password})
        self._token = ""

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        for _ in range(2):
            if not self._token:
                self._token = (yield self._request).raise_for_status().json()["access_token"]
            request.headers["Authorization"] = f"Bearer {self._token}"
            response = yield request
            if response.status_code != httpx.codes.UNAUTHORIZED:
                return
            self._token = ""


@dataclass(frozen=True)
class Component:
    """One of Airflow's processes, at the other end of its leash."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path

    @classmethod
    def start(cls, name: str, arguments: list[str], environment: Mapping[str, str], log: Path) -> Self:
        command = [sys.executable, "-m", "local.leash", str(os.getpid()), airflow_command(), *arguments]
        with log.open("wb") as output:
            process = subprocess.Popen(
                command,
                cwd=ROOT,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C in the terminal is for us alone: we then stop the parts in order
            )
        return cls(name, process, log)

    def check(self) -> None:
        """Raise StackError with the end of the log if the process has ended."""
        code = self.process.poll()
        if code is not None:
            raise StackError(f"airflow {self.name} ended with exit code {code}. {_end_of(self.log)}")


@dataclass(frozen=True)
class Stack:
    """A running Airflow and what one does with it from outside, by its public REST API (/api/v2)."""

    base_url: str
    home: Path
    password_file: Path
    api: httpx.Client
    environment: Mapping[str, str] = field(repr=False)
    components: list[Component]
    started: datetime

    def check(self) -> None:
        """Raise StackError if any of Airflow's processes has ended."""
        for component in self.components:
            component.check()

    def trigger(self, dag_id: str, conf: Mapping[str, Any], *, timeout: float = START_TIMEOUT_S) -> Run:
        """Start a run of the DAG with `conf` as its params, once Airflow has read the DAG's file, and unpause the DAG.

        Raises:
            StackError: the DAG's file cannot be imported, or there is no such DAG after `timeout` seconds.
            httpx.HTTPStatusError: Airflow refuses the run, for example because of `conf`.
        """
        self.unpause(dag_id, timeout=timeout)
        answer = self._call("POST", f"/dags/{dag_id}/dagRuns", json={"conf": dict(conf), "logical_date": None})
        return Run(dag_id, answer["dag_run_id"])

    def unpause(self, dag_id: str, *, timeout: float = START_TIMEOUT_S) -> None:
        """Let runs of the DAG start, once Airflow has read its file. Raises StackError as `wait_for_dag` does."""
        self.wait_for_dag(dag_id, timeout=timeout)
        self._call("PATCH", f"/dags/{dag_id}", json={"is_paused": False})

    def runs(self, dag_id: str) -> dict[str, str]:
        """Return the state of every run of the DAG, by run id, the earliest first."""
        found = self._pages(f"/dags/{dag_id}/dagRuns", "dag_runs", order_by="id")
        return {one["dag_run_id"]: one["state"] for one in found}

    def wait_for_dag(self, dag_id: str, *, timeout: float = START_TIMEOUT_S) -> None:
        """Wait until Airflow has read the DAG since it was started (what it remembers may be out of date).

        Raises:
            StackError: it is not there after `timeout` seconds; sooner if files of the folder cannot be imported.
        """
        errors_seen: list[float] = []

        def is_read() -> bool:
            answer = self.api.get(f"/dags/{dag_id}")
            if answer.status_code != httpx.codes.NOT_FOUND:
                last = answer.raise_for_status().json()["last_parsed_time"]
                if last is not None and datetime.fromisoformat(last) >= self.started:
                    return True
            found = self._pages("/importErrors", "import_errors")
            errors = [one for one in found if datetime.fromisoformat(one["timestamp"]) >= self.started]
            errors_seen.extend([time.monotonic()] if errors else [])
            # The error may be another file's: the DAG's own may still be about to be read.
            if errors and time.monotonic() - errors_seen[0] > IMPORT_GRACE_S:
                texts = [f"{one['filename']}:\n{one['stack_trace']}" for one in errors]
                raise StackError("\n".join([f"There is no DAG {dag_id!r}, and files cannot be imported:", *texts]))
            return False

        self.until(is_read, f"Airflow to find DAG {dag_id!r}", timeout)

    def wait(
        self,
        run: Run,
        *,
        timeout: float = float("inf"),
        watch: Callable[[list[TaskInstance]], None] | None = None,
    ) -> str:
        """Wait until the run is over and return its state, `success` or `failed`.

        `watch` is called with the run's task instances about every half second, the last time when it is over.

        Raises:
            StackError: a part of Airflow ended, or `timeout` seconds are over.
        """

        def is_over() -> bool:
            over = self.state(run) in FINISHED
            if watch is not None:
                watch(self.task_instances(run))
            return over

        self.until(is_over, f"run {run.run_id} of {run.dag_id}", timeout)
        return self.state(run)

    def state(self, run: Run) -> str:
        """Return `queued`, `running`, `success` or `failed`."""
        return str(self._call("GET", f"/dags/{run.dag_id}/dagRuns/{run.run_id}")["state"])

    def task_instances(self, run: Run) -> list[TaskInstance]:
        """Return the run's task instances; a mapped task is one instance (-1) until it is expanded."""
        path = f"/dags/{run.dag_id}/dagRuns/{run.run_id}/taskInstances"
        return [TaskInstance.of(one) for one in self._pages(path, "task_instances")]

    def xcom(self, run: Run, task_id: str, *, key: str = "return_value", map_index: int = -1) -> Any:
        """Return what a task handed over.

        Raises:
            httpx.HTTPStatusError: 404 when the task has handed over nothing under `key`.
        """
        path = f"/dags/{run.dag_id}/dagRuns/{run.run_id}/taskInstances/{task_id}/xcomEntries/{key}"
        return self._call("GET", path, params={"map_index": map_index, "deserialize": True})["value"]

    def task_log(self, run: Run, instance: TaskInstance) -> Path:
        """Return the file that the instance's last try logs into: JSON, one object a line."""
        # [logging] log_filename_template
        folder = self.home / "logs" / f"dag_id={run.dag_id}" / f"run_id={run.run_id}" / f"task_id={instance.task_id}"
        if instance.map_index >= 0:
            folder /= f"map_index={instance.map_index}"
        return folder / f"attempt={instance.try_number}.log"

    def question(self, run: Run, instance: TaskInstance) -> str:
        """Return what a task that waits for a person asks, and the page where it is answered."""
        page = f"/dags/{run.dag_id}/runs/{quote(run.run_id)}/tasks/{instance.task_id}/required_actions"
        return (
            f"{self.asked(run, instance).subject} Approve or reject: {self.base_url}{page} "
            f"(log in as {USER}, with the password in {self.password_file})"
        )

    def asked(self, run: Run, instance: TaskInstance) -> Question:
        """Return the question itself."""
        found = self._call("GET", _question_of(run, instance))
        return Question(found["subject"], found["body"] or "", answered=found["response_received"])

    def answer(self, run: Run, instance: TaskInstance, *, approve: bool) -> None:
        """Answer a question; if somebody else has answered it meanwhile, theirs stays."""
        chosen = {"chosen_options": ["Approve" if approve else "Reject"], "params_input": {}}
        answer = self.api.patch(_question_of(run, instance), json=chosen)
        if answer.status_code != httpx.codes.CONFLICT:
            answer.raise_for_status()

    def fail(self, run: Run) -> None:
        """Mark a run as failed, and what of it is not over."""
        self._call("PATCH", f"/dags/{run.dag_id}/dagRuns/{run.run_id}", json={"state": "failed"})

    def fail_unfinished(self) -> None:
        """Mark as failed what an earlier stop interrupted: nothing works on it, but it would hold up the next run."""
        for one in self._pages("/dags/~/dagRuns", "dag_runs", state=["queued", "running"]):
            self.fail(Run(one["dag_id"], one["dag_run_id"]))

    def command(self, *arguments: str) -> str:
        """Run a command of Airflow's command line and return what it prints.

        Raises:
            StackError: it fails; with the end of what it printed.
        """
        result = subprocess.run(
            [airflow_command(), *arguments], cwd=ROOT, env=self.environment, capture_output=True, text=True, check=False
        )
        if result.returncode:
            raise StackError(f"airflow {' '.join(arguments)}: {(result.stdout + result.stderr)[-2000:]}")
        return result.stdout

    def _pages(self, path: str, key: str, **params: Any) -> Iterator[dict[str, Any]]:
        seen, total = 0, 1
        while seen < total:
            answer = self._call("GET", path, params={**params, "limit": 100, "offset": seen})
            yield from answer[key]
            total = answer["total_entries"]
            seen += len(answer[key]) or total

    def _call(self, method: str, path: str, **arguments: Any) -> Any:
        response = self.api.request(method, path, **arguments)
        if response.is_error:
            message = f"Airflow answered {response.status_code} to {method} {path}: {response.text}"
            raise httpx.HTTPStatusError(message, request=response.request, response=response)
        return response.json()

    def until(self, done: Callable[[], bool], what: str, timeout: float) -> None:
        deadline = time.monotonic() + timeout
        while not done():
            self.check()
            if time.monotonic() > deadline:
                ends = "\n".join(_end_of(component.log) for component in self.components)
                raise StackError(f"Waited {timeout:.0f} s for {what}, in vain.\n{ends}")
            time.sleep(POLL_S)


def _question_of(run: Run, instance: TaskInstance) -> str:
    where = f"/dags/{run.dag_id}/dagRuns/{run.run_id}/taskInstances"
    return f"{where}/{instance.task_id}/{instance.map_index}/hitlDetails"


def state_folder() -> Path:
    """Return where state is kept: AIRFLOW_HOME if that is set, else .local of the checkout."""
    return Path(os.environ["AIRFLOW_HOME"]).resolve() if os.environ.get("AIRFLOW_HOME") else ROOT / ".local"


def airflow_home() -> Path:
    """Return AIRFLOW_HOME if that is set, else .local/airflow of the checkout."""
    return state_folder() if os.environ.get("AIRFLOW_HOME") else ROOT / ".local" / "airflow"


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
    as the stack (see local/leash.py).

    Raises:
        StackError: `home` is in use by another stack, or a part does not start.
    """
    home = home.resolve()
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    logs = home / "logs"
    logs.mkdir(exist_ok=True)
    with _locked(home), ExitStack() as stops:
        base_url = f"http://{HOST}:{_free_port()}"
        password = _kept(home / "passwords.json", lambda: json.dumps({USER: secrets.token_urlsafe(16)}))
        everything = {
            **os.environ,
            **settings(home, dags, base_url, service=service),
            **(environment or {}),
        }
        _migrate(home, everything)
        components: list[Component] = []
        stops.callback(_stop, components)
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


def settings(home: Path, dags: Path, base_url: str = "http://localhost", *, service: bool = False) -> dict[str, str]:
    """Return Airflow's configuration as environment variables; they win over any airflow.cfg."""
    no_proxy = ",".join(filter(None, [os.environ.get("NO_PROXY", os.environ.get("no_proxy")), HOST, "localhost"]))
    sections = {
        "api": {"base_url": base_url, "secret_key": secrets.token_urlsafe(32)},
        "api_auth": {"jwt_secret": secrets.token_urlsafe(64)},
        "core": {
            "dags_are_paused_at_creation": "True",
            "dags_folder": str(dags.resolve()),
            "execution_api_server_url": f"{base_url}/execution/",
            "executor": "LocalExecutor",
            "fernet_key": _kept(home / "fernet.key", lambda: urlsafe_b64encode(secrets.token_bytes(32)).decode()),
            "load_examples": "False",
            "parallelism": str(max(2, os.cpu_count() or 1)),
            "plugins_folder": str(ROOT / "plugins"),
            "simple_auth_manager_all_admins": "False",
            "simple_auth_manager_passwords_file": str(home / "passwords.json"),
            "simple_auth_manager_users": f"{USER}:admin",
        },
        "dag_processor": {
            # A dataset file is read when its DAG file is parsed: who edits one in `make up` wants to see it soon.
            "min_file_process_interval": "15" if service else "600",
            "refresh_interval": "15" if service else "600",
        },
        "database": {
            "load_default_connections": "False",
            "sql_alchemy_connect_args": "local.sqlite.CONNECT_ARGS",
            "sql_alchemy_conn": f"sqlite:///{home / 'airflow.db'}",
        },
        "logging": {"base_log_folder": str(home / "logs")},
        "scheduler": {
            "scheduler_idle_sleep_time": "0.2",
            "use_job_schedule": str(service),
        },
        "usage_data_collection": {"enabled": "False"},
    }
    return {
        "AIRFLOW_HOME": str(home),
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "plugins")]),
        "NO_PROXY": no_proxy,
        "no_proxy": no_proxy,
        **{
            f"AIRFLOW__{section.upper()}__{name.upper()}": value
            for section, values in sections.items()
            for name, value in values.items()
        },
    }


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
        raise StackError(f"airflow db migrate did not end in {START_TIMEOUT_S:.0f} s. {_end_of(log)}") from error
    finally:
        _stop([component])
    if code != 0:
        raise StackError(f"airflow db migrate ended with exit code {code}. {_end_of(log)}")
    done.write_text(now)


def _answers(client: httpx.Client) -> bool:
    try:
        return client.get("/monitor/health").is_success
    except httpx.ConnectError:
        return False


def _stop(components: list[Component]) -> None:
    """End the components, all at once, and wait until nothing of them is left."""
    for component in components:
        component.process.terminate()
    for component in components:
        component.process.wait(STOP_TIMEOUT_S)


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


def _kept(path: Path, make: Callable[[], str]) -> str:
    """Return the file's text, which only its owner can read; make it the first time."""
    if not path.exists():
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(make())
    return path.read_text()


def _free_port() -> int:
    with socket.create_server((HOST, 0)) as probe:
        return int(probe.getsockname()[1])


def airflow_command() -> str:
    return str(Path(sys.executable).with_name("airflow"))


def _end_of(log: Path, lines: int = 20) -> str:
    text = log.read_text(errors="replace").splitlines() if log.exists() else []
    return "\n".join([f"The end of {log}:", *(f"  {line}" for line in text[-lines:])])
