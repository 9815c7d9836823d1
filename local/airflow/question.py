"""A question that a run puts to a person, asked on the terminal that `make run` was started from.

The page in Airflow's UI stays open beside it: whichever answer comes first is the one.
"""

import os
import select
import sys
import termios
import time
from collections.abc import Callable

from local.airflow.answers import Question, TaskInstance
from local.airflow.api import Run, Stack
from local.airflow.errors import StackError

LOOK_S = 1.0
SETTLED_S = 10.0
"""How long a task has been waiting before it is answered: until the process that asked has ended, Airflow 3.3.2 takes
an answer for a lost task, and asks again."""
ANSWERS = {"y": True, "yes": True, "n": False, "no": False}


class NobodyAnswersError(StackError):
    """A run waits for an answer that nobody can give here; the message says what to do."""


def terminal() -> int | None:
    """The terminal, as a file descriptor, on which a person can answer; None where nobody can.

    A process in the background that reads from its terminal is stopped by the kernel, so it has none.
    """
    try:
        descriptor = sys.stdin.fileno()
        return descriptor if os.tcgetpgrp(descriptor) == os.getpgrp() else None
    except (AttributeError, ValueError, OSError):  # no standard input at all, a closed one, one that is no terminal
        return None


class Asker:
    """Asks what a run asks, and hands the answer to Airflow."""

    def __init__(self, airflow: Stack, run: Run, person: int | None) -> None:
        self._airflow, self._run, self._person = airflow, run, person
        self._waiting_since: float | None = None
        self._given: dict[str, bool] = {}

    def watch(self, instances: list[TaskInstance]) -> None:
        """Ask what is open.

        Raises:
            NobodyAnswersError: there is no terminal, or it was closed (Ctrl-D).
        """
        for one in instances:
            if one.state == "awaiting_input":
                self._settle(one)

    def _settle(self, instance: TaskInstance) -> None:
        question = self._airflow.asked(self._run, instance)
        if question.answered:
            self._waiting_since = None
            return
        self._waiting_since = self._waiting_since or time.monotonic()
        if question.body not in self._given:  # else Airflow asks again what was answered
            if self._person is None:
                raise NobodyAnswersError(_unanswered(question, "there is no terminal here"))
            answer = self._ask(self._person, question, instance)
            if answer is None:
                return
            self._given[question.body] = answer
        time.sleep(max(0.0, self._waiting_since + SETTLED_S - time.monotonic()))
        self._airflow.answer(self._run, instance, approve=self._given[question.body])

    def _ask(self, person: int, question: Question, instance: TaskInstance) -> bool | None:
        """Yes or no; None if somebody has answered elsewhere."""
        print(f"\n{question.subject}\n\n{question.body}")
        termios.tcflush(person, termios.TCIFLUSH)  # what was typed before the question is no answer to it
        while True:
            print(f"{question.subject} Approve? [y/n] ", end="", flush=True)
            typed = _line(person, lambda: self._is_open(instance))
            if typed is None:
                print("\nAnswered elsewhere.", flush=True)
                return None
            if typed == "":
                print(flush=True)
                raise NobodyAnswersError(_unanswered(question, "the terminal was closed"))
            if (answer := ANSWERS.get(typed.strip().lower())) is not None:
                return answer
            print("Please type y or n.")

    def _is_open(self, instance: TaskInstance) -> bool:
        self._airflow.check()
        return not self._airflow.asked(self._run, instance).answered


def _line(person: int, is_open: Callable[[], bool]) -> str | None:
    """What a person types, up to Enter; an empty text at the end of all input (Ctrl-D), None once it is not open."""
    while not select.select([person], [], [], LOOK_S)[0]:
        if not is_open():
            return None
    try:
        return os.read(person, 4096).decode(errors="replace")
    except OSError:  # the other end of the terminal is gone
        return ""


def _unanswered(question: Question, why: str) -> str:
    return (
        f"{question.subject} Nobody can answer: {why}. Nothing was changed at the destination, and the run is marked "
        "as failed. If the deletions are meant, run it again on a terminal and approve them, or with a higher "
        "max_delete_fraction (PARAMS='{\"max_delete_fraction\": 0.5}'); if not, put the source or the destination right"
    )
