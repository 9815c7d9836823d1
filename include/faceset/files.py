"""Writing files so that nothing half-done ever looks done."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

FILE_MODE = 0o640
FOLDER_MODE = 0o750
_FSYNC_FOLDER = os.O_RDONLY | os.O_DIRECTORY


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a temporary path beside `path`; on success it takes `path`'s place, durably and at once."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        with temporary.open("rb+") as written:
            os.fchmod(written.fileno(), FILE_MODE)
            os.fsync(written.fileno())
        temporary.replace(path)
        sync_folder(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a text file whole or not at all."""
    path.parent.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def remove_tree(folder: Path) -> None:
    """Remove a folder and all in it; no folder, nothing to do. Links in it are removed, never followed."""
    try:
        shutil.rmtree(folder)
    except FileNotFoundError:
        return


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    descriptor = os.open(folder, _FSYNC_FOLDER)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
