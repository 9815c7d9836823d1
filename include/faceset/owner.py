"""Which run works on an output: one at a time, whoever started it.

Airflow's `max_active_runs` does not bind a backfill, which starts ten runs at once. So every task of a run first
takes the output for its run, and waits while another run has it that is not over. Nothing needs to be given back:
a run that is over, or that Airflow does not know, has nothing any more.
"""

import fcntl
import json
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TextIO

from include.faceset import files
from include.faceset.run import Run


@dataclass(frozen=True)
class Owner:
    """A run, by its two names in Airflow."""

    dag_id: str
    run_id: str


def token(run: Run) -> str:
    """What tells this run from all others wherever they run: a name drawn once for the output, and the run's own."""
    files.make_folder(run.releases)
    with _locked(run.releases / ".deployment") as file:
        if not (name := file.read()):
            file.write(name := uuid.uuid4().hex)
    return f"{name}/{run.dataset.name}/{run.run_id}"


def take(run: Run, is_over: Callable[[Owner], bool]) -> Owner | None:
    """Take the output for a run; return the run that has it, if there is one and it `is_over` not. Takes it again."""
    mine = Owner(run.dataset.name, run.run_id)
    files.make_folder(run.releases)
    with _locked(run.owner) as file:
        text = file.read()
        try:
            other = Owner(**json.loads(text))
        except ValueError:  # new, or its writer was killed
            other = mine
        if other != mine and not is_over(other):
            return other
        if text != (now := json.dumps(asdict(mine))):
            file.truncate(0)
            file.write(now)
    return None


def other(run: Run) -> Owner | None:
    """The run that has taken the output since this one had it; None if it is this one's still, or nobody's."""
    try:
        with run.owner.open(encoding="utf-8") as file:
            fcntl.flock(file, fcntl.LOCK_SH)
            found = Owner(**json.loads(file.read()))
    except (FileNotFoundError, ValueError):  # new, or its writer was killed
        return None
    return None if found == Owner(run.dataset.name, run.run_id) else found


@contextmanager
def _locked(path: Path) -> Iterator[TextIO]:
    """A file, made if it is missing, that nobody else has open like this; at its start."""
    with files.room_for(path), open(path, "a+", encoding="utf-8", opener=files.opener) as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        yield file
