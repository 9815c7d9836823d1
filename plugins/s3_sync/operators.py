"""The Airflow operator; importing it loads no S3 client and no Arrow."""

from __future__ import annotations

import socket
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import AirflowFailException

from s3_sync.errors import Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from airflow.sdk import Context


class S3SyncOperator(BaseOperator):
    """
    Make an S3 prefix hold exactly the files of a local directory: upload what differs, delete what is too much.

    Built for many small files (hundreds of thousands of images) and for destinations that others read from.

    **What it guarantees**

    - *Right bytes.* Every upload carries its SHA-256, which S3 verifies. A file whose bytes are not the ones listed
      in ``objects`` is never uploaded. A key is skipped only on proof: its ETag is still the one that the upload of
      the same SHA-256 returned (right with SSE-KMS and multipart uploads too), or it is the MD5 of the local file.
      Size and modification time are no proof and are never used. An object that is archived, so that nobody can
      download it, is uploaded anew.
    - *Exactly the expected keys.* Whatever else lies under the prefix is deleted, unless ``delete=False``: after
      every upload has succeeded, never outside the prefix, never when nothing is expected, and never more than
      ``max_delete_fraction`` of what is there. Empty objects that consoles and mounts make for folders count for
      nothing, and stay where files lie in the folder.
    - *Again is safe.* A task that was killed or failed is simply run again; with ``record`` it goes on where it
      was. A sync with nothing to do only lists.
    - *Bounded.* At most ``max_concurrency`` requests at a time; memory does not grow with the files' sizes. Throttling,
      5xx, timeouts and connection resets are retried with exponential back-off and jitter. Sessions are renewed before
      they end, and once where S3 calls them ended. Refused credentials, a session that cannot be renewed or a missing
      bucket end the task at once. The bucket is never created.

    The task fails with a list of the keys that failed; all others are done by then. Progress is logged every five
    seconds. Returned (XCom) is a small dict: ``listed``, ``uploaded``, ``restored``, ``copied``, ``skipped``,
    ``deleted``, ``bytes``, ``seconds``, ``dry_run``.

    **Permissions** (IAM): ``s3:ListBucket`` on the bucket; ``s3:PutObject``, ``s3:DeleteObject`` and
    ``s3:AbortMultipartUpload`` on the prefix; ``s3:PutObjectTagging`` with ``tags``; ``kms:GenerateDataKey`` and
    ``kms:Decrypt`` on the key with ``encryption="aws:kms"``. Verifying afterwards also needs ``s3:GetObject``, and so
    does asking whether old objects of the class Intelligent-Tiering are archived; without it they are uploaded anew.

    **Example**

    .. code-block:: python

        S3SyncOperator(
            task_id="publish",
            source="/data/merged",
            destination="s3://bucket/datasets/{{ params.name }}/",
            record="/data/state/{{ params.name }}.parquet",
            encryption="aws:kms",
            retries=3,
            retry_exponential_backoff=True,
        )

    .. seealso::
        ``s3_sync.sync.task.run`` does the same inside a ``@task``; ``s3_sync.preflight`` checks a destination in
        seconds; ``s3_sync.proof.verify`` proves one.

    :param source: Local directory that holds the files. A link or a special file in it is an error. Empty with
        ``origins``. (templated)
    :param destination: Where to, ``s3://bucket/prefix/``. A whole bucket is refused. (templated)
    :param objects: Path of a Parquet file that says what is expected, with the columns ``key`` (relative to
        ``source`` and to the prefix), ``size`` (bytes) and ``sha256`` (32 bytes binary). Without it every file under
        ``source`` is expected, and hashed. (templated)
    :param origins: Where the bytes lie, if not in ``source``: maps names to ``{"root": "/folder"}`` or ``{"root":
        "s3://bucket/prefix/", "aws_conn_id": …}``, as a dict or as JSON. ``objects`` then has three columns more:
        ``export`` (one of these names), ``path`` (relative to its root) and ``etag`` (of an object in S3, as it was
        when its SHA-256 was taken; null for a local file). What lies in S3 is copied inside S3 where destination and
        origin have one endpoint and the destination's credentials may read the origin (``s3:GetObject``), else
        streamed through memory; if its ETag is another by then, the key fails. (templated)
    :param record: Path of the Parquet file in which the operator keeps, for each key, the SHA-256 sent and the ETag
        returned. It is bound to endpoint and destination. Without it, or if it is lost, unchanged files are
        recognised by MD5 where the ETag is one, and are uploaded again otherwise. (templated)
    :param history: Path of a Parquet file with earlier uploads (``key``, ``sha256``, ``etag``), such as what
        ``s3_sync.proof.verify`` proved of an earlier state. If the bucket has versioning, what S3 still holds is
        copied inside S3 instead of uploaded; needs ``s3:GetBucketVersioning``, ``s3:ListBucketVersions`` and
        ``s3:GetObjectVersion``. (templated)
    :param aws_conn_id: The Airflow connection used for AWS credentials. If this is ``None`` or empty, or there is no
        ``aws_default``, the default boto3 behaviour is used; any other that there is not is refused. Uploads go by what
        boto3 makes of the connection, and by nothing else in the environment. An endpoint without TLS is refused unless
        it is on this machine or the connection's extra has ``{"service_config": {"s3": {"allow_http": true}}}``;
        ``{"service_config": {"s3": {"request_payer": true}}}`` pays for requests. (templated)
    :param region_name: AWS region. If not specified, the connection's, then boto3's default. (templated)
    :param verify: Whether or not to verify TLS certificates, or the path of a CA bundle. If not specified, the
        connection's, then ``AWS_CA_BUNDLE``, then boto3's own certificates. (templated)
    :param marker: ``s3://bucket/key`` of an object that says the destination is complete, such as a ``latest.json``
        beside it. It is deleted before the first change and never written here: whoever proves the destination
        afterwards writes it again. A sync with nothing to change leaves it. (templated)
    :param lease: Who syncs, as ``deployment/run``, the same for all tasks of a run and of no other run anywhere. The
        sync then holds ``<prefix>.releases/lease.json`` and refuses a destination that another deployment is changing.
        The lease stays after a sync, until it runs out or whoever proves the destination gives it back
        (``s3_sync.lease``). A server that does not decide about conditional writes, as S3 does, is refused. (templated)
    :param sole_writer: Somebody vouches that no other deployment writes there, so such a server will do. (templated)
    :param delete: Whether keys that are not expected are deleted. (templated)
    :param max_delete_fraction: The largest part of the keys now under the prefix that may be deleted, from 0 to 1.
        (templated)
    :param approved_deletions: How many keys may be deleted whatever ``max_delete_fraction`` says, such as the number
        that somebody has approved (see ``s3_sync.approval``). (templated)
    :param max_concurrency: How many objects are uploaded at the same time.
    :param dry_run: Only plan: nothing is written to S3 or to ``record``. (templated)
    :param encryption: ``AES256``, ``aws:kms``, ``aws:kms:dsse``, or None for the bucket's default. (templated)
    :param kms_key_id: The KMS key, for the last two. (templated)
    :param storage_class: For example ``STANDARD_IA``; None for the bucket's default. (templated)
    :param tags: Tags of every uploaded object. (templated)
    :param content_types: Content types by file name suffix, such as ``{".webp": "image/webp"}``, that win over
        Python's built-in table.
    """

    asked: Sequence[str] = (
        "approved_deletions",
        "aws_conn_id",
        "delete",
        "destination",
        "dry_run",
        "encryption",
        "history",
        "kms_key_id",
        "lease",
        "marker",
        "max_delete_fraction",
        "objects",
        "origins",
        "record",
        "region_name",
        "sole_writer",
        "source",
        "storage_class",
        "tags",
        "verify",
        "content_types",
        "max_concurrency",
    )
    template_fields: Sequence[str] = tuple(name for name in asked if name not in {"content_types", "max_concurrency"})
    ui_color = "#e8f5e9"

    def __init__(
        self,
        *,
        source: str | None,
        destination: str,
        objects: str | None = None,
        origins: str | Mapping[str, Mapping[str, Any]] | None = None,
        record: str | None = None,
        history: str | None = None,
        marker: str | None = None,
        lease: str | None = None,
        sole_writer: bool | str = False,
        aws_conn_id: str | None = "aws_default",
        region_name: str | None = None,
        verify: bool | str | None = None,
        delete: bool | str = True,
        max_delete_fraction: float | str = 0.1,
        approved_deletions: int | str = 0,
        max_concurrency: int = 64,
        dry_run: bool | str = False,
        encryption: str | None = None,
        kms_key_id: str | None = None,
        storage_class: str | None = None,
        tags: Mapping[str, str] | None = None,
        content_types: Mapping[str, str] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.source = source
        self.destination = destination
        self.objects = objects
        self.origins = origins
        self.record = record
        self.history = history
        self.marker = marker
        self.lease = lease
        self.sole_writer = sole_writer
        self.aws_conn_id = aws_conn_id
        self.region_name = region_name
        self.verify = verify
        self.delete = delete
        self.max_delete_fraction = max_delete_fraction
        self.approved_deletions = approved_deletions
        self.max_concurrency = max_concurrency
        # Hides BaseOperator.dry_run, which prints rendered templates for `airflow tasks test --dry-run`.
        self.dry_run = dry_run  # type: ignore[method-assign, assignment]
        self.encryption = encryption
        self.kms_key_id = kms_key_id
        self.storage_class = storage_class
        self.tags = tags
        self.content_types = content_types

    def execute(self, context: Context) -> dict[str, Any]:
        from s3_sync.sync.task import run  # noqa: PLC0415 parsing a DAG must not load S3 clients

        holder = holder_of(context["ti"]) if self.lease else ""
        with final():
            return run(holder=holder, **{name: getattr(self, name) for name in self.asked})


def holder_of(ti: Any) -> str:
    """Return in words who a task instance is, for those who find its lease."""
    return f"DAG {ti.dag_id}, run {ti.run_id}, on {socket.gethostname()}"


@contextmanager
def final() -> Iterator[None]:
    """End the task for good where another try would find the same."""
    try:
        yield
    except Final as error:
        raise AirflowFailException(str(error)) from error
