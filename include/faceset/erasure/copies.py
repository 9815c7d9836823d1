"""What becomes of the releases that the bucket holds: as they are here, or made anew from a copy."""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from include.faceset.erasure import met, receipt
from include.faceset.erasure.look import look
from include.faceset.erasure.releases import make_anew
from include.faceset.ground import files
from include.faceset.people import People
from include.faceset.release import history, release
from include.faceset.run.run import RELEASE_FILE, Run
from include.faceset.training import verification
from include.faceset.training.trainers import TRAINERS


def in_bucket(
    run: Run, listed: People, ids: Iterable[str], fetch: Callable[[Path], None]
) -> Iterator[tuple[str, Path | None]]:
    """Of each release that the bucket holds: its id there, and a folder named by its true id with what it is now.

    No folder where nothing is left of it. What is kept here is right already; what is not (another machine made it, or
    the folder was lost) is made anew from a copy.

    Args:
        run: the run, after `finish_erasure`.
        listed: the people.
        ids: what the bucket holds.
        fetch: puts the files of a release, whose id is a folder's name, into that folder.
    """
    copies = run.work / "bucket"
    for release_id in ids:
        folder = history.kept_as(run, release_id)
        files.remove_tree(copies)
        try:
            if folder is None:
                copy = copies / release_id
                files.make_folder(copy)
                fetch(copy)
                folder = _copy_anew(run, listed, copy)
            yield release_id, folder
        finally:
            files.remove_tree(copies)


def _copy_anew(run: Run, listed: People, copy: Path) -> Path | None:
    """A copy of a release without the people: itself if it names none, nothing if nothing is left of it."""
    if not (copy / RELEASE_FILE).exists() or not (copy / release.LEDGER_FILE).exists():
        return None  # what a broken upload left, or a prune: nobody can use it
    found = look(listed, copy / release.LEDGER_FILE)
    if not found.rows:
        return copy
    met.remember(run, listed, found.names)
    receipt.note_bucket(run, {"rows": found.rows, "images": found.images}, f"release {copy.name}")
    building = copy.with_name("building")
    files.make_folder(building)
    anew = make_anew(run, listed, copy, building, found)
    if not found.images:
        for path in building.iterdir():
            path.replace(copy / path.name)
        return copy
    return building.rename(copy.with_name(anew.release_id)) if anew.images else None


def published_files(run: Run) -> list[str]:
    """Names of the files that a release may have in the bucket."""
    return [
        *release.SEALED_FILES,
        *(trainer.file_name(run.dataset.name) for trainer in TRAINERS),
        release.RECORDS_FILE,
        verification.file_name(run.dataset.name),
        release.SUMMARY_FILE,
        release.REPORT_FILE,
        release.SUMMARY_JSON_FILE,
    ]
