"""An Airflow that this project has not started: `airflow standalone`, its folders of DAGs and plugins pointed here.

Nothing of local/ runs in it, nothing is prepared in it: SQLite, Airflow's own default pool and default connections.
"""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from local.s3 import seaweed
from tests.s3_client import client
from tests.system.conftest import BUCKET
from tests.unit.faceset.pipeline import SMALL, face, put

pytestmark = [pytest.mark.system, pytest.mark.long]

ROOT = Path(__file__).parents[2]
START_TIMEOUT_S = 180
RUN_TIMEOUT_S = 240
WRONG = {
    "misspelt": {"destination": f"s3://{BUCKET}/misspelt/set/", "aws_conn_id": "aws_defualt"},
    "one": {"destination": f"s3://{BUCKET}/shared/set/"},
    "two": {"destination": f"s3://{BUCKET}/shared/set/"},
}
"""Datasets by name, as they differ from the reference."""


@dataclass(frozen=True)
class Plain:
    """A running `airflow standalone`, by its public REST API."""

    api: httpx.Client
    home: Path

    def call(self, method: str, path: str, **arguments: Any) -> Any:
        answer = self.api.request(method, path, **arguments)
        assert answer.is_success, answer.text
        return answer.json() if answer.content else None

    def run(self, dag_id: str, conf: dict[str, Any]) -> str:
        """Trigger a DAG and return the id of its run, once it is over."""
        self.call("PATCH", f"/dags/{dag_id}", json={"is_paused": False})
        run_id = self.call("POST", f"/dags/{dag_id}/dagRuns", json={"conf": conf, "logical_date": None})["dag_run_id"]
        until(lambda: self.state(dag_id, run_id) in {"success", "failed"}, "the run's end", RUN_TIMEOUT_S)
        return str(run_id)

    def state(self, dag_id: str, run_id: str) -> str:
        return str(self.call("GET", f"/dags/{dag_id}/dagRuns/{run_id}")["state"])

    def tasks(self, dag_id: str, run_id: str) -> dict[str, str]:
        found = self.call("GET", f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances", params={"limit": 100})
        return {one["task_id"]: one["state"] for one in found["task_instances"]}

    def error(self, dag_id: str, run_id: str, task_id: str) -> str:
        """The last error in a task's log: what a person reads there."""
        path = self.home / f"logs/dag_id={dag_id}/run_id={run_id}/task_id={task_id}/attempt=1.log"
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        return str([one for one in lines if one.get("level") == "error"][-1]["error_detail"][0]["exc_value"])


def until(done: Callable[[], bool], what: str, timeout: float) -> None:
    deadline = time.monotonic() + timeout
    while not done():
        assert time.monotonic() < deadline, f"waited {timeout} s for {what}"
        time.sleep(0.5)


def free_port() -> int:
    with closing(socket.create_server(("127.0.0.1", 0))) as probe:
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What Airflow reads of a checkout, with dataset files that a person got wrong beside the reference's."""
    folder = tmp_path_factory.mktemp("checkout")
    for name in ("dags", "include", "plugins"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    declared = yaml.safe_load((ROOT / "include/datasets/reidnet_v3.yaml").read_text())
    for name, changes in {**WRONG, "reidnet_v3": {"training": SMALL}}.items():
        (folder / f"include/datasets/{name}.yaml").write_text(yaml.safe_dump(declared | changes))
    return folder


@pytest.fixture(scope="module")
def plain(project: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plain]:
    """Started as Airflow's documentation says; of its settings only those that the test needs: where, which ports."""
    home, port = tmp_path_factory.mktemp("plain") / "airflow", free_port()
    base_url = f"http://127.0.0.1:{port}"
    settings = {
        "API__BASE_URL": base_url,
        "API__HOST": "127.0.0.1",
        "API__PORT": str(port),
        "API__WORKERS": "1",
        "CORE__DAGS_FOLDER": str(project / "dags"),
        "CORE__LOAD_EXAMPLES": "False",
        "CORE__PLUGINS_FOLDER": str(project / "plugins"),
        "LOGGING__TRIGGER_LOG_SERVER_PORT": str(free_port()),
        "LOGGING__WORKER_LOG_SERVER_PORT": str(free_port()),
        "USAGE_DATA_COLLECTION__ENABLED": "False",
    }
    environment = {
        "AIRFLOW_HOME": str(home),
        "AWS_EC2_METADATA_DISABLED": "true",  # without credentials boto3 would ask an address off this machine
        "HOME": str(home.parent),
        "PATH": f"{Path(sys.executable).parent}:{os.defpath}",
        **{f"AIRFLOW__{name}": value for name, value in settings.items()},
    }
    log = home.parent / "standalone.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [Path(sys.executable).with_name("airflow"), "standalone"],
            cwd=home.parent,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        with httpx.Client(base_url=f"{base_url}/api/v2", timeout=30, trust_env=False) as api:
            log_in(api, base_url, home, process, log)
            started = Plain(api, home)
            for dag_id in ("reidnet_v3", *WRONG):
                until(lambda: api.get(f"/dags/{dag_id}").is_success, dag_id, START_TIMEOUT_S)  # noqa: B023
            yield started
    finally:
        process.send_signal(signal.SIGINT)
        with suppress(subprocess.TimeoutExpired):  # what does not end in time is ended
            process.wait(30)
        end_group(process.pid)
        process.wait()


def log_in(api: httpx.Client, base_url: str, home: Path, process: subprocess.Popen[bytes], log: Path) -> None:
    """Log in as the user that Airflow has made, once it answers."""
    drawn = home / "simple_auth_manager_passwords.json.generated"

    def answers() -> bool:
        assert process.poll() is None, log.read_text()[-2000:]
        try:
            return drawn.exists() and api.get("/monitor/health").is_success
        except httpx.TransportError:
            return False

    until(answers, "airflow standalone", START_TIMEOUT_S)
    login = {"username": "admin", "password": json.loads(drawn.read_text())["admin"]}
    token = api.post(f"{base_url}/auth/token", json=login).raise_for_status().json()["access_token"]
    api.headers["Authorization"] = f"Bearer {token}"


def end_group(group: int) -> None:
    """End what is left of Airflow's processes: they are in the session of the first."""
    try:
        os.killpg(group, signal.SIGKILL)
    except ProcessLookupError:
        return


@pytest.fixture
def asked(tmp_path: Path) -> dict[str, Any]:
    """The params of a run on three people, of whom one has a single image."""
    put(tmp_path / "exports/faces_only/ann_face.png", face(1, "PNG"))
    put(tmp_path / "exports/reidnet_v2_training_data/ann/1.jpg", face(2))
    put(tmp_path / "exports/reidnet_v2_training_data/ben/1.jpg", face(3))
    put(tmp_path / "exports/reidnet_v2_training_data/ben/2.jpg", face(4))
    put(tmp_path / "exports/reidnet_v2_training_data/cyd/1.jpg", face(5))
    return {"local_source": str(tmp_path / "exports"), "output": str(tmp_path / "merged"), "shards": 2}


def test_a_run_needs_nothing_prepared_but_the_connection(
    plain: Plain, server: seaweed.S3Server, asked: dict[str, Any]
) -> None:
    destination = {"destination": f"s3://{BUCKET}/datasets/plain/set/"}

    # There is no connection yet: the first task tells what to type.
    refused = plain.run("reidnet_v3", asked | destination)
    assert plain.tasks("reidnet_v3", refused)["preflight"] == "failed"
    assert "airflow connections add aws_default" in plain.error("reidnet_v3", refused, "preflight")

    connection = {
        "connection_id": "aws_default",
        "conn_type": "aws",
        "login": server.user.access_key,
        "password": server.user.secret_key,
        "extra": json.dumps({"endpoint_url": server.endpoint, "region_name": seaweed.REGION}),
    }
    plain.call("POST", "/connections", json=connection)
    for wrong in ({"min_images": 2.5}, {"min_images": "2"}, {"output": None}, {"partition": "2026-05-01"}):
        answer = plain.api.post("/dags/reidnet_v3/dagRuns", json={"conf": asked | wrong, "logical_date": None})
        assert (answer.status_code, "Invalid input for param" in answer.text) == (400, True), wrong
    run_id = plain.run("reidnet_v3", asked | destination | {"min_images": 2.0})
    assert plain.state("reidnet_v3", run_id) == "success", plain.tasks("reidnet_v3", run_id)
    assert set(plain.tasks("reidnet_v3", run_id).values()) == {"success"}
    s3 = client(server, server.admin)
    listed = s3.list_objects_v2(Bucket=BUCKET, Prefix="datasets/plain/set/")["Contents"]
    assert sorted(item["Key"].removeprefix("datasets/plain/set/") for item in listed) == [
        "ann/1.jpg",
        "ann/ann_face.png",
        "ben/1.jpg",
        "ben/2.jpg",
    ]
    latest = json.loads(s3.get_object(Bucket=BUCKET, Key="datasets/plain/set.releases/latest.json")["Body"].read())
    assert (latest["identities"], latest["images"]) == (2, 4)


@pytest.mark.parametrize(
    ("dag_id", "messages"),
    [
        ("misspelt", ["there is no connection 'aws_defualt'", "airflow connections add aws_defualt --conn-type aws"]),
        ("two", ["of the dataset 'one' lie in one another; give each dataset a destination of its own"]),
    ],
)
def test_what_a_person_got_wrong_is_told_by_the_first_task(
    plain: Plain, asked: dict[str, Any], dag_id: str, messages: list[str]
) -> None:
    refused = plain.run(dag_id, asked)
    assert plain.tasks(dag_id, refused)["preflight"] == "failed"
    error = plain.error(dag_id, refused, "preflight")
    for message in messages:
        assert message in error
