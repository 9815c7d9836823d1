"""copy_shard: one shard's selected rows -> files in the merged dataset and ``copied/shard=K.parquet``.

Each file is opened once: its bytes are hashed, decoded, compared with what this identity already
has, and written from that same read. An identity's files are staged beside the output and moved in
when its verdict is known, a new identity by one rename; so a killed task leaves no half-made folder.
A file that the last release holds unchanged (same export, path, size and mtime; the staged file
untouched) is not opened at all, and identities of which nothing changed are taken over as a whole.

(A run that rolls back to a kept release uses ``restore_shard.py`` instead.)
"""

import errno
import fcntl
import hashlib
import logging
import os
import stat
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from include.faceset import files, images, names, release, removed, tables, unchanged
from include.faceset.ledger import LEDGER, Outcome, kept
from include.faceset.params import LinkMode
from include.faceset.run import Run

log = logging.getLogger(__name__)

_FICLONE = 0x40049409
"""ioctl_ficlone(2): share the bytes of a file copy-on-write."""
_NOT_CLONEABLE = {errno.EOPNOTSUPP, errno.EXDEV, errno.EINVAL, errno.ENOTTY, errno.ENOSYS, errno.EPERM}
_OPEN = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_CREATE = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_SECONDS_BETWEEN_LINES = 10


class CopyError(RuntimeError):
    """A file that the scan found cannot be read, or not be written."""


@dataclass(frozen=True)
class Copied:
    """Counts of one shard; `read` images and `bytes_read` were opened, the rest was known from the last release."""

    shard: int
    identities: int
    images: int
    rejected: int
    read: int
    bytes_read: int


class Row(NamedTuple):
    """A selected file and, where the last release knows the same bytes, what it knows (else None)."""

    identity: str
    path: str
    export: str
    partition: str | None
    size: int
    mtime_ns: int
    outcome: str | None
    key: str | None
    sha256: bytes | None
    format: str | None
    colour: str | None
    staged_mtime_ns: int | None

    @property
    def name(self) -> str:
        return self.path.rsplit("/", 1)[-1]

    @property
    def merged_name(self) -> str:
        """The name that the file would have in the merged dataset; parts of an export often repeat their names."""
        return self.name if self.partition is None else f"{self.partition}__{self.name}"

    @property
    def folder(self) -> str:
        return self.path.rpartition("/")[0]


@dataclass
class Verdicts:
    """The ledger rows of an identity as they come to be known."""

    rows: list[Row] = field(default_factory=list)
    hashes: set[bytes] = field(default_factory=set)
    names: dict[str, int] = field(default_factory=dict)
    """File name in the merged dataset -> index of its row."""

    def reject(self, row: Row, outcome: Outcome) -> None:
        self.rows.append(row._replace(outcome=outcome.value, key=None, staged_mtime_ns=None))

    def keep(self, row: Row, name: str, staged_mtime_ns: int) -> None:
        self.names[name] = len(self.rows)
        key = f"{row.identity}/{name}"
        self.rows.append(row._replace(outcome=Outcome.KEPT.value, key=key, staged_mtime_ns=staged_mtime_ns))

    def free_name(self, row: Row) -> str:
        """The file's name, or with its export in front where an earlier file of the identity has that name."""
        name = row.merged_name
        while name in self.names:
            name = f"{row.export}__{name}"
        return name


def copy_shard(run: Run, shard: int) -> Copied:
    """Copy one shard's images that are good into the merged dataset; safe to run again.

    Raises:
        CopyError: a file exists but cannot be read (permission, disk), or the output cannot be written.
    """
    known = release.known_files(run, shard)
    selected = unchanged.with_known(tables.read(run.selected(shard)), known)
    done = LEDGER.empty_table()
    if release.same_rule(run):
        done = unchanged.settled(run, selected, known)
        settled = pc.unique(done["identity"])
        selected = selected.filter(pc.invert(pc.is_in(selected["identity"], value_set=settled)))
    staging = empty_staging(run, shard)
    before = removed.before(known.filter(pc.is_in(known["identity"], value_set=pc.unique(selected["identity"]))))
    rows: list[Row] = []
    opened: list[int] = []
    with _export_roots(run) as roots:
        started = said = time.monotonic()
        for identity, group in groupby(rows_of(selected), key=lambda row: row.identity):
            verdicts, sizes = copy_identity(run, roots, staging / identity, list(group), before)
            rows.extend(verdicts.rows)
            opened.extend(sizes)
            if time.monotonic() - said > _SECONDS_BETWEEN_LINES:
                said = time.monotonic()
                rate = len(rows) / (said - started)
                log.info("%s of %s images, %.0f a second", f"{len(rows):,}", f"{selected.num_rows:,}", rate)
    copied = pa.concat_tables([done, tables.of_rows(rows, LEDGER)])
    tables.write(copied, run.copied(shard))
    files.remove_tree(staging)
    images_kept = kept(copied)
    identities = pc.count_distinct(images_kept["identity"]).as_py()
    rejected = copied.num_rows - images_kept.num_rows
    return Copied(shard, identities, images_kept.num_rows, rejected, len(opened), sum(opened))


