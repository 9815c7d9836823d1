"""Where the releases of each dataset lie: where its file says, and where runs were told to put them."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from airflow.models.dagrun import DagRun
from airflow.utils.session import create_session
from sqlalchemy import select

from include.faceset.declared import params
from include.faceset.declared.dataset import Dataset
from include.faceset.declared.loading import DatasetError, find, load
from include.faceset.run.run import Run
from s3_sync.sources.source import S3Source

DATASETS = Path(__file__).parents[2] / "include" / "datasets"
RUNS = 50
"""The last runs of a DAG whose params are asked where they put their release."""
_SAYS_WHERE = ("local_source", "output", "destination", "suppressed")


@dataclass(frozen=True)
class Place:
    """Where releases of a dataset lie; `tag` is what its links call it."""

    run: Run

    @property
    def tag(self) -> str:
        where = f"{self.run.releases}\0{self.run.params.destination}"
        return hashlib.sha256(where.encode()).hexdigest()[:8]


def datasets() -> list[Dataset]:
    """Every dataset whose file is right, by name; of the others Airflow shows an import error."""
    return [one for path in find(DATASETS) if (one := _load(path)) is not None]


def dataset_of(name: str) -> Dataset | None:
    """A dataset by its name."""
    path = next((path for path in find(DATASETS) if path.stem == name), None)
    return _load(path) if path else None


def _load(path: Path) -> Dataset | None:
    return _loaded(path, path.stat().st_mtime_ns)


@lru_cache
def _loaded(path: Path, changed: int) -> Dataset | None:  # noqa: ARG001 a file that changed is read again
    try:
        return load(path)
    except DatasetError:
        return None


def places_of(dataset: Dataset) -> list[Place]:
    """Where a dataset's releases lie, the place that a run used last first; where nothing lies yet is named as well."""
    found = [Place(_run(dataset, told)) for told in (*_told(dataset.name), {})]
    unique = list({place.tag: place for place in found}.values())
    return sorted(unique, key=lambda place: not place.run.releases.is_dir())


def _run(dataset: Dataset, told: dict[str, Any]) -> Run:
    return Run(dataset, params.check(told, dataset), "pages", sources=_sources(dataset))


def _sources(dataset: Dataset) -> dict[str, Any]:
    in_s3 = [export for export in dataset.exports if export.in_s3]
    if not in_s3:
        return {}
    return {export.name: S3Source(export.prefix, export.aws_conn_id or dataset.aws_conn_id) for export in in_s3}


def _told(dag_id: str) -> Iterator[dict[str, Any]]:
    """What the last runs were told of where things lie, the last first."""
    with create_session() as session:
        asked = select(DagRun.conf).where(DagRun.dag_id == dag_id).order_by(DagRun.id.desc()).limit(RUNS)
        confs = list(session.scalars(asked))
    dataset = dataset_of(dag_id)
    for conf in confs:
        told = {name: conf[name] for name in _SAYS_WHERE if (conf or {}).get(name) is not None}
        try:
            params.check(told, dataset) if dataset else None
        except params.ParamsError:  # of a run that was refused
            continue
        yield told
