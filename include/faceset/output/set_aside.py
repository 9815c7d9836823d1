"""What the output no longer holds but a kept release does, set aside by SHA-256: so a release can come back."""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa
import pyarrow.compute as pc

from include.faceset.ground import tables, times
from include.faceset.ledger import kept
from include.faceset.release import history, release
from include.faceset.run.attempt import Attempt
from include.faceset.run.run import Run

Placed = dict[str, tuple[bytes, int, int]]
"""SHA-256, size and mtime in ns of files that the last release put into the output, by key."""


def placed_by(ledger: pa.Table) -> Placed:
    """What a ledger says of the files that are kept."""
    columns = kept(ledger).select(["key", "sha256", "size", "staged_mtime_ns"]).to_pydict()
    return {key: (sha256, size, mtime) for key, sha256, size, mtime in zip(*columns.values(), strict=True)}


def take_out(attempt: Attempt, path: Path, placed: Placed) -> None:
    """Take a file, a link or a folder with all in it out of the output; what a release put there is set aside."""
    status = os.lstat(path)
    if stat.S_ISDIR(status.st_mode):
        with os.scandir(path) as entries:
            inside = [Path(entry.path) for entry in entries]
        for one in inside:
            take_out(attempt, one, placed)
        path.rmdir()
        return
    sha256, *as_put = placed.get(str(path.relative_to(attempt.run.output)), (b"", -1, -1))
    # What is not as it was put there somebody else has written: it is not the image of any release.
    if stat.S_ISREG(status.st_mode) and [status.st_size, times.mtime_ns(status)] == as_put:
        path.rename(attempt.set_aside / sha256.hex())
    else:
        attempt.discard(path)


def read_image(run: Run, sha256: bytes) -> bytes | None:
    """The bytes that were set aside; None if there are none."""
    try:
        return (run.removed / sha256.hex()).read_bytes()
    except FileNotFoundError:
        return None


@contextmanager
def open_image(run: Run, sha256: bytes) -> Iterator[BinaryIO | None]:
    """What was set aside, as an open file; None if there is none."""
    try:
        file = (run.removed / sha256.hex()).open("rb")
    except FileNotFoundError:
        yield None
        return
    with file:
        yield file


def unused(run: Run) -> list[str]:
    """Names of what no release holds any more."""
    if not run.removed.is_dir() or not any(run.removed.iterdir()):
        return []
    manifests = [folder / release.MANIFEST_FILE for folder in history.folders(run)]
    used = tables.read_all(manifests, pa.schema([("sha256", pa.binary(32))]), ["sha256"])["sha256"]
    held = {path.name: bytes.fromhex(path.name) for path in run.removed.iterdir()}
    is_unused = pc.invert(pc.is_in(pa.array(held.values(), pa.binary(32)), value_set=used.combine_chunks()))
    names: list[str] = pa.array(held.keys(), pa.string()).filter(is_unused).to_pylist()
    return names


def forget_unused(attempt: Attempt) -> None:
    """Remove what no release holds any more."""
    for name in unused(attempt.run):
        attempt.discard(attempt.run.removed / name)
