"""Run a command on a leash: when this process is told to end, or its parent dies, everything of the command ends.

    python -m local.airflow.leash <pid of the parent> <command> [argument ...]

Airflow's scheduler forks workers, those fork supervisors, those fork tasks in process groups of their own, and
any of them may die before its children. So the leash is the subreaper of them all (an orphan becomes its
child: prctl(2), PR_SET_CHILD_SUBREAPER), and it asks the kernel to be told of its parent's death
(PR_SET_PDEATHSIG; it is the *thread* that started the leash whose end counts). Linux only.
"""

import ctypes
import os
import signal
import sys
import time
from collections import defaultdict
from pathlib import Path

GRACE_S = 2.0
"""How long the command and its descendants have between SIGTERM and SIGKILL."""

PR_SET_PDEATHSIG = 1  # linux/prctl.h
PR_SET_CHILD_SUBREAPER = 36


def hold(parent: int, command: list[str]) -> int:
    """Run `command` to its end, or until a signal; return its exit code, or 128 + the signal's number."""
    signals = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD}
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    _prctl(PR_SET_CHILD_SUBREAPER, 1)
    _prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:  # it died before it could be watched
        return 128 + signal.SIGTERM
    child = os.posix_spawnp(command[0], command, os.environ, setsigmask=())
    while True:
        received = signal.sigwait(signals)
        if received != signal.SIGCHLD:
            code = 128 + received
            break
        ended = _reap()
        if child in ended:
            code = ended[child]
            break
    _end_descendants()
    return code


def descendants(pid: int) -> list[int]:
    """Return every living descendant of `pid`, children before their own children."""
    children = defaultdict(list)
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            try:
                # proc(5): pid (comm) state ppid …; comm may hold anything, so read from the last parenthesis on.
                state, parent = (process / "stat").read_text().rpartition(")")[2].split()[:2]
            except (FileNotFoundError, ProcessLookupError):
                continue  # ended while we looked
            if state != "Z":
                children[int(parent)].append(int(process.name))
    found = [pid]
    for one in found:
        found.extend(children[one])
    return found[1:]


def _end_descendants() -> None:
    """SIGTERM to all, and SIGKILL to what is left after GRACE_S, until there is nothing."""
    deadline = time.monotonic() + GRACE_S
    _signal(descendants(os.getpid()), signal.SIGTERM)
    while living := descendants(os.getpid()):
        if time.monotonic() > deadline:
            _signal(living, signal.SIGKILL)
        time.sleep(0.02)
        _reap()


def _signal(pids: list[int], number: signal.Signals) -> None:
    for pid in pids:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            continue


def _reap() -> dict[int, int]:
    """Collect the children that have ended: pid → exit code (128 + the number of the signal that killed it)."""
    ended: dict[int, int] = {}
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return ended
        if pid == 0:
            return ended
        code = os.waitstatus_to_exitcode(status)
        ended[pid] = code if code >= 0 else 128 - code


def _prctl(option: int, value: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(option, value, 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"prctl({option}, {value}): {os.strerror(number)}")


if __name__ == "__main__":
    sys.exit(hold(int(sys.argv[1]), sys.argv[2:]))