def empty_staging(run: Run, shard: int) -> Path:
    """The shard's folder for new files, with nothing in it of an earlier try; the output is there too."""
    staging = run.staging / f"shard={shard:03d}"
    files.remove_tree(staging)
    staging.mkdir(mode=files.FOLDER_MODE, parents=True)
    run.output.mkdir(mode=files.FOLDER_MODE, parents=True, exist_ok=True)
    return staging


def copy_identity(
    run: Run, roots: dict[str, int], staged: Path, rows: list[Row], before: removed.Before
) -> tuple[Verdicts, list[int]]:
    """Judge and copy the images of one identity.

    Args:
        run: the run.
        roots: descriptor of each export's root, by export.
        staged: a folder that does not exist yet, for the identity's new files.
        rows: its selected files in canonical order (export, path).
        before: what the last release put into the output, by key.

    Returns:
        The verdicts, one row a file, and the sizes in bytes of the files that were opened.
    """
    final = run.output / staged.name
    present = present_in(final)
    staged.mkdir(mode=files.FOLDER_MODE)
    verdicts = Verdicts()
    opened: list[int] = []
    for (export, folder), group in groupby(rows, key=lambda row: (row.export, row.folder)):
        with _source_folder(roots[export], folder) as source:
            for row in group:
                if _settled(run, verdicts, row, present):
                    continue
                if source is None:
                    verdicts.reject(row, Outcome.CHANGED_DURING_RUN)
                    continue
                opened.append(row.size)
                with _explained(row):
                    _judge(run, verdicts, row, source, staged)
    if len(verdicts.names) < run.params.min_images:
        for name, index in verdicts.names.items():
            few = verdicts.rows[index]
            verdicts.rows[index] = few._replace(outcome=Outcome.TOO_FEW_IMAGES.value, key=None, staged_mtime_ns=None)
            (staged / name).unlink(missing_ok=True)
        verdicts.names.clear()
    place(run, staged, present, set(verdicts.names), before)
    return verdicts, opened


def _settled(run: Run, verdicts: Verdicts, row: Row, present: dict[str, os.stat_result]) -> bool:
    """Settle a file that the last release knows without opening it; False where it must be opened after all."""
    if row.sha256 is None:
        return False
    if row.outcome in _OF_THE_BYTES:
        verdicts.reject(row, Outcome(row.outcome))
        return True
    if row.sha256 in verdicts.hashes:
        verdicts.reject(row, Outcome.DUPLICATE_CONTENT)
        return True
    name = verdicts.free_name(row)
    status = present.get(name)
    if (
        status is None
        or row.key != f"{row.identity}/{name}"
        or not stat.S_ISREG(status.st_mode)
        or (status.st_size, status.st_mtime_ns) != (row.size, row.staged_mtime_ns)
        or (run.params.link_mode != "hardlink" and status.st_nlink > 1)
    ):
        return False
    verdicts.hashes.add(row.sha256)
    verdicts.keep(row, name, status.st_mtime_ns)
    return True


_OF_THE_BYTES = {Outcome.NOT_AN_IMAGE, Outcome.CORRUPT, Outcome.WRONG_SIZE, Outcome.EMPTY_FILE}


def _judge(run: Run, verdicts: Verdicts, row: Row, source: int, staged: Path) -> None:
    """Open a file once, decide what becomes of it, and stage it if it is kept."""
    try:
        descriptor = os.open(row.name, _OPEN, dir_fd=source)
    except OSError as error:
        if error.errno not in {errno.ENOENT, errno.ELOOP}:
            raise
        verdicts.reject(row, Outcome.CHANGED_DURING_RUN)
        return
    try:
        data = _read_unchanged(descriptor, row)
        if data is None:
            verdicts.reject(row, Outcome.CHANGED_DURING_RUN)
            return
        digest = hashlib.sha256(data).digest()
        seen = images.inspect(data, run.dataset.image_size, run.params.decode)
        row = row._replace(sha256=digest, format=seen.format, colour=seen.colour)
        if seen.rejected is not None:
            verdicts.reject(row, seen.rejected)
        elif digest in verdicts.hashes:
            verdicts.reject(row, Outcome.DUPLICATE_CONTENT)
        elif len((name := verdicts.free_name(row)).encode()) > names.MAX_NAME_BYTES:
            verdicts.reject(row, Outcome.UNSAFE_NAME)
        else:
            status = _stage(descriptor, data, source, row.name, staged / name, link_mode=run.params.link_mode)
            if status is None:
                verdicts.reject(row, Outcome.CHANGED_DURING_RUN)
                return
            verdicts.hashes.add(digest)
            verdicts.keep(row, name, status.st_mtime_ns)
    finally:
        os.close(descriptor)


