"""Which run works on an output: one at a time, whoever started it.

Airflow's `max_active_runs` does not bind a backfill, which starts ten runs at once. So every task of a run first
takes the output for its run, and waits while another run has it that is not over. Nothing needs to be given back:
a run that is over, or that Airflow does not know, has nothing any more.

Who takes the output after another makes the file with the next number, which only one can make: no lock is needed,
since on a network file system a lock may bind one machine only.
"""

import json
import os
import re
import uuid
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from include.faceset.ground import files
from include.faceset.run.run import Run

_DEPLOYMENT_FILE = ".deployment"
_CLAIM = re.compile(r"\d{8}\.json")


@dataclass(frozen=True)
class Owner:
    """A run, by its two names in Airflow."""

    dag_id: str
    run_id: str


def deployment(run: Run) -> str:
    """The name of the output's folders, drawn once: where it is another, the folders are others."""
    if not (name := known_deployment(run)):
        files.create(run.releases / _DEPLOYMENT_FILE, uuid.uuid4().hex)
        name = known_deployment(run)
    return name


def known_deployment(run: Run) -> str:
    """The same, or an empty text where none was drawn."""
    try:
        return (run.releases / _DEPLOYMENT_FILE).read_text(encoding="utf-8")
    except FileNotFoundError:
        return ""


def token(run: Run) -> str:
    """What tells this run from all others wherever they run: the output's name, and the run's own."""
    return f"{deployment(run)}/{run.dataset.name}/{run.run_id}"


def take(run: Run, is_over: Callable[[Owner], bool], *, anew: bool = False) -> Owner | None:
    """Take the output for a run; return the run that has it, if there is one and it `is_over` not. Takes it again.

    Args:
        run: the run.
        is_over: whether no task of a run is at work, nor can be before it has looked here.
        anew: make a claim also where the last one is the run's own, so that its number is higher than all before.
    """
    own = Owner(run.dataset.name, run.run_id)
    files.make_folder(run.owner)
    while True:
        claims = _claims(run.owner)
        try:
            found = _read(claims[-1]) if claims else None
        except FileNotFoundError:  # it has just been taken over
            continue
        if found == own and not anew:
            return None
        another = found if found != own else None
        if another is not None and not is_over(another):
            return another
        claim = run.owner / f"{int(claims[-1].stem) + 1 if claims else 1:08}.json"
        if files.create(claim, json.dumps(asdict(own))):
            # A task of it may have been cleared since, and have looked before the claim was there.
            if another is not None and not is_over(another):
                claim.unlink()
                return another
            for outdated in claims:
                outdated.unlink(missing_ok=True)
            return None


def number(run: Run) -> int:
    """The number of the claim by which a run has the output; 0 if it is another's, or nobody's."""
    claims = _claims(run.owner)
    try:
        found = _read(claims[-1])
    except (IndexError, FileNotFoundError):
        return 0
    return int(claims[-1].stem) if found == Owner(run.dataset.name, run.run_id) else 0


def other(run: Run) -> Owner | None:
    """The run that has taken the output since this one had it; None if it is this one's still, or nobody's."""
    while True:
        try:
            found = _read(_claims(run.owner)[-1])
        except (IndexError, NotADirectoryError):
            return None
        except FileNotFoundError:
            if not run.owner.exists():
                return None
            continue
        return None if found == Owner(run.dataset.name, run.run_id) else found


def list_named(folder: Path, name: re.Pattern[str]) -> list[Path]:
    """The files of a folder that have such a name, in order."""
    os.utime(folder)  # asks the server: what a client remembers of a folder on it may be a minute old
    return sorted(path for path in folder.iterdir() if name.fullmatch(path.name))


def _claims(folder: Path) -> list[Path]:
    """All claims, the one that counts last."""
    return list_named(folder, _CLAIM)


def _read(claim: Path) -> Owner | None:
    try:
        return Owner(**json.loads(claim.read_text(encoding="utf-8")))
    except (ValueError, TypeError):  # damaged: nobody's
        return None
