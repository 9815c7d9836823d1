"""Tasks and the scheduler itself are killed (SIGKILL) while they work; what a person does then ends as it should.

That is: Airflow tries a task again by itself where it may; where a run has failed, somebody clears what failed, or
triggers another one. KILLS is how many there are (2: one task, one scheduler), SEED what the moments are drawn from.
"""

import json
import logging
import os
import random
import re
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from local.airflow import api, leash, process, stack
from local.s3 import seaweed, storage
from local.sample.sample import make_sample
from tests.s3_client import client
from tests.system.conftest import BUCKET, System

pytestmark = [pytest.mark.system, pytest.mark.long]

log = logging.getLogger(__name__)

KILLS = int(os.environ.get("KILLS", "2"))
SEED = int(os.environ.get("SEED", "1"))
TIMEOUT_S = 300
OF_A_TASK = re.compile(r"airflow worker -- [0-9a-f]{8}-")
"""How Airflow calls the process that runs a task instance."""
# A task whose process is gone is noticed by its missing heartbeats: by default after five minutes.
PATIENCE = {
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_SEC": "1",
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "10",
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "2",
    "AIRFLOW__SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL": "5",
    "AIRFLOW__SCHEDULER__SCHEDULER_HEALTH_CHECK_THRESHOLD": "10",
    "AIRFLOW__SCHEDULER__SCHEDULER_HEARTBEAT_SEC": "1",
}


@pytest.fixture(scope="module")
def frail(tmp_path_factory: pytest.TempPathFactory, server: seaweed.S3Server) -> Iterator[System]:
    """An Airflow of its own, whose scheduler may be killed."""
    home = tmp_path_factory.mktemp("frail") / "airflow"
    with stack.running(home, environment={**storage.connection(server), **PATIENCE}) as airflow:
        yield System(airflow, client(server, server.admin))


def test_killed_tasks_and_schedulers(frail: System, tmp_path: Path) -> None:
    airflow, rng = frail.airflow, random.Random(SEED)
    make_sample(tmp_path / "sample")

    def asked(name: str) -> dict[str, Any]:
        return {
            "local_source": str(tmp_path / "sample"),
            "output": str(tmp_path / name),
            "destination": f"s3://{BUCKET}/kills/{name}/set/",
            "shards": 2,
        }

    run = frail.run(**asked("never"))
    assert airflow.state(run) == "success", frail.states(run)
    took = max(one.end for one in airflow.task_instances(run) if one.end) - min(
        one.start for one in airflow.task_instances(run) if one.start
    )
    wanted = what_is_there(frail, tmp_path, "never")
    killed: list[str] = []
    for number in range(KILLS):
        name = f"killed-{number}"
        run = airflow.trigger("reidnet_v3", asked(name))
        until_it_works(airflow, run)
        time.sleep(rng.uniform(0, 0.9 * took.total_seconds()))
        killed.append(kill(airflow, rng, scheduler=bool(number % 2)))
        for _ in range(5):
            if airflow.wait(run, timeout=TIMEOUT_S) == "success":
                break
            if rng.random() < 0.5:
                clear(airflow, run)
            else:
                run = airflow.trigger("reidnet_v3", asked(name))
        assert airflow.state(run) == "success", (killed, frail.states(run))
        assert what_is_there(frail, tmp_path, name) == wanted, killed
    log.info("killed: %s", ", ".join(killed))


def until_it_works(airflow: api.Stack, run: api.Run) -> None:
    airflow.until(lambda: any(one.state == "running" for one in airflow.task_instances(run)), "a task", TIMEOUT_S)


def kill(airflow: api.Stack, rng: random.Random, *, scheduler: bool) -> str:
    """Kill the scheduler, or a process of a task as soon as there is one; the name of what was killed."""
    (leashed,) = [one for one in airflow.components if one.name == "scheduler"]
    if scheduler:
        os.kill(leash.descendants(leashed.process.pid)[0], signal.SIGKILL)
        leashed.process.wait(TIMEOUT_S)
        airflow.components.remove(leashed)
        log = leashed.log.with_name(f"scheduler-{time.monotonic_ns()}.log")
        again = process.Component.start("scheduler", ["scheduler", "--skip-serve-logs"], airflow.environment, log)
        airflow.components.append(again)
        return "scheduler"
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        if found := [pid for pid in leash.descendants(leashed.process.pid) if OF_A_TASK.search(title_of(pid))]:
            with suppress(ProcessLookupError):
                os.kill(rng.choice(found), signal.SIGKILL)
            return "task"
        time.sleep(0.01)
    return "nothing: it was over"


def title_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except (FileNotFoundError, ProcessLookupError):
        return ""


def clear(airflow: api.Stack, run: api.Run) -> None:
    """Clear what failed and what was not done because of it."""
    asked = {"dag_run_id": run.run_id, "only_failed": True, "include_downstream": True, "dry_run": False}
    airflow._call("POST", f"/dags/{run.dag_id}/clearTaskInstances", json=asked)


def what_is_there(system: System, folder: Path, name: str) -> dict[str, Any]:
    """Output, objects, and which release they are; nothing else may be left of a run."""
    output, releases = folder / name, folder / f"{name}.releases"
    assert not [path for path in releases.rglob("*") if path.name.endswith(".tmp")]
    assert not list(releases.glob(".work/*/staging/*"))
    assert not (releases / "previous.json").exists()
    assert not system.s3.list_multipart_uploads(Bucket=BUCKET, Prefix=f"kills/{name}/").get("Uploads")
    beside = f"kills/{name}/set.releases/"
    latest = json.loads(system.read(f"{beside}latest.json"))
    assert json.loads(system.read(f"{beside}lease.json"))["free"]
    objects = system.objects(beside)
    return {
        "output": {str(path.relative_to(output)): path.read_bytes() for path in output.rglob("*") if path.is_file()},
        "objects": system.objects(f"kills/{name}/set/"),
        "release": (latest["release_id"], latest["manifest_sha256"], latest["identities"], latest["images"]),
        "beside": sorted(objects),
        "manifest": objects[f"{latest['release_id']}/manifest.parquet"],
    }
