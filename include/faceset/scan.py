"""scan: one export, or the parts of it that have come -> manifests, which also hold what is no image of its layout.

Only metadata is read, no file is opened, no link is followed.
"""

import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from include.faceset import names, parts, sharded, tables
from include.faceset.dataset import Export, FlatExport, ImageFolderExport
from include.faceset.ledger import SCANNED, Outcome
from include.faceset.run import Run

ROWS_IN_MEMORY = 200_000
"""Rows held, over all shards, before each shard gets a row group: about 80 MB."""

_OPEN_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


class ScanError(RuntimeError):
    """An export that cannot be scanned as declared."""


class Found(NamedTuple):
    """One directory entry: an image of the declared layout if `rejected` is None."""

    identity: str | None
    path: str
    size: int | None
    mtime_ns: int | None
    rejected: Outcome | None


@dataclass(frozen=True)
class Scanned:
    """Counts of one scan; `files` = `images` + `rejected`. `absent` are the parts asked for that are not there."""

    export: str
    files: int
    images: int
    rejected: int
    parts: int
    absent: list[str]


def scan(run: Run, export_name: str) -> Scanned:
    """Scan one export of a run, or its parts, each into its manifest, which replaces what was known of it.

    Raises:
        ScanError: the export or a part is missing or empty, or a folder in it cannot be read.
    """
    export = next(export for export in run.dataset.exports if export.name == export_name)
    if run.params.release is not None:  # a run that rolls back looks at no export
        return Scanned(export.name, 0, 0, 0, parts=0, absent=[])
    root = export.folder(Path(run.params.local_source))
    if not export.dated:
        images, rejected = _scan_folder(run, export, root, None)
        return Scanned(export.name, images + rejected, images, rejected, parts=0, absent=[])
    with _explained(export.name, root):
        partitions = parts.to_scan(run, export)
    absent = sorted(set(run.partitions or ()) - set(partitions))
    images = rejected = 0
    for partition in partitions:
        found = _scan_folder(run, export, root / export.part(partition), partition)
        images, rejected = images + found[0], rejected + found[1]
    return Scanned(export.name, images + rejected, images, rejected, len(partitions), absent)


def _scan_folder(run: Run, export: Export, folder: Path, partition: str | None) -> tuple[int, int]:
    """Write one manifest; the numbers of images and of rejected files."""
    walk = walk_flat if isinstance(export, FlatExport) else walk_image_folder
    below = "" if partition is None else f"{export.part(partition)}/"
    note: dict[str, Any] = {"declared": parts.declared(export)}
    images = rejected = 0
    with (
        _explained(export.name, folder),
        sharded.writing(run.manifest(export.name, partition), SCANNED, run.params.shards, note) as write,
        _gathered(write) as add,
    ):
        for found in walk(folder, export, below):  # type: ignore[arg-type]
            if found.rejected is None and found.identity is not None:
                shard = sharded.shard_of(found.identity, run.params.shards)
                images += 1
            else:
                shard = sharded.NO_SHARD
                rejected += 1
            row = (found.identity, found.path, export.name, partition, found.size, found.mtime_ns, found.rejected)
            add(shard, row)
        if images + rejected == 0:
            known = run.manifest(export.name, partition)
            withdraw = f"; if the part is withdrawn, remove {known} and trigger again" if partition else ""
            msg = f"export {export.name}: {folder} is empty; is the right folder mounted there{withdraw}?"
            raise ScanError(msg)
        note["files"] = images + rejected
    return images, rejected


def walk_flat(root: Path, export: FlatExport, below: str = "") -> Iterator[Found]:
    """Every entry of a flat folder, in the order of the directory; `below` comes before its path."""
    match = export.regex().fullmatch
    with _folder(root, follow=not below) as descriptor, os.scandir(descriptor) as entries:
        for entry in entries:
            named = match(entry.name)
            identity = export.label(named["identity"]) if named else None
            yield _found(entry, below + entry.name, identity)


def walk_image_folder(root: Path, export: ImageFolderExport, below: str = "") -> Iterator[Found]:
    """Every entry of an image folder: what lies beside the identity folders, and what lies in them."""
    with _folder(root, follow=not below) as top, os.scandir(top) as entries:
        for entry in entries:
            if not entry.is_dir(follow_symlinks=False):
                yield _found(entry, below + entry.name, None)
                continue
            identity = export.label(entry.name)
            with _folder(entry.name, top) as inside, os.scandir(inside) as images:
                for image in images:
                    yield _found(image, f"{below}{entry.name}/{image.name}", identity)


def _found(entry: os.DirEntry[str], path: str, identity: str | None) -> Found:
    if not entry.is_file(follow_symlinks=False):
        return Found(None, names.shown(path), None, None, Outcome.NOT_REGULAR_FILE)
    try:
        status = entry.stat(follow_symlinks=False)
    except FileNotFoundError:
        return Found(None, names.shown(path), None, None, Outcome.CHANGED_DURING_RUN)
    rejected = _rejected_by_name(entry.name, identity)
    if not stat.S_ISREG(status.st_mode):
        rejected = Outcome.NOT_REGULAR_FILE
    if rejected is not None:
        return Found(None, names.shown(path), status.st_size, status.st_mtime_ns, rejected)
    return Found(identity, path, status.st_size, status.st_mtime_ns, None)


def _rejected_by_name(name: str, identity: str | None) -> Outcome | None:
    if identity is None or not names.is_image(name):
        return Outcome.UNMATCHED_NAME
    if not names.is_safe(identity) or not names.is_safe(name):
        return Outcome.UNSAFE_NAME
    return None


@contextmanager
def _folder(path: str | Path, parent: int | None = None, *, follow: bool = False) -> Iterator[int]:
    """A folder's descriptor; a link in its place is refused (but for an export's root), so a scan never leaves it."""
    try:
        descriptor = os.open(path, _OPEN_FOLDER | (0 if follow else os.O_NOFOLLOW), dir_fd=parent)
    except OSError as error:
        error.filename = names.shown(str(path))
        raise
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextmanager
def _explained(export: str, root: Path) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        msg = f"export {export}: {error.filename or root} does not exist; correct local_source or the export's root"
        raise ScanError(msg) from error
    except NotADirectoryError as error:
        msg = f"export {export}: {error.filename or root} is not a folder; correct local_source or the export's root"
        raise ScanError(msg) from error
    except PermissionError as error:
        msg = (
            f"export {export}: the folder {error.filename or root} cannot be read ({error.strerror}); "
            "let the user that runs Airflow's workers read it (r-x on folders, r-- on files), then clear this task"
        )
        raise ScanError(msg) from error


@contextmanager
def _gathered(write: sharded.Add) -> Iterator[Callable[[int, tuple[object, ...]], None]]:
    """Give a function that adds a row to a shard; rows are written as memory fills."""
    waiting: dict[int, list[tuple[object, ...]]] = {}
    held = 0

    def flush() -> None:
        nonlocal held
        for shard, rows in waiting.items():
            write(shard, tables.of_rows(rows, SCANNED))
        waiting.clear()
        held = 0

    def add(shard: int, row: tuple[object, ...]) -> None:
        nonlocal held
        waiting.setdefault(shard, []).append(row)
        held += 1
        if held >= ROWS_IN_MEMORY:
            flush()

    yield add
    flush()
