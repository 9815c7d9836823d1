"""Processes like Airflow's workers: each runs one task of the DAG, by the DAG's own functions, and can be killed.

This process imports everything once and then forks one for each task. It never does work itself, so that a fork
finds no thread of Arrow's or obstore's half-way. A line of JSON comes in for each request, one goes out.
"""

from __future__ import annotations

import importlib
import json
import os
import pkgutil
import signal
import sys
import traceback
from functools import cache
from pathlib import Path
from typing import Any

import face_datasets as project
from airflow.sdk.bases.operator import ExecutorSafeguard
from airflow.sdk.execution_time.context import set_current_context
from botocore.loaders import JSONFileLoader

from face_tasks import tasks
from face_tasks.current import DATASETS
from include import faceset
from include.faceset.declared import params as run_params
from include.faceset.declared.dataset import Dataset
from s3_sync.bucket.connection import connect
from tests.kills.points import Points


class TaskInstance:
    """What the DAG asks of Airflow's, answered from what the tasks before handed over.

    Durations are left out, so that two runs have the same summary.
    """

    def __init__(self, dag_id: str, run_id: str, handed_over: dict[str, Any]) -> None:
        self.dag_id, self.run_id, self.handed_over = dag_id, run_id, handed_over

    def xcom_pull(self, task_ids: str) -> Any:
        return self.handed_over.get(task_ids)

    def get_dr_count(self, **_: Any) -> int:
        """Whatever ran before is over: it was killed."""
        return 0

    def get_task_breadcrumbs(self, **_: Any) -> list[dict[str, Any]]:
        return [{"task_id": task, "map_index": -1, "state": "success", "duration": 0.0} for task in self.handed_over]


def work(asked: dict[str, Any]) -> Any:
    """Run one task; what it hands over."""
    dataset, dag = declared(json.dumps(asked["dataset"]))
    task = dag.task_dict[asked["task"]]
    context: Any = {
        "dag": dag,
        "dag_run": None,
        "params": {**run_params.defaults(dataset), **asked["params"]},
        "run_id": asked["run_id"],
        "ti": TaskInstance(dataset.name, asked["run_id"], asked["handed_over"]),
    }
    with set_current_context(context):
        if asked["task"] in ("approve_deletions", "sync"):
            task.render_template_fields(context, task.get_template_env(dag=dag))
            task._pre_execute_hook(context)
            return task.execute(context)
        found = getattr(tasks, asked["task"]).function(*asked["arguments"])
        return [{"extra": one.extra} for one in found] if asked["task"] == "verify" else found


@cache
def declared(dataset_file: str) -> tuple[Dataset, Any]:
    """A dataset and its DAG."""
    dataset = Dataset.model_validate_json(dataset_file)
    DATASETS[dataset.name] = dataset
    return dataset, project.make_dag(dataset)


def start(asked: dict[str, Any]) -> int:
    """Fork a process for a task; it writes into the file `answer` what came of it."""
    declared(json.dumps(asked["dataset"]))
    pid = os.fork()
    if pid:
        return pid
    number = asked.get("signal", signal.SIGKILL)
    points = Points(asked.get("at"), after=asked.get("after", False), number=number)
    answer: dict[str, Any] = {}
    try:
        points.watch()
        answer["result"] = work(asked)
    except BaseException as error:  # noqa: BLE001 whatever it is, the test is told
        answer["error"] = f"{type(error).__name__}: {error}"
        answer["traceback"] = traceback.format_exc()
    answer["points"] = points.names
    Path(asked["answer"]).write_text(json.dumps(answer))
    os._exit("error" in answer)


def import_everything() -> None:
    """What a task needs for the first time: modules, and boto3's descriptions of AWS."""
    for module in pkgutil.walk_packages(faceset.__path__, "include.faceset."):
        importlib.import_module(module.name)
    read = cache(JSONFileLoader().load_file)
    JSONFileLoader.load_file = lambda _, path: read(path)
    connect("none")


def main() -> None:
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what Airflow logs must not come among them
    ExecutorSafeguard.test_mode = True
    import_everything()
    for line in sys.stdin:
        asked = json.loads(line)
        if "await" in asked:  # it stays a zombie, whose id nobody else gets
            os.waitid(os.P_PID, asked["await"], os.WEXITED | os.WNOWAIT)
            answer = 0
        elif "wait" in asked:
            _, status = os.waitpid(asked["wait"], os.WUNTRACED)
            answer = os.WSTOPSIG(status) if os.WIFSTOPPED(status) else os.waitstatus_to_exitcode(status)
        else:
            answer = start(asked)
        print(answer, file=answers)


if __name__ == "__main__":
    main()
