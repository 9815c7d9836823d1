"""Exports in parts under a real scheduler: on schedule, by hand, as a backfill, and started by an asset.

Four datasets on one source: `each` publishes with every run, `latest` once after a backfill, `landing` listens to
an asset too, `ticking` runs every minute. WEEKS=52 makes the backfills a year long.
"""

import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from local.airflow import api, deployment
from local.s3 import seaweed
from tests.s3_client import client
from tests.system.conftest import BUCKET, System
from tests.unit.faceset.pipeline import SMALL, face, put

pytestmark = [pytest.mark.system, pytest.mark.long]

ROOT = Path(__file__).parents[2]
WEEKS = int(os.environ.get("WEEKS", "3"))
FRIDAYS = [date(2025, 1, 3) + timedelta(weeks=week) for week in range(WEEKS)]
TIMEOUT_S = 120 + 15 * WEEKS


@dataclass(frozen=True)
class Project:
    """A copy of the project with datasets of its own, and the Airflow that runs it."""

    folder: Path
    system: System

    @property
    def source(self) -> Path:
        return self.folder / "exports"

    def latest(self, name: str) -> dict[str, Any]:
        """What latest.json in the bucket says."""
        found: dict[str, Any] = json.loads(self.system.read(f"{name}/set.releases/latest.json"))
        return found

    def backfill(self, name: str, *options: str) -> list[str]:
        """Run a backfill over all weeks by Airflow's command; the states of its runs, in order."""
        airflow = self.system.airflow
        airflow.unpause(name)
        # Unpaused, it has a run of the schedule first; in the middle of the backfill that one would publish as well.
        airflow.until(
            lambda: bool(runs := airflow.runs(name)) and set(runs.values()) <= api.FINISHED, "its run", TIMEOUT_S
        )
        before = set(airflow.runs(name))
        dates = ("--from-date", str(FRIDAYS[0]), "--to-date", str(FRIDAYS[-1]))
        airflow.command("backfill", "create", "--dag-id", name, *dates, *options)

        def over() -> bool:
            runs = airflow.runs(name)
            if "completed" not in options:
                runs = {run_id: state for run_id, state in runs.items() if run_id not in before}
            return bool(runs) and set(runs.values()) <= api.FINISHED

        airflow.until(over, f"the backfill of {name}", TIMEOUT_S)
        return list(airflow.runs(name).values())


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, server: seaweed.S3Server) -> Iterator[Project]:
    folder = tmp_path_factory.mktemp("project")
    weekly = {"schedule": "0 0 * * FRI"}
    minutes = {"schedule": "* * * * *", "partition_format": "%Y-%m-%dT%H-%M"}
    datasets = {
        name: {
            "local_source": str(folder / "exports"),
            "output": str(folder / "merged" / name),
            "destination": f"s3://{BUCKET}/{name}/set/",
            "exports": [
                {"name": "faces", "layout": "flat", "pattern": "{identity}_face.png", "root": "faces/{partition}"},
                {"name": "base", "layout": "image_folder"},
            ],
            "shards": 2,
            "training": SMALL,
            "max_delete_fraction": 0.5,
            **changes,
        }
        for name, changes in {
            "each": weekly,
            "latest": weekly | {"publish": "latest"},
            "landing": weekly | {"triggered_by": ["faces-landed"]},
            "ticking": minutes,
        }.items()
    }
    deployment.copy_project(folder, datasets)
    shutil.copy(ROOT / "tests/system/dags/train_when_published.py", folder / "dags")
    for number in range(2):
        put(folder / f"exports/base/zoe/{number}.jpg", face(number))
    # Week by week another face of ann, and of somebody who comes twice, four weeks apart; one week in four is missing.
    for week, friday in enumerate(FRIDAYS):
        if week % 4 != 2:
            put(folder / f"exports/faces/{friday}/ann_face.png", face(100 + week))
            put(folder / f"exports/faces/{friday}/id{week % 4}{week // 8}_face.png", face(1000 + week))
    with deployment.running(folder, server, service=True) as airflow:
        yield Project(folder, System(airflow, client(server, server.admin)))


