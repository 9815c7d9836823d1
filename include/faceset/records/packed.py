"""What was packed (``records.json`` in the release's folder), and where its two files lie on a disk."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from include.faceset.release.release import RECORDS_FILE, Release
from include.faceset.run.run import Run

REC, IDX = "train.rec", "train.idx"
OBJECT = pa.schema([("key", pa.string()), ("size", pa.int64()), ("sha256", pa.binary(32))])


@dataclass(frozen=True)
class File:
    """One of the two files: its size in bytes, and its SHA-256 in hex."""

    size: int
    sha256: str


@dataclass(frozen=True)
class Packed:
    """The records of a release.

    `labels` is how many class numbers there are, vacant ones too; `label_table` the digest of who has which one
    (order.digest_labels); `reencoded` how many images went in as a PNG of their pixels.
    """

    release_id: str
    images: int
    labels: int
    label_table: str
    reencoded: int
    files: dict[str, File]

    def fits(self, sealed: Release, label_table: str) -> bool:
        """Whether these are the records of a release, with the class numbers that it has."""
        return (self.release_id, self.label_table) == (sealed.release_id, label_table)

    def objects(self) -> pa.Table:
        """The two files as a bucket is to hold them."""
        rows = [(name, file.size, bytes.fromhex(file.sha256)) for name, file in sorted(self.files.items())]
        return pa.table([list(column) for column in zip(*rows, strict=True)], schema=OBJECT)

    def pointer(self, location: str) -> dict[str, Any]:
        """What ``latest.json`` beside the records says; `location` is their folder's URI."""
        return {**asdict(self), "records": location}


def folder_of(run: Run, release_id: str) -> Path:
    """Where the two files lie on a disk; of a dataset that lies in S3 alone only until they are published."""
    return run.records / release_id


def parse(said: dict[str, Any]) -> Packed:
    """What `pointer`, or ``records.json``, tells."""
    files = {name: File(**file) for name, file in said["files"].items()}
    names = ("release_id", "images", "labels", "label_table", "reencoded")
    return Packed(**{name: said[name] for name in names}, files=files)


def read(release_folder: Path) -> Packed | None:
    """What was packed of a release; None if nothing."""
    try:
        return parse(json.loads((release_folder / RECORDS_FILE).read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None


def as_json(packed: Packed) -> str:
    """What ``records.json`` holds."""
    return json.dumps(asdict(packed), indent=2) + "\n"
