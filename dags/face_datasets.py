"""One DAG for each dataset file in ``include/datasets``: exports in, a proven bucket and a training config out.

This file is wiring. What a step does is told in ``include/faceset/<step>.py`` and ``plugins/s3_sync``;
what a dataset is, in its YAML file.
"""

import logging
import platform
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from airflow.sdk import (
    DAG,
    Asset,
    AssetAny,
    AssetOrTimeSchedule,
    CronTriggerTimetable,
    ExceptionRetryPolicy,
    Metadata,
    Param,
    RetryAction,
    TriggerRule,
    chain,
    get_current_context,
    task,
)
from airflow.sdk.exceptions import (
    AirflowFailException,
    AirflowRescheduleException,
    AirflowSkipException,
)

ROOT = Path(__file__).parent.parent
# Airflow puts its folder of DAGs on the path, and that of plugins if it is this project's, but not `include`.
sys.path[:0] = [folder for folder in (str(ROOT), str(ROOT / "plugins")) if folder not in sys.path]

from include.faceset.declared import params as run_params
from include.faceset.declared.dataset import DEFAULT_QUEUE, Dataset, DatasetError, find, load, shared_destination
from include.faceset.run.run import Run
from s3_sync.approval import ApproveDeletionsOperator
from s3_sync.operators import S3SyncOperator, holder_of

FOLDER = ROOT / "include" / "datasets"

log = logging.getLogger(__name__)

TURN = timedelta(seconds=5)
"""How long a task is put off while another run works on the same output."""

