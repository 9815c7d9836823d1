"""restore_shard: in a run that rolls back, in the place of copy_shard: one shard of a kept release -> the output.

Nothing is judged again. What the output no longer holds was set aside (``removed.py``), or still lies in its
export; its SHA-256 tells that it is the same. Where the run has no output, the sync looks for what the destination no
longer holds: among the versions that S3 keeps, and in the exports.
"""

import hashlib
import os
from itertools import groupby
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from include.faceset import files, release, removed, tables, turns
from include.faceset.attempt import Attempt, attempt
from include.faceset.copy_shard import Copied, CopyError, Row, place, present_in, read_object, rows_of
from include.faceset.filter_manifest import read_selected
from include.faceset.run import Run


def restore_shard(run: Run, shard: int) -> Copied:
    """Bring one shard of the output, if any, to the release that the run rolls back to; safe to run again.

    Raises:
        CopyError: bytes of the release are nowhere to be had any more.
        FilterError: nothing was selected.
    """
    selected = read_selected(run, shard)
    identities = pc.count_distinct(selected["identity"]).as_py()
    read: list[int] = []
    with attempt(run, f"shard={shard:03d}") as mine:
        if run.on_disk:
            turns.set_out(run)
            read = _restore(mine, shard, selected)
        tables.write(selected, run.copied(shard), within=mine.folder)
    return Copied(shard, identities, selected.num_rows, rejected=0, read=len(read), bytes_read=sum(read))


def _restore(mine: Attempt, shard: int, selected: pa.Table) -> list[int]:
    """Bring the shard's part of the output to `selected`; the sizes in bytes of the files that were read for it."""
    run = mine.run
    before = removed.before(release.known_files(run, shard))
    roots = {export.name: run.folder(export) for export in run.dataset.exports if not export.in_s3}
    read: list[int] = []
    missing: list[Row] = []
    files.make_folder(run.output)
    for identity, group in groupby(rows_of(selected.sort_by("key")), key=lambda row: row.identity):
        rows = {str(row.key).rpartition("/")[2]: row for row in group}
        staged, final = mine.new / identity, run.output / identity
        present = present_in(final)
        staged.mkdir(mode=files.FOLDER_MODE)
        for name, row in rows.items():
            there = present.get(name)
            if there is not None and (there.st_size, there.st_mtime_ns) == (row.size, row.staged_mtime_ns):
                continue
            data = _bytes(run, roots, row)
            if data is None:
                missing.append(row)
                continue
            read.append(row.size)
            (staged / name).touch(mode=files.FILE_MODE, exist_ok=False)
            (staged / name).write_bytes(data)
            os.utime(staged / name, ns=(row.mtime_ns, row.staged_mtime_ns or row.mtime_ns))
        if not missing:
            place(mine, staged, present, set(rows), before)
    if missing:
        msg = (
            f"{len(missing):,} images of release {run.params.release} are no longer in the output, among what "
            f"was set aside, or unchanged in their exports (such as {missing[0].name} of {missing[0].export}); "
            "bring the export back, or roll back to another release"
        )
        raise CopyError(msg)
    return read


def _bytes(run: Run, roots: dict[str, Path], row: Row) -> bytes | None:
    """The image that the release holds, by its SHA-256."""
    wanted = row.sha256 or b""
    data = removed.read(run, wanted)
    if data is None or hashlib.sha256(data).digest() != wanted:
        data = _from_export(run, roots, row)
    return data if data is not None and hashlib.sha256(data).digest() == wanted else None


def _from_export(run: Run, roots: dict[str, Path], row: Row) -> bytes | None:
    if row.export in run.sources:
        return read_object(run, row)
    try:
        return (roots[row.export] / row.path).read_bytes()
    except (KeyError, OSError):
        return None
