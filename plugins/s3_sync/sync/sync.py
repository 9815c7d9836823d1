"""The verb: make a prefix hold exactly the expected objects."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq

from s3_sync.bucket.options import ObjectOptions
from s3_sync.bucket.retry import ask
from s3_sync.errors import InvalidOption
from s3_sync.listing import contents, versions
from s3_sync.sources.origins import attach
from s3_sync.sources.origins import check as check_origins
from s3_sync.sync import expected as expected_objects
from s3_sync.sync import record
from s3_sync.sync.delete import delete as delete_keys
from s3_sync.sync.plan import Plan, guard, plan
from s3_sync.sync.transfer import Progress, upload
from s3_sync.sync.unfinished import abort_unfinished

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from s3_sync.bucket.connection import S3Connection
    from s3_sync.bucket.target import S3Target
    from s3_sync.sources.origins import Origin

log = logging.getLogger(__name__)

PROGRESS_S = 5.0
CHECKPOINT_S = 20.0
MAX_CONCURRENCY = 1024


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


def sync(
    connection: S3Connection,
    target: S3Target,
    *,
    source: Path | None,
    objects: pa.Table | Path | str | None = None,
    origins: Mapping[str, Origin] | None = None,
    record_path: Path | None = None,
    history: Path | str | None = None,
    marker: str | None = None,
    options: ObjectOptions | None = None,
    delete: bool = True,
    max_delete_fraction: float = 0.1,
    approved_deletions: int = 0,
    max_concurrency: int = 64,
    dry_run: bool = False,
    check: Callable[[], None] = lambda: None,
) -> SyncResult:
    """Make ``target`` hold exactly the expected objects, whose bytes are the files ``source/<key>``.

    ``objects`` (key, size, sha256) says what is expected; without it, every file under ``source``. With ``origins``
    it also says in which of them each file lies (`origins.attach`), and ``source`` is not used. Uploads come
    first; what is not expected is deleted only after all of them succeeded. ``record_path`` is where the ETags of
    uploads are kept; it is read at the start and written while uploading, so that a sync that was killed goes on
    where it was. ``history`` is a Parquet file of earlier uploads (key, sha256, etag), for `versions.restore`.
    ``approved_deletions`` is how many keys may be deleted whatever ``max_delete_fraction`` says.
    ``marker`` is the key of an object that calls the destination complete: it is deleted before the
    first change. ``check`` is called before every change: it raises if the destination is no
    longer this sync's to change (`lease.hold`).

    Raises InvalidObjects, InvalidOption, InvalidRecord and DeletionRefused before anything is changed;
    UploadFailed or DeleteFailed with the keys that failed.
    """
    begun = time.monotonic()
    _check_options(max_delete_fraction, max_concurrency)
    if objects is None and (source is None or origins is not None):
        raise InvalidOption("without a local folder, objects must say what is expected")
    expected = expected_objects.load(objects, source or Path(), target)
    recorded = record.read(record_path, connection, target)
    todo = _plan(connection, target, expected, recorded, delete=delete)
    if delete:
        guard(todo, max_delete_fraction, approved_deletions)
    log.info(
        "%s: %d expected, %d listed; %d unchanged, %d to upload, %d to compare, %d to delete (and %d folders' marks)",
        target.uri,
        expected.num_rows,
        todo.listed,
        todo.skip.num_rows,
        todo.upload.num_rows,
        todo.compare.num_rows,
        todo.delete.num_rows,
        todo.markers.num_rows,
    )
    if dry_run:
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
    if origins is not None and objects is not None:
        todo = replace(todo, upload=attach(todo.upload, objects), compare=attach(todo.compare, objects))
        check_origins(origins, pa.concat_tables([todo.upload, todo.compare]))
    if marker and (todo.upload.num_rows or todo.compare.num_rows or todo.delete.num_rows):
        check()
        ask(marker, lambda: connection.client.delete_object(Bucket=target.bucket, Key=marker))
    restored = record.empty()
    if history is not None and todo.upload.num_rows:
        restored = versions.restore(connection, target, todo.upload, pq.read_table(history, memory_map=False))
    to_upload = versions.without(todo.upload, restored)
    rows = pa.concat_tables([to_upload.set_column(3, "etag", _nulls(to_upload)), todo.compare])
    proven = pa.concat_tables([todo.skip.select(record.SCHEMA.names).cast(record.SCHEMA), restored])
    watch = _Watch(connection, target, record_path, proven)
    try:
        done = upload(
            connection,
            target,
            source,
            rows,
            options or ObjectOptions(),
            max_concurrency=max_concurrency,
            watch=watch,
            check=check,
            origins=origins,
        )
    finally:
        watch.keep()
    check()
    abort_unfinished(connection, target)
    deleted = delete_keys(connection, target, todo.delete["key"], check=check)
    delete_keys(connection, target, todo.markers["key"], check=check)
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


def _check_options(max_delete_fraction: float, max_concurrency: int) -> None:
    if not 0 <= max_delete_fraction <= 1:
        raise InvalidOption(f"max_delete_fraction is {max_delete_fraction!r}: it must be between 0 and 1")
    if not 1 <= max_concurrency <= MAX_CONCURRENCY:
        raise InvalidOption(f"max_concurrency is {max_concurrency!r}: it must be from 1 to {MAX_CONCURRENCY}")


def _plan(connection: S3Connection, target: S3Target, expected: pa.Table, recorded: pa.Table, *, delete: bool) -> Plan:
    bounds = contents.bounds_of(expected["key"])
    todo = plan(expected, contents.list_raw(connection, target, bounds), recorded)
    if delete:
        return todo
    return replace(todo, delete=todo.delete.slice(0, 0), markers=todo.markers.slice(0, 0))


def _nulls(table: pa.Table) -> pa.Array:
    return pa.nulls(table.num_rows, pa.string())


class _Watch:
    """Called about once a second during the upload: logs the progress, and keeps the record up to date."""

    def __init__(self, connection: S3Connection, target: S3Target, record_path: Path | None, skipped: pa.Table) -> None:
        self.connection, self.target, self.record_path, self.skipped = connection, target, record_path, skipped
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
        record.write(self.record_path, pa.concat_tables(proven), self.connection, self.target)


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