DISK: dict[str, Any] = {
    # An error is final: the same files give it again. A try whose worker was lost left none, and is tried again.
    "retries": 2,
    "retry_policy": ExceptionRetryPolicy(rules=[], default=RetryAction.FAIL),
    "retry_delay": timedelta(seconds=5),
}
NETWORK: dict[str, Any] = {
    "retry_policy": None,
    "retries": 3,
    "retry_delay": timedelta(seconds=10),
    "retry_exponential_backoff": True,
    "max_retry_delay": timedelta(minutes=5),
}
RUNBOOK = """
### {name}
{description}

**Start it**: press Trigger; each field of the form explains itself. Try `dry_run` first: it reports what a run
would do and changes nothing.

`preflight → scan → filter_manifest → copy_shard → seal → approve_deletions → sync → verify → erase → render_config →
summary`

**What you get**
- `<output>/<identity>/<file>`: the merged dataset; `{destination}`: the same, proven.
- `<output>.releases/<release id>/`: manifest, ledger (one row for every file scanned), class index,
  training config, `SUMMARY.md`. `latest.json` beside them names the release that is in place, here and in the bucket.

**When a task is red**: its last log line says what is wrong and what to do. Then clear that task (with its
downstream tasks), or trigger again: both end as if nothing had happened.

| red | usually | do |
| --- | --- | --- |
| preflight | an export is not mounted, the disk is full, bucket or credentials are wrong | what the message says |
| preflight (queued, not red) | no worker serves the `queue` of the dataset file | `airflow celery worker --queues …` |
| any | its worker lacks the shared volume (it says which) | mount it there, or take it off the queue; clear the task |
| any | a later run has changed output or bucket since (it says which) | trigger again, or roll back with `release` |
| any | an earlier task was marked as success without having run (it says which) | clear that one, with its downstream |
| copy_shard is *upstream_failed*, all before is green | so was `filter_manifest` | clear it, with its downstream |
| scan | a folder cannot be read | give Airflow's user access, clear the task |
| filter_manifest | no identity has enough images | check the exports' declared layouts and `min_images` |
| copy_shard | disk full or failing | make room, clear the task: it starts its shard again |
| scan, copy_shard | an export in S3 cannot be listed or read | what the message says; clear the task |
| seal | the ledger does not balance, or files changed under the run | clear from `copy_shard` on |
| sync | keys failed (it lists them) | clear the task |
| any that uses S3 | credentials or a session have ended and cannot be renewed | what the message says; clear the task |
| sync | objects have changed, or were archived, since they were read (no output) | trigger again: they are read anew |
| sync, verify | somebody else is changing the destination (it says who) | let it end, or stop it; clear the task |
| approve_deletions | the deletions were rejected, or nobody answered in a week | put the exports right, trigger again |
| sync | there is more to delete than was approved | the bucket changed: trigger again, it asks again |
| verify | somebody else wrote to the prefix, or objects there were archived | clear from `sync` on |
| erase | the list of people to erase was changed under the run | trigger again |
| erase | versions may not be listed or deleted (Object Lock, permissions) | put that right, clear the task |

**When a run is green**, read its `SUMMARY.md` all the same (`summary` logs as warnings what to look at): lines of the
list of people to erase that match nobody, fewer images than a batch.

**Runs that are no longer the last**: a run begins with `preflight`. Its other tasks can be cleared as long as no later
run has changed output or bucket, or, from `approve_deletions` on, as long as the release that it sealed is the one in
place. Otherwise they change nothing and say which run came later. A dry run, and one that finds nothing to do, change
nothing, so they do not count. To clear a run from `preflight` on is to trigger it again, with the params that it has.

**When a run waits for you** (`approve_deletions`, state *awaiting input*): the release has shrunk, and `sync` would
delete more than `max_delete_fraction` of the bucket. Nothing has been changed there yet. Open the task, tab *Required
Actions*: it shows how much would be deleted, uploaded and kept. An export that is not wholly mounted, a higher
`min_images` or a wrong `destination` are the usual reasons; the release's ledger has them file by file. **Approve**:
the sync goes ahead, with that number as its limit. **Reject**: the run fails, the bucket keeps what it has. Until then,
other runs of this output wait. To go ahead without being asked, trigger with a higher `max_delete_fraction`.

**Parts**: of exports that arrive in parts, a scheduled or backfilled run takes the part of its date, an asset event the
one that it names; any other run takes all that are there, or the one given as `partition`. A part that is not there is
skipped: when it has come, trigger with `partition`. A task that is put off again and again waits for another run that
works on the same output.

**Erase a person**: write their identity, as its folder in the output is called, on a line of
`include/datasets/{name}.suppressed`, and trigger a run (with `dry_run` first: it tells how many images and releases
are concerned). The run takes their files out of the output and the bucket, with all versions; rewrites the releases
that are kept, here and in the bucket; and leaves a receipt in `<output>.releases/erasures/`, which names nobody and
says what it cannot reach. Leave the line there as long as an export holds the person. Their deletions count towards
`max_delete_fraction` like others: **if the run asks for approval, they are still in the bucket until you approve**. A
release that loses images has a new id (an id names one set of images for good); by its old one you can still roll back
to it, and the person stays away. With `skip_upload` only the disk is cleared; the bucket follows with the next run that
uploads.

**Roll back**: trigger with `release`, the id of a kept release (folders in `<output>.releases/`). A dataset without
output has no copy of its own of what it no longer publishes: it takes it from the versions that the bucket keeps, or
from the exports, as long as they hold it unchanged.

**Exports in S3** (`root: s3://bucket/prefix/`) are listed in ranges side by side; each object is read once, by the
shard that needs it. With an `output` it is written there, and uploaded like all others. Without one (the dataset file
names `releases` instead) no image touches a disk: `copy_shard` only judges, and `sync` copies inside S3 what was judged
good, if it still has the ETag that it was read with; where the export has another endpoint it is streamed. Images of an
export on a disk are then uploaded straight from it.

While `latest.json` is missing in the bucket, do not train from it: a run is changing it, or broke off.
"""

QUESTION = """\
{%- set sealed = ti.xcom_pull(task_ids='seal') -%}
{%- if sealed -%}
Release `{{ sealed.release_id }}` of `{{ dag.dag_id }}` holds {{ '{:,}'.format(sealed.images) }} images of
{{ '{:,}'.format(sealed.identities) }} identities.
{%- if sealed.erased %}

{{ '{:,}'.format(sealed.erased) }} of the images to delete are of people on the list of people to erase. Until you
approve, they are in the bucket.
{%- endif %}

Look first: are all exports mounted, and whole? Is `min_images` ({{ params.min_images }}) as it was? Is the destination
the right one? `ledger.parquet` in `{{ sealed.folder }}` says of every file why it is in the release or not.
{%- endif %}
"""


DATASETS: dict[str, Dataset] = {}


