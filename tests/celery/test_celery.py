"""docker-compose.yaml as it is written, up with two workers: a run through both, of which one is lost on the way."""

import json
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from include.faceset.declared import loading, params
from include.faceset.ground.sharded import shard_of
from include.faceset.run.run import Run
from local.airflow import answers, api, settings
from local.commands import compose
from local.s3 import identities, seaweed
from local.sample.sample import make_sample
from tests.celery import containers
from tests.needs import require
from tests.s3_client import client
from tests.unit.faceset.pipeline import run_to_seal

pytestmark = pytest.mark.system

DATASET = loading.load(settings.ROOT / "include" / "datasets" / "reidnet_v3.yaml")
SHARDS = 8
"""As many as two workers take at once (AIRFLOW__CELERY__WORKER_CONCURRENCY), so that each takes half."""


@dataclass(frozen=True)
class System:
    """The services, their Airflow and their S3."""

    services: containers.Compose
    airflow: api.Stack
    s3: Any

    def objects(self, bucket: str, prefix: str) -> dict[str, bytes]:
        """Bytes by key, relative to the prefix."""
        pages = self.s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
        keys = [item["Key"] for page in pages for item in page.get("Contents", ())]
        return {key.removeprefix(prefix): self.s3.get_object(Bucket=bucket, Key=key)["Body"].read() for key in keys}


@pytest.fixture(scope="module")
def exports(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("exports") / "sample"
    make_sample(folder)
    return folder


@pytest.fixture(scope="module")
def system(exports: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    require(containers.missing())
    folder = tmp_path_factory.mktemp("compose")
    drawn = compose.variables(exports, uid=12345)  # not the image's own
    with containers.up(compose.FILE, folder, drawn, {"airflow-worker": 2}) as up:
        keys = identities.Credentials(drawn["S3_ACCESS_KEY"], drawn["S3_SECRET_KEY"])
        s3 = seaweed.S3Server(f"http://{up.containers['s3'].address}:8333", keys, keys, up.containers["s3"].pid)
        url = f"http://{up.containers['airflow-apiserver'].address}:8080"
        with compose.airflow(url, folder / "volumes", drawn["ADMIN_PASSWORD"]) as airflow:
            airflow.components.extend(one for one in up.containers.values() if one.health is not None)
            yield System(up, airflow, client(s3, keys))


def test_every_service_is_healthy(system: System) -> None:
    for container in system.services.containers.values():
        if container.health is not None:
            system.services.until(container.is_healthy, f"{container.name} to be healthy", container)


def test_a_worker_is_lost_in_the_middle_of_a_shard_and_the_run_ends_right(
    system: System, exports: Path, tmp_path: Path
) -> None:
    merged = system.services.volume("merged") / "reidnet_v3"
    workers = {name: one for name, one in system.services.containers.items() if name.startswith("airflow-worker-")}
    run = system.airflow.trigger("reidnet_v3", {"shards": SHARDS})
    busy, taken = freeze_in_the_middle(system, run, merged, workers)
    del workers[busy]
    system.airflow.components.remove(system.services.lose(busy))
    [(left, worker)] = workers.items()
    worker.thaw()
    assert system.airflow.wait(run, timeout=300) == "success", system.airflow.task_instances(run)

    shards = copies(system, run)
    assert {shards[shard].try_number for shard, host in taken.items() if host == busy} == {2}
    assert {shards[shard].try_number for shard, host in taken.items() if host == left} == {1}
    assert {shards[shard].host for shard in taken} == {left}

    # What the same exports give on one machine, where nothing breaks.
    alone = Run(
        DATASET, params.check({"local_source": str(exports), "output": str(tmp_path / "merged")}, DATASET), "alone"
    )
    expected = run_to_seal(alone)
    assert system.airflow.xcom(run, "summary")["release_id"] == expected.sealed.release_id
    assert contents(merged) == expected.output
    bucket, prefix = DATASET.destination.removeprefix("s3://").split("/", 1)
    assert system.objects(bucket, prefix) == expected.output
    latest = json.loads(system.objects(bucket, prefix.rstrip("/") + ".releases/")["latest.json"])
    assert latest["release_id"] == expected.sealed.release_id
    assert not list(merged.parent.glob("*.releases/.work/*/staging/*")), "nothing of any try is left"


def test_a_worker_without_the_shared_volume_says_so_and_changes_nothing(system: System) -> None:
    declared = system.services.file["services"]["airflow-worker"]
    volumes = [volume.removeprefix("merged:") for volume in declared["volumes"]]
    assert "/data/merged" in volumes, "one of its own"
    stranger = system.services.add("stranger", {**declared, "volumes": volumes})
    system.services.until(stranger.is_healthy, "the stranger to be healthy", stranger)
    merged = system.services.volume("merged")
    before = contents(merged / "reidnet_v3")

    run = system.airflow.trigger("reidnet_v3", {"shards": SHARDS})
    assert system.airflow.wait(run, timeout=120) == "failed"
    failed = [one for one in system.airflow.task_instances(run) if one.state == "failed"]
    logs = "".join(system.airflow.task_log(run, one).read_text() for one in failed)
    assert "stranger" in logs
    assert "does not see the /data/merged/reidnet_v3.releases of" in logs
    assert "mount the same volume there on every worker of the queue 'default'" in logs
    assert {one.try_number for one in failed} == {1}
    assert contents(merged / "reidnet_v3") == before


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def freeze_in_the_middle(
    system: System, run: api.Run, merged: Path, workers: dict[str, containers.Container]
) -> tuple[str, dict[int, str]]:
    """Stop both workers when both have shards in hand and one is in the middle of one: that one, and who has which."""
    deadline = time.monotonic() + 180
    while time.monotonic() < deadline:
        if not begun(merged):
            time.sleep(0.005)
            continue
        for worker in workers.values():
            worker.freeze()
        shards = copies(system, run)
        taken = {shard: one.host for shard, one in shards.items() if one.state == "running" and one.host}
        busy = [taken[shard] for shard in sorted(begun(merged)) if shard in taken]
        all_begun = all(one.state in {"running", "success"} for one in shards.values())
        if all_begun and busy and set(taken.values()) == set(workers):
            return busy[0], taken
        for worker in workers.values():
            worker.thaw()
        assert any(one.state != "success" for one in shards.values()), "both workers were never busy at once"
    raise AssertionError(f"no shard was begun: {system.airflow.task_instances(run)}")


def copies(system: System, run: api.Run) -> dict[int, answers.TaskInstance]:
    """The tasks that copy, by shard: none is empty, so the map has them in their order."""
    return {one.map_index: one for one in system.airflow.task_instances(run) if one.task_id == "copy_shard"}


def begun(merged: Path) -> set[int]:
    """The shards of which some images are in place, and not all."""
    open_tries = {int(folder.name[6:9]) for folder in merged.parent.glob("*.releases/.work/*/staging/shard=*")}
    written = {int(file.name[6:9]) for file in merged.parent.glob("*.releases/.work/*/copied/shard=*")}
    in_place = {shard_of(name, SHARDS) for name in os.listdir(merged)} if open_tries and merged.exists() else set()
    return (open_tries - written) & in_place
