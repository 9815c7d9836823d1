"""A run that is killed at a random moment, all its processes at once, ends as one that was never killed.

The moments are drawn from a seed (SEED); KILLS is how many. After each kill either the tasks that did not end well are
done again, as when somebody clears them, or another run is started, as when somebody triggers one.
"""

from __future__ import annotations

import logging
import os
import random
import time
from typing import TYPE_CHECKING

import pytest

from tests.kills.deployment import Deployment, Progress
from tests.kills.invariants import check_pointers
from tests.kills.scenes import SCENES

pytestmark = pytest.mark.long

if TYPE_CHECKING:
    from pathlib import Path

    from tests.kills.deployment import Like

log = logging.getLogger(__name__)

KILLS = int(os.environ.get("KILLS", "20"))
SEED = int(os.environ.get("SEED", "1"))


def test_a_run_killed_at_random_moments(deployment: Deployment, tmp_path: Path) -> None:
    rng = random.Random(SEED)
    scene = SCENES["following"](deployment, tmp_path / "begin")
    begun = time.monotonic()
    assert not deployment.work_until_killed(Progress("manual__last"), 1e6)
    took = time.monotonic() - begun
    wanted = {like: deployment.seen(like) for like in ("run", "other run")}
    killed_in: dict[str, int] = {}
    while sum(killed_in.values()) < KILLS:
        seconds = rng.uniform(0, took)
        deployment.restore(scene.saved, scene.objects)
        run = Progress("manual__last")
        while not deployment.work_until_killed(run, seconds):  # it was quicker than the run that was timed
            deployment.restore(scene.saved, scene.objects)
            run, seconds = Progress("manual__last"), seconds * 0.8
        task = run.next_task
        killed_in[task] = killed_in.get(task, 0) + 1
        where = f"kill {sum(killed_in.values())}: {seconds:.3f} s, in {task}"
        check_pointers(deployment, where)
        like: Like = rng.choice(["run", "other run"])
        if like == "other run":
            run = Progress("manual__again")
        deployment.work(run)
        check_pointers(deployment, where)
        seen = deployment.seen(like)
        names = seen.keys() | wanted[like].keys()
        assert not [name for name in names if seen.get(name) != wanted[like].get(name)], (where, like)
        assert not deployment.uploads(), where
    log.info("%d kills, by the task that they fell into: %s", KILLS, killed_in)
