"""Bring many objects to a prefix, with bounded memory and concurrency."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from typing import TYPE_CHECKING

from s3_sync.errors import InvalidObjects, UploadFailed
from s3_sync.proof.vouch import is_checked
from s3_sync.sources import origins
from s3_sync.sources.origins import Place
from s3_sync.sync import expected
from s3_sync.sync.bring import Brought, Delivery, bring
from s3_sync.sync.expected import Item
from s3_sync.sync.progress import Progress

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import pyarrow as pa

    from s3_sync.bucket.prefix import S3Prefix
    from s3_sync.sync.request import SyncRequest

BATCH = 10_000


def upload(
    prefix: S3Prefix,
    request: SyncRequest,
    rows: pa.Table,
    *,
    watch: Callable[[Progress], None],
    check: Callable[[], None],
) -> Progress:
    """Bring the objects of ``rows`` (key, size, sha256, etag) to ``prefix`` and return what was done.

    Their files lie in the request's ``source`` or, with ``origins``, where ``rows`` say (`origins.attach`). A file's
    SHA-256 is compared with the expected one before anything of it becomes visible in the bucket. A row whose ``etag``
    is the MD5 of its file is left as it is. What a server does not check itself is compared by its ETag, or read back.
    ``watch`` is called about once a second, in the caller's thread, ``check`` before each try of a file.

    Raises UploadFailed at the end with every key that failed; the others are done. It stops early when the
    credentials or the bucket are refused, and after too many failures.
    """
    progress = Progress(files=rows.num_rows, total_bytes=sum(rows["size"].to_pylist()))
    checked = rows.num_rows == 0 or is_checked(prefix.releases)
    delivery = Delivery(prefix, request.options, check, checked)
    with _places(prefix, request, rows) as places:

        def take(item: Item) -> Brought:
            return bring(delivery, places[item.origin], item)

        _in_threads(request.max_concurrency, _items(rows), take, progress, watch)
    if progress.failures:
        raise UploadFailed(prefix.uri, progress.failures, stopped=progress.stopped, before_deletions=True)
    return progress


def _in_threads(
    threads: int,
    items: Iterator[Item],
    take: Callable[[Item], Brought],
    progress: Progress,
    watch: Callable[[Progress], None],
) -> None:
    """Take all items in so many threads, until ``progress`` says to stop."""
    taking = threading.Lock()

    def work() -> None:
        while not progress.stopped:
            with taking:
                item = next(items, None)
            if item is None:
                return
            try:
                etag, outcome = take(item)
            except Exception as error:  # noqa: BLE001 one key's failure must not stop the others
                progress.failed(item, error)
            else:
                progress.succeeded(item, etag, outcome)

    with ThreadPoolExecutor(threads, thread_name_prefix="s3-sync") as pool:
        try:
            workers = [pool.submit(work) for _ in range(threads)]
            while wait(workers, timeout=1).not_done:
                watch(progress)
        except BaseException:
            progress.stopped = "interrupted"
            raise
    for worker in workers:
        worker.result()
    watch(progress)


@contextmanager
def _places(prefix: S3Prefix, request: SyncRequest, rows: pa.Table) -> Iterator[dict[str | None, Place]]:
    """Give the places that files lie in, by the name of their origin; without origins it is one."""
    if request.origins is not None:
        with origins.opened(request.origins, prefix, rows) as places:
            yield places
    elif request.source is not None:
        with expected.root(request.source) as root:
            yield {None: Place(folder=root)}
    else:
        raise InvalidObjects("neither a local folder nor origins are given: there is nothing to take files from")


def _items(rows: pa.Table) -> Iterator[Item]:
    fields = [name for name in Item._fields if name in rows.column_names]
    for batch in rows.select(fields).to_batches(max_chunksize=BATCH):
        for values in zip(*(column.to_pylist() for column in batch.columns), strict=True):
            yield Item(*values)
