"""A task that is killed at any of its steps and tried again ends as one that was never killed.

The run is walked through once. Then each task is put back to where it began, killed (SIGKILL) before or after one of
the calls that change a disk or the bucket, and tried again. Everything on disk and in the bucket must then be as it
was after the task that was not killed, so that what follows is the same too.

By default each line of code that makes such calls is a step, and the tries that follow a killed one are killed at the
next steps, as far as they still come by them. EVERY_STEP=1 kills at every single call, and then tries once more.
"""

from __future__ import annotations

import logging
import os
import signal
from typing import TYPE_CHECKING, Any

import pytest

from tests.kills.deployment import TASKS, Deployment
from tests.kills.invariants import check_pointers
from tests.kills.scenes import SCENES, Moment, Scene

if TYPE_CHECKING:
    from pathlib import Path

log = logging.getLogger(__name__)

EVERY = bool(os.environ.get("EVERY_STEP"))


@pytest.fixture(scope="module", params=list(SCENES) if EVERY else ["following", "back"])
def scene(request: pytest.FixtureRequest, deployment: Deployment, tmp_path_factory: pytest.TempPathFactory) -> Scene:
    folder: Path = tmp_path_factory.mktemp("scene")
    built = SCENES[request.param](deployment, folder / "begin")
    built.walk(save=True)
    assert not leftovers(built.moments[-1].seen)
    return built


def leftovers(seen: dict[str, object]) -> list[str]:
    """What only a run that is going on may have."""
    return [name for name in seen if name.endswith((".tmp", "previous.json")) or "/staging/" in name]


QUICK = {"copy_shard", "sync", "erase"}


@pytest.mark.parametrize("task", [pytest.param(one, marks=[] if one in QUICK else pytest.mark.long) for one in TASKS])
def test_a_task_killed_at_a_step_and_tried_again(scene: Scene, task: str) -> None:
    if not EVERY and scene.params and task not in {"filter_manifest", "copy_shard", "seal"}:
        pytest.skip("as in the other scene")
    kills = 0
    for moment in scene.of(task):
        calls = moment.outcome.points
        at_each = [[{"at": call, "after": after}] for call in range(len(calls)) for after in (False, True)]
        in_a_row = [{"at": line, "after": after} for line in dict.fromkeys(calls) for after in (False, True)]
        left = [steps for steps in (at_each if EVERY else [in_a_row]) if steps]
        while left:
            not_come_by, killed = kill(scene.deployment, moment, left.pop())
            kills += killed
            left += [not_come_by] if not_come_by else []
    log.info("%s: killed %d times", task, kills)


def kill(deployment: Deployment, moment: Moment, steps: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], int]:
    """Kill a task at steps, each try after the one before; the steps that were not come by, and how many were."""
    deployment.restore(moment.saved, moment.objects)
    killed, left = [], []
    for step in steps:
        outcome = deployment.do(moment.run, moment.task, moment.arguments, **step)
        if outcome.status == 0:  # what the killed tries did was enough
            left.append(step)
            break
        assert outcome.status == -signal.SIGKILL, (killed, step, outcome)
        killed.append(step)
        check_pointers(deployment, f"{killed}")
    left += steps[len(killed) + len(left) :]
    assert killed, steps
    again = deployment.do(moment.run, moment.task, moment.arguments)
    assert again.status == 0, (killed, again)
    seen = deployment.seen()
    differing = {name for name in seen.keys() | moment.seen.keys() if seen.get(name) != moment.seen.get(name)}
    if moment.task == "preflight":  # what its questions left is swept by who has the lease next: the run's own sync
        differing = {name for name in differing if "/.probe-" not in name}
    assert not differing, killed
    assert not deployment.uploads(), killed
    return left, len(killed)
