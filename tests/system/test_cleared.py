"""Tasks of a run that is no longer the last are cleared, or marked as success: they change nothing, and say why.

A real scheduler, one dataset of which a part comes by date. After each kind of later run (dry, skipped, full, rolled
back, erasing, without upload) tasks of an earlier one are cleared, alone and with what follows them.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from local.airflow import api, deployment
from local.s3 import seaweed
from tests.s3_client import client
from tests.system.conftest import BUCKET, RUN_TIMEOUT_S, System
from tests.unit.faceset.pipeline import SMALL, face, put

pytestmark = [pytest.mark.system, pytest.mark.long]

NAME = "cleared"
PREFIX = f"{NAME}/set"
OF_NO_RELEASE = {".owner", ".work", "met"}
"""Below the releases: who is at work, what passes between a run's tasks, whom of the people to erase it has met."""
AFTER_SEAL = ("approve_deletions", "sync", "verify", "pack", "erase", "render_config", "summary")
TO_SEAL = ("scan", "forget", "filter_manifest", "copy_shard", "seal")


@dataclass(frozen=True)
class Project:
    """A copy of the project with one dataset, and the Airflow that runs it."""

    folder: Path
    system: System

    def run(self, **conf: Any) -> api.Run:
        run = self.system.run(NAME, **conf)
        assert self.system.airflow.state(run) == "success", self.system.states(run)
        return run

    def release_of(self, run: api.Run) -> str:
        return str(self.system.airflow.xcom(run, "seal")["release_id"])

    def clear(self, run: api.Run, task_id: str, *, downstream: bool = False) -> None:
        self.system.airflow._call(
            "POST",
            f"/dags/{NAME}/clearTaskInstances",
            json={
                "dag_run_id": run.run_id,
                "task_ids": [task_id],
                "include_downstream": downstream,
                "only_failed": False,
                "dry_run": False,
            },
        )

    def cleared(self, run: api.Run, task_id: str, *, downstream: bool = False) -> str:
        """The state in which a run ends after a task of it was cleared."""
        self.clear(run, task_id, downstream=downstream)
        return self.system.airflow.wait(run, timeout=RUN_TIMEOUT_S)

    def mark(self, run: api.Run, task_id: str) -> None:
        """Mark a task as success, as a person does in the UI; Airflow then runs what has failed after it."""
        path = f"/dags/{NAME}/dagRuns/{run.run_id}/taskInstances/{task_id}"
        self.system.airflow._call("PATCH", path, json={"new_state": "success"})

    def events(self) -> int:
        """How many asset events there are."""
        return int(self.system.airflow._call("GET", "/assets/events")["total_entries"])

    def seen(self) -> dict[str, bytes | str]:
        """The bytes of every file of output and releases, the ETag of every object, and the number of asset events."""
        found: dict[str, bytes | str] = {"events": str(self.events())}
        for path in self.folder.glob("merged*/**/*"):
            if path.is_file() and not OF_NO_RELEASE & set(path.parts):
                found[str(path.relative_to(self.folder))] = path.read_bytes()
        return found | self.system.objects(PREFIX)

    def in_place(self) -> tuple[str, str]:
        """The releases that the disk and the bucket say they hold."""
        on_disk = json.loads((self.folder / "merged.releases/latest.json").read_text())
        return on_disk["release_id"], json.loads(self.system.read(f"{PREFIX}.releases/latest.json"))["release_id"]

    def refuses(
        self, run: api.Run, task_id: str, why: str, *, downstream: bool = False, marked: str | None = None
    ) -> None:
        """Clear a task, or mark the one before as success: it must fail at its first try, say why, change nothing."""
        before = self.seen()
        if marked:
            self.mark(run, marked)
        else:
            self.clear(run, task_id, downstream=downstream)
        self.system.airflow.wait(run, timeout=RUN_TIMEOUT_S)
        log = self.system.log(run, task_id)
        assert self.system.states(run)[task_id] == {"failed"}
        assert why in log, (task_id, log)
        assert "Error:" not in log, (task_id, log)
        now = self.seen()
        assert not {name for name in before.keys() | now.keys() if before.get(name) != now.get(name)}, task_id


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, server: seaweed.S3Server) -> Iterator[Project]:
    folder = tmp_path_factory.mktemp("cleared")
    declared = {
        "local_source": str(folder / "exports"),
        "output": str(folder / "merged"),
        "destination": f"s3://{BUCKET}/{PREFIX}/",
        "exports": [
            {"name": "faces", "layout": "flat", "pattern": "{identity}_face.png", "root": "faces/{partition}"},
            {"name": "base", "layout": "image_folder"},
        ],
        "shards": 1,
        "training": SMALL,
        "max_delete_fraction": 1.0,
    }
    deployment.copy_project(folder, {NAME: declared})
    for number in range(6):
        put(folder / f"exports/base/id{number % 3}/{number}.jpg", face(number))
    put(folder / "exports/faces/2026-01-02/id0_face.png", face(10, "PNG"))
    with deployment.running(folder, server) as airflow:
        yield Project(folder, System(airflow, client(server, server.admin)))


