"""One DAG for each dataset file in ``include/datasets``: exports in, a proven bucket and a training config out.

This file is wiring. What a task does is told in ``face_tasks/tasks.py``, what a step does in
``include/faceset/steps``; what a dataset is, in its YAML file.
"""

import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from airflow.sdk import DAG, Asset, AssetAny, AssetOrTimeSchedule, CronTriggerTimetable, Param, chain

HERE, ROOT = Path(__file__).parent, Path(__file__).parents[1]
# Airflow puts its own folders on the path, but not `include`.
sys.path[:0] = [place for place in map(str, (ROOT, ROOT / "plugins", HERE)) if place not in sys.path]

from face_tasks import tasks
from face_tasks.current import DATASETS
from face_tasks.retries import DISK, NETWORK
from include.faceset.declared import params as run_params
from include.faceset.declared.dataset import DEFAULT_QUEUE, Dataset
from include.faceset.declared.loading import DatasetError, find, load
from s3_sync.approval import ApproveDeletionsOperator
from s3_sync.operators import S3SyncOperator

RUNBOOK = (HERE / "face_tasks" / "runbook.md").read_text(encoding="utf-8")
QUESTION = (HERE / "face_tasks" / "question.md.j2").read_text(encoding="utf-8")


def schedule_of(dataset: Dataset) -> Any:
    """The dataset's cadence, the assets that start it, both or neither.

    Not Airflow's partitioned runs: their asset events do not reach a DAG that is scheduled on the plain asset, so a
    training would never start; and no timetable is partitioned, has a cadence and listens to assets.
    """
    assets = AssetAny(*map(Asset, dataset.triggered_by)) if dataset.triggered_by else None
    if dataset.schedule is None:
        return assets
    cadence = CronTriggerTimetable(dataset.schedule, timezone="UTC")
    return cadence if assets is None else AssetOrTimeSchedule(timetable=cadence, assets=assets)


def handed_over(task_id: str, value: str, otherwise: str = "") -> str:
    """A template of what a task `handed` over; it is rendered before the hook can say that there is nothing."""
    return (
        f"{{% set handed = ti.xcom_pull(task_ids='{task_id}') %}}"
        f"{{% if handed %}}{{{{ {value} }}}}{{% else %}}{otherwise}{{% endif %}}"
    )


def make_dag(dataset: Dataset) -> DAG:
    """The DAG of one dataset."""
    defaults, schemas = run_params.defaults(dataset), run_params.schemas(dataset)
    with DAG(
        dag_id=dataset.name,
        description=dataset.description,
        doc_md=RUNBOOK.format(name=dataset.name, description=dataset.description, destination=dataset.destination),
        schedule=schedule_of(dataset),
        start_date=datetime(2020, 1, 1, tzinfo=UTC),
        catchup=False,
        max_active_runs=1,
        # No pool is named, so none can be missing: `default_pool` is there in every Airflow, and cannot be deleted.
        default_args={} if dataset.queue == DEFAULT_QUEUE else {"queue": dataset.queue},
        params={name: Param(value, **schemas[name]) for name, value in defaults.items()},
        tags=["faces", "training-set"],
    ) as dag:
        reading = NETWORK if any(export.in_s3 for export in dataset.exports) else DISK
        scanned = tasks.scan.override(**reading).expand(export=[export.name for export in dataset.exports])
        forgotten, filtered, sealed = tasks.forget(), tasks.filter_manifest(), tasks.seal()
        copied = tasks.copy_shard.override(**reading).expand(shard=filtered)
        proven = tasks.verify.override(outlets=[tasks.asset_of(dataset)])()
        packed, erased, rendered, told = tasks.pack(), tasks.erase(), tasks.render_config(), tasks.summary()
        chain(tasks.preflight(), scanned, forgotten, filtered, copied, sealed)
        chain(sealed, *publishing(dataset), proven, packed, erased, rendered, told)
        # So that a run without upload packs, erases and renders too, one of records alone is published, and a dry run
        # has its summary.
        sealed >> [proven, packed, erased, rendered]
        filtered >> told
    return dag


def publishing(dataset: Dataset) -> list[Any]:
    """The two operators that bring the bucket to the release: one asks a person if much goes, the other does it."""
    same: dict[str, Any] = {
        "aws_conn_id": dataset.aws_conn_id,
        "source": "{{ params.output or '' }}",
        "objects": handed_over("seal", "handed.manifest"),
        "record": handed_over("seal", "handed.sync_record"),
        "destination": "{{ params.destination }}",
        "max_delete_fraction": "{{ params.max_delete_fraction }}",
        "pre_execute": tasks.skip_if_upload_skipped,
        **NETWORK,
    }
    ask = ApproveDeletionsOperator(
        task_id="approve_deletions",
        note=QUESTION,
        doc_md="Ask a person if the sync would delete more than `max_delete_fraction` of the destination.",
        **same,
    )
    sync = S3SyncOperator(
        task_id="sync",
        origins=handed_over("seal", "(handed.origins or {}) | tojson"),
        history=handed_over("seal", "handed.history or ''"),
        marker="{{ params.destination.rstrip('/') }}.releases/latest.json",
        lease=handed_over("seal", "handed.lease"),
        sole_writer=dataset.sole_writer,
        approved_deletions=handed_over("approve_deletions", "handed.approved", otherwise="0"),
        doc_md="Bring the destination into exactly the state of the release.",
        **same,
    )
    return [ask, sync]


for path in find(ROOT / "include" / "datasets"):
    try:
        DATASETS[path.stem] = load(path)
    except DatasetError:
        continue  # dataset_errors.py reports it, without holding the other DAGs back
    make_dag(DATASETS[path.stem])  # which Airflow finds by its `with`, so that no name here is taken by a dataset's
