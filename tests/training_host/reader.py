"""The reference reader of records, MXNet, in an environment of its own: it goes with an older numpy and Python."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from local.airflow.settings import ROOT

LOCK = Path(__file__).with_name("mxnet.lock")
KEPT = ROOT / ".local/mxnet"
PYTHONS = ("3.11", "3.10", "3.9", "3.8")
"""numpy 1.23, the last that MXNet goes with, has wheels for no later one."""


def find_python() -> str | None:
    """A Python that MXNet goes with; None if this machine has none."""
    if sys.version_info < (3, 12):
        return sys.executable
    names = [f"python{version}" for version in PYTHONS]
    found = [path for name in names if (path := shutil.which(name))]
    works = (subprocess.run([path, "-c", ""], capture_output=True, check=False).returncode == 0 for path in found)
    return next((path for path, runs in zip(found, works, strict=True) if runs), None)


def lack() -> str | None:
    """What this machine lacks, as a reason to skip; None if there is nothing."""
    return None if find_python() else "MXNet needs a Python from 3.8 to 3.11"


def python() -> Path:
    """The Python of the environment, installed once from the lock."""
    stamp = KEPT / "installed"
    if not stamp.exists() or stamp.read_text() != LOCK.read_text():
        shutil.rmtree(KEPT, ignore_errors=True)
        uv = Path(sys.executable).with_name("uv")
        for command in (
            [uv, "venv", "--quiet", "--no-config", "--python", find_python() or "", KEPT],
            [uv, "pip", "sync", "--quiet", "--no-config", "--require-hashes", "--python", KEPT / "bin/python", LOCK],
        ):
            subprocess.run(command, check=True)
        stamp.write_text(LOCK.read_text())
    return KEPT / "bin/python"


def ask(script: str, *arguments: Path) -> Any:
    """What a script of this folder prints as JSON, run in that environment."""
    command = [python(), Path(__file__).with_name(script), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)
