"""The release folder, and which release the merged dataset holds.

``latest.json`` names the release that ``output`` holds. While ``output`` is being changed it waits
as ``previous.json``, so that nothing half-done looks done; ``seal`` writes it anew.
"""

import hashlib
import json
import re
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from include.faceset.errors import Final
from include.faceset.ground import files, sharded, tables
from include.faceset.ledger import LEDGER, RULES
from include.faceset.run.attempt import Attempt
from include.faceset.run.run import Run

MANIFEST_FILE = "manifest.parquet"
LEDGER_FILE = "ledger.parquet"
CLASSES_FILE = "classes.parquet"
OBJECTS_FILE = "objects.parquet"
RELEASE_FILE = "release.json"
SEALED_FILES = (MANIFEST_FILE, LEDGER_FILE, CLASSES_FILE, OBJECTS_FILE, RELEASE_FILE)
"""What is published with the proof; config and summary follow, as they are made after it."""
SUMMARY_FILE = "SUMMARY.md"
SUMMARY_JSON_FILE = "summary.json"


BASELINE_FILE = "baseline.json"
ID = r"[0-9a-f]{16}"
"""What the id of a release, and so its folder's name, looks like."""


class ReleaseError(Final):
    """The release that was asked for cannot be had."""


@dataclass(frozen=True)
class Release:
    """What a run sealed (``release.json``).

    `scanned` is the number of files that the scan met, by export; `size` the sum of the kept files in
    bytes; `decode`, `image_size` and `rules` (`ledger.RULES`) say how the images were looked at; `sealed_at` is when
    (ISO 8601, UTC); `parts` are the parts that it was built from: digest of the manifest, by export and partition.
    `formerly` are the ids that it had before people were erased from it (see erase.py).
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


def open_for_change(mine: Attempt) -> None:
    """Say that ``output`` no longer holds the release that ``latest.json`` named. Call before every first change."""
    run = mine.run
    try:
        pointer = run.latest.read_text(encoding="utf-8")
    except FileNotFoundError:
        return
    # First the one, then not the other: whenever this is killed, one of them names the release.
    files.write_text(run.previous, pointer, within=mine.folder)
    mine.discard(run.latest)


def close_change(mine: Attempt, release: Release) -> None:
    """Say that ``output`` holds `release`."""
    run = mine.run
    pointer = release.pointer(str(run.release(release.release_id)))
    files.write_text(run.latest, json.dumps(pointer, indent=2) + "\n", within=mine.folder)
    mine.discard(run.previous)


def move_in(mine: Attempt, building: Path, release_id: str) -> None:
    """Make a folder, built within `mine`, the release's; what is there of it keeps its config, proof and summary.

    Without its ``release.json`` a folder is no release, so a mixture of old and new is none either.
    """
    folder = mine.run.release(release_id)
    if not folder.exists():
        building.rename(folder)
    else:
        open_for_change(mine)
        mine.discard(folder / RELEASE_FILE)
        for path in sorted(building.iterdir(), key=lambda path: path.name == RELEASE_FILE):
            path.replace(folder / path.name)
        files.sync_folder(folder)
    files.sync_folder(folder.parent)


def last(run: Run) -> Path | None:
    """Folder of the last release sealed for this output; None if there is none, or it was removed since."""
    for pointer in (run.latest, run.previous):
        try:
            folder = Path(json.loads(pointer.read_text(encoding="utf-8"))["release"])
        except FileNotFoundError:
            continue
        return folder if (folder / RELEASE_FILE).exists() else None
    return None


def moment(run: Run) -> str:
    """When it is (ISO 8601, UTC): after the last release was sealed, also where the clock says otherwise."""
    now = datetime.now(UTC).replace(microsecond=0)
    if (folder := last(run)) is not None:
        now = max(now, datetime.fromisoformat(read(folder).sealed_at) + timedelta(seconds=1))
    return now.isoformat()


def folders(run: Run) -> list[Path]:
    """The releases that are kept for this output, the one sealed last first."""
    kept = [path.parent for path in run.releases.glob(f"[0-9a-f]*/{RELEASE_FILE}")]
    return sorted(kept, key=lambda folder: (read(folder).sealed_at, folder.name), reverse=True)


def outdated(run: Run) -> list[str]:
    """Ids of the oldest releases, beyond the dataset's `keep_releases`; never of the one in place."""
    spared = last(run)
    return [folder.name for folder in folders(run)[run.dataset.keep_releases :] if folder != spared]


