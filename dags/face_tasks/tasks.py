"""The tasks: each finds the run that it belongs to, calls one step, and hands over what that returns."""

import platform
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from airflow.sdk import Asset, Metadata, TriggerRule, get_current_context, task
from airflow.sdk.exceptions import AirflowSkipException

from face_tasks import current
from face_tasks.retries import DISK, NETWORK, final
from include.faceset.declared.dataset import Dataset


def asset_of(dataset: Dataset) -> Asset:
    """What other DAGs can be scheduled on: the dataset, proven in its bucket."""
    return Asset(name=dataset.name, uri=dataset.destination)


def skip_if_upload_skipped(context: Any) -> None:
    """Hook for the operators of the sync, which know nothing of this DAG's params, runs and forms."""
    run, _ = current.after_seal()
    if context["params"]["skip_upload"]:
        raise AirflowSkipException("skip_upload is set")
    if "image_folder" not in run.dataset.forms:
        raise AirflowSkipException("forms names no image_folder")


@task(**NETWORK)
def preflight() -> dict[str, Any]:
    """Refuse in seconds what would fail later: exports, disk, bucket, credentials, privacy. Skip a run without work.

    Returns what this worker sees of the shared folders, for later tasks to compare, and the run's turn.
    """
    from include.faceset.errors import FacesetError
    from include.faceset.run import turns, workers
    from include.faceset.steps.preflight import nothing_to_do
    from include.faceset.steps.preflight import preflight as check
    from s3_sync.errors import S3SyncError

    run = current.as_triggered()
    current.check_destination_is_its_own(run)
    with final(FacesetError, S3SyncError):
        check(run)
        current.check_s3(run)
    current.wait_for_turn(run, anew=True)
    run = turns.take_turn(run)
    if why := nothing_to_do(run):
        raise AirflowSkipException(why)
    return {**asdict(workers.seen(run, platform.node())), "turn": run.turn, "after": run.after}


@task(**DISK, map_index_template="{{ export_name }}")
def scan(export: str) -> dict[str, Any]:
    """List one export's files, or those of its parts that this run takes, into manifests; no file is opened."""
    from include.faceset.steps.scan import scan as scan_export

    run = current.before_seal()
    current.check_exports(run)
    context: Any = get_current_context()
    context["export_name"] = " ".join([export, *(run.partitions or ())])
    return asdict(scan_export(run, export))


@task(**DISK)
def forget() -> int:
    """Erase the people on the list from all that earlier runs left here, before anything is read of it."""
    from include.faceset.steps.forget import forget as forget_people

    run = current.before_seal()
    if current.a_later_run_publishes(run):
        raise AirflowSkipException(
            "publish is `latest` and more runs of the backfill wait: the last of them builds the release of all parts"
        )
    return forget_people(run)


@task(**DISK)
def filter_manifest() -> list[int]:
    """Keep identities with at least min_images images over all exports; return the shards with something to copy."""
    from include.faceset.steps.select import filter_manifest as filter_run

    run = current.before_seal()
    shards = filter_run(run).shards
    return [] if run.params.dry_run else list(shards)


@task(**DISK, map_index_template="{{ shard_label }}")
def copy_shard(shard: int) -> dict[str, Any]:
    """Read, hash, decode and copy one shard's images; what is not good goes to the ledger."""
    from include.faceset.steps.copy import copy_shard as copy
    from include.faceset.steps.restore import restore_shard as restore

    run = current.before_seal()
    current.check_exports(run)
    context: Any = get_current_context()
    context["shard_label"] = f"shard {shard:03d}"
    return asdict(copy(run, shard) if run.params.release is None else restore(run, shard))


@task(**DISK)
def seal() -> dict[str, Any]:
    """Settle conflicts, balance the ledger, bring the output to exactly the release, write the release."""
    from include.faceset.steps.seal import hand_over
    from include.faceset.steps.seal import seal as seal_run

    run = current.before_seal()
    return asdict(hand_over(run, seal_run(run)))


@task(**NETWORK, trigger_rule=TriggerRule.NONE_FAILED_MIN_ONE_SUCCESS)
def verify() -> Iterator[Metadata]:
    """Prove the bucket: every key, size and checksum, listed afresh. Then publish the release, latest.json last."""
    from include.faceset.steps.publish import publish

    run, sealed = current.after_seal()
    bucket = current.destination_of(run)
    if bucket is None:
        raise AirflowSkipException("skip_upload is set")
    with final():
        published = publish(run, sealed["release_id"], bucket)
    yield Metadata(asset_of(run.dataset), extra=published)


@task(**NETWORK, trigger_rule=TriggerRule.NONE_FAILED_MIN_ONE_SUCCESS)
def pack() -> dict[str, Any] | None:
    """Write the release as two files of records, where the dataset has that form, and publish them, proven too."""
    from include.faceset.steps.pack import pack as pack_release

    run, sealed = current.after_seal()
    with final():
        return pack_release(run, sealed["release_id"], current.destination_of(run))


@task(**NETWORK, trigger_rule=TriggerRule.NONE_FAILED_MIN_ONE_SUCCESS)
def erase() -> dict[str, Any] | None:
    """Erase the people on the list from the bucket, versions and releases too, and write the receipt."""
    from include.faceset.steps.erase import erase as erase_people

    run, sealed = current.after_seal()
    with final():
        return erase_people(run, sealed["release_id"], current.destination_of(run))


@task(**DISK, trigger_rule=TriggerRule.NONE_FAILED_MIN_ONE_SUCCESS)
def render_config() -> list[str]:
    """Write the training config from the sealed counts, import it and compare."""
    from include.faceset.release import release
    from include.faceset.steps.render import render_config as render

    run, sealed = current.after_seal()
    return [str(path) for path in render(run, release.read(run.release(sealed["release_id"])))]


@task(**NETWORK, trigger_rule=TriggerRule.NONE_FAILED_MIN_ONE_SUCCESS)
def summary() -> dict[str, Any]:
    """Tell a person what happened to every file, what differs from before, and what to do next."""
    from include.faceset.report.took import steps
    from include.faceset.steps import retire, summarise

    context: Any = get_current_context()
    ti, dag = context["ti"], context["dag"]
    breadcrumbs = list(ti.get_task_breadcrumbs(dag_id=dag.dag_id, run_id=context["run_id"]))
    took = steps(breadcrumbs, [one.task_id for one in dag.topological_sort()])
    with final():
        if context["params"]["dry_run"]:
            run = current.before_seal()
            return summarise.foretell(run, took, current.destination_of(run))
        run, sealed = current.after_seal()
        bucket, synced, erased = current.destination_of(run), *(ti.xcom_pull(task_ids=one) for one in ("sync", "erase"))
        told = summarise.tell(run, sealed["release_id"], took, synced, erased, bucket=bucket)
        retire.retire(run, bucket)
        return told
