"""What a run remembers of the release before it."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from include.faceset.ground import files, sharded, tables
from include.faceset.ledger import LEDGER, RULES
from include.faceset.release.pointer import last
from include.faceset.release.release import LEDGER_FILE, read
from include.faceset.run import decided
from include.faceset.run.attempt import Attempt
from include.faceset.run.run import RELEASE_FILE, Run

BASELINE_FILE = "baseline.json"


def note_baseline(attempt: Attempt) -> None:
    """Keep in mind what the last release was before this run changes anything; a second try of the run keeps it."""
    run = attempt.run
    if not (run.work / BASELINE_FILE).exists():
        folder = last(run)
        files.write_text(run.work / BASELINE_FILE, json.dumps(folder.name if folder else None), attempt.folder)


def baseline(run: Run) -> Path | None:
    """Folder of the release that was in place before this run; None if there was none, or it was removed since."""
    try:
        name = json.loads((run.work / BASELINE_FILE).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    folder = None if name is None else run.release(name)
    return folder if folder and (folder / RELEASE_FILE).exists() else None


def same_rule(run: Run) -> bool:
    """Whether the last release went by the same min_images, decisions and thresholds for pictures as this run."""
    folder = last(run)
    if folder is None:
        return False
    before = read(folder)
    rules = (run.params.min_images, decided.of(run).digest, run.dataset.pictures.rules)
    return (before.min_images, before.decisions, before.pictures) == rules


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