def broken(run: Run) -> list[Path]:
    """What a killed `seal` left of a release."""
    named = [path for path in run.releases.glob("[0-9a-f]*") if re.fullmatch(ID, path.name)]
    return [folder for folder in named if not (folder / RELEASE_FILE).exists()]


def prune(mine: Attempt) -> list[str]:
    """Remove what is outdated or broken; return the ids of the releases."""
    old = outdated(mine.run)
    for folder in [*map(mine.run.release, old), *broken(mine.run)]:
        mine.discard(folder)
    return old


def clear_leftovers(mine: Attempt) -> None:
    """Remove the work of other runs, and what killed writers left beside the releases and in them."""
    run = mine.run
    for folder in list(run.all_work.iterdir()):
        if folder != run.work:
            mine.discard(folder)
    for folder in [run.releases, *run.releases.glob(".owner"), *run.releases.glob("parts/*"), *folders(run)]:
        files.sweep(folder)


def note_baseline(mine: Attempt) -> None:
    """Keep in mind what the last release was before this run changes anything; a second try of the run keeps it."""
    run = mine.run
    if not (run.work / BASELINE_FILE).exists():
        folder = last(run)
        files.write_text(run.work / BASELINE_FILE, json.dumps(folder.name if folder else None), mine.folder)


def baseline(run: Run) -> Path | None:
    """Folder of the release that was in place before this run; None if there was none, or it was removed since."""
    try:
        name = json.loads((run.work / BASELINE_FILE).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    folder = None if name is None else run.release(name)
    return folder if folder and (folder / RELEASE_FILE).exists() else None


def kept_as(run: Run, release_id: str) -> Path | None:
    """Folder of a release, also by an id that it had before people were erased from it; None if it is not kept."""
    folder = run.release(release_id)
    if (folder / RELEASE_FILE).exists():
        return folder
    return next((folder for folder in folders(run) if release_id in read(folder).formerly), None)


def formerly(run: Run, release_id: str) -> list[str]:
    """Ids that the kept release of an id had before people were erased from it."""
    folder = run.release(release_id)
    return read(folder).formerly if (folder / RELEASE_FILE).exists() else []


def move_on(mine: Attempt, release: Release) -> None:
    """Say that the release which ``output`` held last is now `release`; the output is yet to be brought to it."""
    open_for_change(mine)
    pointer = release.pointer(str(mine.run.release(release.release_id)))
    files.write_text(mine.run.previous, json.dumps(pointer, indent=2) + "\n", within=mine.folder)


def to_restore(run: Run) -> Path:
    """Folder of the release that this run rolls back to.

    Raises:
        ReleaseError: it is not kept.
    """
    folder = kept_as(run, run.params.release or "")
    if run.params.release is None or folder is None:
        found = ", ".join(path.name for path in folders(run)) or "none"
        msg = f"release {run.params.release} is not kept in {run.releases}; there are: {found}"
        raise ReleaseError(msg)
    return folder


def same_rule(run: Run) -> bool:
    """Whether the last release asked for as many images of an identity as this run."""
    folder = last(run)
    return folder is not None and read(folder).min_images == run.params.min_images


def known_files(run: Run, shard: int) -> pa.Table:
    """Ledger rows of a shard whose bytes the last release knows, if it looked as closely as this run."""
    folder = last(run)
    if folder is None:
        return LEDGER.empty_table()
    before = read(folder)
    as_closely = (before.image_size, before.decode, before.rules)
    if as_closely != (run.dataset.image_size, run.params.decode, RULES):
        return LEDGER.empty_table()
    ledger = tables.conformed(sharded.read(folder / LEDGER_FILE, shard, run.params.shards), LEDGER)
    return ledger.filter(pc.is_valid(ledger["sha256"]))
