"""`make compose-test`: docker-compose.yaml under Docker, with two workers; the sample through it, and down again.

What compose makes for it has a name of its own (`faceset-test`) and is removed at the end, volumes and all. The ports
are the file's: nothing else may listen there. The exit code is 0 only if the run succeeded and the bucket names its
release; 2 where there is no Docker.
"""

import base64
import json
import os
import secrets
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import boto3
import httpx
from botocore.config import Config

from include.faceset.declared import loading
from local.airflow.api import Stack
from local.airflow.errors import StackError
from local.airflow.login import Login
from local.airflow.settings import ROOT
from local.commands.run import DATASETS, DEFAULT_DATASET, UsageError, command
from local.sample.sample import make_sample

FILE = ROOT / "docker-compose.yaml"
PROJECT = "faceset-test"
AIRFLOW, S3 = "http://127.0.0.1:8080", "http://127.0.0.1:8333"
START_TIMEOUT_S = 900
RUN_TIMEOUT_S = 600
LOG_LINES = 50


def variables(exports: Path, uid: int) -> dict[str, str]:
    """What the file asks for, with secrets drawn as .env.example says; `uid` reads the exports and owns the output."""
    names = ("POSTGRES_PASSWORD", "REDIS_PASSWORD", "JWT_SECRET", "API_SECRET_KEY", "ADMIN_PASSWORD")
    return {
        "EXPORTS_DIR": str(exports),
        "AIRFLOW_UID": str(uid),
        **{name: secrets.token_hex(32) for name in names},
        "FERNET_KEY": base64.urlsafe_b64encode(os.urandom(32)).decode(),
        "S3_ACCESS_KEY": secrets.token_hex(10),
        "S3_SECRET_KEY": secrets.token_hex(20),
    }


@contextmanager
def airflow(url: str, logs: Path, password: str) -> Iterator[Stack]:
    """The Airflow of the services, by its REST API; `logs` is the folder that the volume `logs` lies in."""
    login = Login(url, password)
    with httpx.Client(base_url=f"{url}/api/v2", auth=login, timeout=30, trust_env=False) as client:
        yield Stack(url, logs, Path(os.devnull), client, {}, [], datetime.now(UTC))


def test(folder: Path) -> None:
    """Bring the services up, run the sample's dataset through them, look at the bucket, and bring them down.

    Raises:
        StackError: a service does not become healthy, the run does not succeed, or the bucket is not as it should be.
    """
    make_sample(folder / "exports")
    # Root inside a container has no right to be root: the id of the official image then.
    drawn = variables(folder / "exports", os.getuid() or 50000)
    settings = folder / "env"
    settings.touch(0o600)
    settings.write_text("".join(f"{name}={value}\n" for name, value in drawn.items()))
    compose = ["docker", "compose", f"--project-name={PROJECT}", f"--file={FILE}", f"--env-file={settings}"]
    try:
        _tell("building the image and starting the services, a few minutes the first time")
        up = ["up", "--build", "--detach", "--wait", f"--wait-timeout={START_TIMEOUT_S}", "--scale=airflow-worker=2"]
        _docker([*compose, *up])
        _run(drawn)
    except BaseException:
        subprocess.run([*compose, "ps", "--all"], check=False)
        subprocess.run([*compose, "logs", "--no-color", f"--tail={LOG_LINES}"], check=False)
        raise
    finally:
        _tell("stopping the services and removing their volumes")
        subprocess.run([*compose, "down", "--volumes", "--remove-orphans", "--timeout=30"], check=False)


def _run(drawn: dict[str, str]) -> None:
    with airflow(AIRFLOW, Path(os.devnull), drawn["ADMIN_PASSWORD"]) as running:
        run = running.trigger(DEFAULT_DATASET, {})
        _tell(f"run {run.run_id} of {run.dag_id}")
        state = running.wait(run, timeout=RUN_TIMEOUT_S)
        if state != "success":
            wrong = [f"{one.task_id} is {one.state}" for one in running.task_instances(run) if one.state != "success"]
            raise StackError(f"the run {state}: {', '.join(wrong)}")
        hosts = {one.host for one in running.task_instances(run)}
        release_id = running.xcom(run, "summary")["release_id"]
    published = _published(drawn)
    if published != release_id:
        raise StackError(f"latest.json in the bucket names {published}, the run sealed {release_id}")
    _tell(f"release {release_id} is published; its tasks ran on {len(hosts)} workers")


def _published(drawn: dict[str, str]) -> str:
    bucket, prefix = loading.load(DATASETS / f"{DEFAULT_DATASET}.yaml").destination.removeprefix("s3://").split("/", 1)
    s3 = boto3.client(
        "s3",
        endpoint_url=S3,
        aws_access_key_id=drawn["S3_ACCESS_KEY"],
        aws_secret_access_key=drawn["S3_SECRET_KEY"],
        region_name="us-east-1",
        config=Config(proxies={}, s3={"addressing_style": "path"}),
    )
    latest = s3.get_object(Bucket=bucket, Key=f"{prefix.rstrip('/')}.releases/latest.json")["Body"].read()
    return str(json.loads(latest)["release_id"])


def _docker(command: list[str]) -> None:
    code = subprocess.run(command, check=False).returncode
    if code:
        raise StackError(f"{' '.join(command[:2])} … ended with exit code {code}; what the services said stands above")


def _tell(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')}  {text}", flush=True)


def lack() -> str | None:
    """What is missing to run the test, in words; None if nothing is."""
    for needed, what in (
        (["docker", "version"], "no Docker engine answers (docker version)"),
        (["docker", "compose", "version"], "Docker Compose is not installed (docker compose version)"),
    ):
        try:
            asked = subprocess.run(needed, capture_output=True, text=True, check=False)
        except FileNotFoundError:
            return "Docker is not installed: there is no command docker"
        if asked.returncode:
            return f"{what}: {(asked.stderr or asked.stdout).strip()}"
    return None


def main() -> int:
    if missing := lack():
        raise UsageError(
            f"make compose-test needs Docker with Compose, version 2. {missing}\n"
            "Without Docker, `make celery` starts what the file describes as processes of this machine."
        )
    with tempfile.TemporaryDirectory(prefix="compose-test-") as folder:
        Path(folder).chmod(0o755)
        test(Path(folder))
    return 0


if __name__ == "__main__":
    sys.exit(command(main))
