"""The verb: make a prefix hold exactly the expected objects."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq

from s3_sync.bucket.retry import ask
from s3_sync.listing import contents
from s3_sync.sources.origins import attach
from s3_sync.sources.origins import check as check_origins
from s3_sync.sync import bring_back, record
from s3_sync.sync import expected as expected_objects
from s3_sync.sync.delete import delete as delete_keys
from s3_sync.sync.plan import Plan, guard, plan
from s3_sync.sync.transfer import upload
from s3_sync.sync.unfinished import abort_unfinished

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from s3_sync.bucket.prefix import S3Prefix
    from s3_sync.sources.origins import Origin
    from s3_sync.sync.progress import Progress
    from s3_sync.sync.request import SyncRequest

log = logging.getLogger(__name__)

PROGRESS_S = 5.0
CHECKPOINT_S = 20.0


@dataclass(frozen=True)
class SyncResult:
    """What a sync did or, after a dry run, would do.

    ``listed`` (there before), ``uploaded``, ``restored`` (copied from a version that S3 still held), ``copied`` (inside
    S3, from an origin), ``skipped`` and ``deleted`` count keys, but no marks of folders; ``bytes`` are those uploaded.
    A dry run reads no local
    file, so it counts a key of which only a checksum can tell (no record of it) as uploaded.
    """

    listed: int
    uploaded: int
    restored: int
    copied: int
    skipped: int
    deleted: int
    bytes: int
    seconds: float
    dry_run: bool


def sync(prefix: S3Prefix, request: SyncRequest, *, check: Callable[[], None] = lambda: None) -> SyncResult:
    """Make ``prefix`` hold exactly the expected objects.

    Uploads come first; what is not expected is deleted only after all of them succeeded. ``check`` is called before
    every change: it raises if the destination is no longer this sync's to change (`lease.hold`).

    Raises InvalidObjects, InvalidRecord and DeletionRefused before anything is changed; UploadFailed or DeleteFailed
    with the keys that failed.
    """
    begun = time.monotonic()
    expected = expected_objects.load(request.objects, request.source or Path(), prefix.target)
    todo = _plan(prefix, expected, record.read(request.record_path, prefix), delete=request.delete)
    if request.delete:
        guard(todo, request.max_delete_fraction, request.approved_deletions)
    _log_plan(prefix, expected, todo)
    if request.dry_run:
        return _foreseen(todo, begun)
    if request.origins is not None and request.objects is not None:
        todo = _with_origins(todo, request.origins, request.objects)
    if request.marker and todo.changes:
        _withdraw(prefix, request.marker, check)
    restored = _bring_back(prefix, todo, request.history)
    done = _upload(prefix, request, todo, restored, check)
    check()
    abort_unfinished(prefix)
    deleted = delete_keys(prefix, todo.delete["key"], check=check)
    delete_keys(prefix, todo.markers["key"], check=check)
    return SyncResult(
        listed=todo.listed,
        uploaded=done.uploaded,
        restored=restored.num_rows,
        copied=done.copied,
        skipped=todo.skip.num_rows + done.unchanged,
        deleted=deleted,
        bytes=done.uploaded_bytes,
        seconds=time.monotonic() - begun,
        dry_run=False,
    )


def _log_plan(prefix: S3Prefix, expected: pa.Table, todo: Plan) -> None:
    log.info(
        "%s: %d expected, %d listed; %d unchanged, %d to upload, %d to compare, %d to delete (and %d folders' marks)",
        prefix.uri,
        expected.num_rows,
        todo.listed,
        todo.skip.num_rows,
        todo.upload.num_rows,
        todo.compare.num_rows,
        todo.delete.num_rows,
        todo.markers.num_rows,
    )


def _foreseen(todo: Plan, begun: float) -> SyncResult:
    rows = pa.concat_tables([todo.upload, todo.compare])
    return SyncResult(
        listed=todo.listed,
        uploaded=rows.num_rows,
        restored=0,
        copied=0,
        skipped=todo.skip.num_rows,
        deleted=todo.delete.num_rows,
        bytes=sum(rows["size"].to_pylist()),
        seconds=time.monotonic() - begun,
        dry_run=True,
    )


def _with_origins(todo: Plan, origins: Mapping[str, Origin], objects: pa.Table | Path | str) -> Plan:
    todo = replace(todo, upload=attach(todo.upload, objects), compare=attach(todo.compare, objects))
    check_origins(origins, pa.concat_tables([todo.upload, todo.compare]))
    return todo


def _withdraw(prefix: S3Prefix, marker: str, check: Callable[[], None]) -> None:
    check()
    ask(marker, lambda: prefix.client.delete_object(Bucket=prefix.bucket, Key=marker))


def _bring_back(prefix: S3Prefix, todo: Plan, history: Path | str | None) -> pa.Table:
    if history is None or not todo.upload.num_rows:
        return record.empty()
    return bring_back.restore(prefix, todo.upload, pq.read_table(history, memory_map=False))


def _upload(
    prefix: S3Prefix, request: SyncRequest, todo: Plan, restored: pa.Table, check: Callable[[], None]
) -> Progress:
    """Upload what is left to upload or to compare; the record is kept whether it ends well or not."""
    to_upload = bring_back.without(todo.upload, restored)
    unknown = pa.nulls(to_upload.num_rows, pa.string())
    rows = pa.concat_tables([to_upload.set_column(3, "etag", unknown), todo.compare])
    proven = pa.concat_tables([todo.skip.select(record.SCHEMA.names).cast(record.SCHEMA), restored])
    watch = _Watch(prefix, request.record_path, proven)
    try:
        return upload(prefix, request, rows, watch=watch, check=check)
    finally:
        watch.keep()


def _plan(prefix: S3Prefix, expected: pa.Table, recorded: pa.Table, *, delete: bool) -> Plan:
    bounds = contents.bounds_of(expected["key"])
    todo = plan(expected, contents.list_raw(prefix, bounds), recorded)
    if delete:
        return todo
    return replace(todo, delete=todo.delete.slice(0, 0), markers=todo.markers.slice(0, 0))


class _Watch:
    """Called about once a second during the upload: logs the progress, and keeps the record up to date."""

    def __init__(self, prefix: S3Prefix, record_path: Path | None, skipped: pa.Table) -> None:
        self.prefix, self.record_path, self.skipped = prefix, record_path, skipped
        self.begun = self.logged = self.kept = time.monotonic()
        self.progress: Progress | None = None

    def __call__(self, progress: Progress) -> None:
        self.progress = progress
        now = time.monotonic()
        if now - self.logged >= PROGRESS_S:
            self.logged = now
            log.info("%s", _line(progress, now - self.begun))
        if now - self.kept >= CHECKPOINT_S:
            self.kept = now
            self.keep()

    def keep(self) -> None:
        """Write what is proven now: the rows that were skipped, and what has been sent or compared."""
        if self.record_path is None:
            return
        proven = [self.skipped.cast(record.SCHEMA)]
        if self.progress:
            proven.append(self.progress.record())
        record.write(self.record_path, pa.concat_tables(proven), self.prefix)


def _line(progress: Progress, seconds: float) -> str:
    """Return a line such as ``12,000 of 430,143 files (2.8 %), 78 of 2,796 MB, 1,034 files/s, 6 min 45 s left``."""
    with progress.lock:
        files = progress.uploaded + progress.copied + progress.unchanged + len(progress.failures)
        size = progress.uploaded_bytes + progress.copied_bytes + progress.unchanged_bytes
        failures = len(progress.failures)
    rate = files / seconds
    left = divmod(round((progress.files - files) / rate), 60) if rate else None
    return (
        f"{files:,} of {progress.files:,} files ({files / max(progress.files, 1):.1%}),"
        f" {size / 1e6:,.0f} of {progress.total_bytes / 1e6:,.0f} MB, {rate:,.0f} files/s, {failures} failed, "
        + (f"{left[0]} min {left[1]} s left" if left else "time left unknown")
    )
