"""Writing the two files so that a kill loses little: what an earlier try brought safely to the disk is taken over."""

import hashlib
import io
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from include.faceset.ground import files
from include.faceset.records import recordio
from include.faceset.records.packed import IDX, REC, File

SAFE_EVERY = 64 << 20
"""Bytes after which what was written is brought safely to the disk, and then named in the index."""
_BUFFER = 1 << 20


class RecordWriter:
    """Appends records to ``train.rec`` in a folder; the index names a record only once it is safe on the disk."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.count = self.offset = 0
        self._rec, self._idx = (_new(folder / name) for name in (REC, IDX))
        self._digests = {REC: hashlib.sha256(), IDX: hashlib.sha256()}
        self._lines = io.StringIO()
        self._safe = 0

    def append(self, record: bytes) -> None:
        """Append the record of the next key."""
        self._rec.write(record)
        self._digests[REC].update(record)
        self._lines.write(recordio.index_line(self.count, self.offset))
        self.count += 1
        self.offset += len(record)
        if self.offset - self._safe >= SAFE_EVERY:
            self.make_safe()

    def make_safe(self) -> None:
        """Bring all records to the disk, then name them in the index."""
        self._rec.flush()
        os.fdatasync(self._rec.fileno())
        lines = self._lines.getvalue().encode()
        self._idx.write(lines)
        self._idx.flush()
        os.fdatasync(self._idx.fileno())
        self._digests[IDX].update(lines)
        self._lines = io.StringIO()
        self._safe = self.offset

    def finish(self) -> dict[str, File]:
        """Close both files, whole and safe; what they are."""
        self.make_safe()
        self.close()
        return {
            name: File((self.folder / name).stat().st_size, digest.hexdigest())
            for name, digest in self._digests.items()
        }

    def close(self) -> None:
        """Close both files as they are: what is not safe yet may be lost, as on a disk that is full."""
        for file in (self._rec, self._idx):
            with suppress(OSError):
                file.close()


def _new(path: Path) -> BinaryIO:
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, files.FILE_MODE), "wb", _BUFFER)


def safe_records(folder: Path) -> Iterator[bytes]:
    """The records that an index names and that are whole, as they were encoded, in their order; then no more."""
    try:
        named = (folder / IDX).read_bytes().count(b"\n")
        with (folder / REC).open("rb") as file:
            for _ in range(named):
                begin = file.tell()
                if recordio.read_record(file) is None:
                    return
                end = file.tell()
                file.seek(begin)
                yield file.read(end - begin)
    except (FileNotFoundError, recordio.RecordError):
        return
