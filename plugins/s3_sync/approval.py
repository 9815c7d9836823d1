"""Ask a person before a sync deletes more than it may on its own: Airflow's approval, with the numbers of the plan."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any, NoReturn

from airflow.providers.standard.operators.hitl import ApprovalOperator
from airflow.sdk.exceptions import AirflowFailException, TaskAwaitingInput

from s3_sync.operators import final
from s3_sync.values import as_fraction

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from airflow.sdk import Context

BODY = """\
The sync of `{destination}` waits for an answer. Nothing has been changed there.

| | objects |
| --- | ---: |
| at the destination now | {listed:,} |
| **would be deleted** | **{deleted:,} ({part})** |
| may be deleted without asking (max_delete_fraction {fraction:g}) | {allowed:,} |
| would stay as they are | {skipped:,} |
| would be uploaded, at most | {uploaded:,} |

{note}

- **Approve**: the sync goes ahead and deletes no more than {deleted:,} objects. Should it find more to delete by then,
  it stops again.
- **Reject**: the run fails and the destination stays as it is. So it does without an answer within {days} days.
"""


class ApproveDeletionsOperator(ApprovalOperator):
    """
    Plan a sync, and ask a person if it would delete more than ``max_delete_fraction`` of what is there.

    Goes before a `operators.S3SyncOperator` of the same source and destination, whose ``approved_deletions`` takes
    this task's ``['approved']``. Within the limit it succeeds at once and asks nobody. Above it, it waits for an answer
    under "Required Actions" in Airflow's UI (or its REST API, ``hitlDetails``), using neither a worker nor the
    triggerer. Rejected, or without an answer in time, it fails, and is not retried; so it does when the sync would
    empty the destination, which nobody can approve. It only lists: nothing is written to S3.

    Returned (XCom) is the plan: ``listed``, ``uploaded``, ``skipped`` and ``deleted`` count objects, and ``approved``
    is how many deletions a person has approved (0: nobody was asked).

    :param source: As of the sync; empty where ``objects`` come from ``origins``. (templated)
    :param destination: As of the sync. (templated)
    :param objects: As of the sync. (templated)
    :param record: As of the sync. (templated)
    :param aws_conn_id: As of the sync. (templated)
    :param max_delete_fraction: The largest part of the keys now under the prefix that needs no approval. (templated)
    :param note: Markdown for the person who is asked: what the source is, what to look at. (templated)
    :param response_timeout: How long to wait for an answer; seven days by default.
    """

    template_fields: Sequence[str] = (
        *ApprovalOperator.template_fields,
        "aws_conn_id",
        "destination",
        "max_delete_fraction",
        "note",
        "objects",
        "record",
        "source",
    )
    ui_color = "#fff8e1"

    def __init__(
        self,
        *,
        source: str,
        destination: str,
        objects: str | None = None,
        record: str | None = None,
        aws_conn_id: str | None = "aws_default",
        max_delete_fraction: float | str = 0.1,
        note: str = "",
        response_timeout: timedelta = timedelta(days=7),
        **kwargs: Any,
    ) -> None:
        kwargs.setdefault("subject", "Deletions at the destination")
        super().__init__(response_timeout=response_timeout, **kwargs)
        self.source = source
        self.destination = destination
        self.objects = objects
        self.record = record
        self.aws_conn_id = aws_conn_id
        self.max_delete_fraction = max_delete_fraction
        self.note = note

    def execute(self, context: Context) -> dict[str, int]:
        from s3_sync.sync.plan import allowed, may_delete  # noqa: PLC0415 parsing a DAG must not load Arrow and S3 clients
        from s3_sync.sync.task import run  # noqa: PLC0415

        with final():
            fraction = as_fraction("max_delete_fraction", self.max_delete_fraction)
            planned = run(
                source=self.source,
                destination=self.destination,
                objects=self.objects,
                record=self.record,
                aws_conn_id=self.aws_conn_id,
                max_delete_fraction=1.0,
                dry_run=True,
            )
        plan: dict[str, int] = {name: planned[name] for name in ("listed", "uploaded", "skipped", "deleted")}
        if may_delete(plan["deleted"], plan["listed"], fraction):
            return {**plan, "approved": 0}
        self.subject = f"Delete {plan['deleted']:,} of {plan['listed']:,} objects at {self.destination}?"
        self.body = BODY.format(
            **plan,
            destination=self.destination,
            part=f"{plan['deleted'] / plan['listed']:.1%}",
            fraction=fraction,
            allowed=allowed(plan["listed"], fraction),
            note=self.note,
            days=(self.response_timeout or timedelta()).days,
        )
        try:
            super().execute(context)
        except TaskAwaitingInput as wait:
            if not self._is_shown(context):
                self._stop("Airflow still shows the numbers of the question before")
            wait.kwargs = {"plan": plan}  # what was shown is what the answer is to
            raise
        raise AssertionError("the approval did not wait for an answer")

    def _is_shown(self, context: Context) -> bool:
        """Whether the question is the one that people see.

        A task that was asked, and is cleared, keeps its old text (Airflow 3.3.2, ``upsert_hitl_detail`` of its
        execution API); asked once more, Airflow answers with what it shows.
        """
        from airflow.sdk.execution_time import comms, task_runner  # noqa: PLC0415 of a running task only

        asked = comms.CreateHITLDetailPayload(
            ti_id=context["ti"].id,
            options=self.options,
            subject=self.subject,
            body=self.body,
            params={},
            assigned_users=[],
        )
        shown = task_runner.SUPERVISOR_COMMS.send(asked)
        return isinstance(shown, comms.HITLDetailRequestResult) and shown.body == self.body

    # The plan comes along with the answer.
    def execute_complete(  # type: ignore[override]
        self, context: Context, event: dict[str, Any], plan: dict[str, int]
    ) -> dict[str, int]:
        """Go on with the answer. A rejection fails the task: whoever looks at the run must see that it stopped."""
        answer = super(ApprovalOperator, self).execute_complete(context, event)
        by = (answer["responded_by_user"] or {}).get("name", "somebody")
        if answer["chosen_options"] != [self.APPROVE]:
            self._stop(f"{by} rejected the deletion of {plan['deleted']:,} of {plan['listed']:,} objects")
        self.log.info("%s approved the deletion of %d objects", by, plan["deleted"])
        return {**plan, "approved": plan["deleted"]}

    def process_trigger_event_error(self, event: Mapping[str, Any]) -> None:
        """Fail for good: a retry would ask the same again."""
        if event.get("error_type") == "timeout":
            self._stop(f"nobody answered within {self.response_timeout}")
        self._stop(str(event.get("error")))

    def _stop(self, why: str) -> NoReturn:
        raise AirflowFailException(
            f"{why}. Nothing was changed at {self.destination}. Put the source right and start another run; or, if the"
            " deletions are meant, start another run and approve them"
        )