def test_backfills_in_any_order_end_in_the_same_release(project: Project) -> None:
    system, airflow = project.system, project.system.airflow
    airflow.unpause("train_when_published")
    assert set(project.backfill("latest")) == {"success"}
    assert set(project.backfill("each", "--run-backwards")) == {"success"}

    # Weeks without a part were skipped. `latest` was published once, by whichever run came last (the one of the
    # schedule, which comes first, knows no part yet and skips); `each` with every part that was there.
    there = [friday for week, friday in enumerate(FRIDAYS) if week % 4 != 2]
    published = {}
    for name in ("latest", "each"):
        runs = [api.Run(name, run_id) for run_id in airflow.runs(name)]
        backfilled = [system.states(run) for run in runs if run.run_id.startswith("backfill")]
        assert len(backfilled) == WEEKS
        assert sum(state["scan"] == {"success"} for state in backfilled) >= len(there)
        published[name] = sum(system.states(run)["verify"] == {"success"} for run in runs)
    assert published == {"latest": 1, "each": len(there)}

    # The same release, the same bucket, the same config, whichever way.
    first, second = project.latest("latest"), project.latest("each")
    assert first["release_id"] == second["release_id"]
    assert system.objects("latest/set/") == system.objects("each/set/") != {}
    assert len([key for key in system.objects("each/set/") if key.startswith("ann/")]) == len(there)
    config = "{0}/set.releases/{1}/{0}_imagefolder.py"
    one, other = (system.read(config.format(name, first["release_id"])).decode() for name in ("latest", "each"))
    assert one.replace("latest", "each") == other

    # A training scheduled on the asset started, once, with what was published.
    airflow.until(lambda: bool(airflow.runs("train_when_published")), "the training", TIMEOUT_S)
    (run_id,) = airflow.runs("train_when_published")
    assert airflow.wait(api.Run("train_when_published", run_id), timeout=TIMEOUT_S) == "success"
    assert airflow.xcom(api.Run("train_when_published", run_id), "start_training") == {
        "download": f"s3://{BUCKET}/latest/set/",
        "release": f"s3://{BUCKET}/latest/set.releases/{first['release_id']}/",
        "release_id": first["release_id"],
        "num_classes": first["identities"],
        "num_image": first["images"],
    }

    # Once more over all: the last run publishes again, or has nothing to do if its week has no part; nothing is sent.
    assert set(project.backfill("latest", "--reprocess-behavior", "completed")) == {"success"}
    assert project.latest("latest") == first
    backfilled = [api.Run("latest", run_id) for run_id in airflow.runs("latest") if run_id.startswith("backfill")]
    again = [run for run in backfilled if system.states(run)["verify"] == {"success"}]
    assert len(again) <= 1
    assert [airflow.xcom(run, "sync")["uploaded"] for run in again] == [0] * len(again)


