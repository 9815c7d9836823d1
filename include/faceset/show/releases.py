"""The kept releases of a dataset, and what their summaries say."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from include.faceset import people
from include.faceset.erasure import look
from include.faceset.ground import sharded
from include.faceset.release import history, pointer, release
from include.faceset.release.release import Release
from include.faceset.report import changes
from include.faceset.report.gathering import training_values
from include.faceset.run.run import Run


@dataclass(frozen=True)
class Shown:
    """A kept release; `facts` is what its ``summary.json`` holds, empty if its run broke off before that."""

    folder: Path
    sealed: Release
    facts: dict[str, Any]
    in_place: bool


def find(run: Run) -> list[Shown]:
    """The releases that are kept, the one sealed last first."""
    in_place = pointer.last(run)
    return [Shown(one, release.read(one), _facts(one), one == in_place) for one in history.folders(run)]


def get(run: Run, release_id: str) -> Shown | None:
    """One of them, also by an id that it had before; None if it is not kept."""
    folder = history.kept_as(run, release_id)
    return None if folder is None else Shown(folder, release.read(folder), _facts(folder), folder == pointer.last(run))


def _facts(folder: Path) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads((folder / release.SUMMARY_JSON_FILE).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    return found


def differences(run: Run, before: Shown, after: Shown) -> changes.Changes:
    """What differs between two releases, whichever was first."""
    values = [_values(run, one) for one in (before, after)]
    shards = range(run.params.shards)
    states = ([changes.of_ledger(_ledger(run, one, shard)) for one in (before, after)] for shard in shards)
    return changes.compare_states(((was, now) for was, now in states), values[0], values[1])


def _values(run: Run, shown: Shown) -> dict[str, Any]:
    facts = shown.facts
    return training_values(run, facts["config"], facts["training"]) if "config" in facts else {}


def _ledger(run: Run, shown: Shown, shard: int) -> Any:
    return sharded.read(shown.folder / release.LEDGER_FILE, shard, run.params.shards)


def names_erased(run: Run, folder: Path) -> bool:
    """Whether a release still names somebody on the list of people to erase: then nobody may have its tables."""
    listed = people.to_erase(run)
    return bool(listed) and look.look(listed, folder / release.LEDGER_FILE).rows > 0
