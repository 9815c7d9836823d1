"""A run as one screen that lives, on a terminal: its tasks, how fast the files go through, and what becomes of them."""

import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from local.airflow.answers import TaskInstance
from local.airflow.progress import ENDS

COPYING = "copy_shard"
REFRESHED_A_SECOND = 4
STYLES = {"success": "green", "failed": "bold red", "upstream_failed": "red", "running": "cyan", "skipped": "dim"}

_NEVER = datetime.max.replace(tzinfo=UTC)

HandedOver = Callable[[str, int], Any]
"""What a task returned, by its name and its number if it is mapped."""


@dataclass(frozen=True)
class Task:
    """A task of the DAG, with all that it is mapped to."""

    name: str
    ended: int
    total: int
    state: str
    seconds: float


@dataclass(frozen=True)
class Files:
    """What has become of files so far, and how fast."""

    outcomes: Counter[str]
    a_second: float
    left_s: float | None


def tasks_of(instances: Sequence[TaskInstance]) -> list[Task]:
    """The tasks in the order in which they began; those that have not yet come last."""
    by_name: dict[str, list[TaskInstance]] = {}
    for one in instances:
        by_name.setdefault(one.task_id, []).append(one)
    begun = {name: min((one.start for one in some if one.start), default=_NEVER) for name, some in by_name.items()}
    return [_task(name, by_name[name]) for name in sorted(by_name, key=lambda name: begun[name])]


def _task(name: str, some: list[TaskInstance]) -> Task:
    states = {one.state for one in some}
    worst_first = ("failed", "awaiting_input", "up_for_retry", "running", "queued", "scheduled", "upstream_failed")
    state = next((state for state in worst_first if state in states), None)
    if state is None:
        state = next(iter(states)) if len(states) == 1 else "running"
    ended = sum(one.state in ENDS for one in some)
    return Task(name, ended, len(some), state or "", sum(one.duration or 0.0 for one in some))


def files_of(shards: Sequence[dict[str, Any]], total: int, seconds: float) -> Files:
    """What the shards that are copied tell; `total` is how many there are, `seconds` since the first began."""
    outcomes = Counter[str]()
    for shard in shards:
        outcomes.update({"kept": shard["images"], **shard.get("outcomes", {})})
    left = seconds / len(shards) * (total - len(shards)) if shards else None
    return Files(outcomes, outcomes.total() / seconds if seconds else 0.0, left)


def render(title: str, seconds: float, tasks: Sequence[Task], files: Files | None, last: str) -> RenderableType:
    """The screen."""
    table = Table.grid(padding=(0, 2))
    for one in tasks:
        style = STYLES.get(one.state, "")
        share = ProgressBar(total=one.total, completed=one.ended, width=24) if one.total > 1 else Text("")
        count = f"{one.ended}/{one.total}" if one.total > 1 else ""
        took = f"{one.seconds:.1f} s" if one.seconds else ""
        table.add_row(Text(one.name, style), Text(one.state.replace("_", " "), style), Text(count), Text(took), share)
    parts: list[RenderableType] = [Text(f"{title}   {_clock(seconds)}", "bold"), table]
    if files is not None and files.outcomes:
        left = f", {_clock(files.left_s)} left to copy" if files.left_s else ""
        parts.append(Text(f"{files.outcomes.total():,} files, {files.a_second:,.0f} a second{left}"))
        parts.append(Text("   ".join(f"{name} {count:,}" for name, count in files.outcomes.most_common(8)), "dim"))
    if last:
        parts.append(Text(last, "dim", no_wrap=True, overflow="ellipsis"))
    return Group(*parts)


def _clock(seconds: float) -> str:
    return "{}:{:02}".format(*divmod(round(seconds), 60))


class Screen:
    """Shows a run while the block lasts; a question that is asked on the terminal has it for itself."""

    def __init__(self, title: str, handed_over: HandedOver, last_event: Callable[[TaskInstance], str]) -> None:
        self._title, self._handed_over, self._last_event = title, handed_over, last_event
        self._began = time.monotonic()
        self._shards: dict[int, dict[str, Any]] = {}
        self._live: Live | None = None
        self._shown: RenderableType = Text("")

    def __enter__(self) -> Self:
        self._start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()

    def watch(self, instances: list[TaskInstance]) -> None:
        """Show how far the run is."""
        if any(one.state == "awaiting_input" for one in instances):
            self._stop()
            return
        self._start()
        running = next((one for one in instances if one.state == "running"), None)
        last = f"{running.task_id}: {self._last_event(running)}" if running else ""
        seconds = time.monotonic() - self._began
        self._shown = render(self._title, seconds, tasks_of(instances), self._files(instances), last)
        if self._live is not None:
            self._live.update(self._shown)

    def _files(self, instances: list[TaskInstance]) -> Files | None:
        copying = [one for one in instances if one.task_id == COPYING and one.map_index >= 0]
        starts = [one.start for one in copying if one.start]
        if not starts:
            return None
        for one in copying:
            if one.state == "success" and one.map_index not in self._shards:
                self._shards[one.map_index] = self._handed_over(COPYING, one.map_index)
        now = datetime.now(UTC)
        ended = max((one.end or now) for one in copying)
        return files_of(list(self._shards.values()), len(copying), (ended - min(starts)).total_seconds())

    def _start(self) -> None:
        if self._live is None:
            self._live = Live(self._shown, console=Console(file=sys.stdout), refresh_per_second=REFRESHED_A_SECOND)
            self._live.start()

    def _stop(self) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None


def is_wanted() -> bool:
    """Whether a person looks on: a terminal that says that it can be drawn on."""
    console = Console(file=sys.stdout)
    return console.is_terminal and not console.is_dumb_terminal and bool(os.environ.get("TERM"))
