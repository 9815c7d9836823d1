"""erase: whoever is on the list of people to erase goes out of all that lies in ``<output>.releases``.

It runs before `filter_manifest` reads anything, so that every step after it works as if the person had never been
there: the output loses their images as it loses all that no export holds, and a release that comes back comes back
without them. It runs again once the bucket is proven, and finds nothing, or what the steps between left.

What happens to each thing (run.py has the layout):

- **a release** is made anew without them. An id is a digest of keys and bytes and may never name others, so where
  images go the release gets its true new id and folder, and keeps the old one in `formerly`, by which it can still be
  asked for. Where no image of theirs was kept, only the ledger changes, in its place.
- **records** of releases that got a new id go: they are packed anew.
- **their class numbers** stay given, and are nobody's.
- **its ledger** has a blank row in the place of each of theirs (`suppressed`, export and part, nothing else), so it
  balances as before. Who was in dispute with them over the same bytes is no longer known: looked at anew next time.
- **the manifest of a part** has blank rows too; **the record of a sync** loses their keys.
- **decisions** about them go, and names that only those say go onto the list (decisions.py).
- **work** of other runs goes. **What was set aside** goes where no release holds it any more.

Each thing is replaced by one rename and says until then that it is to be done: killed, run again, it finishes.
"""

import json
from dataclasses import replace
from pathlib import Path

import pyarrow.compute as pc

from include.faceset import people
from include.faceset.erasure import decisions, met, receipt
from include.faceset.erasure.look import NAMING, find_manifests, is_needed, look, rows
from include.faceset.erasure.releases import make_anew, write_blanked
from include.faceset.errors import Final
from include.faceset.ground import files, tables
from include.faceset.ledger import SCANNED
from include.faceset.output import set_aside
from include.faceset.people import People
from include.faceset.records import shelf
from include.faceset.release import history, labels, pointer, release
from include.faceset.run import turns
from include.faceset.run.attempt import Attempt, trying
from include.faceset.run.run import RELEASE_FILE, Run

LIST_FILE = "people.json"


class EraseError(Final):
    """Nobody may be erased as things are."""


def begin_erasure(attempt: Attempt) -> People:
    """Erase, and keep in mind by which list: `finish_erasure` goes by the same one. Returns the people."""
    decisions.erase_decisions(attempt)
    listed = people.to_erase(attempt.run)
    met.remember(attempt.run, listed, within=attempt.folder)
    erase_here(attempt, listed)
    said = json.dumps(receipt.digest(attempt.run, listed))
    files.write_text(attempt.run.work / LIST_FILE, said, within=attempt.folder)
    return listed


def has_begun(run: Run) -> bool:
    """Whether `begin_erasure` has run in this run, or nobody is to be erased."""
    return (run.work / LIST_FILE).exists() or not people.to_erase(run)


def finish_erasure(run: Run) -> People:
    """Erase what the steps since `begin_erasure` left; the people.

    Raises:
        EraseError: the list is no longer the one that the run began with.
    """
    listed = people.to_erase(run)
    if not _is_as_begun(run, listed):
        raise EraseError(
            "the list of people to erase was changed while this run was at work, and its release goes by the list as "
            "it was; trigger a new run, which goes by the list as it is"
        )
    with trying(run, "erase") as attempt:
        erase_here(attempt, listed)
    return listed


def _is_as_begun(run: Run, listed: People) -> bool:
    """Whether the list is the one that the run began with or, where a later run cleared that, names nobody any more."""
    try:
        said = (run.work / LIST_FILE).read_text(encoding="utf-8")
    except FileNotFoundError:
        return not is_needed(run)
    return bool(json.loads(said) == receipt.digest(run, listed))


