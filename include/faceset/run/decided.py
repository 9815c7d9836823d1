"""The decisions that a run goes by: those of the moment when it filtered, whatever is decided while it is at work."""

from include.faceset.declared import deciding
from include.faceset.declared.decisions import HEADER, Decided, read, resolve, write
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
    decisions = read(path) if path else []
    resolve(decisions, str(path))
    text = "\n".join([HEADER, *write(decisions)])
    files.write_text(attempt.run.work / NOTED_FILE, f"{text}\n", within=attempt.folder)


def of(run: Run) -> Decided:
    """What the decisions that the run noted come to; none of a run that rolls back."""
    path = run.work / NOTED_FILE
    return resolve(read(path), str(path))
