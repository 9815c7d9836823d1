"""The release folder, and which release the merged dataset holds.

``latest.json`` names the release that ``output`` holds. While ``output`` is being changed it waits
as ``previous.json``, so that nothing half-done looks done; ``seal`` writes it anew.
"""

import hashlib
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from include.faceset.ground import files
from include.faceset.run.run import RELEASE_FILE

MANIFEST_FILE = "manifest.parquet"
LEDGER_FILE = "ledger.parquet"
CLASSES_FILE = "classes.parquet"
OBJECTS_FILE = "objects.parquet"
SEALED_FILES = (MANIFEST_FILE, LEDGER_FILE, CLASSES_FILE, OBJECTS_FILE, RELEASE_FILE)
"""What is published with the proof; config and summary follow, as they are made after it."""
RECORDS_FILE = "records.json"
"""What was packed of the release, if anything (records/packed.py)."""
SUMMARY_FILE = "SUMMARY.md"
SUMMARY_JSON_FILE = "summary.json"
REPORT_FILE = "report.html"

ID = r"[0-9a-f]{16}"
"""What the id of a release, and so its folder's name, looks like."""


@dataclass(frozen=True)
class Release:
    """What a run sealed (``release.json``).

    `scanned` is the number of files that the scan met, by export; `size` the sum of the kept files in bytes; `decode`,
    `image_size` and `rules` (`ledger.RULES`) say how the images were looked at; `sealed_at` is when (ISO 8601, UTC);
    `parts` are the parts that it was built from: digest of the manifest, by export and partition. `labels` is how many
    class numbers were ever given by then (labels.py); `decisions` is the digest of what people had decided, `pictures`
    has the thresholds for how images look; `formerly` are the ids that it had before people were erased from it (see
    erasure/rewrite.py).
    """

    release_id: str
    dataset: str
    identities: int
    images: int
    size: int
    scanned: dict[str, int]
    manifest_sha256: str
    min_images: int
    decode: str
    image_size: tuple[int, int]
    sealed_at: str
    parts: dict[str, dict[str, str]]
    formerly: list[str] = field(default_factory=list)
    rules: int = 0
    labels: int = 0
    decisions: str = ""
    pictures: dict[str, float] = field(default_factory=dict)

    def pointer(self, location: str) -> dict[str, Any]:
        """What ``latest.json`` holds; `location` is the folder or URI of the release."""
        return {
            "release_id": self.release_id,
            "release": location,
            "manifest_sha256": self.manifest_sha256,
            "identities": self.identities,
            "images": self.images,
        }


class Digest:
    """What is known of a release's images once all of them, in the order of their keys, were added.

    The name of a release: 16 hex digits of the SHA-256 over the rows `<key>`, NUL, `<sha256 in hex>`, newline.
    """

    def __init__(self) -> None:
        self._sha256 = hashlib.sha256()
        self.images = 0
        self.size = 0

    def add(self, rows: pa.Table) -> pa.Table:
        """Take in rows with at least key, size (bytes) and sha256, and hand them on."""
        for key, sha256 in zip(rows["key"].to_pylist(), rows["sha256"].to_pylist(), strict=True):
            self._sha256.update(f"{key}\0{sha256.hex()}\n".encode())
        self.images += rows.num_rows
        self.size += pc.sum(rows["size"]).as_py() or 0
        return rows

    @property
    def release_id(self) -> str:
        return self._sha256.hexdigest()[:16]


def read(folder: Path) -> Release:
    """The release that a folder holds.

    Raises:
        FileNotFoundError: there is none.
    """
    values = json.loads((folder / RELEASE_FILE).read_text(encoding="utf-8"))
    return Release(**{**values, "image_size": tuple(values["image_size"])})


def write(release: Release, folder: Path, within: Path | None = None) -> None:
    """Write ``release.json``; `within` as for `files.replacing`."""
    files.write_text(folder / RELEASE_FILE, json.dumps(asdict(release), indent=2) + "\n", within)
