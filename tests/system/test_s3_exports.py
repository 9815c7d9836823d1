"""The real DAG on exports that lie in S3: into an output, and without one, beside the same files on a disk."""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from local.airflow import deployment
from local.s3 import seaweed
from tests.s3_client import client
from tests.system.conftest import BUCKET, System
from tests.unit.faceset.pipeline import FLAT, SMALL, TREE, face, put

pytestmark = [pytest.mark.system, pytest.mark.long]

IMAGES = {
    **{f"faces_only/person{number}_face.png": face(number, "PNG") for number in range(8)},
    **{f"training_data/person{number // 2}/{number}.jpg": face(100 + number) for number in range(12)},
    "training_data/person0/corrupt.jpg": face(50)[:-40],
    "training_data/person1/the same.jpg": face(102),
    "faces_only/README.txt": b"no image",
}
EXPORTS = "exports/now/"


@pytest.fixture(scope="module")
def deployed(tmp_path_factory: pytest.TempPathFactory, server: seaweed.S3Server) -> Iterator[System]:
    folder = tmp_path_factory.mktemp("project")
    in_s3 = [{**one, "root": f"s3://{BUCKET}/{EXPORTS}{one['name']}/"} for one in (FLAT, TREE)]
    places = {
        "on_disk": {"exports": [FLAT, TREE], "output": str(folder / "merged")},
        "in_s3": {"exports": in_s3, "releases": str(folder / "kept")},
        "mixed": {"exports": [in_s3[0], TREE], "releases": str(folder / "mixed")},
    }
    datasets = {
        name: {
            "local_source": str(folder / "exports"),
            "destination": f"s3://{BUCKET}/{name}/set/",
            "shards": 2,
            "training": SMALL,
            "forms": ["image_folder", "record"],
            "max_delete_fraction": 0.5,
            **place,
        }
        for name, place in places.items()
    }
    del datasets["in_s3"]["local_source"]
    deployment.copy_project(folder, datasets)
    admin = client(server, server.admin)
    for path, data in IMAGES.items():
        put(folder / "exports" / path, data)
        admin.put_object(Bucket=BUCKET, Key=EXPORTS + path, Body=data)
    with deployment.running(folder, server) as airflow:
        yield System(airflow, admin)


def succeeded(system: System, dataset: str, **conf: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """What the tasks summary and sync returned of a run that succeeded."""
    run = system.run(dataset, **conf)
    assert system.airflow.state(run) == "success", system.states(run)
    return system.airflow.xcom(run, "summary"), system.airflow.xcom(run, "sync")


def ledger(result: dict[str, Any]) -> list[tuple[Any, ...]]:
    columns = ["identity", "path", "export", "size", "outcome", "key", "sha256", "format", "colour"]
    rows = pq.read_table(Path(result["summary"]).parent / "ledger.parquet", columns=columns).to_pylist()
    return sorted(tuple(map(repr, row.values())) for row in rows)


def records(system: System, dataset: str) -> dict[str, str]:
    """The two files of the newest release, by name, as their pointer says; nothing else lies beside it."""
    folder = f"{dataset}/set.records/"
    pointer = json.loads(system.read(f"{folder}latest.json"))
    assert pointer["release_id"] == json.loads(system.read(f"{dataset}/set.releases/latest.json"))["release_id"]
    names = ("train.idx", "train.rec")
    assert set(system.objects(folder)) == {"latest.json", *(f"{pointer['release_id']}/{name}" for name in names)}
    found = {}
    for name in names:
        content = system.read(f"{folder}{pointer['release_id']}/{name}")
        found[name] = hashlib.sha256(content).hexdigest()
        assert pointer["files"][name] == {"size": len(content), "sha256": found[name]}
    return found


def test_the_same_release_from_a_disk_and_from_s3_and_no_image_on_a_disk(deployed: System) -> None:
    system = deployed
    on_disk, _ = succeeded(system, "on_disk")
    wanted = system.objects("on_disk/set/")
    assert len(wanted) == 18

    in_s3, sync = succeeded(system, "in_s3")
    assert in_s3["release_id"] == on_disk["release_id"]
    assert ledger(in_s3) == ledger(on_disk)
    assert system.objects("in_s3/set/") == wanted
    assert (sync["copied"], sync["uploaded"], sync["bytes"]) == (18, 0, 0)
    kept = Path(in_s3["summary"]).parents[1]
    assert not [path for path in kept.rglob("*") if path.suffix in {".jpg", ".png", ".rec"}]
    assert records(system, "in_s3") == records(system, "on_disk")
    assert "| 0 | 18 | 0 | 0 | 0.0 MB |" in Path(in_s3["summary"]).read_text()
    latest = json.loads(system.read("in_s3/set.releases/latest.json"))
    assert (latest["release_id"], latest["images"]) == (on_disk["release_id"], 18)
    manifest = pq.read_table(Path(in_s3["summary"]).parent / "manifest.parquet").to_pylist()
    assert all(hashlib.sha256(system.read(f"in_s3/set/{row['key']}")).digest() == row["sha256"] for row in manifest)

    mixed, sync = succeeded(system, "mixed")
    assert mixed["release_id"] == on_disk["release_id"]
    assert (sync["copied"], sync["uploaded"]) == (6, 12)
    assert system.objects("mixed/set/") == wanted
    assert records(system, "mixed") == records(system, "on_disk")

    # Another image, one that is gone, one with other bytes: what did not change is neither read nor copied again.
    system.s3.put_object(Bucket=BUCKET, Key=f"{EXPORTS}training_data/person0/new.jpg", Body=face(200))
    system.s3.put_object(Bucket=BUCKET, Key=f"{EXPORTS}training_data/person1/2.jpg", Body=face(201))
    system.s3.delete_object(Bucket=BUCKET, Key=f"{EXPORTS}training_data/person2/4.jpg")
    _, sync = succeeded(system, "in_s3")
    assert (sync["copied"], sync["deleted"], sync["skipped"]) == (3, 1, 16)
    assert system.read("in_s3/set/person1/2.jpg") == face(201)

    # Into an output, as a param: written there, and uploaded like all others.
    output = kept.parent / "as a folder"
    _, sync = succeeded(system, "in_s3", output=str(output), destination=f"s3://{BUCKET}/in_s3/other/")
    assert (sync["copied"], sync["uploaded"]) == (0, 19)
    files = {str(path.relative_to(output)): path.read_bytes() for path in output.rglob("*") if path.is_file()}
    assert system.objects("in_s3/other/") == {
        key: hashlib.md5(data, usedforsecurity=False).hexdigest() for key, data in files.items()
    }


def test_what_cannot_work_is_refused_at_once(deployed: System) -> None:
    for conf, message in (
        ({"destination": f"s3://{BUCKET}/{EXPORTS}training_data/set/"}, "lie in one another"),
        ({"skip_upload": True}, "without an output there is nothing but the upload"),
    ):
        run = deployed.run("in_s3", **conf)
        assert deployed.airflow.state(run) == "failed"
        assert message in deployed.log(run, "preflight")
