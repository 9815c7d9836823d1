"""scan: one export -> ``manifest/export=E/shard=K.parquet`` and the ledger rows of what is no image of its layout.

Only metadata is read, no file is opened, no link is followed.
"""

import os
import stat
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from include.faceset import files, names, tables
from include.faceset.dataset import FlatExport, ImageFolderExport
from include.faceset.ledger import LEDGER, MANIFEST, Outcome
from include.faceset.run import Run, shard_file

REJECTED_FILE = "rejected.parquet"
ROWS_IN_MEMORY = 200_000
"""Rows held, over all shards, before each shard gets a row group: about 80 MB."""

_OPEN_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


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
    """Counts of one scan; `files` = `images` + `rejected`."""

    export: str
    files: int
    images: int
    rejected: int


def scan(run: Run, export_name: str) -> Scanned:
    """Scan one export of a run into its manifest folder, replacing what an earlier try left there.

    Raises:
        ScanError: the export is missing, empty, or a folder in it cannot be read.
    """
    export = next(export for export in run.dataset.exports if export.name == export_name)
    root = export.folder(Path(run.params.local_source))
    entries = walk_flat if isinstance(export, FlatExport) else walk_image_folder
    folder = run.manifest(export.name)
    folder.parent.mkdir(mode=files.FOLDER_MODE, parents=True, exist_ok=True)
    images = rejected = 0
    with (
        _explained(export.name, root),
        files.replacing_folder(folder) as building,
        _sharded(building, MANIFEST) as add_image,
        _sharded(building, LEDGER) as add_rejected,
    ):
        for found in entries(root, export):  # type: ignore[arg-type]
            if found.rejected is None and found.identity is not None:
                shard = shard_of(found.identity, run.params.shards)
                add_image(shard_file(shard), (found.identity, found.path, export.name, found.size, found.mtime_ns))
                images += 1
            else:
                row = (found.identity, found.path, export.name, found.size, found.mtime_ns, found.rejected)
                add_rejected(REJECTED_FILE, (*row, None, None, None, None, None))
                rejected += 1
        if images + rejected == 0:
            msg = f"export {export.name}: {root} is empty; is the right folder mounted there?"
            raise ScanError(msg)
    return Scanned(export.name, images + rejected, images, rejected)


def shard_of(identity: str, shards: int) -> int:
    """The shard of an identity: CRC-32 of its UTF-8 bytes, modulo the number of shards."""
    return zlib.crc32(identity.encode()) % shards


def manifest_files(run: Run, shard: int) -> list[Path]:
    """The manifests of one shard, of all exports that have rows in it."""
    paths = [run.manifest(export.name) / shard_file(shard) for export in run.dataset.exports]
    return [path for path in paths if path.exists()]


def rejected_files(run: Run) -> list[Path]:
    """The ledger rows that the scans settled, of all exports that have any."""
    paths = [run.manifest(export.name) / REJECTED_FILE for export in run.dataset.exports]
    return [path for path in paths if path.exists()]


def walk_flat(root: Path, export: FlatExport) -> Iterator[Found]:
    """Every entry of a flat export, in the order of the directory."""
    match = export.regex().fullmatch
    with _folder(root) as descriptor, os.scandir(descriptor) as entries:
        for entry in entries:
            named = match(entry.name)
            identity = export.label(named["identity"]) if named else None
            yield _found(entry, entry.name, identity)


def walk_image_folder(root: Path, export: ImageFolderExport) -> Iterator[Found]:
    """Every entry of an image folder: what lies beside the identity folders, then what lies in them."""
    with _folder(root) as top, os.scandir(top) as entries:
        for entry in entries:
            if not entry.is_dir(follow_symlinks=False):
                yield _found(entry, entry.name, None)
                continue
            identity = export.label(entry.name)
            with _folder(entry.name, top) as inside, os.scandir(inside) as images:
                for image in images:
                    yield _found(image, f"{entry.name}/{image.name}", identity)


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
def _folder(path: str | Path, parent: int | None = None) -> Iterator[int]:
    """A folder's descriptor; a link in its place is refused, so that a scan never leaves its export."""
    try:
        descriptor = os.open(path, _OPEN_FOLDER if parent is not None else _OPEN_FOLDER & ~os.O_NOFOLLOW, dir_fd=parent)
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
def _sharded(folder: Path, schema: pa.Schema) -> Iterator[Callable[[str, tuple[object, ...]], None]]:
    """Give a function that adds a row to a Parquet file of `folder`; row groups are written as memory fills."""
    waiting: dict[str, list[tuple[object, ...]]] = {}
    writers: dict[str, pq.ParquetWriter] = {}
    held = 0

    def flush() -> None:
        nonlocal held
        for name, rows in waiting.items():
            if rows:
                if name not in writers:
                    writers[name] = pq.ParquetWriter(folder / name, schema, compression=tables.COMPRESSION)
                columns = [pa.array(column, field.type) for column, field in zip(zip(*rows), schema, strict=True)]  # noqa: B905
                writers[name].write_table(pa.table(columns, schema=schema))
                rows.clear()
        held = 0

    def add(name: str, row: tuple[object, ...]) -> None:
        nonlocal held
        waiting.setdefault(name, []).append(row)
        held += 1
        if held >= ROWS_IN_MEMORY:
            flush()

    try:
        yield add
        flush()
    finally:
        for writer in writers.values():
            writer.close()
