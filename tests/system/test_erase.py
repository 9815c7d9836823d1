"""A person is erased by the real DAG, from a bucket that keeps every version."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.system.conftest import VERSIONED, System
from tests.unit.faceset.pipeline import face, put
from tests.unit.faceset.test_erase import CANARY, IMAGES, traces

pytestmark = pytest.mark.system

SLIP = "nobody-of-this-name"
PREFIX = "datasets/erased/set/"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    root = tmp_path / "exports"
    for number in range(40):
        put(root / f"reidnet_v2_training_data/person{number % 20:02d}/{number}.jpg", face(number))
    put(root / "faces_only/person00_face.png", face(40))
    put(root / f"faces_only/{CANARY}_face.png", IMAGES[0])
    put(root / f"reidnet_v2_training_data/{CANARY}/1.jpg", IMAGES[1])
    put(root / f"reidnet_v2_training_data/{CANARY}/2.jpg", IMAGES[2])
    put(root / f"reidnet_v2_training_data/{CANARY}/notes.txt", b"no image")
    return root


@pytest.fixture
def versioned(system: System) -> Iterator[None]:
    system.s3.put_bucket_versioning(Bucket=VERSIONED, VersioningConfiguration={"Status": "Enabled"})
    yield
    system.s3.put_bucket_versioning(Bucket=VERSIONED, VersioningConfiguration={"Status": "Suspended"})


def in_bucket(system: System, folder: Path) -> list[str]:
    """Where in the bucket a trace of the canary is, over all versions, which are put into a folder; markers count."""
    for page in system.s3.get_paginator("list_object_versions").paginate(Bucket=VERSIONED, Prefix="datasets/"):
        for one in page.get("DeleteMarkers", ()):
            put(folder / f"{one['Key']}.marker", b"")
        for one in page.get("Versions", ()):
            where = {"Bucket": VERSIONED, "Key": one["Key"], "VersionId": one["VersionId"]}
            suffix = Path(one["Key"]).suffix
            put(folder / f"{one['Key']}.{one['VersionId']}{suffix}", system.s3.get_object(**where)["Body"].read())
    return traces(folder)


def keys(system: System) -> dict[str, str]:
    found = system.s3.list_objects_v2(Bucket=VERSIONED, Prefix=PREFIX)["Contents"]
    return {item["Key"].removeprefix(PREFIX): item["ETag"] for item in found}


def check_slip(listed: Path, logs: str, summary: Path, receipt: Path) -> None:
    """The line that matches nobody is told by its number."""
    assert f"nobody is matched by {listed}: line 3" in logs
    assert f"- {listed}: line 3\n" in summary.read_text()
    assert f"Lines that match nobody: {listed}: line 3." in receipt.read_text()


@pytest.mark.usefixtures("versioned")
def test_a_person_is_erased_everywhere(system: System, source: Path, tmp_path: Path) -> None:
    output, releases = tmp_path / "merged", tmp_path / "merged.releases"
    beside = PREFIX.removesuffix("/") + ".releases/"
    listed = put(tmp_path / "people", f"# asked in a letter\n{CANARY}\n{SLIP}\n".encode())
    asked = {
        "local_source": str(source),
        "output": str(output),
        "destination": f"s3://{VERSIONED}/{PREFIX}",
        "shards": 2,
    }
    erasing = asked | {"suppressed": str(listed)}
    texts = ""

    def run(conf: dict[str, Any]) -> dict[str, Any]:
        nonlocal texts
        done = system.run(**conf)
        assert system.airflow.state(done) == "success", system.states(done)
        instances = [one for one in system.airflow.task_instances(done) if one.state == "success"]
        texts += "".join(system.airflow.task_log(done, one).read_text() for one in instances)
        told: dict[str, Any] = system.airflow.xcom(done, "summary")
        return told

    def latest() -> dict[str, Any]:
        text = system.s3.get_object(Bucket=VERSIONED, Key=f"{beside}latest.json")["Body"].read()
        found: dict[str, Any] = json.loads(text)
        return found

    before = run(asked)
    assert latest()["images"] == 44
    assert len(in_bucket(system, tmp_path / "before")) > 5

    # Foretold, and nothing changed.
    was = keys(system)
    text = Path(run(erasing | {"dry_run": True})["summary"]).read_text()
    assert "1 of them are in the last release, with 3 images" in text
    assert f"- {listed}: line 3\n" in text
    assert "In the bucket: 3 objects, 0 older versions" in text
    assert (keys(system), latest()["release_id"]) == (was, before["release_id"])
    assert traces(output)

    # Without upload: the disk is cleared, and the receipt says that the bucket is not.
    run(erasing | {"skip_upload": True})
    assert traces(output) == traces(releases) == []
    receipts = sorted((releases / "erasures").glob("*.md"))
    assert "The bucket was not touched" in receipts[0].read_text()
    assert keys(system) == was

    # With upload: the bucket too, over all versions.
    after = run(erasing)
    assert in_bucket(system, tmp_path / "after") == []
    assert keys(system) == {key: etag for key, etag in was.items() if not key.startswith(CANARY)}
    assert (latest()["release_id"], latest()["images"]) == (after["release_id"], 41)
    receipts = sorted((releases / "erasures").glob("*.json"))
    told = json.loads(receipts[1].read_text())["erased"][f"bucket {asked['destination']}"]
    assert (told["objects"], told["versions"], told["markers"]) == (0, 3, 3)
    assert told["release_versions"] > 5
    published = system.s3.get_object(Bucket=VERSIONED, Key=f"{beside}erasures/{receipts[1].name}")["Body"].read()
    assert published == receipts[1].read_bytes()
    check_slip(listed, texts, Path(after["summary"]), receipts[1].with_suffix(".md"))

    # Back to the release that held them, by the id that it had then.
    put(source / "reidnet_v2_training_data/person01/more.jpg", face(70))
    assert run(erasing)["images"] == 42
    back = run(erasing | {"release": before["release_id"]})
    assert (back["release_id"], back["images"]) == (after["release_id"], 41)
    assert latest()["release_id"] == after["release_id"]
    assert in_bucket(system, tmp_path / "back") == traces(output) == traces(releases) == []
    assert CANARY not in texts
    assert SLIP not in texts