def current_run() -> Run:
    """The run that this task belongs to, once the output is its own; until then the task is put off.

    Of a task before `seal`: it fails before anything is touched if a later run has changed something (turns.py).
    """
    from include.faceset.run import turns

    run = begun_run()
    with refused(turns.OutdatedError):
        turns.check(run)
    return run


def sealed_run() -> tuple[Run, dict[str, Any]]:
    """The run that this task belongs to, as `current_run`, and what its `seal` handed over.

    Of a task after `seal`: it fails before anything is touched if its release is not the one in place (turns.py).
    """
    from include.faceset.run import turns

    run, sealed = begun_run(), handed_over("seal")
    with refused(turns.OutdatedError):
        turns.check_sealed(run, sealed["release_id"])
    return run, sealed


def begun_run() -> Run:
    """The run that this task belongs to, with the turn that its `preflight` took, once the output is its own."""
    noted = handed_over("preflight")
    run = replace(declared_run(), turn=noted["turn"], after=noted["after"])
    check_worker(run, noted)
    wait_for_turn(run)
    return run


@contextmanager
def refused(*errors: type[Exception]) -> Iterator[None]:
    """End the task for good where the block raises such an error: another try would raise it again."""
    try:
        yield
    except errors as why:
        raise AirflowFailException(str(why)) from why


def handed_over(task_id: str) -> dict[str, Any]:
    """What an earlier task of this run handed over; whoever marks a task as success hands nothing over."""
    found: dict[str, Any] | None = get_current_context()["ti"].xcom_pull(task_ids=task_id)
    if found is None or (task_id == "preflight" and "turn" not in found):
        msg = (
            f"{task_id} has handed nothing over in this run: it did not run (was it marked as success?), was "
            f"skipped, or ran under an earlier version. Clear {task_id}, with the tasks that follow it"
        )
        raise AirflowFailException(msg)
    return found


def check_worker(run: Run, noted: dict[str, Any]) -> None:
    """Fail before anything is touched if this worker does not share the folders of the one that had preflight."""
    from include.faceset.run import workers

    with refused(workers.NotSharedError):
        workers.check(run, workers.Seen(noted["worker"], noted["folders"]), platform.node())


def check_exports(run: Run) -> None:
    """Fail if this worker does not see the exports: a folder where nothing is mounted looks like one without files."""
    from include.faceset.steps.preflight import NotReadyError
    from include.faceset.steps.preflight import check_exports as check

    try:
        check(run)
    except NotReadyError as error:
        raise AirflowFailException(f"on {platform.node()}: {error}") from error


def check_destination_is_its_own(run: Run) -> None:
    """Fail if the run's destination, or the one that its dataset's asset is named after, is another dataset's too.

    Each sync would delete what the other has brought, and of two assets at one place Airflow lets only one be updated.
    """
    places = set() if run.params.skip_upload else {run.dataset.destination, run.params.destination}
    others = [one for name, one in DATASETS.items() if name != run.dataset.name]
    if (why := shared_destination(places, others)) is not None:
        raise AirflowFailException(why)


def wait_for_turn(run: Run, *, anew: bool = False) -> None:
    """Put the task off while another run works on the same output (a backfill starts several runs at once)."""
    from include.faceset.run import owner

    ti = get_current_context()["ti"]

    def is_over(other: owner.Owner) -> bool:
        # Counted, since asking for the state of a run that Airflow does not know is an error. One that had the output
        # and is queued was cleared: no task of it is at work, and where one run may be active it waits for this one.
        return not ti.get_dr_count(dag_id=other.dag_id, run_ids=[other.run_id], states=["running"])

    if other := owner.take(run, is_over, anew=anew):
        log.info("run %s of %s works on the same output: waiting for it", other.run_id, other.dag_id)
        raise AirflowRescheduleException(datetime.now(UTC) + TURN)


def declared_run() -> Run:
    """The run that this task belongs to; unknown or wrong params fail it at once."""
    context = get_current_context()
    dataset = DATASETS[context["dag"].dag_id]
    with refused(run_params.ParamsError):
        checked = run_params.check(dict(context["params"]), dataset)
    return Run(dataset, checked, context["run_id"], partitions_of(dataset, checked, context), sources_of(dataset))


