"""One identity's folder of the merged dataset: what lies in it, and how it comes to hold exactly what it should."""

import os
import stat
from pathlib import Path

from include.faceset.output import set_aside
from include.faceset.release import pointer
from include.faceset.run.attempt import Attempt


def present_in(folder: Path) -> dict[str, os.stat_result]:
    """What lies in an identity's folder of the output; nothing, where a link or a file is in its place."""
    try:
        if not stat.S_ISDIR(os.lstat(folder).st_mode):
            return {}
    except FileNotFoundError:
        return {}
    with os.scandir(folder) as entries:
        return {entry.name: entry.stat(follow_symlinks=False) for entry in entries}


def place(
    attempt: Attempt,
    staged: Path,
    present: dict[str, os.stat_result],
    wanted: set[str],
    placed: set_aside.Placed,
) -> None:
    """Bring the identity's folder of the output to exactly the `wanted` names."""
    new = [path.name for path in staged.iterdir()]
    strays = present.keys() - wanted
    final = attempt.run.output / staged.name
    given_up = not wanted and final.is_dir() and not final.is_symlink()
    if not new and not strays and not given_up:
        staged.rmdir()
        return
    pointer.open_for_change(attempt)
    if new and not present:
        # One rename for the whole folder: a new identity is there with all its images, or not at all.
        try:
            staged.rename(final)
        except NotADirectoryError:  # a link or a file is in its place
            attempt.discard(final)
            staged.rename(final)
        return
    # New images go in before strays go out, and what a new one replaces is taken out first: a rename over it would
    # lose bytes that a kept release holds. Killed in between, the next try finds what is left to do.
    for name in new:
        if name in present:
            set_aside.take_out(attempt, final / name, placed)
        (staged / name).rename(final / name)
    for name in strays:
        set_aside.take_out(attempt, final / name, placed)
    staged.rmdir()
    if given_up:
        final.rmdir()
