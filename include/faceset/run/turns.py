"""Turns: any task of any run may start at any time, but only the run that began last may change anything.

A task is cleared, tried again, or comes late, when another run has changed the output, the releases or the bucket
since. So `preflight`, where a run begins, takes a turn: a number higher than all before (owner.py). Before its first
change a run notes its turn. Until `seal` a task goes on only if no later turn is noted. From then on what was sealed
tells: a task goes on only if the release of its run is the one in place, whichever run put it there.

A dry run, and one that finds nothing to do, note nothing: they take nothing away from the runs before them.
"""

import json
import re
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from include.faceset.errors import Final
from include.faceset.ground import files
from include.faceset.run import owner
from include.faceset.run.attempt import SupersededError
from include.faceset.run.run import Run

_NOTE = re.compile(r"\d{8}\.changed")
_AGAIN = "trigger again, or roll back with `release` (to clear this run from `preflight` on is to trigger it again)"


class OutdatedError(Final):
    """This run is no longer the last: what it would change belongs to a later one. Nothing was changed."""


@dataclass(frozen=True)
class Change:
    """That a run set out to change something.

    `after` is the run's own (run.py); `release_id` what it sealed, None before that.
    """

    dag_id: str
    run_id: str
    after: int
    release_id: str | None = None

    def is_of(self, run: Run) -> bool:
        return (self.dag_id, self.run_id) == (run.dataset.name, run.run_id)


def take_turn(run: Run) -> Run:
    """The run with its turn, which it has just taken (`owner.take`, anew).

    Raises:
        SupersededError: another run has taken the output since.
    """
    turn = owner.number(run)
    if not turn:
        raise SupersededError(f"another run has taken over {run.name_of_output} since this one began: trigger again")
    last, change = _last(run)
    return replace(run, turn=turn, after=change.after if change and change.is_of(run) else last)


def set_out(run: Run) -> None:
    """Note that a run is about to change what others see. A step that is called by itself has no turn to note."""
    if not run.turn:
        return
    files.create(_note(run), json.dumps(asdict(_change(run))))
    for path in _notes(run):
        if path.name < _note(run).name:
            path.unlink(missing_ok=True)


def note_sealed(run: Run, release_id: str) -> None:
    """Note which release a run has put in place."""
    if run.turn:
        files.write_text(_note(run), json.dumps(asdict(replace(_change(run), release_id=release_id))))


def check_turn(run: Run) -> None:
    """Check that no run that began later has changed anything.

    Raises:
        OutdatedError: one has.
    """
    last, change = _last(run)
    if last > run.turn:
        raise OutdatedError(_explain(run, change))


def check_sealed(run: Run, release_id: str) -> None:
    """Check that the release which a run sealed is the one in place.

    Raises:
        OutdatedError: it is not.
    """
    in_place = _in_place(run)
    if in_place == release_id:
        if run.keeps(release_id):
            return
        raise OutdatedError(f"release {release_id} is no longer in {run.releases}: trigger again")
    change = _last(run)[1]
    if change is not None and change.is_of(run):
        raise OutdatedError(
            f"this run has changed {run.name_of_output} since it sealed release {release_id}: clear it from "
            "`copy_shard` on, so that it is sealed again"
        )
    if in_place is not None and (change is None or change.release_id != in_place):
        raise OutdatedError(
            f"a later run has published release {in_place} in {run.name_of_output}, so this one changes nothing: "
            f"{_AGAIN}"
        )
    raise OutdatedError(_explain(run, change))


def _explain(run: Run, change: Change | None) -> str:
    """Which later run it is, what it did, and what to do now."""
    if change is not None and change.is_of(run):
        return "this run was started again from `preflight` since: look at its later tries"
    who = "a later run"
    if change is not None:
        who += f" ({change.run_id})" if change.dag_id == run.dataset.name else f" ({change.run_id} of {change.dag_id})"
    if change is not None and change.release_id is not None:
        did = f"has published release {change.release_id} in {run.name_of_output}"
    else:
        did = f"has begun to change {run.name_of_output} and sealed no release"
    return f"{who} {did}, so this one changes nothing: {_AGAIN}"


def _in_place(run: Run) -> str | None:
    """Id of the release that the output holds; None while it is being changed, or where that broke off."""
    try:
        found: str = json.loads(run.latest.read_text(encoding="utf-8"))["release_id"]
    except FileNotFoundError:
        return None
    return found


def _change(run: Run) -> Change:
    return Change(run.dataset.name, run.run_id, run.after)


def _note(run: Run) -> Path:
    return run.owner / f"{run.turn:08}.changed"


def _notes(run: Run) -> list[Path]:
    """All notes, the one that counts last."""
    return owner.list_named(run.owner, _NOTE)


def _last(run: Run) -> tuple[int, Change | None]:
    """The last turn in which something was changed, 0 if none; and by which run, None if that cannot be read."""
    while notes := _notes(run):
        try:
            return int(notes[-1].stem), _read(notes[-1])
        except FileNotFoundError:  # a later one has just been noted
            continue
    return 0, None


def _read(note: Path) -> Change | None:
    try:
        return Change(**json.loads(note.read_text(encoding="utf-8")))
    except (ValueError, TypeError):  # damaged
        return None
