"""Of a backfill that publishes the latest state only, which run is the last one."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROGRAM = """
import sys
from datetime import datetime, timezone
from types import SimpleNamespace
from airflow.sdk.execution_time.context import set_current_context
from face_tasks import current
from tests.unit.faceset.pipeline import make_dataset, make_run
from pathlib import Path

WEEKLY = {"name": "weekly", "layout": "image_folder", "root": "weekly/{partition}"}
own, waiting = datetime(2026, 5, 1, tzinfo=timezone.utc), eval(sys.argv[2])

class TaskInstance:
    def get_dr_count(self, dag_id, states, logical_dates=None):
        runs = [own, *waiting]
        return sum(1 for date in runs if logical_dates is None or date in logical_dates)

dataset = make_dataset(Path("/x"), [WEEKLY], schedule="0 0 * * FRI", publish=sys.argv[1])
context = {"dag_run": SimpleNamespace(run_type=sys.argv[3], logical_date=own), "ti": TaskInstance()}
with set_current_context(context):
    print(current.a_later_run_publishes(make_run(dataset)))
"""


@pytest.mark.parametrize(
    ("publish", "waiting", "kind", "expected"),
    [
        ("latest", "[]", "backfill", False),
        ("latest", "[datetime(2026, 5, 8, tzinfo=timezone.utc)]", "backfill", True),
        ("latest", "[datetime(2026, 4, 3, tzinfo=timezone.utc)]", "backfill", True),
        ("latest", "[None, datetime(2026, 5, 3, 17, 4, tzinfo=timezone.utc)]", "backfill", False),  # by hand: dry runs
        ("latest", "[datetime(2026, 5, 8, tzinfo=timezone.utc)]", "scheduled", False),
        ("each", "[datetime(2026, 5, 8, tzinfo=timezone.utc)]", "backfill", False),
    ],
)
def test_only_runs_of_the_cadence_are_waited_for(publish: str, waiting: str, kind: str, expected: bool) -> None:
    paths = os.pathsep.join(str(ROOT / name) for name in ("", "plugins", "dags"))
    run = subprocess.run(
        [sys.executable, "-c", PROGRAM, publish, waiting, kind],
        env={**os.environ, "PYTHONPATH": paths},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout.split()[-1] == str(expected)
