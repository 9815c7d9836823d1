"""The decisions that a run goes by: those of the moment when it filtered, whatever is decided while it is at work."""

from include.faceset.declared import deciding
from include.faceset.declared.decisions import Decision, parse, read, text_of
from include.faceset.declared.resolve import Decided, resolve
from include.faceset.ground import files
from include.faceset.run.attempt import Attempt
from include.faceset.run.run import Run

NOTED_FILE = "decisions.csv"


def note(attempt: Attempt) -> None:
    """Keep the decisions in the run's work.

    Raises:
        DecisionError: a line is wrong, or two contradict one another.
    """
    path = deciding.table(attempt.run.dataset)
    text = text_of(path) if path else ""
    resolve(parse(text, str(path)), str(path))
    files.write_text(attempt.run.work / NOTED_FILE, text, within=attempt.folder)


def of(run: Run) -> Decided:
    """What the decisions that the run noted come to; none of a run that rolls back."""
    return resolve(noted(run), str(run.work / NOTED_FILE))


def noted(run: Run) -> list[Decision]:
    """The decisions that the run noted."""
    return read(run.work / NOTED_FILE)
