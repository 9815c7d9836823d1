"""Which release the merged dataset holds: ``latest.json``, which waits as ``previous.json`` while it is changed."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

from include.faceset.ground import files
from include.faceset.release.release import Release, read
from include.faceset.run.attempt import Attempt
from include.faceset.run.run import RELEASE_FILE, Run


def open_for_change(attempt: Attempt) -> None:
    """Say that ``output`` no longer holds the release that ``latest.json`` named. Call before every first change."""
    run = attempt.run
    try:
        pointer = run.latest.read_text(encoding="utf-8")
    except FileNotFoundError:
        return
    # First the one, then not the other: whenever this is killed, one of them names the release.
    files.write_text(run.previous, pointer, within=attempt.folder)
    attempt.discard(run.latest)


def close_change(attempt: Attempt, release: Release) -> None:
    """Say that ``output`` holds `release`."""
    run = attempt.run
    pointer = release.pointer(str(run.release(release.release_id)))
    files.write_text(run.latest, json.dumps(pointer, indent=2) + "\n", within=attempt.folder)
    attempt.discard(run.previous)


def last(run: Run) -> Path | None:
    """Folder of the last release sealed for this output; None if there is none, or it was removed since."""
    for pointer in (run.latest, run.previous):
        try:
            folder = Path(json.loads(pointer.read_text(encoding="utf-8"))["release"])
        except FileNotFoundError:
            continue
        return folder if (folder / RELEASE_FILE).exists() else None
    return None


def moment(run: Run) -> str:
    """When it is (ISO 8601, UTC): after the last release was sealed, also where the clock says otherwise."""
    now = datetime.now(UTC).replace(microsecond=0)
    if (folder := last(run)) is not None:
        now = max(now, datetime.fromisoformat(read(folder).sealed_at) + timedelta(seconds=1))
    return now.isoformat()


def move_on(attempt: Attempt, release: Release) -> None:
    """Say that the release which ``output`` held last is now `release`; the output is yet to be brought to it."""
    open_for_change(attempt)
    pointer = release.pointer(str(attempt.run.release(release.release_id)))
    files.write_text(attempt.run.previous, json.dumps(pointer, indent=2) + "\n", within=attempt.folder)
