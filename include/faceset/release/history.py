"""The releases that are kept for an output, and what killed writers left of them."""

import re
from pathlib import Path

from include.faceset.errors import Final
from include.faceset.ground import files
from include.faceset.release.pointer import last, open_for_change
from include.faceset.release.release import ID, read
from include.faceset.run.attempt import Attempt
from include.faceset.run.run import RELEASE_FILE, Run


class ReleaseError(Final):
    """The release that was asked for cannot be had."""


def move_in(attempt: Attempt, building: Path, release_id: str) -> None:
    """Make a folder, built within `attempt`, the release's; what is there of it keeps its config, proof and summary.

    Without its ``release.json`` a folder is no release, so a mixture of old and new is none either.
    """
    folder = attempt.run.release(release_id)
    if not folder.exists():
        building.rename(folder)
    else:
        open_for_change(attempt)
        attempt.discard(folder / RELEASE_FILE)
        for path in sorted(building.iterdir(), key=lambda path: path.name == RELEASE_FILE):
            path.replace(folder / path.name)
        files.sync_folder(folder)
    files.sync_folder(folder.parent)


def folders(run: Run) -> list[Path]:
    """The releases that are kept for this output, the one sealed last first."""
    kept = [path.parent for path in run.releases.glob(f"[0-9a-f]*/{RELEASE_FILE}")]
    return sorted(kept, key=lambda folder: (read(folder).sealed_at, folder.name), reverse=True)


def outdated(run: Run) -> list[str]:
    """Ids of the oldest releases, beyond the dataset's `keep_releases`; never of the one in place."""
    spared = last(run)
    return [folder.name for folder in folders(run)[run.dataset.keep_releases :] if folder != spared]


def broken(run: Run) -> list[Path]:
    """What a killed `seal` left of a release."""
    named = [path for path in run.releases.glob("[0-9a-f]*") if re.fullmatch(ID, path.name)]
    return [folder for folder in named if not (folder / RELEASE_FILE).exists()]


def prune(attempt: Attempt) -> list[str]:
    """Remove what is outdated or broken; return the ids of the releases."""
    old = outdated(attempt.run)
    for folder in [*map(attempt.run.release, old), *broken(attempt.run)]:
        attempt.discard(folder)
    return old


def clear_leftovers(attempt: Attempt) -> None:
    """Remove the work of other runs, and what killed writers left beside the releases and in them."""
    run = attempt.run
    for folder in list(run.all_work.iterdir()):
        if folder != run.work:
            attempt.discard(folder)
    for folder in [run.releases, *run.releases.glob(".owner"), *run.releases.glob("parts/*"), *folders(run)]:
        files.sweep(folder)


def kept_as(run: Run, release_id: str) -> Path | None:
    """Folder of a release, also by an id that it had before people were erased from it; None if it is not kept."""
    if run.keeps(release_id):
        return run.release(release_id)
    return next((folder for folder in folders(run) if release_id in read(folder).formerly), None)


def formerly(run: Run, release_id: str) -> list[str]:
    """Ids that the kept release of an id had before people were erased from it."""
    return read(run.release(release_id)).formerly if run.keeps(release_id) else []


def to_restore(run: Run) -> Path:
    """Folder of the release that this run rolls back to.

    Raises:
        ReleaseError: it is not kept.
    """
    folder = kept_as(run, run.params.release or "")
    if run.params.release is None or folder is None:
        found = ", ".join(path.name for path in folders(run)) or "none"
        raise ReleaseError(f"release {run.params.release} is not kept in {run.releases}; there are: {found}")
    return folder
