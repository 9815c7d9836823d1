"""What people decided about a person who is erased goes with them; who they were taken for stays on the list.

Whoever was decided to be the same person is erased with them. Once the decision is gone nothing would say so, and the
exports would bring the other name in again: so first that name goes onto the list, then the decision goes.
"""

from pathlib import Path

import pyarrow.compute as pc

from include.faceset import people
from include.faceset.declared import deciding
from include.faceset.declared.decisions import Decision, DecisionError, read
from include.faceset.erasure import receipt
from include.faceset.errors import Final
from include.faceset.ground import files, sharded
from include.faceset.people import People
from include.faceset.release import history, release
from include.faceset.run.attempt import Attempt
from include.faceset.run.run import Run


class StillMergedError(Final):
    """Images of a person to erase lie under another identity, and nothing decided says so any more."""


def erase_decisions(attempt: Attempt) -> None:
    """Put the names that only decisions say onto the list, and take the decisions about its people out of the table.

    Raises:
        DecisionError: the table or the list cannot be written.
        StillMergedError: a kept release has images of theirs under another identity; the decision was undone since.
    """
    run = attempt.run
    listed = people.to_erase(run)
    if not listed:
        return
    _check_apart(run, listed)
    table = deciding.table(run.dataset)
    if table is None or not (decisions := read(table)):
        return
    _list_also(run, listed - people.listed(run))
    theirs = _images_of(run, listed, {bytes.fromhex(one.sha256) for one in decisions if one.sha256})

    def is_theirs(one: Decision) -> bool:
        return bool(one.identities & listed) or one.sha256 in theirs

    if found := sum(map(is_theirs, decisions)):
        receipt.note_erased(attempt, "decisions", rows=found)
        deciding.remove(table, is_theirs)


def _list_also(run: Run, names: People) -> None:
    """Put names onto the list that names the same person."""
    decided = deciding.decided(run.dataset)
    for path in people.lists(run):
        on_it = frozenset(line.name for line in people.read_lines(path))
        if not (new := sorted(names & people.same_people(decided, on_it))):
            continue
        before = path.read_text(encoding="utf-8-sig")
        lines = [f"\\{name}" if name.startswith("#") else name for name in new]
        text = "\n".join([before.rstrip("\n"), "# the same person as one above, as was decided", *lines])
        try:
            files.write_text(path.resolve(), f"{text}\n")
        except OSError as error:
            raise DecisionError(
                f"{path}: {len(new):,} more names belong onto the list of people to erase, of whom "
                f"{deciding.table(run.dataset)} says that they are the same person as somebody on it, and the list "
                f"cannot be written ({error.strerror}); write them there yourself, then clear this task"
            ) from error


def _images_of(run: Run, listed: People, hashes: set[bytes]) -> set[str]:
    """Those of some SHA-256 that kept releases know of people, in hexadecimal digits."""
    found: set[str] = set()
    for folder in history.folders(run) if hashes else ():
        for _, rows in sharded.groups(folder / release.LEDGER_FILE, [*_NAMING, "sha256"]):
            of_people = people.separate(listed, rows)[0]["sha256"].drop_null()
            found.update(sha256.hex() for sha256 in hashes.intersection(of_people.to_pylist()))
    return found


_NAMING = ["identity", "export", "path"]


def _check_apart(run: Run, listed: People) -> None:
    for folder in history.folders(run):
        if _holds_merged(folder / release.LEDGER_FILE, listed):
            raise StillMergedError(
                f"release {folder.name} has images of somebody on the list of people to erase under another identity, "
                "since it was decided once that both are the same person, and this decision was undone. Put it back, "
                f"and both are erased; or remove {folder} yourself (what a versioned bucket keeps of it under the "
                "other identity stays), then clear this task"
            )


def _holds_merged(ledger: Path, listed: People) -> bool:
    if "scanned_as" not in sharded.columns(ledger):
        return False
    for _, rows in sharded.groups(ledger, ["identity", "scanned_as"]):
        theirs = people.of_identities(listed, rows["scanned_as"])
        if pc.any(pc.and_not(theirs, people.of_identities(listed, rows["identity"]))).as_py():
            return True
    return False
