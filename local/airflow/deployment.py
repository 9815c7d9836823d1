"""A copy of the project with datasets of its own, deployed: what measurements and tests run on."""

import os
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from local.airflow import api, errors, settings, stack
from local.s3 import seaweed, storage


def copy_project(folder: Path, datasets: Mapping[str, Mapping[str, Any]]) -> None:
    """Copy what a deployment needs into `folder`, with the declared datasets, by name, instead of the project's."""
    leave_out = shutil.ignore_patterns("__pycache__", "reidnet_v3.yaml")
    for name in ("dags", "include", "plugins"):
        shutil.rmtree(folder / name, ignore_errors=True)
        shutil.copytree(settings.ROOT / name, folder / name, ignore=leave_out)
    for name, declared in datasets.items():
        (folder / f"include/datasets/{name}.yaml").write_text(yaml.safe_dump(dict(declared)))


@contextmanager
def running(
    folder: Path,
    server: seaweed.S3Server,
    *,
    environment: Mapping[str, str] | None = None,
    service: bool = False,
) -> Iterator[api.Stack]:
    """Run Airflow on a copy of the project; `environment` and `service` as in `stack.running`."""
    everything = {
        **storage.connection(server),
        "PYTHONPATH": os.pathsep.join([str(folder), str(folder / "plugins"), str(settings.ROOT)]),
        "AIRFLOW__CORE__PLUGINS_FOLDER": str(folder / "plugins"),
        **(environment or {}),
    }
    home, dags = folder / "airflow", folder / "dags"
    with stack.running(home, dags=dags, environment=everything, service=service) as airflow:
        yield airflow


def timed_run(airflow: api.Stack, dag_id: str, conf: Mapping[str, Any]) -> tuple[api.Run, float]:
    """Trigger a run and wait for its end; the run, and the seconds by the clock of whoever pressed the button.

    Raises:
        StackError: the run failed.
    """
    began = time.monotonic()
    run = airflow.trigger(dag_id, conf)
    if airflow.wait(run) != "success":
        raise errors.StackError(f"{run.run_id} failed; its logs are in {airflow.home / 'logs'}")
    return run, time.monotonic() - began
