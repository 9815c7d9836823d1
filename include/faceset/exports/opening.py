"""The bytes of a file of an export, and whether it still is the file that the scan saw. No link is followed."""

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import BinaryIO, Literal, NamedTuple

from include.faceset.exports.on_disk import open_folder
from include.faceset.exports.read_ahead import ReadAhead
from include.faceset.exports.rows import Row
from include.faceset.ground import times
from include.faceset.ledger import Outcome
from include.faceset.ports import ARCHIVED
from include.faceset.run.run import Run

Content = bytes | BinaryIO
"""All bytes of a file or, if it is above `max_file_size`, the open file."""
Fetched = ReadAhead[Row, bytes | Literal["archived"] | None]
"""Files of exports in S3, fetched before they are needed."""
_OPEN = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class OpenFile(NamedTuple):
    """A file on a disk that was read: its folder's descriptor, its name, its own descriptor, its status then."""

    folder: int
    name: str
    descriptor: int
    status: os.stat_result


class Read(NamedTuple):
    """What a file holds, and the file itself if it lies on a disk."""

    content: Content
    original: OpenFile | None


@contextmanager
def reading(run: Run, row: Row, folder: int | None, fetched: Fetched) -> Iterator[Read | Outcome]:
    """Give what a file holds while the block runs, or why it is not to be had.

    Args:
        run: the run.
        row: the file, as the scan saw it.
        folder: descriptor of its folder; None where that is gone, and in S3.
        fetched: the files of exports in S3 that are fetched before they are needed.

    Raises:
        OSError: it cannot be read. In S3 also FileNotFoundError, when a large one is read after it was changed.
    """
    if row.etag is not None:
        yield _object(run, row, fetched)
        return
    descriptor = _open_file(folder, row.name)
    if descriptor is None:
        yield Outcome.CHANGED_DURING_RUN
        return
    try:
        if row.size > run.dataset.max_file_size:
            with os.fdopen(descriptor, "rb", closefd=False) as file:
                status = os.fstat(descriptor)
                read = Read(file, OpenFile(folder or 0, row.name, descriptor, status))
                yield read if is_unchanged(status, row) else Outcome.CHANGED_DURING_RUN
        elif (whole := _read_unchanged(descriptor, row)) is None:
            yield Outcome.CHANGED_DURING_RUN
        else:
            yield Read(whole[0], OpenFile(folder or 0, row.name, descriptor, whole[1]))
    finally:
        os.close(descriptor)


def _object(run: Run, row: Row, fetched: Fetched) -> Read | Outcome:
    content: Content | Literal["archived"] | None
    if row.size > run.dataset.max_file_size:
        content = run.sources[row.export].open(row.path, row.etag or "", row.size)
    else:
        content = fetched.take(row) if row.sha256 is None else read_object(run, row)
    if content == ARCHIVED:
        return Outcome.ARCHIVED
    return Outcome.CHANGED_DURING_RUN if content is None else Read(content, None)


def read_object(run: Run, row: Row) -> bytes | Literal["archived"] | None:
    """The bytes of a file of an export in S3; None if it is not the one that the scan saw."""
    data = run.sources[row.export].read(row.path, row.etag or "")
    return data if data is None or data == ARCHIVED or len(data) == row.size else None


def _open_file(folder: int | None, name: str) -> int | None:
    """Descriptor of a file in a folder that is there; None if it is gone, or a link."""
    if folder is None:
        return None
    try:
        return os.open(name, _OPEN, dir_fd=folder)
    except OSError as error:
        if error.errno not in {errno.ENOENT, errno.ELOOP, errno.ESTALE}:
            raise
        return None


def _read_unchanged(descriptor: int, row: Row) -> tuple[bytes, os.stat_result] | None:
    """All bytes of an open file and its status after they were read; None if it is not the file that the scan saw."""
    try:
        data = read_whole(descriptor, row.size)
        status = os.fstat(descriptor)
    except OSError as error:
        if error.errno != errno.ESTALE:  # NFS: replaced or removed by another machine
            raise
        return None
    return (data, status) if len(data) == row.size and is_unchanged(status, row) else None


def read_whole(descriptor: int, size: int) -> bytes:
    """All bytes of an open file of `size` bytes; of one that is longer, one more."""
    data = os.read(descriptor, size + 1)
    while 0 < len(data) < size and (more := os.read(descriptor, size + 1 - len(data))):
        data += more
    return data


def is_unchanged(status: os.stat_result, row: Row) -> bool:
    """Whether a file is the one that the scan saw, by its size and its time of modification."""
    same = (status.st_size, times.mtime_ns(status)) == (row.size, row.mtime_ns)
    return same and stat.S_ISREG(status.st_mode)


@contextmanager
def open_now(run: Run, export: str, path: str, size: int, etag: str | None) -> Iterator[BinaryIO | None]:
    """Give a file of an export as it is now; None if it, or its export, is not there, is archived, or of another size.

    Raises:
        OSError: it cannot be read. In S3 also FileNotFoundError, when it is read after it was changed.
    """
    if etag is not None and export in run.sources:
        found = run.sources[export].open(path, etag, size)
        yield None if found == ARCHIVED else found
        return
    roots = {one.name: run.folder(one) for one in run.dataset.exports if not one.in_s3}
    folder, _, name = path.rpartition("/")
    with ExitStack() as stack:
        try:
            root = stack.enter_context(open_folder(roots[export], follow=True))
        except (FileNotFoundError, KeyError):
            yield None
            return
        descriptor = _open_file(stack.enter_context(export_folder(root, folder)), name)
        if descriptor is None:
            yield None
            return
        file = stack.enter_context(os.fdopen(descriptor, "rb"))
        status = os.fstat(descriptor)
        yield file if stat.S_ISREG(status.st_mode) and status.st_size == size else None


@contextmanager
def export_roots(run: Run) -> Iterator[dict[str, int]]:
    """Give a descriptor of the root of each export on a disk."""
    with ExitStack() as stack:
        yield {
            export.name: stack.enter_context(open_folder(run.folder(export), follow=True))
            for export in run.dataset.exports
            if not export.in_s3
        }


@contextmanager
def export_folder(root: int | None, folder: str) -> Iterator[int | None]:
    """Descriptor of a folder of an export; None if it is gone or a link, so that its files count as changed.

    Of an export in S3 there is none, nor a `root`.
    """
    if not folder or root is None:
        yield root
        return
    with ExitStack() as stack:
        try:
            descriptor = stack.enter_context(open_folder(folder, root))
        except (FileNotFoundError, NotADirectoryError):
            descriptor = None
        yield descriptor
