"""What Airflow's REST API answers about tasks."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Self


@dataclass(frozen=True)
class Question:
    """What a task asks a person: in a line, and at length (Markdown); and whether it has its answer."""

    subject: str
    body: str
    answered: bool


@dataclass(frozen=True)
class TaskInstance:
    """One task of a run. `map_index` is -1 unless it is mapped; `duration` (s) is from `start` to `end` on `host`."""

    task_id: str
    map_index: int
    label: str
    state: str | None
    try_number: int
    duration: float | None
    start: datetime | None = None
    end: datetime | None = None
    host: str | None = None

    @classmethod
    def of(cls, answer: Mapping[str, Any]) -> Self:
        return cls(
            task_id=answer["task_id"],
            map_index=answer["map_index"],
            label=answer.get("rendered_map_index") or str(answer["map_index"]),
            state=answer["state"],
            try_number=answer["try_number"],
            duration=answer["duration"],
            start=_moment(answer["start_date"]),
            end=_moment(answer["end_date"]),
            host=answer["hostname"],
        )


def _moment(written: str | None) -> datetime | None:
    return None if written is None else datetime.fromisoformat(written)
