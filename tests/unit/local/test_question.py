"""Whether a person sits at the terminal that a question could be asked on."""

import fcntl
import os
import pty
import subprocess
import sys
import termios
from functools import partial

import pytest

PROGRAM = "import os, sys; {before}; from local.airflow import question; print(question.terminal())"


@pytest.mark.parametrize(
    ("before", "there"),
    [
        ("pass", True),
        ("os.setpgid(0, 0)", False),  # in the background: reading from it would stop the process
        ("sys.stdin.close()", False),
        ("sys.stdin = None", False),
        ("os.dup2(os.open(os.devnull, os.O_RDONLY), 0)", False),
    ],
)
def test_a_terminal_is_asked_on_only_by_the_process_in_front(before: str, *, there: bool) -> None:
    person, terminal = pty.openpty()
    program = "if os.fork(): os._exit(os.waitstatus_to_exitcode(os.wait()[1]))\n"  # its group leads the session
    code = program + PROGRAM.format(before=before)
    found = subprocess.run(
        [sys.executable, "-c", "import os\n" + code],
        stdin=terminal,
        capture_output=True,
        text=True,
        check=True,
        start_new_session=True,
        preexec_fn=partial(fcntl.ioctl, terminal, termios.TIOCSCTTY, 0),
    )
    os.close(person)
    os.close(terminal)
    assert found.stdout.strip() == ("0" if there else "None")
