"""Airflow's REST API, as a person or a script would use it: runs, tasks, questions."""

import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx

from local.airflow.answers import Question, TaskInstance
from local.airflow.errors import StackError
from local.airflow.process import Component, airflow_command, end_of
from local.airflow.settings import ROOT, START_TIMEOUT_S, USER

IMPORT_GRACE_S = 15.0
POLL_S = 0.5
FINISHED = frozenset({"success", "failed"})


@dataclass(frozen=True)
class Run:
    """A DAG run, by its two names in Airflow."""

    dag_id: str
    run_id: str


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
                ends = "\n".join(end_of(component.log) for component in self.components)
                raise StackError(f"Waited {timeout:.0f} s for {what}, in vain.\n{ends}")
            time.sleep(POLL_S)


def _question_of(run: Run, instance: TaskInstance) -> str:
    where = f"/dags/{run.dag_id}/dagRuns/{run.run_id}/taskInstances"
    return f"{where}/{instance.task_id}/{instance.map_index}/hitlDetails"
