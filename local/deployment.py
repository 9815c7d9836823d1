"""A copy of the project with one dataset, deployed: what measurements run on."""

import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from local import seaweed, stack, storage


@contextmanager
def running(folder: Path, server: seaweed.S3Server, dataset: str, declared: Mapping[str, Any]) -> Iterator[stack.Stack]:
    """Run Airflow on a copy of the project, in `folder`, whose only dataset is the declared one."""
    for name in ("dags", "include", "plugins"):
        shutil.rmtree(folder / name, ignore_errors=True)
        shutil.copytree(stack.ROOT / name, folder / name, ignore=shutil.ignore_patterns("reidnet_v3.yaml"))
    (folder / f"include/datasets/{dataset}.yaml").write_text(yaml.safe_dump(dict(declared)))
    environment = {
        **storage.connection(server),
        "PYTHONPATH": os.pathsep.join([str(folder), str(folder / "plugins"), str(stack.ROOT)]),
        "AIRFLOW__CORE__PLUGINS_FOLDER": str(folder / "plugins"),
    }
    with stack.running(folder / "airflow", dags=folder / "dags", environment=environment) as airflow:
        yield airflow
