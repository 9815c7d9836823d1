"""The real DAG under a real Airflow, with Ceph RGW as its S3."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from local.airflow import deployment
from s3_sync.bucket.target import S3Target
from tests.servers.places import PLAIN, VERSIONED, Place
from tests.system.conftest import System
from tests.unit.faceset.pipeline import FLAT, SMALL, TREE, face, put

pytestmark = [pytest.mark.system, pytest.mark.parametrize("_running", ["Ceph RGW"], indirect=True)]

IMAGES = {
    **{f"faces_only/person{number}_face.png": face(number, "PNG") for number in range(4)},
    **{f"training_data/person{number // 2}/{number}.jpg": face(100 + number) for number in range(8)},
    "training_data/person0/corrupt.jpg": face(50)[:-40],
}
EXPORTS = "exports/now/"


@pytest.fixture
def deployed(tmp_path_factory: pytest.TempPathFactory, at: Place) -> Iterator[System]:
    """The project with two datasets, of exports on a disk and in S3; one goes to a bucket with versioning."""
    folder = tmp_path_factory.mktemp("project")
    declared = {
        "local_source": str(folder / "exports"),
        "exports": [{**FLAT, "root": f"s3://{PLAIN}/{EXPORTS}faces_only/"}, TREE],
        "shards": 2,
        "training": SMALL,
        "max_delete_fraction": 0.5,
    }
    datasets = {
        name: {**declared, "releases": str(folder / name), "destination": f"s3://{bucket}/{name}/set/"}
        for name, bucket in (("plain", PLAIN), ("versioned", VERSIONED))
    }
    deployment.copy_project(folder, datasets)
    for path, content in IMAGES.items():
        put(folder / "exports" / path, content)
        at.admin.put_object(Bucket=PLAIN, Key=EXPORTS + path, Body=content)
    with deployment.running(folder, at.server) as airflow:
        yield System(airflow, at.admin)


def test_a_run_publishes_another_follows_and_a_bucket_without_a_decision_is_refused(
    deployed: System, at: Place
) -> None:
    first = succeeded(deployed, "plain")
    assert latest(at) == first["release_id"]
    there = at.holds(S3Target(PLAIN, "plain/set/"))
    assert len(there) == 12

    at.admin.put_object(Bucket=PLAIN, Key=f"{EXPORTS}faces_only/person1_face.png", Body=face(200, "PNG"))
    at.admin.delete_object(Bucket=PLAIN, Key=f"{EXPORTS}faces_only/person2_face.png")
    second = succeeded(deployed, "plain")
    assert latest(at) == second["release_id"] != first["release_id"]
    changed = {"person1/person1_face.png": face(200, "PNG")}
    gone = {"person2/person2_face.png"}
    after = at.holds(S3Target(PLAIN, "plain/set/"))
    assert after == {key: content for key, content in (there | changed).items() if key not in gone}

    refused = deployed.run("versioned")
    assert deployed.airflow.state(refused) == "failed"
    assert "does not decide about conditional writes" in deployed.log(refused, "preflight")
    assert at.holds(S3Target(VERSIONED, "versioned/")) == {}


def succeeded(system: System, dataset: str) -> dict[str, Any]:
    """What the task `summary` returned of a run that succeeded."""
    run = system.run(dataset)
    assert system.airflow.state(run) == "success", system.states(run)
    said: dict[str, Any] = system.airflow.xcom(run, "summary")
    return said


def latest(at: Place) -> str:
    said: dict[str, str] = json.loads(at.read(PLAIN, "plain/set.releases/latest.json"))
    return said["release_id"]
