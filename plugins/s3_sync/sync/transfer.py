"""Put many local files into a bucket, with bounded memory and concurrency."""

from __future__ import annotations

import hashlib
import threading
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import obstore
import pyarrow as pa
from obstore.exceptions import PermissionDeniedError, UnauthenticatedError

from s3_sync.bucket.retry import ask
from s3_sync.errors import CredentialsNotReady, InvalidObjects, LeaseLost, UploadFailed, cause
from s3_sync.proof.vouch import is_checked, vouch
from s3_sync.sources import origins
from s3_sync.sources.origins import Origin, Place
from s3_sync.sources.source import bare
from s3_sync.sync import expected, record
from s3_sync.sync.expected import Item

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from s3_sync.bucket.connection import S3Connection
    from s3_sync.bucket.credentials import S3Credentials
    from s3_sync.bucket.options import ObjectOptions
    from s3_sync.bucket.target import S3Target
    from s3_sync.sources.source import S3Source

MULTIPART_ABOVE = 16 << 20
PART = 8 << 20
# https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html
MAX_PARTS = 10_000
# The largest object that CopyObject takes.
MAX_COPY = 5 << 30
# Files that go in parts hold several parts in memory each.
MULTIPART_CONCURRENCY = 2
MAX_FAILURES = 1000
# So many in a row, after all their retries, mean that the next ones will fail too.
MAX_FAILURES_IN_A_ROW = 100
BATCH = 10_000
# Each system call of a reading thread gives up Python's lock, and the more threads then wait for it the dearer that
# gets: with 64 reading at once, half of all CPU time went into it. Two keep a disk busy while others wait for S3.
READERS = 2


Outcome = Literal["uploaded", "copied", "unchanged"]


class Gates(NamedTuple):
    """How many threads may read small files at a time, and how many may send large ones."""

    reading: threading.Semaphore
    large: threading.Semaphore


class FileChanged(InvalidObjects):
    """A local file has other bytes than were expected of it."""

    def __init__(self) -> None:
        super().__init__("the local file has changed since its checksum was taken; make the list of objects anew")


@dataclass
class Progress:
    """What has been done so far; every access holds ``lock``."""

    files: int
    total_bytes: int
    uploaded: int = 0
    uploaded_bytes: int = 0
    copied: int = 0
    copied_bytes: int = 0
    unchanged: int = 0
    unchanged_bytes: int = 0
    failures: dict[str, str] = field(default_factory=dict)
    failures_in_a_row: int = 0
    stopped: str | None = None
    proofs: list[tuple[str, bytes, str]] = field(default_factory=list)
    proven: list[pa.RecordBatch] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def succeeded(self, item: Item, etag: str | None, outcome: Outcome) -> None:
        with self.lock:
            self.failures_in_a_row = 0
            if outcome == "uploaded":
                self.uploaded += 1
                self.uploaded_bytes += item.size
            elif outcome == "copied":
                self.copied += 1
                self.copied_bytes += item.size
            else:
                self.unchanged += 1
                self.unchanged_bytes += item.size
            if etag:
                self.proofs.append((item.key, item.sha256, bare(etag)))

    def failed(self, item: Item, error: Exception) -> None:
        with self.lock:
            self.failures[item.key] = cause(error)
            self.failures_in_a_row += 1
            if isinstance(error, CredentialsNotReady):
                self.stopped = cause(error)
            elif _is_hopeless(error):
                self.stopped = "the next ones would fail in the same way"
            elif len(self.failures) >= MAX_FAILURES:
                self.stopped = f"{MAX_FAILURES} failures are enough"
            elif self.failures_in_a_row >= MAX_FAILURES_IN_A_ROW:
                self.stopped = f"{MAX_FAILURES_IN_A_ROW} failed in a row"

    def record(self) -> pa.Table:
        """Return what is proven so far, as a record's rows."""
        with self.lock:
            proofs, self.proofs = self.proofs, []
        if proofs:
            columns = [list(column) for column in zip(*proofs, strict=True)]
            self.proven.append(pa.record_batch(columns, schema=record.SCHEMA))
        return pa.Table.from_batches(self.proven, schema=record.SCHEMA)


def upload(
    connection: S3Connection,
    target: S3Target,
    source: Path | None,
    rows: pa.Table,
    options: ObjectOptions,
    *,
    max_concurrency: int,
    watch: Callable[[Progress], None],
    check: Callable[[], None],
    origins: Mapping[str, Origin] | None = None,
) -> Progress:
    """Send the files ``source/<key>`` of ``rows`` (key, size, sha256, etag) and return what was done.

    With ``origins``, ``rows`` say where each file lies in one of them (`origins.attach`). A file's SHA-256 is compared
    with the expected one before anything of it becomes visible in the bucket. A row whose ``etag`` is the MD5 of its
    file is left as it is. What a server does not check itself is compared by its ETag, or read back.
    ``watch`` is called about once a second, in the caller's thread, ``check`` before each try of a file.

    Raises UploadFailed at the end with every key that failed; the others are done. It stops early when the
    credentials or the bucket are refused, and after too many failures.
    """
    progress = Progress(files=rows.num_rows, total_bytes=sum(rows["size"].to_pylist()))
    items = _items(rows)
    taking = threading.Lock()
    gates = Gates(threading.Semaphore(READERS), threading.Semaphore(MULTIPART_CONCURRENCY))
    checked = rows.num_rows == 0 or is_checked(connection, target.sibling(".releases"))

    def work() -> None:
        while not progress.stopped:
            with taking:
                item = next(items, None)
            if item is None:
                return
            try:
                etag, outcome = _bring(
                    connection,
                    target,
                    places[item.origin],
                    item,
                    options=options,
                    gates=gates,
                    check=check,
                    checked=checked,
                )
            except Exception as error:  # noqa: BLE001 one key's failure must not stop the others
                progress.failed(item, error)
            else:
                progress.succeeded(item, etag, outcome)

    with (
        _places(connection, target, source, origins, rows) as places,
        ThreadPoolExecutor(max_concurrency, thread_name_prefix="s3-sync") as pool,
    ):
        try:
            workers = [pool.submit(work) for _ in range(max_concurrency)]
            while wait(workers, timeout=1).not_done:
                watch(progress)
        except BaseException:
            progress.stopped = "interrupted"
            raise
    for worker in workers:
        worker.result()
    watch(progress)
    if progress.failures:
        raise UploadFailed(target.uri, progress.failures, stopped=progress.stopped)
    return progress


