"""Which records there may be: those of releases that are kept as they were packed."""

from include.faceset.records import packed
from include.faceset.records.make import clear_unfinished
from include.faceset.release import history
from include.faceset.run.attempt import Attempt
from include.faceset.run.run import Run


def with_records(run: Run) -> list[str]:
    """Ids of the kept releases that have been packed; one that was made anew without people has not."""
    return [folder.name for folder in history.folders(run) if packed.read(folder) is not None]


def clear(attempt: Attempt, keep: list[str]) -> int:
    """Remove the records of all other releases from the disk, and what killed tries left; how many releases'."""
    clear_unfinished(attempt)
    folders = sorted(attempt.run.records.iterdir()) if attempt.run.records.is_dir() else []
    gone = [folder for folder in folders if folder.name not in keep]
    for folder in gone:
        attempt.discard(folder)
    return len(gone)
