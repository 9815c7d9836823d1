"""A disk that is small enough to be filled."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 4 MB and 1,000 inodes."""
    disk = tmp_path / "disk"
    disk.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=4m,nr_inodes=1000,mode=0755", "tmpfs", str(disk)]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("only root may mount the small disk that this fills")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)  # noqa: S607


def fill_blocks(disk: Path, left: int) -> None:
    with suppress(OSError), (disk / "ballast").open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))
    with (disk / "ballast").open("rb+") as file:
        file.truncate(max(0, (disk / "ballast").stat().st_size - 4096 * left))


def fill_inodes(disk: Path, left: int) -> None:
    (disk / "ballast").mkdir()
    number = 0
    with suppress(OSError):
        while True:
            (disk / f"ballast/{number}").touch()
            number += 1
    for one in range(left):
        (disk / f"ballast/{one}").unlink()


def free(disk: Path) -> None:
    if (disk / "ballast").is_dir():
        shutil.rmtree(disk / "ballast")
    else:
        (disk / "ballast").unlink()
