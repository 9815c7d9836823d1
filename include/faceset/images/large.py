"""Files above `max_file_size`: never in memory. Their header is judged, and they are hashed and copied by blocks.

Of these files all is told by the file itself, each time: an image that is kept may be known from the last release,
one that is not has no SHA-256.
"""

import hashlib
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO, Literal, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from include.faceset.images import judge
from include.faceset.ports import ARCHIVED
from include.faceset.run.run import Run

BLOCK = 4 << 20
_OPEN = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class Large(NamedTuple):
    """What a file holds that is not read into memory: the file, and the SHA-256 of it."""

    file: BinaryIO
    sha256: bytes


class Place(NamedTuple):
    """Where a file lies: its export, its path there, its size in bytes and, in S3, its ETag."""

    export: str
    path: str
    size: int
    etag: str | None


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
    is_large = pc.greater(rows["size"], run.dataset.max_file_size)
    columns = (rows[name].filter(is_large).to_pylist() for name in Place._fields)
    places = map(Place._make, zip(*columns, strict=True))
    return sum(place.size for place in places if _may_be_kept(run, place))


def _may_be_kept(run: Run, place: Place) -> bool:
    closely: Literal["off", "header"] = "off" if run.params.decode == "off" else "header"
    try:
        with judge.without_warnings(), opened(run, place) as file:
            return file is not None and judge.inspect_large(file, run.dataset.image_size, closely).rejected is None
    except OSError:  # `copy_shard` says of it what there is to say
        return False


@contextmanager
def opened(run: Run, place: Place) -> Iterator[BinaryIO | None]:
    """A file of an export; None if it, or its export, is not there, has another size now, or is archived.

    Raises:
        OSError: it cannot be read. In S3 also FileNotFoundError, when it is read after it was changed.
    """
    folders = {one.name: run.folder(one) for one in run.dataset.exports if not one.in_s3}
    if place.etag is not None and place.export in run.sources:
        found = run.sources[place.export].open(place.path, place.etag, place.size)
        yield None if found == ARCHIVED else found
        return
    try:
        descriptor = os.open(folders[place.export] / place.path, _OPEN)
    except (FileNotFoundError, KeyError):
        yield None
        return
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        yield file if stat.S_ISREG(status.st_mode) and status.st_size == place.size else None