def sources_of(dataset: Dataset) -> dict[str, Any]:
    """The exports that lie in S3, by name; no request is sent before one is used."""
    in_s3 = [export for export in dataset.exports if export.in_s3]
    if not in_s3:
        return {}
    from s3_sync.sources.source import S3Source

    return {export.name: S3Source(export.prefix, export.aws_conn_id or dataset.aws_conn_id) for export in in_s3}


def origins_of(run: Run) -> dict[str, dict[str, str]] | None:
    """Where the sync finds the bytes of each export; None: in the output."""
    if run.on_disk:
        return None
    return {
        export.name: {
            "root": export.prefix if export.in_s3 else str(run.folder(export)),
            "aws_conn_id": export.aws_conn_id or run.dataset.aws_conn_id,
        }
        for export in run.dataset.exports
    }


def partitions_of(dataset: Dataset, params: run_params.RunParams, context: Any) -> tuple[str, ...] | None:
    """The parts that a run scans; None: all that are there.

    The param says it, or the asset events that started the run (`partition` in their extra), or the date of a
    scheduled run or a backfill. Any other run takes all.
    """
    if not dataset.dated:
        return None
    if params.partition is not None:
        return (params.partition,)
    dag_run = context["dag_run"]
    if dag_run.run_type == "asset_triggered":
        events = [event for events in context["triggering_asset_events"].values() for event in events]
        named = {(event.extra or {}).get("partition") for event in events}
        if wrong := [name for name in named if name is not None and not dataset.is_partition(str(name))]:
            msg = f"an asset event names the partition {wrong[0]!r:.80}: write it as {dataset.partition_format}"
            raise AirflowFailException(msg)
        return None if None in named or not named else tuple(sorted(map(str, named)))
    if dag_run.run_type in {"scheduled", "backfill"}:
        return (dataset.partition(dag_run.logical_date),)
    return None


def a_later_run_publishes(dataset: Dataset) -> bool:
    """Whether this is a run of a backfill before its last, of a dataset that publishes only the latest state."""
    context = get_current_context()
    if dataset.publish != "latest" or context["dag_run"].run_type != "backfill":
        return False
    return context["ti"].get_dr_count(dag_id=dataset.name, states=["queued", "running"]) > 1


def holding(run: Run) -> dict[str, Any]:
    """How a task that ends the change of a destination holds its lease."""
    from include.faceset.run import owner

    holder = holder_of(get_current_context()["ti"])
    return {"owner": owner.token(run), "holder": holder, "give_back": True, "sole_writer": run.dataset.sole_writer}


def if_handed_over(task_id: str, value: str, otherwise: str = "") -> str:
    """A template of a value of what a task `handed` over; `otherwise` where it handed nothing over.

    Templates are rendered before the hook can say what is wrong.
    """
    return (
        f"{{% set handed = ti.xcom_pull(task_ids='{task_id}') %}}"
        f"{{% if handed %}}{{{{ {value} }}}}{{% else %}}{otherwise}{{% endif %}}"
    )


def asset_of(dataset: Dataset) -> Asset:
    """What other DAGs can be scheduled on: the dataset, proven in its bucket."""
    return Asset(name=dataset.name, uri=dataset.destination)


def skip_if_upload_skipped(context: Any) -> None:
    """Hook for the operators of the sync, which know nothing of this DAG's params and runs."""
    sealed_run()
    if context["params"]["skip_upload"]:
        msg = "skip_upload is set"
        raise AirflowSkipException(msg)


@task(**NETWORK)
def preflight() -> dict[str, Any]:
    """Refuse in seconds what would fail later: exports, disk, bucket, credentials, privacy. Skip a run without work.

    Returns what this worker sees of the shared folders, for later tasks to compare, and the run's turn.
    """
    from include.faceset.people import to_erase
    from include.faceset.run import turns, workers
    from include.faceset.steps.preflight import NotReadyError, nothing_to_do
    from include.faceset.steps.preflight import preflight as check
    from s3_sync.bucket.connection import connect
    from s3_sync.bucket.target import S3Target
    from s3_sync.erasure.erase import EraseFailed, list_versions
    from s3_sync.errors import DestinationNotReady, InvalidTarget, SourceNotReady
    from s3_sync.preflight import check_destination

    run = declared_run()
    check_destination_is_its_own(run)
    with refused(NotReadyError, DestinationNotReady, EraseFailed, InvalidTarget, SourceNotReady):
        check(run)
        target = S3Target.parse(run.params.destination)
        connection = None
        if not run.params.skip_upload:
            connection = connect(target.bucket, aws_conn_id=run.dataset.aws_conn_id)
        if run.params.release is None:
            for source in sources_of(run.dataset).values():
                source.check(connection, target)
        if connection is not None:
            check_destination(connection, target, sole_writer=run.dataset.sole_writer)
            for person in sorted(to_erase(run))[:1]:  # may versions be listed?
                list_versions(connection, target, f"{person}/")
    wait_for_turn(run, anew=True)
    run = turns.begin(run)
    if why := nothing_to_do(run):
        raise AirflowSkipException(why)
    return {**asdict(workers.seen(run, platform.node())), "turn": run.turn, "after": run.after}