def test_by_hand_with_a_partition_without_and_rolled_back(project: Project) -> None:
    system, airflow = project.system, project.system.airflow
    run = system.run("landing", partition=str(FRIDAYS[0]))
    assert airflow.state(run) == "success", system.states(run)
    first = project.latest("landing")["release_id"]
    summary = Path(airflow.xcom(run, "summary")["summary"])
    facts = json.loads((summary.parent / "summary.json").read_text())
    assert (facts["parts"][0]["known"], facts["before"]) == (1, None)
    assert str(FRIDAYS[1]) in facts["parts"][0]["unscanned"]

    # A part that is not there: skipped, and said so.
    absent = system.run("landing", partition="2024-12-27")
    assert airflow.state(absent) == "success"
    assert set.union(*system.states(absent).values()) == {"skipped"}
    assert "part 2024-12-27 is not there yet: nothing to do" in system.log(absent, "preflight")

    # What all parts would change, and then the change.
    foreseen = system.run("landing", dry_run=True)
    text = Path(airflow.xcom(foreseen, "summary")["summary"]).read_text()
    assert f"Compared with release {first}" in text
    assert project.latest("landing")["release_id"] == first
    everything = system.run("landing")
    assert airflow.state(everything) == "success", system.states(everything)
    summary = Path(airflow.xcom(everything, "summary")["summary"])
    facts = json.loads((summary.parent / "summary.json").read_text())
    assert facts["before"] == first
    assert (facts["changes"]["images_removed"], facts["changes"]["identities_added"]) == (0, facts["identities"] - 1)
    assert facts["changes"]["values"]["num_classes"] == [1, facts["identities"]]
    added = f"| images | {facts['changes']['images_added']} | 0 | 0 |"
    assert added in summary.read_text()
    assert added in text

    # Back to the first release, and its bytes from the versions that S3 still holds.
    system.s3.put_bucket_versioning(Bucket=BUCKET, VersioningConfiguration={"Status": "Enabled"})
    before = system.objects("landing/set/")
    back = system.run("landing", release=first, max_delete_fraction=1.0)
    assert airflow.state(back) == "success", system.states(back)
    assert project.latest("landing")["release_id"] == first
    assert set(system.objects("landing/set/")) == {"zoe/0.jpg", "zoe/1.jpg"}
    forth = system.run("landing", release=facts["release_id"])
    assert airflow.state(forth) == "success", system.states(forth)
    sync = airflow.xcom(forth, "sync")
    assert (sync["uploaded"], sync["restored"]) == (0, len(before) - 2)
    assert system.objects("landing/set/") == before


def test_an_asset_event_starts_a_run_on_the_part_that_landed(project: Project) -> None:
    airflow = project.system.airflow
    airflow.unpause("landing")
    put(project.source / "faces/2026-01-02/ann_face.png", face(5000))
    (asset,) = [one for one in airflow._call("GET", "/assets")["assets"] if one["name"] == "faces-landed"]
    airflow._call("POST", "/assets/events", json={"asset_id": asset["id"], "extra": {"partition": "2026-01-02"}})

    def new() -> dict[str, str]:
        return {run_id: state for run_id, state in airflow.runs("landing").items() if run_id.startswith("asset")}

    airflow.until(lambda: bool(new()) and set(new().values()) <= api.FINISHED, "the asset's run", TIMEOUT_S)
    ((run_id, state),) = new().items()
    assert state == "success"
    assert airflow.xcom(api.Run("landing", run_id), "scan", map_index=0)["parts"] == 1
    assert "ann/2026-01-02__ann_face.png" in project.system.objects("landing/set/")


def test_the_scheduler_takes_the_part_of_its_date(project: Project) -> None:
    airflow = project.system.airflow
    now = datetime.now(UTC)
    for minute in range(-2, 10):
        partition = (now + timedelta(minutes=minute)).strftime("%Y-%m-%dT%H-%M")
        put(project.source / f"faces/{partition}/ann_face.png", face(6000 + minute))
    airflow.unpause("ticking")
    airflow.until(lambda: "success" in airflow.runs("ticking").values(), "a scheduled run", TIMEOUT_S)
    airflow._call("PATCH", "/dags/ticking", json={"is_paused": True})
    run_id = next(run_id for run_id, state in airflow.runs("ticking").items() if state == "success")
    run = airflow._call("GET", f"/dags/ticking/dagRuns/{run_id}")
    assert run["run_type"] == "scheduled"
    assert airflow.xcom(api.Run("ticking", run_id), "scan", map_index=0)["parts"] == 1
    tick = datetime.fromisoformat(run["logical_date"]).strftime("%Y-%m-%dT%H-%M")
    summary = Path(airflow.xcom(api.Run("ticking", run_id), "summary")["summary"])
    assert json.loads((summary.parent / "summary.json").read_text())["parts"][0]["first"] == tick
