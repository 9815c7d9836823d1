"""Files above `max_file_size`: never in memory. Their header is judged, and they are hashed and copied by blocks.

Of these files all is told by the file itself, each time: an image that is kept may be known from the last release,
one that is not has no SHA-256.
"""

import hashlib
from collections.abc import Iterator
from typing import BinaryIO, Literal, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from include.faceset.exports.opening import open_now
from include.faceset.images import judge
from include.faceset.run.run import Run

BLOCK = 4 << 20


class Large(NamedTuple):
    """What a file holds that is not read into memory: the file, and the SHA-256 of it."""

    file: BinaryIO
    sha256: bytes


def blocks(file: BinaryIO) -> Iterator[bytes]:
    """A file from its beginning, some MB at a time."""
    file.seek(0)
    while block := file.read(BLOCK):
        yield block


def sha256(file: BinaryIO) -> bytes:
    """The SHA-256 of a file."""
    digest = hashlib.sha256()
    for block in blocks(file):
        digest.update(block)
    return digest.digest()


def size_of_small(run: Run, rows: pa.Table) -> int:
    """Bytes of the files (at least size) that are read into memory."""
    small = rows["size"].filter(pc.less_equal(rows["size"], run.dataset.max_file_size))
    return int(pc.sum(small).as_py() or 0)


def size_to_keep(run: Run, rows: pa.Table) -> int:
    """Bytes of the large files (at least export, path, size and etag) that may be kept, as their headers tell."""
    files = rows.filter(pc.greater(rows["size"], run.dataset.max_file_size)).select(["export", "path", "size", "etag"])
    return sum(file["size"] for file in files.to_pylist() if _may_be_kept(run, **file))


def _may_be_kept(run: Run, export: str, path: str, size: int, etag: str | None) -> bool:
    closely: Literal["off", "header"] = "off" if run.params.decode == "off" else "header"
    try:
        with judge.without_warnings(), open_now(run, export, path, size, etag) as file:
            return file is not None and judge.inspect_large(file, run.dataset.image_size, closely).rejected is None
    except OSError:  # `copy_shard` says of it what there is to say
        return False
