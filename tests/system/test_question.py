"""`make run` against a bucket that another source filled: it asks on the terminal, or ends and says why it cannot."""

import fcntl
import os
import pty
import select
import subprocess
import sys
import termios
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import redirect_stdout, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from local.airflow import api, question, settings
from tests.system.conftest import BUCKET, RUN_TIMEOUT_S, System
from tests.unit.faceset.pipeline import face, put

pytestmark = [pytest.mark.system, pytest.mark.long]

PREFIX = "question/set/"
PROMPT = "Approve? [y/n] "
SUBJECT = f"Delete 6 of 6 objects at s3://{BUCKET}/{PREFIX}?"


def exports(folder: Path, names: str, *, each: int = 2) -> Path:
    """Three people with two images each, by their first letters; or with `each`."""
    (folder / "faces_only").mkdir(parents=True)
    put(folder / "faces_only/x_face.png", face(0, "PNG"))
    for name in names:
        for number in range(each):
            put(folder / f"reidnet_v2_training_data/{name}/{number}.jpg", face(1000 * ord(name) + number))
    return folder


def answered(master: int, answers: list[str], timeout: float = RUN_TIMEOUT_S) -> str:
    """Be the person at a terminal: type an answer whenever one is asked for; what was shown up to the last one."""
    shown, deadline = "", time.monotonic() + timeout
    for answer in answers:
        seen = len(shown)
        while PROMPT not in shown[seen:]:
            assert time.monotonic() < deadline, shown
            if select.select([master], [], [], 1)[0]:
                shown += os.read(master, 4096).decode(errors="replace")
        os.write(master, answer.encode())
    return shown.replace("\r\n", "\n")


def asked(folder: Path, names: str) -> dict[str, Any]:
    return {
        "local_source": str(exports(folder / names, names)),
        "output": str(folder / f"merged-{names}"),
        "destination": f"s3://{BUCKET}/{PREFIX}",
        "shards": 2,
    }


@dataclass
class Asked:
    """A run that asks on a terminal of its own."""

    system: System
    conf: dict[str, Any]

    def ask(self, answers: list[str], typed_before: str = "") -> tuple[api.Run, str, str]:
        """The run, the state in which it ends, and what the terminal showed."""
        run = self.system.airflow.trigger("reidnet_v3", self.conf)
        master, terminal = pty.openpty()
        os.write(master, typed_before.encode())
        with open(terminal, "w") as output, ThreadPoolExecutor(1) as person, redirect_stdout(output):  # noqa: PTH123
            shown = person.submit(answered, master, answers)
            asker = question.Asker(self.system.airflow, run, terminal)
            try:
                state = self.system.airflow.wait(run, timeout=RUN_TIMEOUT_S, watch=asker.watch)
            except question.NobodyAnswersError as error:
                self.system.airflow.fail(run)
                state = str(error)
            told = shown.result()
        os.close(master)
        return run, state, told


def test_a_person_is_shown_the_numbers_and_answers(system: System, tmp_path: Path) -> None:
    before = system.run(**asked(tmp_path, "abc"))
    assert system.airflow.state(before) == "success", system.states(before)
    there = system.objects(PREFIX)
    terminal = Asked(system, asked(tmp_path, "def"))

    # The end of the input is no answer.
    _, state, shown = terminal.ask(["perhaps\n", "\x04"])
    assert "Please type y or n." in shown
    assert "| **would be deleted** | **6 (100.0%)** |" in shown
    assert state.startswith(f"{SUBJECT} Nobody can answer: the terminal was closed. Nothing was changed")

    # No; and what was typed before the question is not taken for a yes.
    run, state, _ = terminal.ask(["No\n"], typed_before="y\n")
    assert state == "failed"
    assert "rejected the deletion of 6 of 6 objects" in system.log(run, "approve_deletions")
    assert system.objects(PREFIX) == there


def make_run(home: Path, source: Path, **arguments: Any) -> "subprocess.Popen[str]":
    """`make run`, as its recipe starts it, in a session of its own as a terminal's is."""
    environment = {
        "AIRFLOW_HOME": str(home),
        "DEST": f"s3://{BUCKET}/{PREFIX}",
        "HOME": str(home),
        "OUTPUT": str(home / f"merged-{source.name}"),
        "PATH": os.defpath,
        "PYTHONPATH": os.pathsep.join([str(settings.ROOT), str(settings.ROOT / "plugins")]),
        "SOURCE": str(source),
    }
    command = [sys.executable, "-m", "local.commands.run"]
    return subprocess.Popen(command, env=environment, cwd=settings.ROOT, start_new_session=True, text=True, **arguments)


def test_make_run_asks_on_its_terminal_and_without_one_ends_with_what_to_do(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    unattended = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    # As many people and images as the training of the reference needs.
    with make_run(home, exports(tmp_path / "first", "abcdefgh", each=130), **unattended) as first:
        told = first.communicate()[0]
    assert first.returncode == 0, told

    other = exports(tmp_path / "second", "ijklmnop", each=130)
    subject = SUBJECT.replace("6 of 6", "1,040 of 1,040")
    with make_run(home, other, **unattended) as nobody:
        told = nobody.communicate()[0]
    assert nobody.returncode == 1, told
    assert f"{subject} Nobody can answer: there is no terminal here. Nothing was changed at the destination" in told

    # It holds up nobody: the next one asks, and goes ahead.
    master, terminal = pty.openpty()
    controls = partial(fcntl.ioctl, terminal, termios.TIOCSCTTY, 0)
    with make_run(home, other, stdin=terminal, stdout=terminal, stderr=terminal, preexec_fn=controls) as asking:
        os.close(terminal)
        shown = answered(master, ["y\n"])
        rest = b""
        with suppress(OSError):  # how Linux tells that nobody has the terminal open any more
            while more := os.read(master, 4096):
                rest += more
    os.close(master)
    assert subject in shown
    assert asking.returncode == 0, rest.decode(errors="replace")
    assert "Succeeded after" in rest.decode(errors="replace")
