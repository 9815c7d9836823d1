"""Writing files so that nothing half-done ever looks done."""

import errno
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

FILE_MODE = 0o640
FOLDER_MODE = 0o750
_FSYNC_FOLDER = os.O_RDONLY | os.O_DIRECTORY
_TEMPORARY = re.compile(r"\.(?P<name>.+)\.[0-9a-f]+\.tmp")
_FULL = {errno.ENOSPC, errno.EDQUOT}


class WriteError(RuntimeError):
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
        msg = f"{path} cannot be written: {os.strerror(error.errno or 0)}; make room on its disk, then clear this task"
        raise WriteError(msg) from error


def is_full(error: OSError) -> bool:
    """Whether it says that a disk, or somebody's share of it, is full."""
    return error.errno in _FULL


def _finish(temporary: Path, path: Path) -> None:
    try:
        with temporary.open("rb+") as written:
            os.fchmod(written.fileno(), FILE_MODE)
            os.fsync(written.fileno())
        temporary.replace(path)
    except FileNotFoundError as error:
        msg = f"{path} was not written: another try of this task has begun since; look at that one"
        raise WriteError(msg) from error
    sync_folder(path.parent)


def opener(path: str, flags: int) -> int:
    """For `open(..., opener=opener)`: a file that is made is for its owner and group only."""
    return os.open(path, flags, FILE_MODE)


def make_folder(folder: Path) -> None:
    """Make a folder and those above it that are missing, each of them for its owner and group only."""
    if not folder.is_dir():
        make_folder(folder.parent)
        # Not `parents=True`: that makes those above open to everybody.
        folder.mkdir(mode=FOLDER_MODE, exist_ok=True)


def sweep(folder: Path, name: str | None = None) -> None:
    """Remove temporary files of `replacing` from a folder: those of all files, or of `name`."""
    with os.scandir(folder) as entries:
        found = [(entry.path, match["name"]) for entry in entries if (match := _TEMPORARY.fullmatch(entry.name))]
    for path, of_file in found:
        if name in {None, of_file}:
            Path(path).unlink(missing_ok=True)


def write_text(path: Path, text: str, within: Path | None = None) -> None:
    """Write a text file whole or not at all; `within` as for `replacing`."""
    with replacing(path, within) as temporary:
        temporary.write_text(text, encoding="utf-8")


def remove_tree(folder: Path) -> None:
    """Remove a folder and all in it; no folder, nothing to do. Links in it are removed, never followed."""
    try:
        shutil.rmtree(folder)
    except FileNotFoundError:
        return


def remove_any(path: Path) -> None:
    """Remove a file or a link, or a folder with all in it."""
    if path.is_dir() and not path.is_symlink():
        remove_tree(path)
    else:
        path.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    descriptor = os.open(folder, _FSYNC_FOLDER)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
