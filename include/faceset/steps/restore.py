"""restore_shard: in a run that rolls back, in the place of copy_shard: one shard of a kept release -> the output.

Nothing is judged again. What the output no longer holds was set aside (``set_aside.py``), or still lies in its
export; its SHA-256 tells that it is the same. Where the run has no output, the sync looks for what the destination no
longer holds: among the versions that S3 keeps, and in the exports.
"""

import hashlib
import os
from contextlib import AbstractContextManager, ExitStack, suppress
from itertools import groupby
from typing import BinaryIO

import pyarrow as pa
import pyarrow.compute as pc

from include.faceset.exports.opening import open_now, read_object
from include.faceset.exports.rows import Row, rows_of
from include.faceset.ground import files, tables, times
from include.faceset.images import large
from include.faceset.images.large import Large
from include.faceset.output import set_aside
from include.faceset.output.copied import Copied, CopyError
from include.faceset.output.folder import place, present_in
from include.faceset.output.stage import stage
from include.faceset.ports import ARCHIVED
from include.faceset.release import memory
from include.faceset.run import turns
from include.faceset.run.attempt import Attempt, trying
from include.faceset.run.run import Run
from include.faceset.run.selected import read_selected


def restore_shard(run: Run, shard: int) -> Copied:
    """Bring one shard of the output, if any, to the release that the run rolls back to; safe to run again.

    Raises:
        CopyError: bytes of the release are nowhere to be had any more.
        FilterError: nothing was selected.
    """
    selected = read_selected(run, shard)
    identities = pc.count_distinct(selected["identity"]).as_py()
    read: list[int] = []
    with trying(run, f"shard={shard:03d}") as attempt:
        if run.on_disk:
            turns.set_out(run)
            read = _restore(attempt, shard, selected)
        tables.write(selected, run.copied(shard), within=attempt.folder)
    return Copied(shard, identities, selected.num_rows, rejected=0, read=len(read), bytes_read=sum(read))


def _restore(attempt: Attempt, shard: int, selected: pa.Table) -> list[int]:
    """Bring the shard's part of the output to `selected`; the sizes in bytes of the files that were read for it."""
    run = attempt.run
    placed = set_aside.placed_by(memory.known_files(run, shard))
    read: list[int] = []
    missing: list[Row] = []
    files.make_folder(run.output)
    for identity, group in groupby(rows_of(selected.sort_by("key")), key=lambda row: row.identity):
        rows = {str(row.key).rpartition("/")[2]: row for row in group}
        staged, final = attempt.new / identity, run.output / identity
        present = present_in(final)
        staged.mkdir(mode=files.FOLDER_MODE)
        for name, row in rows.items():
            status = present.get(name)
            if status is not None and (status.st_size, times.mtime_ns(status)) == (row.size, row.staged_mtime_ns):
                continue
            with ExitStack() as files_open:
                content = _content(run, row, files_open)
                if content is None or stage(None, content, str(staged / name), "copy") is None:
                    missing.append(row)
                    continue
            read.append(row.size)
            os.utime(staged / name, ns=(row.mtime_ns, row.staged_mtime_ns or row.mtime_ns))
        if not missing:
            place(attempt, staged, present, set(rows), placed)
    if missing:
        raise CopyError(
            f"{len(missing):,} images of release {run.params.release} are no longer in the output, among what "
            f"was set aside, or unchanged in their exports (such as {missing[0].name} of {missing[0].export}); "
            "bring the export back, or roll back to another release"
        )
    return read


def _content(run: Run, row: Row, files_open: ExitStack) -> bytes | Large | None:
    """The image that the release holds, by its SHA-256; None if it is nowhere."""
    wanted = row.sha256 or b""
    if row.size > run.dataset.max_file_size:
        return _large(run, row, wanted, files_open)
    data = set_aside.read_image(run, wanted)
    if data is None or hashlib.sha256(data).digest() != wanted:
        data = _from_export(run, row)
    return data if data is not None and hashlib.sha256(data).digest() == wanted else None


def _large(run: Run, row: Row, wanted: bytes, files_open: ExitStack) -> Large | None:
    """The same of a file that is too large for memory; it stays open."""
    for opening in (set_aside.open_image(run, wanted), _open_now(run, row)):
        with suppress(OSError):
            file = files_open.enter_context(opening)
            if file is not None and large.sha256(file) == wanted:
                return Large(file, wanted)
    return None


def _from_export(run: Run, row: Row) -> bytes | None:
    if row.export in run.sources:
        data = read_object(run, row)
        return None if data == ARCHIVED else data
    try:
        with _open_now(run, row) as file:
            return None if file is None else file.read()
    except OSError:
        return None


def _open_now(run: Run, row: Row) -> AbstractContextManager[BinaryIO | None]:
    return open_now(run, row.export, row.path, row.size, row.etag)