def test_tasks_of_an_earlier_run_are_cleared(project: Project) -> None:
    exports, system = project.folder / "exports", project.system
    first = project.run()
    of_first, first_id = system.objects(f"{PREFIX}/"), project.release_of(first)

    # A dry run and one without work take nothing away: the earlier run goes on, and gives what it gave.
    put(exports / "base/id1/more.jpg", face(20))
    project.run(dry_run=True)
    skipped = project.run(partition="2026-02-06")
    assert set.union(*system.states(skipped).values()) == {"skipped"}
    assert project.cleared(first, "sync", downstream=True) == "success", system.states(first)
    assert project.cleared(first, "copy_shard") == "success", system.states(first)
    assert project.in_place() == (first_id, first_id)
    assert system.objects(f"{PREFIX}/") == of_first

    # A full one does. Backwards, so that what a task follows is not red.
    second = project.run()
    published = f"a later run ({second.run_id}) has published release {project.release_of(second)}"
    project.refuses(first, "approve_deletions", published, downstream=True)
    for task_id, following in pairwise(AFTER_SEAL):
        project.refuses(first, following, published, marked=task_id)
    for task_id in reversed(TO_SEAL):
        project.refuses(first, task_id, published, downstream=task_id == "scan")
    assert project.in_place() == (project.release_of(second), project.release_of(second))

    # Rolled back: what the first run sealed is in place again, and what the second did is not.
    back = project.run(release=first_id)
    project.refuses(second, "verify", f"a later run ({back.run_id}) has published", downstream=True)
    assert project.in_place() == (first_id, first_id)

    # Erased: the release has another id.
    put(project.folder / "people", b"id2\n")
    erased = project.run(suppressed=str(project.folder / "people"))
    for task_id in ("erase", "filter_manifest"):
        project.refuses(back, task_id, f"a later run ({erased.run_id}) has published", downstream=True)

    # Without upload: the disk is another's.
    put(exports / "base/id1/yet_more.jpg", face(21))
    local = project.run(skip_upload=True, suppressed=str(project.folder / "people"))
    for task_id in ("sync", "copy_shard"):
        project.refuses(erased, task_id, f"a later run ({local.run_id}) has published", downstream=True)
    assert project.in_place() == (project.release_of(local), project.release_of(erased))


def test_a_task_that_was_marked_as_success_is_named(project: Project) -> None:
    airflow = project.system.airflow
    airflow.unpause(NAME)
    airflow._call("PATCH", f"/dags/{NAME}", json={"is_paused": True})
    run = api.Run(NAME, airflow._call("POST", f"/dags/{NAME}/dagRuns", json={"logical_date": None})["dag_run_id"])
    project.mark(run, "preflight")
    airflow.unpause(NAME)
    assert airflow.wait(run, timeout=RUN_TIMEOUT_S) == "failed"
    assert "Clear preflight, with the tasks that follow it" in project.system.log(run, "scan")

    # One export holds no file: its scan fails, and somebody helps themselves.
    (project.folder / "empty/base/id0").mkdir(parents=True)
    put(project.folder / "empty/faces/2026-01-02/id0_face.png", face(10, "PNG"))
    run = project.system.run(NAME, local_source=str(project.folder / "empty"))
    assert airflow.state(run) == "failed"
    project.refuses(run, "filter_manifest", "Clear this run from `scan` on", marked="scan/1")
    project.refuses(run, "approve_deletions", "Clear seal, with the tasks that follow it", marked="seal")
    project.refuses(run, "sync", "Clear seal, with the tasks that follow it", marked="approve_deletions")
    project.refuses(run, "verify", "Clear seal, with the tasks that follow it", marked="sync")
    project.mark(run, "filter_manifest")
    airflow.wait(run, timeout=RUN_TIMEOUT_S)
    # Airflow itself cannot map a task over nothing.
    assert project.system.states(run)["copy_shard"] == {"upstream_failed"}


def test_a_run_and_one_that_is_cleared_meanwhile_do_not_wait_for_each_other(project: Project) -> None:
    airflow = project.system.airflow
    first = project.run()
    put(project.folder / "exports/base/id1/at_last.jpg", face(22))
    second = airflow.trigger(NAME, {})
    airflow.until(lambda: airflow.state(second) == "running", "the second run to start", RUN_TIMEOUT_S)
    project.clear(first, "sync", downstream=True)  # before the second run has taken the output
    assert airflow.wait(second, timeout=RUN_TIMEOUT_S) == "success"
    assert airflow.wait(first, timeout=RUN_TIMEOUT_S) == "failed"
    assert f"a later run ({second.run_id}) has published" in project.system.log(first, "sync")
    assert project.in_place() == (project.release_of(second), project.release_of(second))

    # Begun again from preflight, an earlier run is as one that is triggered now.
    put(project.folder / "exports/base/id1/at_the_very_last.jpg", face(23))
    assert project.cleared(first, "preflight", downstream=True) == "success", project.system.states(first)
    assert project.in_place() == (project.release_of(first), project.release_of(first))
    project.refuses(second, "render_config", f"a later run ({first.run_id}) has published")
