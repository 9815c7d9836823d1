"""How long the steps of a run took."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Step:
    """Time of one task of the DAG in seconds; of a mapped one the number of its tasks, their sum and the longest."""

    task: str
    state: str
    tasks: int
    seconds: float
    longest: float


def steps(breadcrumbs: Sequence[Mapping[str, Any]], order: Sequence[str]) -> list[Step]:
    """Airflow's records of a run's ended tasks (task_id, map_index, state, duration), gathered by task, in `order`."""
    by_task: dict[str, list[Mapping[str, Any]]] = {}
    for crumb in sorted(breadcrumbs, key=lambda crumb: order.index(crumb["task_id"])):
        by_task.setdefault(crumb["task_id"], []).append(crumb)
    gathered = []
    for task, crumbs in by_task.items():
        seconds = [crumb.get("duration") or 0.0 for crumb in crumbs]
        states = sorted({str(crumb["state"]) for crumb in crumbs})
        gathered.append(Step(task, ", ".join(states), len(crumbs), round(sum(seconds), 1), round(max(seconds), 1)))
    return gathered
