"""copy_shard: one shard's selected rows -> files in the merged dataset and ``copied/shard=K.parquet``.

Each file is opened once: its bytes are hashed, decoded, compared with what this identity already
has, and written from that same read. An identity's files are staged beside the output and moved in
when its verdict is known, a new identity by one rename; so a killed task leaves no half-made folder.
Where the run has no output, nothing is written: the rows say where the bytes lie, for the sync.
A file that the last release holds unchanged (same export, path, size, mtime and ETag; the staged file
untouched) is not opened at all, and identities of which nothing changed are taken over as a whole.

(A run that rolls back to a kept release uses ``restore_shard.py`` instead.)
"""

import errno
import hashlib
import logging
import os
import stat
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import BinaryIO, Literal, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from include.faceset import names
from include.faceset.declared.params import LinkMode
from include.faceset.errors import Again
from include.faceset.exports.on_disk import opened
from include.faceset.exports.read_ahead import Ahead, reading_ahead
from include.faceset.ground import files, tables, times
from include.faceset.images import judge, large, unchanged
from include.faceset.images.large import Large
from include.faceset.ledger import LEDGER, Outcome, kept
from include.faceset.output import set_aside
from include.faceset.output.stage import Source, feasible, stage
from include.faceset.ports import ARCHIVED
from include.faceset.release import release
from include.faceset.run import turns
from include.faceset.run.attempt import Attempt, attempt
from include.faceset.run.run import Run
from include.faceset.steps.select import read_selected

log = logging.getLogger(__name__)

_OPEN = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_SECONDS_BETWEEN_LINES = 10


class CopyError(Again):
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


@dataclass(frozen=True)
class Shared:
    """What all identities of this try of a shard share.

    `roots` has a descriptor of the root of each export on a disk, `ahead` the new files of those in S3, `before` what
    the last release put into the output, by key.
    """

    attempt: Attempt
    link_mode: LinkMode
    roots: dict[str, int]
    ahead: "Ahead[Row, bytes | Literal['archived'] | None]"
    before: set_aside.Before


class Row(NamedTuple):
    """A selected file and, where the last release knows the same bytes, what it knows (else None)."""

    identity: str
    path: str
    export: str
    partition: str | None
    size: int
    mtime_ns: int
    etag: str | None
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
    opened: list[int] = field(default_factory=list)
    """Sizes in bytes of the files that were read."""

    def reject(self, row: Row, outcome: Outcome) -> None:
        self.rows.append(row._replace(outcome=outcome.value, key=None, staged_mtime_ns=None))

    def keep(self, row: Row, name: str, staged_mtime_ns: int | None) -> None:
        self.names[name] = len(self.rows)
        key = f"{row.identity}/{name}"
        self.rows.append(row._replace(outcome=Outcome.KEPT.value, key=key, staged_mtime_ns=staged_mtime_ns))

    def give_up(self) -> list[str]:
        """Keep none after all, since they are too few; the names that they had."""
        names = list(self.names)
        for index in self.names.values():
            row = self.rows[index]
            self.rows[index] = row._replace(outcome=Outcome.TOO_FEW_IMAGES.value, key=None, staged_mtime_ns=None)
        self.names.clear()
        return names

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
        FilterError: nothing was selected.
        WriteError: the output's disk is full.
    """
    with attempt(run, f"shard={shard:03d}") as mine:
        if run.on_disk:
            turns.set_out(run)
            files.make_folder(run.output)
        copied, opened = _copy(mine, shard)
        tables.write(copied, run.copied(shard), within=mine.folder)
    images_kept = kept(copied)
    identities = pc.count_distinct(images_kept["identity"]).as_py()
    rejected = copied.num_rows - images_kept.num_rows
    return Copied(shard, identities, images_kept.num_rows, rejected, len(opened), sum(opened))


def _copy(mine: Attempt, shard: int) -> tuple[pa.Table, list[int]]:
    """The shard's ledger rows once its images are judged and in place, and the sizes in bytes of those opened."""
    run = mine.run
    known = release.known_files(run, shard)
    selected = unchanged.with_known(read_selected(run, shard), known)
    done = LEDGER.empty_table()
    if release.same_rule(run):
        done = unchanged.settled(run, selected, known)
        settled = pc.unique(done["identity"])
        selected = selected.filter(pc.invert(pc.is_in(selected["identity"], value_set=settled)))
    link_mode = feasible(run.params.link_mode, mine.new) if run.on_disk else run.params.link_mode
    before = set_aside.before(known.filter(pc.is_in(known["identity"], value_set=pc.unique(selected["identity"]))))
    rows: list[Row] = []
    opened: list[int] = []
    is_small = pc.less_equal(selected["size"], run.dataset.max_file_size)
    is_new = pc.and_(pc.is_valid(selected["etag"]), pc.is_null(selected["sha256"]))
    new_in_s3 = selected.filter(pc.and_(is_new, is_small))
    coming = ((row, row.size) for row in rows_of(new_in_s3))
    with (
        _export_roots(run) as roots,
        reading_ahead(coming, partial(read_object, run)) as ahead,
        judge.without_warnings(),
    ):
        shared = Shared(mine, link_mode, roots, ahead, before)
        started = said = time.monotonic()
        for identity, group in groupby(rows_of(selected), key=lambda row: row.identity):
            verdicts = copy_identity(shared, mine.new / identity, list(group))
            rows.extend(verdicts.rows)
            opened.extend(verdicts.opened)
            if time.monotonic() - said > _SECONDS_BETWEEN_LINES:
                said = time.monotonic()
                rate = len(rows) / (said - started)
                log.info("%s of %s images, %.0f a second", f"{len(rows):,}", f"{selected.num_rows:,}", rate)
    return pa.concat_tables([done, tables.of_rows(rows, LEDGER)]), opened


