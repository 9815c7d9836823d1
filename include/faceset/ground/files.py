"""Writing files so that nothing half-done ever looks done."""

import errno
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

from include.faceset.errors import Again

FILE_MODE = 0o640
FOLDER_MODE = 0o750
_FSYNC_FOLDER = os.O_RDONLY | os.O_DIRECTORY
_TEMPORARY = re.compile(r"\.(?P<name>.+)\.[0-9a-f]+\.tmp")
_FULL = {errno.ENOSPC, errno.EDQUOT}
_NO_LINKS = {errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS}
_NO_FSYNC = {errno.EINVAL, errno.EOPNOTSUPP, errno.ENOSYS}
_STILL_OPEN = re.compile(r"\.(nfs|fuse_hidden)[0-9a-f]{16,}")
_NOT_EMPTY = {errno.ENOTEMPTY, errno.EEXIST, errno.EBUSY}


class WriteError(Again):
    """A file could not be written whole; what it held before is as it was."""


@contextmanager
def replacing(path: Path, within: Path | None = None) -> Iterator[Path]:
    """Give a temporary path; on success it takes `path`'s place, durably and at once.

    What a writer that was killed left of `path` is removed first. That also stops a writer that is only paused.

    Args:
        path: the file; its folder is made, unless it lies in `within`.
        within: a folder that is there, for the temporary file; if it is taken away, `path` stays as it is.

    Raises:
        WriteError: the disk is full, or another try of the same task has begun.
    """
    if within is None or within not in path.parents:
        make_folder(path.parent)
    if within is None:
        within = path.parent
        sweep(within, path.name)
    temporary = within / f".{path.name}.{secrets.token_hex(4)}.tmp"
    try:
        with room_for(path):
            yield temporary
            _finish(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def room_for(path: Path) -> Iterator[None]:
    """Say what to do where the disk of `path` is full.

    Raises:
        WriteError: the disk is full.
    """
    try:
        yield
    except OSError as error:
        if not is_full(error):
            raise
        raise WriteError(
            f"{path} cannot be written: {os.strerror(error.errno or 0)}; make room on its disk, then clear this task"
        ) from error


def is_full(error: OSError) -> bool:
    """Whether it says that a disk, or somebody's share of it, is full."""
    return error.errno in _FULL


def _finish(temporary: Path, path: Path) -> None:
    try:
        _make_durable(temporary)
        temporary.replace(path)
    except FileNotFoundError as error:
        raise WriteError(
            f"{path} was not written: another try of this task has begun since; look at that one"
        ) from error
    sync_folder(path.parent)


def _make_durable(path: Path) -> None:
    with path.open("rb+") as written:
        os.fchmod(written.fileno(), FILE_MODE)
        os.fsync(written.fileno())


def opener(path: str, flags: int) -> int:
    """For `open(..., opener=opener)`: a file that is made is for its owner and group only."""
    return os.open(path, flags, FILE_MODE)


def make_folder(folder: Path) -> None:
    """Make a folder and those above it that are missing, each of them for its owner and group only."""
    if not folder.is_dir():
        make_folder(folder.parent)
        # Not `parents=True`: that makes those above open to everybody.
        folder.mkdir(mode=FOLDER_MODE, exist_ok=True)


def existing_above(path: Path) -> Path:
    """The nearest folder above (or at) a path that exists."""
    return next(place for place in (path, *path.parents) if place.exists())


def sweep(folder: Path, name: str | None = None) -> None:
    """Remove temporary files of `replacing` from a folder: those of all files, or of `name`."""
    with os.scandir(folder) as entries:
        found = [(entry.path, match["name"]) for entry in entries if (match := _TEMPORARY.fullmatch(entry.name))]
    for path, of_file in found:
        if name in {None, of_file}:
            Path(path).unlink(missing_ok=True)


def is_temporary(path: Path) -> bool:
    """Whether a file is one that `replacing` is writing, or that a killed writer left."""
    return _TEMPORARY.fullmatch(path.name) is not None


def write_text(path: Path, text: str, within: Path | None = None) -> None:
    """Write a text file whole or not at all; `within` as for `replacing`."""
    with replacing(path, within) as temporary:
        temporary.write_text(text, encoding="utf-8")


def create(path: Path, text: str) -> bool:
    """Make a file that holds `text`, whole and at once; False if it is there already, whoever made it.

    Of many that try at once, on as many machines, one makes it. Its folder is made too.

    Raises:
        WriteError: the disk is full, or its file system has no hard links.
    """
    make_folder(path.parent)
    temporary = path.parent / f".{path.name}.{secrets.token_hex(4)}.tmp"
    try:
        with room_for(path), open(temporary, "x", encoding="utf-8", opener=opener) as file:
            file.write(text)
        _make_durable(temporary)
        try:
            path.hardlink_to(temporary)
        except FileExistsError:
            pass
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            raise WriteError(
                f"{path} cannot be made: its file system has no hard links ({os.strerror(error.errno)}); choose another"
            ) from error
        # open(2), NFS: an answer may be lost and the request sent again; the number of links tells.
        return temporary.stat().st_nlink == 2
    finally:
        temporary.unlink(missing_ok=True)


def remove_tree(folder: Path) -> None:
    """Remove a folder and all in it; no folder, nothing to do. Links in it are removed, never followed.

    What a process on this machine has open on a network file system stays, under another name, until it is closed;
    so does its folder then, to be removed with what is around it later.
    """
    shutil.rmtree(folder, onerror=_unless_open)


def is_still_open(name: str) -> bool:
    """Whether a network file system gave this name to a file that was removed and is still open."""
    return _STILL_OPEN.fullmatch(name) is not None


def _unless_open(_: object, path: str, raised: tuple[type[BaseException], BaseException, TracebackType]) -> None:
    error = raised[1]
    if isinstance(error, FileNotFoundError):
        return
    gone = isinstance(error, OSError) and error.errno in {*_NOT_EMPTY, errno.ESTALE}
    if not (gone and _holds_open_files_only(Path(path))):
        raise error


def _holds_open_files_only(path: Path) -> bool:
    if is_still_open(path.name):
        return True
    try:
        return all(_holds_open_files_only(one) for one in path.iterdir())
    except FileNotFoundError:
        return True
    except NotADirectoryError:
        return False


def remove_any(path: Path) -> None:
    """Remove a file or a link, or a folder with all in it."""
    if path.is_dir() and not path.is_symlink():
        remove_tree(path)
    else:
        path.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable; a network file system that knows no such request has made them so."""
    descriptor = os.open(folder, _FSYNC_FOLDER)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _NO_FSYNC:
            raise
    finally:
        os.close(descriptor)