@task(**DISK, map_index_template="{{ export_name }}")
def scan(export: str) -> dict[str, Any]:
    """List one export's files, or those of its parts that this run takes, into manifests; no file is opened."""
    from include.faceset.steps.scan import scan as scan_export

    run = current_run()
    check_exports(run)
    get_current_context()["export_name"] = " ".join([export, *(run.partitions or ())])
    return asdict(scan_export(run, export))


@task(**DISK)
def filter_manifest() -> list[int]:
    """Keep identities with at least min_images images over all exports; return the shards with something to copy."""
    from include.faceset.steps.select import filter_manifest as filter_run

    run = current_run()
    if a_later_run_publishes(run.dataset):
        msg = "publish is `latest` and more runs of the backfill wait: the last of them builds the release of all parts"
        raise AirflowSkipException(msg)
    shards = filter_run(run).shards
    return [] if run.params.dry_run else list(shards)


@task(**DISK, map_index_template="{{ shard_label }}")
def copy_shard(shard: int) -> dict[str, Any]:
    """Read, hash, decode and copy one shard's images; what is not good goes to the ledger."""
    from include.faceset.steps.copy import copy_shard as copy
    from include.faceset.steps.restore import restore_shard as restore

    run = current_run()
    check_exports(run)
    get_current_context()["shard_label"] = f"shard {shard:03d}"
    return asdict(copy(run, shard) if run.params.release is None else restore(run, shard))


@task(**DISK)
def seal() -> dict[str, Any]:
    """Settle conflicts, balance the ledger, bring the output to exactly the release, write the release."""
    from include.faceset.erasure import receipt
    from include.faceset.release import release
    from include.faceset.run import owner
    from include.faceset.steps.seal import seal as seal_run

    run = current_run()
    sealed = seal_run(run)
    folder = run.release(sealed.release_id)
    objects = folder / release.OBJECTS_FILE  # there if this release was published before
    return {
        "release_id": sealed.release_id,
        "identities": sealed.identities,
        "images": sealed.images,
        "folder": str(folder),
        "manifest": str(folder / release.MANIFEST_FILE),
        "sync_record": str(run.sync_record()),
        "history": str(objects) if objects.exists() else None,
        "lease": owner.token(run),
        "erased": receipt.images_to_delete(run),
        "origins": origins_of(run),
    }


@task(**NETWORK)
def verify() -> Iterator[Metadata]:
    """Prove the bucket: every key, size and checksum, listed afresh. Then publish the release, latest.json last."""
    from include.faceset.ground import tables
    from include.faceset.release import release
    from s3_sync import lease
    from s3_sync.bucket.connection import connect
    from s3_sync.bucket.target import S3Target
    from s3_sync.errors import LeaseHeld
    from s3_sync.proof.publish import publish
    from s3_sync.proof.verify import verify as verify_prefix
    from s3_sync.sync.record import read as read_record

    run, handed = sealed_run()
    folder = Path(handed["folder"])
    sealed = release.read(folder)
    target = S3Target.parse(run.params.destination)
    connection = connect(target.bucket, aws_conn_id=run.dataset.aws_conn_id)
    expected = tables.read(folder / release.MANIFEST_FILE, ["key", "size", "sha256"])
    releases = target.sibling(".releases")
    pointer = sealed.pointer(f"{releases.uri}{sealed.release_id}/")
    with refused(LeaseHeld), lease.hold(connection, target, **holding(run)) as check:
        proof = verify_prefix(connection, target, expected, read_record(run.sync_record(), connection, target))
        tables.write(proof.objects, folder / release.OBJECTS_FILE)
        check()
        publish(connection, releases, folder, release.SEALED_FILES, pointer, check=check)
    yield Metadata(asset_of(run.dataset), extra={**pointer, "dataset": sealed.dataset, "destination": target.uri})