def copy_identity(shared: Shared, staged: Path, rows: list[Row]) -> Verdicts:
    """Judge the images of one identity and, where the run has an output, copy them.

    Args:
        shared: what all identities of the shard share.
        staged: a folder that does not exist yet, for the identity's new files.
        rows: its selected files in canonical order (export, path).

    Returns:
        The verdicts, one row a file.
    """
    run = shared.attempt.run
    present: dict[str, os.stat_result] = {}
    if run.on_disk:
        present = present_in(run.output / staged.name)
        staged.mkdir(mode=files.FOLDER_MODE)
    verdicts = Verdicts()
    for (export, folder), group in groupby(rows, key=lambda row: (row.export, row.folder)):
        with _source_folder(shared.roots.get(export), folder) as source:
            for row in group:
                if not _settled(run, verdicts, row, present):
                    _copy_file(shared, verdicts, row, source, staged)
    if len(verdicts.names) < run.params.min_images:
        for name in verdicts.give_up():
            if run.on_disk:
                (staged / name).unlink(missing_ok=True)
    if run.on_disk:
        place(shared.attempt, staged, present, set(verdicts.names), shared.before)
    return verdicts


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
    if not run.on_disk:
        verdicts.hashes.add(row.sha256)
        verdicts.keep(row, name, None)
        return True
    status = present.get(name)
    if (
        status is None
        or row.key != f"{row.identity}/{name}"
        or not stat.S_ISREG(status.st_mode)
        or (status.st_size, times.mtime_ns(status)) != (row.size, row.staged_mtime_ns)
        or (run.params.link_mode != "hardlink" and status.st_nlink > 1)
    ):
        return False
    verdicts.hashes.add(row.sha256)
    verdicts.keep(row, name, times.mtime_ns(status))
    return True


_OF_THE_BYTES = {
    Outcome.CORRUPT,
    Outcome.DAMAGED,
    Outcome.EMPTY_FILE,
    Outcome.NOT_8_BIT,
    Outcome.NOT_AN_IMAGE,
    Outcome.OTHER_FORMAT,
    Outcome.TRANSPARENT,
    Outcome.WRONG_SIZE,
}


