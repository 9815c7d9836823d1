"""A run as lines in a terminal: what starts, what ends and how long it took, and signs of life in between."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from local.airflow.answers import TaskInstance

SIGN_OF_LIFE_S = 10.0
ENDS = {"success": "done", "failed": "FAILED", "skipped": "skipped", "upstream_failed": "not run"}


class Progress:
    """Prints what has changed in a run since it was last looked at."""

    def __init__(
        self,
        task_log: Callable[[TaskInstance], Path],
        question: Callable[[TaskInstance], str],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._task_log = task_log
        self._question = question
        self._clock = clock
        self._start = self._said = clock()
        self._states: dict[tuple[str, int], str | None] = {}

    def watch(self, instances: list[TaskInstance]) -> None:
        """Print a line for every task that started or ended, or a sign of life after ten seconds without one."""
        for one in instances:
            before = self._states.get((one.task_id, one.map_index))
            if one.state == before:
                continue
            self._states[one.task_id, one.map_index] = one.state
            if one.state == "running" and one.map_index < 0:
                self._say(one.task_id, "started")
            elif one.state == "up_for_retry":
                self._say(one.task_id, f"failed at try {one.try_number}, will be tried again")
            elif one.state == "awaiting_input":
                self._say(one.task_id, f"WAITS FOR YOUR ANSWER: {self._question(one)}")
            elif one.state in ENDS:
                self._say(self._counted(one, instances), self._ending(one))
        running = [one for one in instances if one.state == "running"]
        if running and self._clock() - self._said > SIGN_OF_LIFE_S:
            one = running[0]
            others = f" (and {len(running) - 1} more)" if len(running) > 1 else ""
            self._say(f"{_named(one)}{others}", f"… {last_event(self._task_log(one))}")

    def _counted(self, one: TaskInstance, instances: list[TaskInstance]) -> str:
        """`copy_shard 5/16`: the fifth of sixteen to end."""
        if one.map_index < 0:
            return one.task_id
        ended = sum(task_id == one.task_id and state in ENDS for (task_id, _), state in self._states.items())
        return f"{one.task_id} {ended}/{sum(other.task_id == one.task_id for other in instances)}"

    def _ending(self, one: TaskInstance) -> str:
        words = ENDS[one.state or ""]
        took = f" in {one.duration:.1f} s" if one.duration is not None and one.state in {"success", "failed"} else ""
        return f"{words}{took}" + (f" ({one.label})" if one.map_index >= 0 else "")

    def _say(self, subject: str, words: str) -> None:
        self._said = self._clock()
        minutes, seconds = divmod(int(self._said - self._start), 60)
        print(f"{minutes:3}:{seconds:02}  {subject:<22} {words}", flush=True)


def _named(one: TaskInstance) -> str:
    return one.task_id if one.map_index < 0 else f"{one.task_id}[{one.label}]"


def events(log: Path) -> list[dict[str, Any]]:
    """Return what a task has logged; lines that are no JSON objects, such as a bare print, under `event`."""
    if not log.exists():
        return []
    return [_event(line) for line in log.read_text(errors="replace").splitlines() if line.strip()]


def last_event(log: Path) -> str:
    """Return the text of the last line that a task has logged; marks of Airflow's folding are none."""
    told = [text for one in events(log) if (text := str(one.get("event", ""))) and not text.startswith("::")]
    return told[-1] if told else "no log yet"


def errors(log: Path, lines: int = 5) -> list[str]:
    """Return the last errors of a task's log, each as its text and the exception that it came with."""
    found = [one for one in events(log) if one.get("level") in {"error", "critical"}]
    return [_described(one) for one in found[-lines:]]


def _event(line: str) -> dict[str, Any]:
    try:
        value = json.loads(line)
    except ValueError:
        value = None
    return value if isinstance(value, dict) else {"event": line}


def _described(one: dict[str, Any]) -> str:
    causes = [f"{cause['exc_type']}: {cause['exc_value']}" for cause in one.get("error_detail") or []]
    return "\n".join([str(one.get("event", "")), *causes])
