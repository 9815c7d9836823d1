"""copy_shard: one shard's selected rows -> files in the merged dataset and ``copied/shard=K.parquet``.

Each file is opened once: it is read, judged by its bytes and by what its identity already has, and put in place from
that same read. An identity's files are staged beside the output and moved in when its verdict is known, a new identity
by one rename; so a killed task leaves no half-made folder. Where the run has no output, nothing is written: the rows
say where the bytes lie, for the sync.
A file that the last release holds unchanged (same export, path, size, mtime and ETag; the staged file
untouched) is not opened at all, and identities of which nothing changed are taken over as a whole.

(A run that rolls back to a kept release uses ``restore.py`` instead.)
"""

import logging
import os
import stat
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from include.faceset.declared.params import LinkMode
from include.faceset.declared.resolve import Decided
from include.faceset.exports import opening
from include.faceset.exports.read_ahead import reading_ahead
from include.faceset.exports.rows import Row, rows_of
from include.faceset.ground import files, tables, times
from include.faceset.images import judge, unchanged
from include.faceset.images.pictures import Album
from include.faceset.images.verdicts import OF_THE_BYTES, Judged, Verdicts, judge_file
from include.faceset.ledger import LEDGER, Outcome, count_outcomes, kept
from include.faceset.output import set_aside
from include.faceset.output.copied import Copied, CopyError
from include.faceset.output.folder import place, present_in
from include.faceset.output.stage import feasible, stage
from include.faceset.release import memory
from include.faceset.run import decided, turns
from include.faceset.run.attempt import Attempt, trying
from include.faceset.run.run import Run
from include.faceset.run.selected import read_selected

log = logging.getLogger(__name__)

_SECONDS_BETWEEN_LINES = 10


@dataclass(frozen=True)
class Shard:
    """What all identities of this try of a shard share.

    `roots` has a descriptor of the root of each export on a disk, `fetched` the new files of those in S3, `placed` what
    the last release put into the output, by key, `decided` what people decided.
    """

    attempt: Attempt
    link_mode: LinkMode
    roots: dict[str, int]
    fetched: opening.Fetched
    placed: set_aside.Placed
    decided: Decided

    @property
    def run(self) -> Run:
        """The run that the try is of."""
        return self.attempt.run


def copy_shard(run: Run, shard: int) -> Copied:
    """Copy one shard's images that are good into the merged dataset; safe to run again.

    Raises:
        CopyError: a file exists but cannot be read (permission, disk), or the output cannot be written.
        FilterError: nothing was selected.
        WriteError: the output's disk is full.
    """
    with trying(run, f"shard={shard:03d}") as attempt:
        if run.on_disk:
            turns.set_out(run)
            files.make_folder(run.output)
        copied, opened = _copy(attempt, shard)
        tables.write(copied, run.copied(shard), within=attempt.folder)
    images_kept = kept(copied)
    identities = pc.count_distinct(images_kept["identity"]).as_py()
    rejected = copied.num_rows - images_kept.num_rows
    outcomes = count_outcomes(copied)
    return Copied(shard, identities, images_kept.num_rows, rejected, len(opened), sum(opened), outcomes)


def _copy(attempt: Attempt, shard: int) -> tuple[pa.Table, list[int]]:
    """The shard's ledger rows once its images are judged and in place, and the sizes in bytes of those opened."""
    run, known = attempt.run, memory.known_files(attempt.run, shard)
    selected = unchanged.with_known(read_selected(run, shard), known)
    done = LEDGER.empty_table()
    if memory.same_rule(run):
        done = unchanged.take_over(run, selected, known)
        selected = tables.without(selected, "identity", done["identity"])
    rows: list[Row] = []
    album = Album()
    opened: list[int] = []
    with _open_shard(attempt, selected, known) as work, judge.without_warnings():
        grouped = groupby(rows_of(selected), key=lambda row: row.identity)
        for verdicts in _telling(selected.num_rows, (copy_identity(work, *one) for one in grouped)):
            for index, picture in verdicts.pictures.items():
                album.add(len(rows) + index, picture)
            rows.extend(verdicts.rows)
            opened.extend(verdicts.opened)
    return pa.concat_tables([done, album.filled(tables.of_rows(rows, LEDGER))]), opened


@contextmanager
def _open_shard(attempt: Attempt, selected: pa.Table, known: pa.Table) -> Iterator[Shard]:
    """Give what all identities share, with the exports open and what is new in S3 on its way."""
    run = attempt.run
    link_mode = feasible(run.params.link_mode, attempt.new) if run.on_disk else run.params.link_mode
    placed = set_aside.placed_by(tables.only(known, "identity", selected["identity"]))
    is_new = pc.and_(pc.is_valid(selected["etag"]), pc.is_null(selected["sha256"]))
    is_small = pc.less_equal(selected["size"], run.dataset.max_file_size)
    coming = ((row, row.size) for row in rows_of(selected.filter(pc.and_(is_new, is_small))))
    with opening.export_roots(run) as roots, reading_ahead(coming, partial(opening.read_object, run)) as fetched:
        yield Shard(attempt, link_mode, roots, fetched, placed, decided.of(run))


