"""A few files on their way to a prefix, as the tasks take them there."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from s3_sync.proof.verify import VerifyResult, verify
from s3_sync.sync import expected, record
from s3_sync.sync.request import SyncRequest
from s3_sync.sync.sync import SyncResult, sync
from tests.servers.places import PLAIN, Place

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from s3_sync.bucket.connection import S3Connection
    from s3_sync.bucket.target import S3Target

FILES = {
    **{f"{name}/{number}.jpg": f"{name} {number}".encode() for name in ("anna", "ben") for number in range(5)},
    "c leo/it's #1 é.png": b"with a name",
}
PERSONS = [f"person {number}" if number % 5 else f"Žofie 日本 {number}" for number in range(50)]
MANY = {f"{person}/{number}.jpg": f"{person} {number}".encode() for person in PERSONS for number in range(50)}


@dataclass(frozen=True)
class Release:
    """Files in a folder, the prefix that they go to, and the record of what was sent there."""

    connection: S3Connection
    target: S3Target
    source: Path
    record: Path

    @classmethod
    def of(cls, at: Place, folder: Path, files: Mapping[str, bytes], bucket: str = PLAIN, **options: Any) -> Release:
        release = cls(at.connect(bucket, **options), at.target(bucket), folder / "source", folder / "record.parquet")
        release.write(files)
        return release

    def write(self, files: Mapping[str, bytes]) -> None:
        """Let the folder hold exactly these files."""
        shutil.rmtree(self.source, ignore_errors=True)
        for key, content in files.items():
            (self.source / key).parent.mkdir(parents=True, exist_ok=True)
            (self.source / key).write_bytes(content)

    @property
    def keys(self) -> set[str]:
        """The keys of the files in the folder."""
        return {str(path.relative_to(self.source)) for path in self.source.rglob("*") if path.is_file()}

    def rewrite(self, key: str, content: bytes) -> None:
        """Give a file other bytes, so that size and time of modification stay."""
        path = self.source / key
        status = path.stat()
        assert len(content) == status.st_size
        path.write_bytes(content)
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))

    def sync(self, **options: Any) -> SyncResult:
        request = SyncRequest(**{"source": self.source, "record_path": self.record, **options})
        return sync(self.connection.at(self.target), request)

    def prove(self) -> VerifyResult:
        known = record.read(self.record, self.connection.at(self.target))
        return verify(self.connection.at(self.target), expected.walk(self.source), known)
