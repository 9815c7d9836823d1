"""What is promised where: the same promises of every server, and the table of those that a server keeps otherwise.

A promise is a test. It is kept if the test passes ("works"), or returns in which other way it went, or is refused by an
error of this package's own, which says in words what is missing. Which of the three is right for a server is written
down here, and nothing else passes. With SERVERS_MATRIX=<path> a run writes what each promise came to.
"""

from __future__ import annotations

import os
import re
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

from s3_sync.errors import S3SyncError
from tests.servers.expected import EXPECTED, WORKS
from tests.servers.places import SERVERS

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.servers.places import Place

# What no two runs have in common: ports, and the names that are drawn for a test.
DRAWN = re.compile(r"(?<=127\.0\.0\.1:)\d+|\b[0-9a-f]{32}\b")
_said: dict[str, dict[str, str]] = {}


def promise(test: Callable[..., str | None]) -> Callable[..., None]:
    """Make a test of a promise, whose words are its docstring; its fixture ``at`` is the server."""

    @wraps(test)
    def kept(at: Place, **fixtures: Any) -> None:
        expected = EXPECTED.get(at.name, {}).get(test.__name__.removeprefix("test_"))
        try:
            said = test(at=at, **fixtures) or WORKS
        except S3SyncError as error:
            said = f"refused: {' '.join(str(error).split())}"
        _said.setdefault((test.__doc__ or test.__name__).strip().rstrip("."), {})[at.name] = said
        assert re.match(expected or f"{WORKS}(:|$)", said), f"{at.name}: {said}"

    return kept


def write() -> None:
    """Write what was said as Markdown, if SERVERS_MATRIX says where: a table, and below it the words of refusals."""
    if not (path := os.environ.get("SERVERS_MATRIX")) or not _said:
        return
    columns = [name for name in SERVERS if any(name in said for said in _said.values())]
    notes: list[str] = []

    def cell(said: str) -> str:
        short, _, rest = said.partition(": ")
        if not rest:
            return short
        if (note := f"{short}: {DRAWN.sub('…', rest)}") not in notes:
            notes.append(note)
        return f"{short} ({notes.index(note) + 1})"

    lines = ["| | " + " | ".join(columns) + " |", "| --- |" + " --- |" * len(columns)]
    lines += [
        f"| {words} | " + " | ".join(cell(said[name]) if name in said else "" for name in columns) + " |"
        for words, said in _said.items()
    ]
    told = [f"{number}. {note}" for number, note in enumerate(notes, 1)]
    Path(path).write_text("\n".join([*lines, "", *told]) + "\n")
