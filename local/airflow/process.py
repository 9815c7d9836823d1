"""One of Airflow's processes, which ends with the one that started it."""

import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from local.airflow.errors import StackError
from local.airflow.settings import ROOT

STOP_TIMEOUT_S = 20.0


@dataclass(frozen=True)
class Component:
    """One of Airflow's processes, at the other end of its leash."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path

    @classmethod
    def start(cls, name: str, arguments: list[str], environment: Mapping[str, str], log: Path) -> Self:
        command = [sys.executable, "-m", "local.airflow.leash", str(os.getpid()), airflow_command(), *arguments]
        with log.open("wb") as output:
            process = subprocess.Popen(
                command,
                cwd=ROOT,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C in the terminal is for us alone: we then stop the parts in order
            )
        return cls(name, process, log)

    def check(self) -> None:
        """Raise StackError with the end of the log if the process has ended."""
        code = self.process.poll()
        if code is not None:
            raise StackError(f"airflow {self.name} ended with exit code {code}. {end_of(self.log)}")


def stop(components: list[Component]) -> None:
    """End the components, all at once, and wait until nothing of them is left."""
    for component in components:
        component.process.terminate()
    for component in components:
        component.process.wait(STOP_TIMEOUT_S)


def airflow_command() -> str:
    return str(Path(sys.executable).with_name("airflow"))


def end_of(log: Path, lines: int = 20) -> str:
    text = log.read_text(errors="replace").splitlines() if log.exists() else []
    return "\n".join([f"The end of {log}:", *(f"  {line}" for line in text[-lines:])])
