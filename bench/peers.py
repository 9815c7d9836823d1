"""The tools that are measured against: from PyPI in an environment of their own, and from the machine."""

import shutil
import subprocess
import sys
import venv
from pathlib import Path

from bench.measure import BenchError

REQUIREMENTS = Path(__file__).with_name("requirements.txt")


def install(folder: Path) -> Path:
    """The folder of the tools' commands, installed into `folder` as `requirements.txt` says."""
    stamp = folder / "installed"
    if not stamp.exists() or stamp.read_text() != REQUIREMENTS.read_text():
        shutil.rmtree(folder, ignore_errors=True)
        venv.create(folder, with_pip=True)
        subprocess.run(
            [folder / "bin/pip", "install", "--quiet", "--disable-pip-version-check", "-r", REQUIREMENTS], check=True
        )
        stamp.write_text(REQUIREMENTS.read_text())
    return folder / "bin"


def of_machine(name: str) -> str:
    """The path of a command of the machine's."""
    if path := shutil.which(name):
        return path
    raise BenchError(f"{name} is not installed on this machine: apt-get install {name}")


def versions(commands: Path) -> dict[str, str]:
    """What each tool says its version is."""
    asked: dict[str, list[str | Path]] = {
        "aws": [commands / "aws", "--version"],
        "s5cmd": [commands / "s5cmd", "version"],
        "rclone": [commands / "rclone", "version"],
        "cp": [of_machine("cp"), "--version"],
        "find": [of_machine("find"), "--version"],
        "weed": [Path(sys.executable).with_name("weed"), "version"],
    }
    return {
        name: subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()[0]
        for name, command in asked.items()
    }