@task(**NETWORK, trigger_rule=TriggerRule.NONE_FAILED_MIN_ONE_SUCCESS)
def erase() -> dict[str, Any] | None:
    """Erase the people on the list from the bucket, versions and releases too, and write the receipt."""
    from include.faceset.erasure import met, receipt, rewrite
    from s3_sync.bucket.connection import connect
    from s3_sync.bucket.target import S3Target
    from s3_sync.erasure.erase import EraseFailed
    from s3_sync.errors import LeaseHeld
    from s3_sync.proof.publish import put_file

    run, sealed = sealed_run()
    target = S3Target.parse(run.params.destination)
    connection = None
    with refused(rewrite.EraseError, EraseFailed, LeaseHeld):
        people = rewrite.finish(run)
        if people and not run.params.skip_upload:
            connection = connect(target.bucket, aws_conn_id=run.dataset.aws_conn_id)
            erase_in_bucket(run, sealed["release_id"], people, connection, target)
    written = receipt.write(run, people, [met.in_words(one) for one in met.unmet(run)])
    if connection is not None:
        for path in written:
            put_file(connection, target.sibling(".releases"), path, f"{receipt.FOLDER}/{path.name}")
    told = receipt.told(run, written)
    receipt.close(run)
    return told


def erase_in_bucket(run: Run, release_id: str, people: frozenset[str], connection: Any, target: Any) -> None:
    """Delete what people have in the bucket, and bring its releases to what they are here; no older version stays."""
    from include.faceset.erasure import met, receipt, rewrite
    from include.faceset.release import release
    from s3_sync import lease
    from s3_sync.erasure import erase as s3

    releases, names = target.sibling(".releases"), rewrite.published_files(run)
    with lease.hold(connection, target, **holding(run)) as check:
        s3.check_pointer(connection, releases, "release_id", release_id)
        of_people = s3.of_folders(connection, target, sorted(people))
        met.remember(run, people, s3.tops(of_people))
        there = s3.folders(s3.list_versions(connection, releases), release.ID)
        anew = rewrite.in_bucket(run, people, there, lambda folder: s3.fetch(connection, releases, folder, names))
        replaced, before = s3.renew(connection, releases, anew, release.ID, check=check)
        receipt.note_bucket(run, **s3.counts(of_people), release_files=replaced, release_versions=before.num_rows)
        s3.delete_versions(connection, target, of_people, check=check)
        s3.delete_versions(connection, releases, before, check=check)


@task(**DISK, trigger_rule=TriggerRule.NONE_FAILED_MIN_ONE_SUCCESS)
def render_config() -> list[str]:
    """Write the training config from the sealed counts, import it and compare."""
    from include.faceset.release import release
    from include.faceset.steps.render import render_config as render

    run, sealed = sealed_run()
    return [str(path) for path in render(run, release.read(Path(sealed["folder"])))]


