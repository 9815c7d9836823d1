"""The row of what the pages ask: questions and a sheet of faces, each as a process from nothing to its answer."""

from collections.abc import Callable
from pathlib import Path

from bench import measure
from bench.disk import ours
from bench.measure import Row, Target, Usage
from bench.records import seal


def ask_row(corpus: Path, scratch: Path, files: int) -> Row:
    """An identity, a name that says of nobody, a SHA-256 and a sheet; beside the whole ledger read and filtered."""
    release = seal(corpus, scratch)

    def asked(work: str, **arguments: str) -> Callable[[int], Usage]:
        return lambda number: measure.run(
            ours(work, **release.arguments, **arguments), scratch / f"{work}-{len(arguments)}-{number}"
        )

    sides = {
        "ours": asked("ask", question="id_0000060"),
        "the whole ledger": asked("whole_ledger", question="id_0000060"),
        "ours, a file's name": asked("ask", question="1.jpg"),
        "ours, a SHA-256": asked("ask", question="0" * 64),
        "ours, a hundred faces": asked("sheet"),
    }
    note = "Each is a process of its own, half a second of which goes into its imports; a page answers without them."
    return Row("ask", "ask, and look", files, sides, [Target("wall_s", 1.0, ("the whole ledger",))], note=note)