def _telling(total: int, identities: Iterable[Verdicts]) -> Iterator[Verdicts]:
    """Log now and then how many images of all are done."""
    done, started = 0, time.monotonic()
    said = started
    for verdicts in identities:
        yield verdicts
        done += len(verdicts.rows)
        if time.monotonic() - said > _SECONDS_BETWEEN_LINES:
            said = time.monotonic()
            log.info("%s of %s images, %.0f a second", f"{done:,}", f"{total:,}", done / (said - started))


def copy_identity(shard: Shard, identity: str, rows: Iterable[Row]) -> Verdicts:
    """Judge the images of one identity and, where the run has an output, copy them.

    Args:
        shard: what all identities of the shard share.
        identity: its name.
        rows: its selected files in canonical order (export, path).

    Returns:
        The verdicts, one row a file.
    """
    run, staged = shard.run, shard.attempt.new / identity
    present: dict[str, os.stat_result] = {}
    if run.on_disk:
        present = present_in(run.output / identity)
        staged.mkdir(mode=files.FOLDER_MODE)
    verdicts = Verdicts(shard.decided)
    for (export, folder), group in groupby(rows, key=lambda row: (row.export, row.folder)):
        with opening.export_folder(shard.roots.get(export), folder) as descriptor:
            for row in group:
                if not _taken_over(run, verdicts, row, present):
                    _copy_file(shard, verdicts, row, descriptor, staged)
    for name in verdicts.judge_together(run.dataset, identity, run.params.min_images):
        if run.on_disk:
            (staged / name).unlink(missing_ok=True)
    if run.on_disk:
        place(shard.attempt, staged, present, set(verdicts.names), shard.placed)
    return verdicts


def _taken_over(run: Run, verdicts: Verdicts, row: Row, present: dict[str, os.stat_result]) -> bool:
    """Settle a file that the last release knows without opening it; False where it must be opened after all."""
    if row.sha256 is None or _lacks_sharpness(run, row):
        return False
    if row.outcome in OF_THE_BYTES:
        verdicts.reject(row, Outcome(row.outcome))
        return True
    if (rejected := verdicts.outcome(Judged(row, None, None))) is not None:
        verdicts.reject(row, rejected)
        return True
    name = verdicts.free_name(row)
    if not run.on_disk:
        verdicts.keep(row, name, None)
        return True
    status = present.get(name)
    if status is None or row.key != f"{row.identity}/{name}" or not _is_as_put(run, row, status):
        return False
    verdicts.keep(row, name, times.mtime_ns(status))
    return True


def _lacks_sharpness(run: Run, row: Row) -> bool:
    """Whether the dataset now asks how sharp an image is, of which the last release did not."""
    return run.dataset.pictures.need_sharpness and row.sharpness is None and row.brightness is not None


def _is_as_put(run: Run, row: Row, status: os.stat_result) -> bool:
    """Whether a file of the output is the one that was put there; without hard links nobody else may hold its bytes."""
    same = (status.st_size, times.mtime_ns(status)) == (row.size, row.staged_mtime_ns)
    alone = run.params.link_mode == "hardlink" or status.st_nlink <= 1
    return same and alone and stat.S_ISREG(status.st_mode)


def _copy_file(shard: Shard, verdicts: Verdicts, row: Row, folder: int | None, staged: Path) -> None:
    """Read a file, judge it, put it in place; `folder` as of `opening.reading`.

    Raises:
        CopyError: it cannot be read or written.
    """
    try:
        with opening.reading(shard.run, row, folder, shard.fetched) as read:
            if isinstance(read, Outcome):
                verdicts.reject(row, read)
                return
            judged = judge_file(shard.run, row, read)
            if judged.content is not None:
                verdicts.opened.append(row.size)
            if judged.picture is not None:
                verdicts.pictures[len(verdicts.rows)] = judged.picture
            if (rejected := verdicts.outcome(judged)) is not None:
                verdicts.reject(judged.row, rejected)
            else:
                _put(shard, verdicts, judged, read.original, staged)
    except OSError as error:
        if row.etag is not None and isinstance(error, FileNotFoundError):  # a large one, while it was read
            verdicts.reject(row, Outcome.CHANGED_DURING_RUN)
            return
        if files.is_full(error):  # the output's disk: `trying` says so
            raise
        raise CopyError(
            f"export {row.export}: {error.filename or row.name}: {error.strerror}; if it is a source, let the user "
            "that runs Airflow's workers read it; if a disk or a mount fails, see to it; then clear this task"
        ) from error


def _put(shard: Shard, verdicts: Verdicts, judged: Judged, original: opening.OpenFile | None, staged: Path) -> None:
    """Stage an image that is kept, if the run has an output."""
    name, mtime_ns = verdicts.free_name(judged.row), None
    if shard.run.on_disk:
        status = stage(original, judged.content or b"", f"{staged}/{name}", shard.link_mode)
        if status is None:
            verdicts.reject(judged.row, Outcome.CHANGED_DURING_RUN)
            return
        mtime_ns = times.mtime_ns(status)
    verdicts.keep(judged.row, name, mtime_ns)
