"""met: which lines of the list of people to erase have ever named somebody, so that a misspelt one is told.

A person who was erased is named nowhere any more, and their exports may be gone. So it is kept in mind whom a scan, a
release, a part or the bucket has named: as digests, keyed by the deployment's own name, and only of names that are on
the list now. A name that leaves the list is forgotten here too.
"""

import hashlib
import hmac
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from include.faceset import people
from include.faceset.erasure import receipt
from include.faceset.ground import files
from include.faceset.people import People
from include.faceset.run import owner
from include.faceset.run.attempt import Attempt
from include.faceset.run.run import Run

FOLDER = "met"
MEMORY_FILE = "met"
"""Beside the receipts."""


def note_scan(attempt: Attempt, export: str, names: Iterable[str]) -> None:
    """Keep in mind, in the run's work, whom of the people on the list the scan of an export has met."""
    if tags := _tags(attempt.run, names):
        path = attempt.run.work / FOLDER / f"export={export}.json"
        files.write_text(path, json.dumps(tags), within=attempt.folder)


def remember(run: Run, listed: People, names: Iterable[str] = (), *, within: Path | None = None) -> None:
    """Keep in mind for later runs whom the scans of this run, and `names`, have named; forget who is not listed.

    Call it before a change after which nothing names them any more; `within` as for `files.replacing`.
    """
    before = _remembered(run)
    now = sorted({*before, *_scanned(run), *_tags(run, names)} & set(_tags(run, listed)))
    if now != before:
        files.write_text(_memory(run), json.dumps(now) + "\n", within)


def unmet(run: Run, names: Iterable[str] = ()) -> list[dict[str, Any]]:
    """The lines that have named nobody so far, by list: its path (`list`) and their numbers (`lines`); names of none.

    A list that says nothing at all is told by no line. Nothing is told of a run that rolls back: it looks at no export.

    Args:
        run: the run, after its scans.
        names: whom else somebody has met, of a dry run, which keeps nothing in mind.
    """
    if run.params.release is not None:
        return []
    known = {*_remembered(run), *_scanned(run), *_tags(run, names)}
    found = []
    for path in people.lists(run):
        lines = people.read_lines(path)
        misses = [line.number for line in lines if _tag(run, line.name) not in known]
        if misses or not lines:
            found.append({"list": str(path), "lines": misses})
    return found


def in_words(one: dict[str, Any], most: int = 20) -> str:
    """Of one list what `unmet` says: its path, and the first of the lines."""
    lines = one["lines"]
    if not lines:
        return f"{one['list']}: names nobody at all"
    more = f" and {len(lines) - most:,} more" if len(lines) > most else ""
    said = ", ".join(map(str, lines[:most]))
    return f"{one['list']}: {'line' if len(lines) == 1 else 'lines'} {said}{more}"


def _memory(run: Run) -> Path:
    return run.releases / receipt.FOLDER / MEMORY_FILE


def _remembered(run: Run) -> list[str]:
    try:
        found: list[str] = json.loads(_memory(run).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return []
    return found


def _scanned(run: Run) -> list[str]:
    return [tag for path in sorted((run.work / FOLDER).glob("*.json")) for tag in json.loads(path.read_text())]


def _tags(run: Run, names: Iterable[str]) -> list[str]:
    return sorted(_tag(run, name) for name in names)


def _tag(run: Run, name: str) -> str:
    key = owner.deployment(run).encode()
    return hmac.new(key, name.encode(), hashlib.sha256).hexdigest()[:32]
