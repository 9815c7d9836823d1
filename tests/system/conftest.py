"""One Airflow and one S3 server for all system tests, both real, in a folder of their own."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import yaml

from local.airflow import api, deployment, settings
from local.s3 import seaweed
from tests.s3_client import client
from tests.unit.faceset.pipeline import SMALL

BUCKET = "data-labeling.livereachmedia.com"
VERSIONED = "versioned.livereachmedia.com"
RUN_TIMEOUT_S = 240


@dataclass(frozen=True)
class System:
    """Airflow, its S3 server, and boto3 as the administrator of that server."""

    airflow: api.Stack
    s3: Any

    def run(self, dag_id: str = "reidnet_v3", **conf: Any) -> api.Run:
        """Trigger a DAG and wait until its run is over."""
        run = self.airflow.trigger(dag_id, conf)
        self.airflow.wait(run, timeout=RUN_TIMEOUT_S)
        return run

    def states(self, run: api.Run) -> dict[str, set[str | None]]:
        found: dict[str, set[str | None]] = {}
        for instance in self.airflow.task_instances(run):
            found.setdefault(instance.task_id, set()).add(instance.state)
        return found

    def log(self, run: api.Run, task_id: str) -> str:
        instance = next(one for one in self.airflow.task_instances(run) if one.task_id == task_id)
        return self.airflow.task_log(run, instance).read_text()

    def objects(self, prefix: str) -> dict[str, str]:
        """ETag by key (relative to the prefix) of what the bucket holds."""
        pages = self.s3.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=prefix)
        return {
            item["Key"].removeprefix(prefix): item["ETag"].strip('"')
            for page in pages
            for item in page.get("Contents", ())
        }

    def read(self, key: str) -> bytes:
        content: bytes = self.s3.get_object(Bucket=BUCKET, Key=key)["Body"].read()
        return content


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[seaweed.S3Server]:
    with seaweed.running(tmp_path_factory.mktemp("system") / "s3", [BUCKET, VERSIONED]) as running:
        yield running


@pytest.fixture(scope="session")
def system(tmp_path_factory: pytest.TempPathFactory, server: seaweed.S3Server) -> Iterator[System]:
    """The project, with a training that a handful of images is enough for; only what a test triggers runs."""
    folder = tmp_path_factory.mktemp("project")
    reference = yaml.safe_load((settings.ROOT / "include/datasets/reidnet_v3.yaml").read_text())
    deployment.copy_project(folder, {"reidnet_v3": reference | {"training": SMALL}})
    with deployment.running(folder, server) as airflow:
        yield System(airflow, client(server, server.admin))