@contextmanager
def _places(
    connection: S3Connection,
    target: S3Target,
    source: Path | None,
    named: Mapping[str, Origin] | None,
    rows: pa.Table,
) -> Iterator[dict[str | None, Place]]:
    """Give the places that files lie in, by the name of their origin; without origins it is one."""
    if named is not None:
        with origins.opened(named, connection, target, rows) as places:
            yield places
    elif source is not None:
        with expected.root(source) as root:
            yield {None: Place(folder=root)}
    else:
        raise InvalidObjects("neither a local folder nor origins are given: there is nothing to take files from")


def _items(rows: pa.Table) -> Iterator[Item]:
    fields = [name for name in Item._fields if name in rows.column_names]
    for batch in rows.select(fields).to_batches(max_chunksize=BATCH):
        for values in zip(*(column.to_pylist() for column in batch.columns), strict=True):
            yield Item(*values)


def _bring(
    connection: S3Connection,
    target: S3Target,
    place: Place,
    item: Item,
    *,
    options: ObjectOptions,
    gates: Gates,
    check: Callable[[], None],
    checked: bool,
) -> tuple[str | None, Outcome]:
    """Bring one object up to date from where its bytes lie; return its ETag and what was done."""

    def put(content: bytes | Iterator[bytes], **how: Any) -> str | None:
        check()
        attributes, tags = options.attributes(item.key), dict(options.tags) or None
        key = target.key(item.key)
        etag = obstore.put(connection.store, key, content, attributes=attributes, tags=tags, **how)["e_tag"]
        if not checked or not etag:
            etag = vouch(connection, key, etag, item.sha256, content if isinstance(content, bytes) else None)
        return etag

    def copy(source: S3Source) -> str:
        check()
        return origins.copy(connection, target, source, item, options)

    source = place.source
    if source is None:
        return _send(place.folder, item, put, gates, connection.credentials)
    if item.etag and item.etag == item.origin_etag:
        return item.etag, "unchanged"
    if place.inside and item.origin_etag and item.size <= MAX_COPY:
        return ask(item.key, lambda: copy(source)), "copied"
    if item.size > MULTIPART_ABOVE:
        part = max(PART, -(-item.size // MAX_PARTS))

        def put_parts() -> str | None:
            return put(origins.stream(source, item, part), chunk_size=part)

        with gates.large:
            return ask(item.key, put_parts, credentials=connection.credentials), "uploaded"
    content = origins.fetch(source, item)
    return ask(item.key, lambda: put(content), credentials=connection.credentials), "uploaded"


def _send(
    root: int, item: Item, put: Callable[..., str | None], gates: Gates, credentials: S3Credentials
) -> tuple[str | None, Outcome]:
    """Bring one object up to date from a file; return its ETag and what was done."""
    if item.size > MULTIPART_ABOVE:
        with gates.large:
            if item.etag and _streamed_md5(root, item) == item.etag:
                return item.etag, "unchanged"
            part = max(PART, -(-item.size // MAX_PARTS))

            def put_parts() -> str | None:
                return put(_checked_parts(root, item, part), chunk_size=part)

            return ask(item.key, put_parts, credentials=credentials), "uploaded"
    with gates.reading:
        content = expected.read_key(root, item.file, item.size)
        if hashlib.sha256(content).digest() != item.sha256:
            raise FileChanged
        if item.etag and hashlib.md5(content, usedforsecurity=False).hexdigest() == item.etag:
            return item.etag, "unchanged"
    return ask(item.key, lambda: put(content, use_multipart=False), credentials=credentials), "uploaded"


def _checked_parts(root: int, item: Item, part: int) -> Iterator[bytes]:
    with expected.open_key(root, item.file) as file:
        yield from expected.checked(iter(partial(file.read, part), b""), item.sha256, FileChanged)


def _streamed_md5(root: int, item: Item) -> str:
    """Return the MD5 of a file that has the expected SHA-256."""
    md5, sha256 = hashlib.md5(usedforsecurity=False), hashlib.sha256()
    with expected.open_key(root, item.file) as file:
        while block := file.read(PART):
            md5.update(block)
            sha256.update(block)
    if sha256.digest() != item.sha256:
        raise FileChanged
    return md5.hexdigest()


def _is_hopeless(error: Exception) -> bool:
    """Say whether ``error`` is about credentials, the lease or the bucket rather than about one key."""
    denied = isinstance(error, PermissionDeniedError | UnauthenticatedError | LeaseLost)
    return denied or "<Code>NoSuchBucket</Code>" in str(error)
