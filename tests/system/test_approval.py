"""A source that has shrunk: the run asks a person, by Airflow's own approval, before anything in the bucket changes."""

import json
import time
from pathlib import Path
from typing import Any

import pytest

from local.airflow import api
from tests.system.conftest import BUCKET, RUN_TIMEOUT_S, System
from tests.unit.faceset.pipeline import face, put

pytestmark = pytest.mark.system

PREFIX = "datasets/shrunken/set/"
TASK = "approve_deletions"


class Asked:
    """A run that has come to its question, and what a person can do about it."""

    def __init__(self, system: System, run: api.Run) -> None:
        self.system, self.run = system, run
        self.path = f"/dags/{run.dag_id}/dagRuns/{run.run_id}/taskInstances/{TASK}/-1/hitlDetails"
        self.wait()

    def wait(self) -> None:
        def asks() -> bool:
            assert self.system.airflow.state(self.run) not in api.FINISHED, self.system.states(self.run)
            return self.system.states(self.run)[TASK] == {"awaiting_input"}

        self.system.airflow.until(asks, "the question", RUN_TIMEOUT_S)
        # Airflow 3.3.2 takes an answer for a lost task, and asks again, until the process that asked has ended.
        time.sleep(10)

    def question(self) -> dict[str, Any]:
        """What is listed as required action."""
        found = self.system.airflow._call("GET", f"/dags/{self.run.dag_id}/dagRuns/{self.run.run_id}/hitlDetails")
        (one,) = found["hitl_details"]
        assert not one["response_received"]
        return dict(one)

    def answer(self, choice: str) -> str:
        """Answer, and return the state in which the run ends."""
        answer = {"chosen_options": [choice], "params_input": {}}
        self.system.airflow._call("PATCH", self.path, json=answer)
        return self.system.airflow.wait(self.run, timeout=RUN_TIMEOUT_S)

    def clear(self) -> str:
        """Clear the task and what follows it, and return the state in which the run ends."""
        again = {"dag_run_id": self.run.run_id, "task_ids": [TASK], "include_downstream": True, "only_failed": False}
        path = f"/dags/{self.run.dag_id}/clearTaskInstances"
        self.system.airflow._call("POST", path, json={**again, "dry_run": False})
        return self.system.airflow.wait(self.run, timeout=RUN_TIMEOUT_S)


def test_a_shrunken_source_waits_for_approval(system: System, tmp_path: Path) -> None:
    tree = tmp_path / "exports/reidnet_v2_training_data"
    for person in range(10):
        put(tmp_path / f"exports/faces_only/person{person}_face.png", face(person, "PNG"))
        for number in range(1 + person % 2):
            put(tree / f"person{person}/{number}.jpg", face(100 + 10 * person + number))
    asked = {
        "local_source": str(tmp_path / "exports"),
        "output": str(tmp_path / "merged"),
        "destination": f"s3://{BUCKET}/{PREFIX}",
        "shards": 2,
    }

    def latest() -> str:
        found: dict[str, str] = json.loads(system.read(PREFIX.removesuffix("/") + ".releases/latest.json"))
        return found["release_id"]

    # All are within the limit: nobody is asked.
    whole = system.run(**asked)
    assert system.airflow.state(whole) == "success", system.states(whole)
    assert system.airflow.xcom(whole, TASK)["approved"] == 0
    before, release = system.objects(PREFIX), latest()
    assert len(before) == 25

    # Five of ten identities would go: a person is asked, and shown the numbers.
    rejected = Asked(system, system.airflow.trigger("reidnet_v3", asked | {"min_images": 3}))
    question = rejected.question()
    assert question["subject"] == f"Delete 10 of 25 objects at {asked['destination']}?"
    assert question["options"] == ["Approve", "Reject"]
    for line in (
        "| at the destination now | 25 |",
        "| **would be deleted** | **10 (40.0%)** |",
        "(max_delete_fraction 0.1) | 2 |",
        "| would stay as they are | 15 |",
        "| would be uploaded, at most | 0 |",
        "holds 15 images of\n5 identities",
        "`min_images` (3)",
    ):
        assert line in question["body"]
    assert "person" not in question["body"].replace("A person", "")
    instance = next(one for one in system.airflow.task_instances(rejected.run) if one.task_id == TASK)
    assert f"/runs/{rejected.run.run_id[:8]}" in system.airflow.question(rejected.run, instance)
    assert (system.objects(PREFIX), latest()) == (before, release)

    # Rejected: the run fails, the bucket stays.
    assert rejected.answer("Reject") == "failed"
    assert "rejected the deletion of 10 of 25 objects. Nothing was changed" in system.log(rejected.run, TASK)
    assert system.states(rejected.run)["sync"] == {"upstream_failed"}
    assert (system.objects(PREFIX), latest()) == (before, release)

    # Approved, but by then there is more to delete: it stops again.
    approved = Asked(system, system.airflow.trigger("reidnet_v3", asked | {"min_images": 3}))
    system.s3.put_object(Bucket=BUCKET, Key=f"{PREFIX}late/1.jpg", Body=b"x")
    late = system.objects(PREFIX)
    assert approved.answer("Approve") == "failed"
    assert "11 of the 26 keys" in system.log(approved.run, "sync")
    assert "more than the 10 that were approved" in system.log(approved.run, "sync")
    assert (system.objects(PREFIX), latest()) == (late, release)

    # Cleared, it would show the old numbers, so it stops; another run asks with those of now. Approved, it is exact.
    assert approved.clear() == "failed"
    assert "the numbers of the question before" in system.log(approved.run, TASK)
    again = Asked(system, system.airflow.trigger("reidnet_v3", asked | {"min_images": 3}))
    assert "| **would be deleted** | **11 (42.3%)** |" in again.question()["body"]
    assert again.answer("Approve") == "success", system.states(again.run)
    assert system.objects(PREFIX) == {key: etag for key, etag in before.items() if int(key[6]) % 2}
    assert latest() == system.airflow.xcom(again.run, "seal")["release_id"] != release