def _read_unchanged(descriptor: int, row: Row) -> bytes | None:
    """All bytes of an open file, or None if it is not the file that the scan saw."""
    scanned = (row.size, row.mtime_ns)
    before = os.fstat(descriptor)
    if not stat.S_ISREG(before.st_mode) or (before.st_size, before.st_mtime_ns) != scanned:
        return None
    data = b"".join(iter(lambda: os.read(descriptor, row.size + 1), b""))
    after = os.fstat(descriptor)
    unchanged = len(data) == row.size and (after.st_size, after.st_mtime_ns) == scanned
    return data if unchanged else None


def _stage(
    descriptor: int, data: bytes, source: int, name: str, target: Path, *, link_mode: LinkMode
) -> os.stat_result | None:
    """Make `target` hold exactly `data`; None if the source changed under a clone or link."""
    if link_mode == "hardlink":
        try:
            os.link(name, target, src_dir_fd=source, follow_symlinks=False)
        except OSError as error:
            if error.errno not in {errno.EXDEV, errno.EPERM, errno.EMLINK, errno.EOPNOTSUPP}:
                raise
        else:
            linked, read = os.lstat(target), os.fstat(descriptor)
            same = (linked.st_ino, linked.st_size, linked.st_mtime_ns) == (
                read.st_ino,
                len(data),
                read.st_mtime_ns,
            )
            if not same:
                target.unlink()
            return linked if same else None
    written = os.open(target, _CREATE, files.FILE_MODE)
    try:
        if link_mode == "clone" and _cloned(descriptor, written):
            if os.pread(written, len(data) + 1, 0) != data:
                target.unlink()
                return None
        else:
            view = memoryview(data)
            while view:
                view = view[os.write(written, view) :]
        return os.fstat(written)
    finally:
        os.close(written)


def _cloned(source: int, target: int) -> bool:
    try:
        fcntl.ioctl(target, _FICLONE, source)
    except OSError as error:
        if error.errno not in _NOT_CLONEABLE:
            raise
        return False
    return True


def present_in(folder: Path) -> dict[str, os.stat_result]:
    """What lies in an identity's folder of the output; a link or file in the folder's place is removed."""
    try:
        if not stat.S_ISDIR(os.lstat(folder).st_mode):
            folder.unlink()
            return {}
    except FileNotFoundError:
        return {}
    with os.scandir(folder) as entries:
        return {entry.name: entry.stat(follow_symlinks=False) for entry in entries}


def place(
    run: Run,
    staged: Path,
    present: dict[str, os.stat_result],
    wanted: set[str],
    before: removed.Before,
) -> None:
    """Bring the identity's folder of the output to exactly the `wanted` names."""
    final = run.output / staged.name
    new = [entry.name for entry in staged.iterdir()]
    strays = present.keys() - wanted
    if new or strays:
        release.open_for_change(run)
    if new and not present:
        staged.rename(final)
        return
    for name in new:
        if name in present:
            removed.take_out(run, final / name, before)
        (staged / name).rename(final / name)
    for name in strays:
        removed.take_out(run, final / name, before)
    staged.rmdir()
    if not wanted and final.exists():
        final.rmdir()


@contextmanager
def _export_roots(run: Run) -> Iterator[dict[str, int]]:
    with ExitStack() as stack:
        roots = {}
        for export in run.dataset.exports:
            root = export.folder(Path(run.params.local_source))
            roots[export.name] = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            stack.callback(os.close, roots[export.name])
        yield roots


@contextmanager
def _source_folder(root: int, folder: str) -> Iterator[int | None]:
    """Descriptor of a folder of an export; None if it is gone or a link, so that its files count as changed."""
    if not folder:
        yield root
        return
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=root)
    except (FileNotFoundError, NotADirectoryError):
        yield None
        return
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextmanager
def _explained(row: Row) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        msg = (
            f"export {row.export}: {error.filename or row.name}: {error.strerror}; if it is a source, let the user "
            "that runs Airflow's workers read it; if the disk is full, make room; then clear this task"
        )
        raise CopyError(msg) from error


def rows_of(table: pa.Table) -> Iterator[Row]:
    """The rows of a table of the ledger's schema."""
    for batch in table.to_batches(max_chunksize=10_000):
        columns = [column.to_pylist() for column in batch.columns]
        yield from map(Row._make, zip(*columns, strict=True))
