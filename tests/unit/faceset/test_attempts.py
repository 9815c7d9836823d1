"""A worker that is paused, and wakes up when its task was tried again and the release is sealed, changes nothing."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from include.faceset.release import pointer
from include.faceset.steps import copy, scan, seal, select
from tests.unit.faceset.pipeline import TREE, Result, face, make_dataset, make_run, put, run_to_seal

ROOT = Path(__file__).parents[3]
PAUSED = """
import os, signal, sys
from pathlib import Path
from include.faceset.steps import copy
from tests.unit.faceset.pipeline import TREE, make_dataset, make_run

before, left, really = int(sys.argv[2]), [int(sys.argv[2])], os.rename

def rename(*arguments, **named):
    left[0] -= 1
    if left[0] < 0:
        os.kill(os.getpid(), signal.SIGSTOP)
        left[0] = 10**6
    return really(*arguments, **named)

os.rename = rename
copy.copy_shard(make_run(make_dataset(Path(sys.argv[1]), [TREE], shards=1), "2"), 0)
"""


@pytest.mark.long
@pytest.mark.parametrize("renames", range(9))
def test_a_paused_try_that_wakes_up_changes_nothing(tmp_path: Path, renames: int) -> None:
    exports, dataset = tmp_path / "exports/training_data", make_dataset(tmp_path, [TREE], shards=1)
    for number in range(12):
        put(exports / f"{'abcd'[number % 4]}/{number}.jpg", face(number))
    run_to_seal(make_run(dataset, "1"))
    (exports / "a/0.jpg").unlink()
    put(exports / "b/1.jpg", face(50))
    for number in range(20, 24):
        put(exports / f"{'abef'[number % 4]}/{number}.jpg", face(number))
    put(exports / "e/1.jpg", face(60))
    put(exports / "f/1.jpg", face(61))
    run = make_run(dataset, "2")
    scan.scan(run, "training_data")
    select.filter_manifest(run)

    command = [sys.executable, "-c", PAUSED, str(tmp_path), str(renames)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "plugins")])}
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as paused:
        _, status = os.waitpid(paused.pid, os.WUNTRACED)
        assert os.WIFSTOPPED(status), "it ended before so many renames"
        copy.copy_shard(run, 0)
        result = Result(seal.seal(run), run, 0)
        output, named = result.output, run.latest.read_text()
        paused.send_signal(signal.SIGCONT)
        said = paused.communicate(timeout=60)[1]
    assert paused.returncode == 1
    assert "has taken over" in said

    assert (result.output, run.latest.read_text()) == (output, named)
    assert not run.previous.exists()
    assert not list(run.staging.iterdir())
    assert pointer.last(run) == run.release(result.sealed.release_id)
    fresh = make_dataset(tmp_path, [TREE], shards=1, output=str(tmp_path / "fresh"))
    assert run_to_seal(make_run(fresh)).output == output
    again = run_to_seal(make_run(dataset, "3"))
    assert (again.read, again.sealed.release_id) == (0, result.sealed.release_id)