@task(**NETWORK, trigger_rule=TriggerRule.NONE_FAILED_MIN_ONE_SUCCESS)
def summary() -> dict[str, Any]:
    """Tell a person what happened to every file, what differs from before, and what to do next."""
    from include.faceset.people import to_erase
    from include.faceset.release import release
    from include.faceset.steps import render
    from include.faceset.steps import summarise as summaries
    from s3_sync.bucket.connection import connect
    from s3_sync.bucket.target import S3Target
    from s3_sync.erasure import erase as s3
    from s3_sync.listing.contents import list_prefix
    from s3_sync.proof.publish import put_file
    from s3_sync.sync.delete import delete_prefix

    context = get_current_context()
    ti, dry_run = context["ti"], context["params"]["dry_run"]
    run, handed = (current_run(), {}) if dry_run else sealed_run()
    breadcrumbs = ti.get_task_breadcrumbs(dag_id=run.dataset.name, run_id=run.run_id)
    took = summaries.steps(list(breadcrumbs), [one.task_id for one in context["dag"].topological_sort()])
    target = S3Target.parse(run.params.destination)
    connection = None
    if not run.params.skip_upload:
        connection = connect(target.bucket, aws_conn_id=run.dataset.aws_conn_id)
    if dry_run:
        listing = to_erase = None
        named: list[str] = []
        if connection is not None:
            listing = list_prefix(connection, target)
            of_people = s3.of_folders(connection, target, sorted(to_erase(run)))
            to_erase, named = s3.counts(of_people), s3.tops(of_people)
        return {"summary": str(summaries.dry_run(run, listing, took, to_erase, named))}

    folder = Path(handed["folder"])
    sealed = release.read(folder)
    if connection is not None:
        check_published(connection, target.sibling(".releases"), sealed.release_id)
    summaries.summarise(run, sealed, took, ti.xcom_pull(task_ids="sync"), ti.xcom_pull(task_ids="erase"))
    if connection is not None:
        releases = target.sibling(".releases")
        for name in (render.file_name(run.dataset.name), release.SUMMARY_FILE, release.SUMMARY_JSON_FILE):
            put_file(connection, releases, folder / name, f"{sealed.release_id}/{name}")
    if connection is not None:
        # Before they are removed here, which is what tells that they are outdated.
        for old in release.outdated(run):
            delete_prefix(connection, target.sibling(".releases").below(old))
    summaries.clean_up(run)
    return {
        "summary": str(folder / release.SUMMARY_FILE),
        "release_id": sealed.release_id,
        "identities": sealed.identities,
        "images": sealed.images,
    }


def check_published(connection: Any, releases: Any, release_id: str) -> None:
    """Fail if the bucket does not say that it holds a release: what a summary says of it would not be true."""
    from s3_sync.proof.publish import read_pointer

    found = read_pointer(connection, releases).get("release_id")
    if found != release_id:
        msg = (
            f"the latest.json of {releases.uri} names {found or 'nothing'}, so release {release_id} is not proven "
            "there: verify has not run since (was it marked as success?). Clear sync, with the tasks that follow it"
        )
        raise AirflowFailException(msg)


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
        publishing: dict[str, Any] = {
            "aws_conn_id": dataset.aws_conn_id,
            "source": "{{ params.output or '' }}",
            "objects": if_handed_over("seal", "handed.manifest"),
            "record": if_handed_over("seal", "handed.sync_record"),
            "destination": "{{ params.destination }}",
            "max_delete_fraction": "{{ params.max_delete_fraction }}",
            "pre_execute": skip_if_upload_skipped,
            **NETWORK,
        }
        approved = ApproveDeletionsOperator(
            task_id="approve_deletions",
            note=QUESTION,
            doc_md="Ask a person if the sync would delete more than `max_delete_fraction` of the destination.",
            **publishing,
        )
        sync = S3SyncOperator(
            task_id="sync",
            origins=if_handed_over("seal", "(handed.origins or {}) | tojson"),
            history=if_handed_over("seal", "handed.history or ''"),
            marker="{{ params.destination.rstrip('/') }}.releases/latest.json",
            lease=if_handed_over("seal", "handed.lease"),
            sole_writer=dataset.sole_writer,
            approved_deletions=if_handed_over("approve_deletions", "handed.approved", otherwise="0"),
            doc_md="Bring the destination into exactly the state of the release.",
            **publishing,
        )
        reading = NETWORK if any(export.in_s3 for export in dataset.exports) else DISK
        scanned = scan.override(**reading).expand(export=[export.name for export in dataset.exports])
        filtered = filter_manifest()
        copied = copy_shard.override(**reading).expand(shard=filtered)
        sealed = seal()
        proven = verify.override(outlets=[asset_of(dataset)])()
        erased, rendered, told = erase(), render_config(), summary()
        chain(preflight(), scanned, filtered, copied, sealed, approved, sync, proven, erased, rendered, told)
        # So that a run without upload erases and renders too, and a dry run has its summary.
        sealed >> erased
        sealed >> rendered
        filtered >> told
    return dag


for path in find(FOLDER):
    try:
        DATASETS[path.stem] = load(path)
    except DatasetError:
        continue  # dataset_errors.py reports it, without holding the other DAGs back
    make_dag(DATASETS[path.stem])  # which Airflow finds by its `with`, so that no name here is taken by a dataset's
