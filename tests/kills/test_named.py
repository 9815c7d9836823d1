"""A task that is killed at any of its steps and tried again ends as one that was never killed.

The run is walked through once. Then each task is put back to where it began, killed (SIGKILL) before or after one of
the calls that change a disk or the bucket, and run again. Everything on disk and in the bucket must then be as it was
after the task that was not killed, so that what follows is the same too. By default the first and the last call of
each line of code; KILLS=all takes every call.
"""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

import pytest

from tests.kills.deployment import TASKS, Deployment
from tests.kills.invariants import check_pointers
from tests.kills.scenes import SCENES, Scene

if TYPE_CHECKING:
    from pathlib import Path

EVERY = os.environ.get("KILLS") == "all"


@pytest.fixture(scope="module", params=list(SCENES))
def scene(request: pytest.FixtureRequest, deployment: Deployment, tmp_path_factory: pytest.TempPathFactory) -> Scene:
    folder: Path = tmp_path_factory.mktemp("scene")
    built = SCENES[request.param](deployment, folder / "begin")
    built.walk(save=True)
    assert not leftovers(built.moments[-1].seen)
    return built


def leftovers(seen: dict[str, object]) -> list[str]:
    """What only a run that is going on may have."""
    return [name for name in seen if name.endswith(".tmp") or "/staging/" in name or name.endswith("previous.json")]


@pytest.mark.parametrize("task", TASKS)
def test_a_task_killed_at_a_step_and_tried_again(
    scene: Scene, task: str, record_property: pytest.RecordProperty
) -> None:
    deployment, kills, wrong = scene.deployment, 0, {}
    for moment in scene.of(task):
        for at in points(moment.outcome.points):
            where = f"{'after' if at % 2 else 'before'} {moment.outcome.points[at // 2]} ({at})"
            deployment.restore(moment.saved, moment.objects)
            killed = deployment.do(moment.run, task, moment.arguments, at=at)
            assert killed.status == -signal.SIGKILL, where
            check_pointers(deployment, where)
            again = deployment.do(moment.run, task, moment.arguments)
            assert again.status == 0, (where, again)
            seen = deployment.seen()
            differing = [name for name in seen.keys() | moment.seen.keys() if seen.get(name) != moment.seen.get(name)]
            if differing or deployment.uploads():
                wrong[where] = differing
            kills += 1
    record_property("kills", kills)
    assert not wrong


def points(names: list[str]) -> list[int]:
    """The moments to kill at: two for each call, or for the first and last of each line."""
    calls = set(range(len(names)))
    if not EVERY:
        calls = {names.index(name) for name in names} | {len(names) - 1 - names[::-1].index(name) for name in names}
    return [2 * call + after for call in sorted(calls) for after in (0, 1)]
