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
from tests.servers.expected import EXPECTED
from tests.servers.places import SERVERS

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.servers.places import Place

WORKS = "works"
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
    """Write what was said as a table of Markdown, if SERVERS_MATRIX says where."""
    if not (path := os.environ.get("SERVERS_MATRIX")) or not _said:
        return
    columns = [name for name in SERVERS if any(name in said for said in _said.values())]
    lines = [f"| | {' | '.join(columns)} |", f"| --- |{' --- |' * len(columns)}"]
    for words, said in _said.items():
        cells = [said.get(name, "").replace("|", "\\|") for name in columns]
        lines.append(f"| {words} | {' | '.join(cells)} |")
    Path(path).write_text("\n".join(lines) + "\n")
