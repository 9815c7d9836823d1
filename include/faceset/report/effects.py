"""What the decisions of people came to in a release."""

from pathlib import Path
from typing import Any

import pyarrow.compute as pc

from include.faceset.declared.decisions import Decision, Kind
from include.faceset.ground import sharded
from include.faceset.release import release
from include.faceset.run import decided
from include.faceset.run.run import Run

_ASKED = ("identity", "scanned_as", "sha256")


def effects(run: Run, folder: Path) -> list[dict[str, Any]]:
    """Each decision that the run went by: its line, kind, who and when, and how many files it names; not whom.

    A decision that names no file is told by 0: it is misspelt, or what it was about is gone.
    """
    decisions = decided.noted(run)
    counts = [0] * len(decisions)
    ledger = folder / release.LEDGER_FILE
    columns = [name for name in _ASKED if name in sharded.columns(ledger)]
    for _, rows in sharded.groups(ledger, columns) if decisions else ():
        found = {name: _counts(rows[name]) for name in columns}
        for index, one in enumerate(decisions):
            counts[index] += _count(one, found)
    return [
        {"line": one.line, "decision": one.kind.value, "who": one.who, "when": one.when, "files": count}
        for one, count in zip(decisions, counts, strict=True)
    ]


def _count(one: Decision, found: dict[str, dict[Any, int]]) -> int:
    if one.kind == Kind.SAME_PERSON:
        return found.get("scanned_as", {}).get(one.other, 0)
    if one.kind == Kind.DROP_IDENTITY:
        return found["identity"].get(one.identity, 0)
    return found["sha256"].get(bytes.fromhex(one.sha256), 0)


def _counts(column: Any) -> dict[Any, int]:
    counted = pc.value_counts(column)
    return dict(zip(counted.field("values").to_pylist(), counted.field("counts").to_pylist(), strict=True))
