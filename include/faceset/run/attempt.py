"""One try of a task that changes the output: a folder of its own, through which every change goes.

A worker that was paused may wake up after its task was tried again, or after a later run began. So a try first takes
away the folders of the tries that it follows, each by one rename. And whatever others can see, it changes only by a
rename out of its own folder or into it: a try whose folder is gone can change nothing any more.
"""

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from include.faceset.errors import Again
from include.faceset.ground import files
from include.faceset.run import owner
from include.faceset.run.run import Run


class SupersededError(Again):
    """A later try, or a later run, has taken over."""


@dataclass(frozen=True)
class Attempt:
    """A try, for as long as its folder is there."""

    run: Run
    folder: Path

    @cached_property
    def new(self) -> Path:
        """What it makes, to be moved in."""
        return self.folder / "new"

    @property
    def set_aside(self) -> Path:
        """What it took out of the output and a kept release holds, named by SHA-256: it goes to `run.removed`."""
        return self.folder / "set-aside"

    @property
    def waste(self) -> Path:
        """What it took away and nobody needs."""
        return self.folder / "waste"

    @property
    def superseded(self) -> Path:
        """The folders of the tries that it follows."""
        return self.folder / "superseded"

    def discard(self, path: Path) -> None:
        """Remove a file or a link, or a folder with all in it. Nothing there, nothing to do."""
        taken = self.waste / os.urandom(8).hex()
        try:
            path.rename(taken)
        except FileNotFoundError:
            self.check()
            return
        files.remove_any(taken)

    def check(self) -> None:
        """Raise SupersededError if a later try has taken over."""
        there = False
        with suppress(OSError):  # ESTALE: removed by another machine
            there = self.folder.is_dir()
        if not there:
            raise SupersededError(
                f"a later try of this task, or a later run, has taken over {self.run.name_of_output}; this one has "
                "changed nothing since then and has ended: look at the later one"
            )


@contextmanager
def trying(run: Run, task: str) -> Iterator[Attempt]:
    """A try of a task, such as `seal` or, of a mapped one, `shard=003`: beside it, tries of other shards go on.

    Raises:
        SupersededError: a later try or run has taken over; also where the block fails because of that.
        WriteError: the disk is full.
    """
    with files.room_for(run.releases):
        yield from _trying(run, task)


def _trying(run: Run, task: str) -> Iterator[Attempt]:
    files.make_folder(run.staging)
    attempt = Attempt(run, run.staging / f"{task}-{secrets.token_hex(4)}")
    attempt.folder.mkdir(mode=files.FOLDER_MODE)
    try:
        _begin(attempt, task)
        yield attempt
        _end(run, attempt.folder)
    except Exception as error:
        if not isinstance(error, SupersededError):
            try:
                attempt.check()
            except SupersededError as superseded:
                raise superseded from error
        with suppress(OSError):
            _end(run, attempt.folder)
        raise


def _begin(attempt: Attempt, task: str) -> None:
    for folder in (attempt.new, attempt.set_aside, attempt.waste, attempt.superseded):
        folder.mkdir(mode=files.FOLDER_MODE)
    # A later run takes the output first and looks for the folders of tries then. So it finds this one, or is found.
    if later := owner.other(attempt.run):
        raise SupersededError(
            f"run {later.run_id} of {later.dag_id} has taken over {attempt.run.name_of_output} since: trigger a new run"
        )
    for earlier in _earlier(attempt, task):
        taken = attempt.superseded / os.urandom(8).hex()
        with suppress(FileNotFoundError):  # the try of another shard was quicker
            earlier.rename(taken)
            _end(attempt.run, taken)


def _earlier(attempt: Attempt, task: str) -> Iterator[Path]:
    """The folders of earlier tries of this task, of tasks that cannot run beside it, and of other runs."""
    for staging in attempt.run.all_work.glob("*/staging"):
        for folder in list(staging.iterdir()):
            other = folder.name.rpartition("-")[0]
            mapped = "=" in task and other.partition("=")[0] == task.partition("=")[0]
            beside = staging == attempt.run.staging and mapped and other != task
            if folder != attempt.folder and not beside:
                yield folder


def _end(run: Run, folder: Path) -> None:
    """Bring what was set aside to where it is kept, and remove the rest."""
    for earlier in _inside(folder / "superseded"):
        _end(run, earlier)
    if set_aside := _inside(folder / "set-aside"):
        files.make_folder(run.removed)
        for path in set_aside:
            path.rename(run.removed / path.name)
    files.remove_tree(folder)


def _inside(folder: Path) -> list[Path]:
    return list(folder.iterdir()) if folder.is_dir() else []