class Found(NamedTuple):
    """A file that was read, by its bytes or, if it is large, as an open file; and its source where that is a disk."""

    content: bytes | BinaryIO
    source: Source | None


def _judge(shared: Shared, verdicts: Verdicts, row: Row, found: Found | None, staged: Path) -> None:
    """Decide what becomes of a file that was read (None: not the one that the scan saw); stage it if it is kept."""
    if found is None:
        verdicts.reject(row, Outcome.CHANGED_DURING_RUN)
        return
    run = shared.attempt.run
    content: bytes | Large
    if isinstance(found.content, bytes):
        digest, content = hashlib.sha256(found.content).digest(), found.content
        seen = judge.inspect(content, run.dataset.image_size, run.params.decode)
    else:
        seen = judge.inspect_large(found.content, run.dataset.image_size, run.params.decode)
        if seen.rejected is not None:
            verdicts.reject(row._replace(format=seen.format, colour=seen.colour), seen.rejected)
            return
        digest = large.sha256(found.content)
        content = Large(found.content, digest)
        if found.source is not None and not _is_unchanged(os.fstat(found.source.descriptor), row):
            verdicts.reject(row, Outcome.CHANGED_DURING_RUN)
            return
    verdicts.opened.append(row.size)
    row = row._replace(sha256=digest, format=seen.format, colour=seen.colour)
    if seen.rejected is not None:
        verdicts.reject(row, seen.rejected)
    elif digest in verdicts.hashes:
        verdicts.reject(row, Outcome.DUPLICATE_CONTENT)
    elif len((name := verdicts.free_name(row)).encode()) > names.MAX_NAME_BYTES:
        verdicts.reject(row, Outcome.UNSAFE_NAME)
    elif not run.on_disk:
        verdicts.hashes.add(digest)
        verdicts.keep(row, name, None)
    else:
        status = stage(found.source, content, f"{staged}/{name}", shared.link_mode)
        if status is None:
            verdicts.reject(row, Outcome.CHANGED_DURING_RUN)
            return
        verdicts.hashes.add(digest)
        verdicts.keep(row, name, times.mtime_ns(status))


def _copy_file(shared: Shared, verdicts: Verdicts, row: Row, folder: int | None, staged: Path) -> None:
    """Read a file and judge it, or say why it cannot be read or written.

    `folder` is the descriptor of its folder; None where that is gone, and in S3.
    """
    try:
        _read_and_judge(shared, verdicts, row, folder, staged)
    except OSError as error:
        if files.is_full(error):  # the output's disk: `attempt` says so
            raise
        msg = (
            f"export {row.export}: {error.filename or row.name}: {error.strerror}; if it is a source, let the user "
            "that runs Airflow's workers read it; if a disk or a mount fails, see to it; then clear this task"
        )
        raise CopyError(msg) from error


def _read_and_judge(shared: Shared, verdicts: Verdicts, row: Row, folder: int | None, staged: Path) -> None:
    if row.etag is not None:
        _read_and_judge_object(shared, verdicts, row, staged)
        return
    descriptor = _opened_file(folder, row.name)
    if descriptor is None:
        _judge(shared, verdicts, row, None, staged)
        return
    try:
        if row.size > shared.attempt.run.dataset.max_file_size:
            with os.fdopen(descriptor, "rb", closefd=False) as file:
                status = os.fstat(descriptor)
                source = Source(folder or 0, row.name, descriptor, status)
                _judge(shared, verdicts, row, Found(file, source) if _is_unchanged(status, row) else None, staged)
            return
        read = _read_unchanged(descriptor, row)
        found = read and Found(read[0], Source(folder or 0, row.name, descriptor, read[1]))
        _judge(shared, verdicts, row, found, staged)
    finally:
        os.close(descriptor)