def erase_here(attempt: Attempt, listed: People) -> None:
    """Erase people from all that lies beside the output; what is found of them is noted for the receipt."""
    if not listed:
        return
    run = attempt.run
    turns.set_out(run)
    _clear_work(attempt, listed)
    for path in find_manifests(run):
        _erase_manifest(attempt, listed, path)
    _erase_labels(attempt, listed)
    for path in _sync_records(run):
        _erase_record(attempt, listed, path)
    for folder in history.broken(run):
        attempt.discard(folder)
    for folder in history.folders(run):
        _erase_release(attempt, listed, folder)
    if gone := shelf.clear(attempt, shelf.with_records(run)):
        receipt.note_erased(attempt, "records", releases=gone)
    if unused := set_aside.unused(run):
        receipt.note_erased(attempt, "set aside", images=len(unused))
        set_aside.forget_unused(attempt)


def _sync_records(run: Run) -> list[Path]:
    return sorted((run.releases / ".sync").glob("*.parquet"))


def _clear_work(attempt: Attempt, listed: People) -> None:
    """Remove the work of other runs, what killed writers left, and of this run what an earlier try copied of people."""
    run = attempt.run
    history.clear_leftovers(attempt)
    for path in (run.releases / ".sync").glob(".*"):
        attempt.discard(path)
    for path in run.work.glob("*/shard=*.parquet"):  # written anew: all that this try needs
        if people.separate(listed, tables.read(path, NAMING))[0].num_rows:
            attempt.discard(path)


def _erase_manifest(attempt: Attempt, listed: People, path: Path) -> None:
    found, names = rows(listed, path)
    if not found:
        return
    met.remember(attempt.run, listed, names, within=attempt.folder)
    receipt.note_erased(attempt, str(path.relative_to(attempt.run.releases)), rows=found)
    write_blanked(listed, path, path, SCANNED, within=attempt.folder)


def _erase_record(attempt: Attempt, listed: People, path: Path) -> None:
    record = tables.read(path)
    of_people = people.of_keys(listed, record["key"])
    if found := pc.sum(of_people).as_py():
        receipt.note_erased(attempt, str(path.relative_to(attempt.run.releases)), rows=found)
        tables.write(record.filter(pc.invert(of_people)), path, within=attempt.folder)


def _erase_labels(attempt: Attempt, listed: People) -> None:
    """Of each of the people the class number stays, and is nobody's."""
    path = attempt.run.labels
    if not path.exists():
        return
    found = labels.whose(path, listed)
    if found:
        met.remember(attempt.run, listed, found, within=attempt.folder)
        receipt.note_erased(attempt, path.name, rows=len(found))
        labels.forget(attempt, listed)


def _erase_release(attempt: Attempt, listed: People, folder: Path) -> None:
    run = attempt.run
    found = look(listed, folder / release.LEDGER_FILE)
    if not found.rows:
        return
    met.remember(run, listed, found.names, within=attempt.folder)
    in_place = folder == pointer.last(run)
    building = attempt.new / folder.name
    building.mkdir(mode=files.FOLDER_MODE)
    anew = make_anew(run, listed, folder, building, found)
    counts = {"rows": found.rows, "images": found.images, "people": found.people, "disputed": len(found.disputed)}
    receipt.note_erased(attempt, f"release {folder.name}", now=anew.release_id if anew.images else None, **counts)
    if in_place:
        receipt.note_erased(attempt, "output", images=found.images)
    if not found.images:
        # Its ledger tells whether there is anything left to do, so it comes last.
        for path in sorted(building.iterdir(), key=lambda path: path.name == release.LEDGER_FILE):
            path.replace(folder / path.name)
        files.sync_folder(folder)
        return
    target = run.release(anew.release_id)
    if anew.images and (target / RELEASE_FILE).exists():
        same = release.read(target)
        known = dict.fromkeys([*same.formerly, *anew.formerly])
        release.write(replace(same, formerly=list(known)), target, within=attempt.folder)
    elif anew.images:
        attempt.discard(target)
        building.rename(target)
        files.sync_folder(target.parent)
    if in_place and anew.images:
        pointer.move_on(attempt, anew)
    elif in_place:
        pointer.open_for_change(attempt)
    attempt.discard(folder)
