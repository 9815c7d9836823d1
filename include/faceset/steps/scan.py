"""scan: one export, or the parts of it that have come -> manifests, which also hold what is no image of its layout.

Only metadata is read, no file is opened, no link is followed. An export in S3 is listed.
"""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pyarrow.compute as pc

from include.faceset import people
from include.faceset.declared.export import Export
from include.faceset.erasure import met
from include.faceset.errors import Again
from include.faceset.exports import in_s3, on_disk, parts
from include.faceset.exports.manifest import manifest_rows
from include.faceset.exports.on_disk import Listing
from include.faceset.ground import sharded
from include.faceset.ledger import SCANNED
from include.faceset.people import People
from include.faceset.run import turns
from include.faceset.run.attempt import Attempt, trying
from include.faceset.run.run import Run

_OF_A_DISK = {errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.ENOTCONN, errno.EHOSTDOWN}
ROWS_IN_MEMORY = 100_000
"""Files listed before they become rows: about 40 MB."""


class ScanError(Again):
    """An export that cannot be scanned as declared."""


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
        SupersededError: a later try of this scan has begun.
    """
    export = next(export for export in run.dataset.exports if export.name == export_name)
    if run.params.release is not None:  # a run that rolls back looks at no export
        return Scanned(export.name, 0, 0, 0, parts=0, absent=[])
    with trying(run, f"scan={export.name}") as attempt:
        return _scan(attempt, export)


def _scan(attempt: Attempt, export: Export) -> Scanned:
    run = attempt.run
    erased, seen = people.to_erase(run), set[str]()
    if not export.dated:
        images, rejected = _scan_folder(attempt, export, None, erased, seen)
        met.note_scan(attempt, export.name, seen)
        return Scanned(export.name, images + rejected, images, rejected, parts=0, absent=[])
    with _explained(export.name, _where(run, export, "")):
        partitions = parts.to_scan(run, export)
    absent = sorted(set(run.partitions or ()) - set(partitions))
    images = rejected = 0
    for partition in partitions:
        found = _scan_folder(attempt, export, partition, erased, seen)
        images, rejected = images + found[0], rejected + found[1]
    met.note_scan(attempt, export.name, seen)
    return Scanned(export.name, images + rejected, images, rejected, len(partitions), absent)


def _scan_folder(
    attempt: Attempt, export: Export, partition: str | None, erased: People, seen: set[str]
) -> tuple[int, int]:
    """Write one manifest, and add to `seen` whom of the people it has met; the numbers of images and of rejected files.

    Of the people the manifest has blank rows.
    """
    run = attempt.run
    if partition is not None and not run.params.dry_run:  # every later run builds on the manifest of a part
        turns.set_out(run)
    below = "" if partition is None else f"{export.part(partition)}/"
    where = _where(run, export, below)
    note: dict[str, Any] = {"declared": parts.declaration(export)}
    images = rejected = 0
    with (
        _explained(export.name, where),
        sharded.writing(
            run.manifest(export.name, partition),
            SCANNED,
            run.params.shards,
            note,
            within=attempt.folder,
            gathered=sharded.GATHERED_BYTES,
        ) as write,
    ):
        for listing in _list_files(run, export, below):
            rows = manifest_rows(export, partition, listing)
            seen |= people.named_by(erased, rows)
            rows = people.blanked(erased, rows)
            good = rows.filter(pc.is_null(rows["outcome"]))
            for shard, of_shard in sharded.split(good, run.params.shards):
                write(shard, of_shard)
            write(sharded.NO_SHARD, rows.filter(pc.is_valid(rows["outcome"])))
            images += good.num_rows
            rejected += rows.num_rows - good.num_rows
        if images + rejected == 0:
            known = run.manifest(export.name, partition)
            withdraw = f"; if the part is withdrawn, remove {known} and trigger again" if partition else ""
            raise ScanError(f"export {export.name}: {where} is empty; is the right folder there{withdraw}?")
        note["files"] = images + rejected
    return images, rejected


def _where(run: Run, export: Export, below: str) -> str:
    return f"{export.prefix}{below}" if export.in_s3 else str(run.folder(export) / below)


def _list_files(run: Run, export: Export, below: str) -> Iterator[Listing]:
    """What lies in an export, or in the part of it that lies `below`, some of it at a time."""
    if export.in_s3:
        return in_s3.list_files(run.sources[export.name], below, export.depth, ROWS_IN_MEMORY)
    return on_disk.list_files(run.folder(export) / below, export.depth, ROWS_IN_MEMORY, follow=not below)


@contextmanager
def _explained(export: str, where: str) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        raise ScanError(
            f"export {export}: {error.filename or where} does not exist; correct local_source or the export's root"
        ) from error
    except NotADirectoryError as error:
        raise ScanError(
            f"export {export}: {error.filename or where} is not a folder; correct local_source or the export's root"
        ) from error
    except PermissionError as error:
        raise ScanError(
            f"export {export}: the folder {error.filename or where} cannot be read ({error.strerror}); "
            "let the user that runs Airflow's workers read it (r-x on folders, r-- on files), then clear this task"
        ) from error
    except OSError as error:
        if error.errno not in _OF_A_DISK:
            raise
        raise ScanError(
            f"export {export}: the folder {error.filename or where} cannot be read ({error.strerror}); "
            "look after its disk or its mount, then clear this task"
        ) from error
