"""How the table of decisions is changed: by the page that people decide on, and where a person is erased."""

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from include.faceset.declared.dataset import Dataset
from include.faceset.declared.decisions import HEADER, Decision, DecisionError, parse, read, text_of, write
from include.faceset.declared.resolve import Decided, resolve
from include.faceset.ground import files


def table(dataset: Dataset) -> Path | None:
    """Where a dataset's decisions lie, whether there are any or not; None for a dataset of no file that names none."""
    return Path(dataset.decisions) if dataset.decisions else dataset.decisions_beside


def decided(dataset: Dataset) -> Decided:
    """What the decisions of a dataset come to as they are now.

    Raises:
        DecisionError: a line is wrong, or two contradict one another.
    """
    path = table(dataset)
    return resolve(read(path), str(path)) if path else Decided()


def add(path: Path, decision: Decision) -> None:
    """Append a decision to a table, unless it is there already.

    Raises:
        DecisionError: the table cannot be written, the decision is wrong or contradicts another; nothing is changed.
    """
    line = next(iter(write([decision])))

    def with_it(text: str) -> str:
        if decision.about in {one.about for one in parse(text, str(path))}:
            return text
        start = text if text.strip() else f"{HEADER}\n"
        return f"{start if start.endswith(chr(10)) else start + chr(10)}{line}\n"

    _change(path, with_it)


def remove(path: Path, is_gone: Callable[[Decision], bool]) -> int:
    """Take the decisions for which `is_gone` out of a table; how many there were. Comments stay.

    Raises:
        DecisionError: the table cannot be read or written.
    """
    gone: list[int] = []

    def without_them(text: str) -> str:
        gone.extend(one.line for one in parse(text, str(path)) if is_gone(one))
        kept = (line for number, line in enumerate(text.splitlines(), start=1) if number not in set(gone))
        return "".join(f"{line}\n" for line in kept)

    if path.exists():
        _change(path, without_them)
    return len(gone)


def _change(path: Path, change: Callable[[str], str]) -> None:
    try:
        with _locked(path):
            before = text_of(path)
            after = change(before)
            if after == before:
                return
            resolve(parse(after, str(path)), str(path))
            files.write_text(path.resolve(), after)
    except OSError as error:
        raise DecisionError(
            f"{path}: the decisions cannot be changed ({error.strerror}); let the user that runs Airflow write there, "
            "or name another place (decisions, in the dataset file), or change the table by hand"
        ) from error


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold the table's folder for one change at a time; processes of other machines are kept apart where NFS locks."""
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)
