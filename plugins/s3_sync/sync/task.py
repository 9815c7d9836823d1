"""A sync by one call, from plain values: what the operator does, for a task or a script."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import asdict
from typing import Any

from s3_sync.bucket.connection import connect
from s3_sync.bucket.target import S3Target
from s3_sync.lease import hold
from s3_sync.sync.request import SyncRequest
from s3_sync.sync.sync import sync
from s3_sync.values import as_bool


def run(
    *,
    destination: str,
    aws_conn_id: str | None = "aws_default",
    region_name: str | None = None,
    verify: bool | str | None = None,
    encryption: str | None = None,
    kms_key_id: str | None = None,
    lease: str | None = None,
    holder: str = "",
    sole_writer: bool | str = False,
    **asked: Any,
) -> dict[str, Any]:
    """Sync as `operators.S3SyncOperator` documents it and return `sync.SyncResult` as a dict.

    ``asked`` is what `SyncRequest.of` takes. ``holder`` says in words whose ``lease`` it is. A ``dry_run`` takes none.
    """
    target = S3Target.parse(destination)
    request = SyncRequest.of(target, **asked)
    prefix = connect(
        target.bucket,
        aws_conn_id=aws_conn_id,
        region_name=region_name or None,
        verify=verify,
        encryption=encryption or None,
        kms_key_id=kms_key_id or None,
    ).at(target)
    alone = as_bool("sole_writer", sole_writer)
    held = (
        hold(prefix, owner=lease, holder=holder or lease, give_back=False, sole_writer=alone)
        if lease and not request.dry_run
        else nullcontext(lambda: None)
    )
    with held as check:
        return asdict(sync(prefix, request, check=check))
