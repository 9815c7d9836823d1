"""Airflow's processes as `make run` starts them: they work, they say what went wrong, and they end."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from local.airflow import api, errors, leash, progress, settings, stack

pytestmark = [pytest.mark.system, pytest.mark.long]

DAG = """
import time
from airflow.sdk import dag, task

@dag(schedule=None, params={"fail": False, "sleep": 0})
def tiny():
    @task
    def work(params=None):
        time.sleep(params["sleep"])
        if params["fail"]:
            raise ValueError("as asked")
        return [1, 2, 3]

    @task
    def double(number):
        return 2 * number

    double.expand(number=work())

tiny()
"""

# What `make run` does, up to where a task is busy.
BUSY = """
import sys, time
from pathlib import Path
from local.airflow import stack

def watch(instances):
    if any(one.state == "running" for one in instances):
        print("busy", flush=True)

with stack.running(Path(sys.argv[1]), dags=Path(sys.argv[2])) as airflow:
    airflow.wait(airflow.trigger("tiny", {"sleep": 3600}), watch=watch)
"""


@pytest.fixture(scope="module")
def dags(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dags")
    (folder / "tiny.py").write_text(DAG)
    return folder


@pytest.fixture(scope="module")
def airflow(dags: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[api.Stack]:
    with stack.running(tmp_path_factory.mktemp("airflow") / "home", dags=dags) as running:
        yield running


def test_a_run_that_succeeds(airflow: api.Stack) -> None:
    run = airflow.trigger("tiny", {})
    assert airflow.wait(run, timeout=120) == "success"
    assert airflow.xcom(run, "work") == [1, 2, 3]
    assert [airflow.xcom(run, "double", map_index=number) for number in range(3)] == [2, 4, 6]


def test_a_run_that_fails_says_why(airflow: api.Stack) -> None:
    run = airflow.trigger("tiny", {"fail": True})
    assert airflow.wait(run, timeout=120) == "failed"
    work = next(one for one in airflow.task_instances(run) if one.task_id == "work")
    assert work.state == "failed"
    assert any("ValueError: as asked" in one for one in progress.errors(airflow.task_log(run, work)))


def test_a_dag_that_is_not_there(airflow: api.Stack) -> None:
    with pytest.raises(errors.StackError, match="to find DAG 'large'"):
        airflow.trigger("large", {}, timeout=0)


def test_the_same_state_is_not_used_twice(airflow: api.Stack, dags: Path) -> None:
    with pytest.raises(errors.StackError, match="is in use"), stack.running(airflow.home, dags=dags):
        pass


def test_secrets_are_for_their_owner(airflow: api.Stack) -> None:
    assert airflow.home.stat().st_mode & 0o077 == 0
    for name in ("passwords.json", "fernet.key"):
        assert (airflow.home / name).stat().st_mode & 0o077 == 0
    assert airflow.base_url.startswith("http://127.0.0.1:")
    assert airflow.api.get("/dags", auth=None).status_code == 401


def test_however_it_ends_no_process_and_no_run_is_left(dags: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    for number in (signal.SIGKILL, signal.SIGINT):
        command = [sys.executable, "-c", BUSY, str(home), str(dags)]
        # SPT_NOENV: setproctitle, with which Airflow names its processes, then leaves their environment readable.
        environment = {**os.environ, "PYTHONPATH": str(settings.ROOT), "SPT_NOENV": "1"}
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "busy\n"
            before, known, after = leash.descendants(process.pid), processes_of(home), leash.descendants(process.pid)
            assert set(before) & set(after) <= known
            process.send_signal(number)
        wait_until_gone(home)
    with stack.running(home, dags=dags) as airflow:
        runs = airflow.api.get("/dags/tiny/dagRuns").json()["dag_runs"]
        assert [run["state"] for run in runs] == ["failed", "failed"]
        assert airflow.wait(airflow.trigger("tiny", {}), timeout=120) == "success"
    assert processes_of(home) == set()


def processes_of(home: Path) -> set[int]:
    """The processes of a stack, known by the AIRFLOW_HOME that they inherit."""
    found = set()
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if f"AIRFLOW_HOME={home}".encode() in (process / "environ").read_bytes().split(b"\0"):
                found.add(int(process.name))
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue
    return found


def wait_until_gone(home: Path) -> None:
    deadline = time.monotonic() + 60
    while left := processes_of(home):
        assert time.monotonic() < deadline, f"still there: {left}"
        time.sleep(0.1)
