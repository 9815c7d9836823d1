"""Copies of a task that were paused, and wake up when the run that went on without them is over, change nothing.

Each copy is stopped (SIGSTOP) before another line that changes something, while the exports were still what they were
before. Then they change, the tasks are cleared from the scan on, and the run goes on to its end. (copy_shard: see
also tests/unit/faceset/test_attempts.py.)
"""

from __future__ import annotations

import os
import shutil
import signal
from typing import TYPE_CHECKING

import pytest

from tests.kills.deployment import STOPPED, TASKS, Deployment, Progress
from tests.kills.invariants import check_pointers
from tests.kills.scenes import first_release, write_exports

if TYPE_CHECKING:
    from pathlib import Path


LONG = [
    pytest.param(one, marks=pytest.mark.long)
    for one in ("scan", "forget", "filter_manifest", "render_config", "summary")
]


@pytest.mark.parametrize("task", ["seal", *LONG])
def test_copies_that_wake_up_change_nothing(deployment: Deployment, tmp_path: Path, task: str) -> None:
    first_release(deployment)
    exports, later = deployment.folder / "exports", tmp_path / "later"
    write_exports(later, 2)
    run = Progress("manual__last")
    deployment.work(run, until=task)
    arguments = run.instances(task)[-1]
    calls = deployment.do(run, task, arguments).points
    # Before a try has begun it is no try yet: one that begins late is the later one.
    begun = next(number for number, name in enumerate(calls) if "attempt.py:_begin" in name)
    paused = []
    try:
        # A line that is also passed before would stop it there.
        for line in dict.fromkeys(name for name in calls[begun:] if name not in calls[:begun]):
            pid, answer = deployment.worker.start(
                deployment.request(run, task, arguments, at=line, signal=signal.SIGSTOP)
            )
            stopped = deployment.worker.wait(pid, answer)
            if stopped.status == STOPPED:
                paused.append((line, pid, answer))
            else:
                assert stopped.status == 0, (line, stopped)
        assert len(paused) > 3

        shutil.rmtree(exports)
        later.rename(exports)
        run = Progress("manual__last")
        deployment.work(run)
        assert tuple(run.handed_over) == TASKS
        seen, ended_early = deployment.seen(), 0
        while paused:
            line, pid, answer = paused.pop()
            os.kill(pid, signal.SIGCONT)
            outcome = deployment.worker.wait(pid, answer)
            assert outcome.status == 0 or "SupersededError" in outcome.error, (line, outcome)
            ended_early += outcome.status
            now = deployment.seen()
            assert not [name for name in seen.keys() | now.keys() if seen.get(name) != now.get(name)], line
            check_pointers(deployment, line)
        assert ended_early >= 3
    finally:
        for _, pid, answer in paused:
            os.kill(pid, signal.SIGKILL)
            deployment.worker.wait(pid, answer)