def _read_and_judge_object(shared: Shared, verdicts: Verdicts, row: Row, staged: Path) -> None:
    run = shared.attempt.run
    content: bytes | BinaryIO | Literal["archived"] | None
    if row.size > run.dataset.max_file_size:
        content = run.sources[row.export].open(row.path, row.etag or "", row.size)
    else:
        content = shared.ahead.take(row) if row.sha256 is None else read_object(run, row)
    if content == ARCHIVED:
        verdicts.reject(row, Outcome.ARCHIVED)
        return
    try:
        _judge(shared, verdicts, row, None if content is None else Found(content, None), staged)
    except FileNotFoundError:  # a large one, while it was read
        verdicts.reject(row, Outcome.CHANGED_DURING_RUN)


def read_object(run: Run, row: Row) -> bytes | Literal["archived"] | None:
    """The bytes of a file of an export in S3; None if it is not the one that the scan saw."""
    data = run.sources[row.export].read(row.path, row.etag or "")
    return data if data is None or data == ARCHIVED or len(data) == row.size else None


def _opened_file(folder: int | None, name: str) -> int | None:
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
        data = os.read(descriptor, row.size + 1)
        while 0 < len(data) < row.size and (more := os.read(descriptor, row.size + 1 - len(data))):
            data += more
        status = os.fstat(descriptor)
    except OSError as error:
        if error.errno != errno.ESTALE:  # NFS: replaced or removed by another machine
            raise
        return None
    return (data, status) if len(data) == row.size and _is_unchanged(status, row) else None


def _is_unchanged(status: os.stat_result, row: Row) -> bool:
    same = (status.st_size, times.mtime_ns(status)) == (row.size, row.mtime_ns)
    return same and stat.S_ISREG(status.st_mode)


def present_in(folder: Path) -> dict[str, os.stat_result]:
    """What lies in an identity's folder of the output; nothing, where a link or a file is in its place."""
    try:
        if not stat.S_ISDIR(os.lstat(folder).st_mode):
            return {}
    except FileNotFoundError:
        return {}
    with os.scandir(folder) as entries:
        return {entry.name: entry.stat(follow_symlinks=False) for entry in entries}


def place(
    mine: Attempt,
    staged: Path,
    present: dict[str, os.stat_result],
    wanted: set[str],
    before: set_aside.Before,
) -> None:
    """Bring the identity's folder of the output to exactly the `wanted` names."""
    new = [path.name for path in staged.iterdir()]
    strays = present.keys() - wanted
    final = mine.run.output / staged.name
    given_up = not wanted and final.is_dir() and not final.is_symlink()
    if not new and not strays and not given_up:
        staged.rmdir()
        return
    release.open_for_change(mine)
    if new and not present:
        try:
            staged.rename(final)
        except NotADirectoryError:  # a link or a file is in its place
            mine.discard(final)
            staged.rename(final)
        return
    for name in new:
        if name in present:
            set_aside.take_out(mine, final / name, before)
        (staged / name).rename(final / name)
    for name in strays:
        set_aside.take_out(mine, final / name, before)
    staged.rmdir()
    if given_up:
        final.rmdir()


@contextmanager
def _export_roots(run: Run) -> Iterator[dict[str, int]]:
    with ExitStack() as stack:
        yield {
            export.name: stack.enter_context(opened(run.folder(export), follow=True))
            for export in run.dataset.exports
            if not export.in_s3
        }


@contextmanager
def _source_folder(root: int | None, folder: str) -> Iterator[int | None]:
    """Descriptor of a folder of an export; None if it is gone or a link, so that its files count as changed.

    Of an export in S3 there is none, nor a `root`.
    """
    if not folder or root is None:
        yield root
        return
    with ExitStack() as stack:
        try:
            descriptor = stack.enter_context(opened(folder, root))
        except (FileNotFoundError, NotADirectoryError):
            descriptor = None
        yield descriptor


def rows_of(table: pa.Table) -> Iterator[Row]:
    """The rows of a table of the ledger's schema."""
    for batch in table.to_batches(max_chunksize=10_000):
        columns = [column.to_pylist() for column in batch.columns]
        yield from map(Row._make, zip(*columns, strict=True))
