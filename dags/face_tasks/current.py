"""Which run a task belongs to, whether it is the run's turn, and whether this worker may do it."""

import logging
import platform
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from airflow.sdk import get_current_context
from airflow.sdk.exceptions import AirflowFailException, AirflowRescheduleException

from face_tasks.retries import final
from include.faceset.declared import params as run_params
from include.faceset.declared.dataset import Dataset
from include.faceset.declared.loading import shared_destination
from include.faceset.declared.partitions import Event, other_dates, partitions_of
from include.faceset.errors import NotReadyError
from include.faceset.run.run import Run

log = logging.getLogger(__name__)

TURN = timedelta(seconds=5)
"""How long a task is put off while another run works on the same output."""
DATES_AT_ONCE = 100

DATASETS: dict[str, Dataset] = {}
"""Every dataset that has a DAG, by the name of both."""


def before_seal() -> Run:
    """The run that this task belongs to, once the output is its own; until then the task is put off.

    It fails before anything is touched if a later run has changed something (turns.py).
    """
    from include.faceset.run import turns

    run = _begun()
    with final():
        turns.check_turn(run)
    return run


def after_seal() -> tuple[Run, dict[str, Any]]:
    """The same, and what the run's `seal` handed over.

    It fails before anything is touched if the run's release is not the one in place (turns.py).
    """
    from include.faceset.run import turns

    run, sealed = _begun(), handed_over("seal")
    with final():
        turns.check_sealed(run, sealed["release_id"])
    return run, sealed


def _begun() -> Run:
    """The run with the turn that its `preflight` took, once the output is its own."""
    noted = handed_over("preflight")
    run = replace(as_triggered(), turn=noted["turn"], after=noted["after"])
    _check_worker(run, noted)
    wait_for_turn(run)
    return run


def as_triggered() -> Run:
    """The run that this task belongs to; unknown or wrong params fail it at once."""
    context = get_current_context()
    dataset = DATASETS[context["dag"].dag_id]
    with final():
        checked = run_params.check(dict(context["params"]), dataset)
        partitions = partitions_of(dataset, checked, _event(context))
    return Run(dataset, checked, context["run_id"], partitions, sources_of(dataset))


def _event(context: Any) -> Event:
    """What started the run."""
    dag_run = context["dag_run"]
    if dag_run is None or dag_run.run_type != "asset_triggered":
        return Event(dag_run.run_type, dag_run.logical_date) if dag_run else Event("manual")
    events = [event for events in context["triggering_asset_events"].values() for event in events]
    return Event(dag_run.run_type, named=tuple((event.extra or {}).get("partition") for event in events))


def sources_of(dataset: Dataset) -> dict[str, Any]:
    """The exports that lie in S3, by name; no request is sent before one is used."""
    in_s3 = [export for export in dataset.exports if export.in_s3]
    if not in_s3:
        return {}
    from s3_sync.sources.source import S3Source

    return {export.name: S3Source(export.prefix, export.aws_conn_id or dataset.aws_conn_id) for export in in_s3}


def destination_of(run: Run) -> Any:
    """The bucket's prefix that the run publishes to, as the steps know it (ports.py); None if it skips the upload."""
    if run.params.skip_upload:
        return None
    from s3_sync.destination import S3Destination

    holder = f"DAG {run.dataset.name}, run {run.run_id}, on {platform.node()}"
    return S3Destination.reach(
        run.params.destination,
        aws_conn_id=run.dataset.aws_conn_id,
        holder=holder,
        sole_writer=run.dataset.sole_writer,
    )


def check_s3(run: Run) -> None:
    """Check in seconds what the run needs of S3: its exports there, and its destination."""
    from include.faceset import people
    from s3_sync.bucket.target import S3Target

    target, destination = S3Target.parse(run.params.destination), destination_of(run)
    if run.params.release is None:
        for source in sources_of(run.dataset).values():
            source.check(destination.prefix.connection if destination else None, target)
    if destination is not None:
        destination.check(may_erase=sorted(people.to_erase(run))[:1])


def handed_over(task_id: str) -> dict[str, Any]:
    """What an earlier task of this run handed over; whoever marks a task as success hands nothing over."""
    found: dict[str, Any] | None = get_current_context()["ti"].xcom_pull(task_ids=task_id)
    if found is None or (task_id == "preflight" and "turn" not in found):
        raise AirflowFailException(
            f"{task_id} has handed nothing over in this run: it did not run (was it marked as success?), was "
            f"skipped, or ran under an earlier version. Clear {task_id}, with the tasks that follow it"
        )
    return found


def _check_worker(run: Run, noted: dict[str, Any]) -> None:
    """Fail before anything is touched if this worker does not share the folders of the one that had preflight."""
    from include.faceset.run import workers

    with final():
        workers.check_shared(run, workers.Seen(noted["worker"], noted["folders"]), platform.node())


def check_exports(run: Run) -> None:
    """Fail if this worker does not see the exports: a folder where nothing is mounted looks like one without files."""
    from include.faceset.steps import preflight

    try:
        preflight.check_exports(run)
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


def a_later_run_publishes(run: Run) -> bool:
    """Whether this is a run of a backfill before its last, of a dataset that publishes only the latest state.

    Airflow tells a task how many runs there are, but not of what kind. Runs of a backfill, and scheduled ones, are told
    by their dates, so what somebody has triggered by hand (a dry run, say) is not taken for one that publishes.
    """
    context: Any = get_current_context()
    dag_run, ti = context["dag_run"], context["ti"]
    if run.dataset.publish != "latest" or dag_run is None or dag_run.run_type != "backfill":
        return False
    waiting: dict[str, Any] = {"dag_id": run.dataset.name, "states": ["queued", "running"]}
    if ti.get_dr_count(**waiting) == 1:
        return False
    dates = other_dates(run.dataset, dag_run.logical_date, datetime.now(UTC))
    chunks = [dates[start : start + DATES_AT_ONCE] for start in range(0, len(dates), DATES_AT_ONCE)]
    return any(ti.get_dr_count(**waiting, logical_dates=some) for some in chunks)
