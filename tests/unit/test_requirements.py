"""What is installed is what was locked, to the byte."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PINNED = re.compile(r"(?P<name>[A-Za-z0-9._-]+)(\[[a-z,-]+\])?==(?P<version>\S+)")


def pins(name: str) -> dict[str, str]:
    """Version by normalised name of the requirements in a file."""
    lines = [line.partition("#")[0].strip() for line in (ROOT / name).read_text().splitlines()]
    found = [PINNED.fullmatch(line.removesuffix("\\").split(";")[0].strip()) for line in lines if line[:1].isalnum()]
    assert all(found), f"{name}: every requirement is pinned by =="
    return {re.sub(r"[-_.]+", "-", one["name"]).lower(): one["version"] for one in found if one}


def test_every_requirement_is_pinned_and_locked() -> None:
    locked = pins("requirements.lock")
    for name in ("requirements.txt", "requirements-cluster.txt", "requirements-dev.txt"):
        asked = pins(name)
        assert asked
        assert {one: locked.get(one) for one in asked} == asked


@pytest.mark.parametrize(
    ("lock", "packages"), [("requirements", 100), ("tests/servers/moto", 20), ("tests/servers/localstack", 60)]
)
def test_every_locked_package_has_its_hashes(lock: str, packages: int) -> None:
    entries = re.split(r"(?m)^(?=[a-z0-9])", (ROOT / f"{lock}.lock").read_text())[1:]
    assert len(entries) == len(pins(f"{lock}.lock")) > packages
    for entry in entries:
        hashes = re.findall(r"--hash=(\S+)", entry)
        assert hashes, entry.splitlines()[0]
        assert all(re.fullmatch(r"sha256:[0-9a-f]{64}", one) for one in hashes), entry.splitlines()[0]


def test_the_environment_is_installed_by_hash_only() -> None:
    installs = [line for line in (ROOT / "Makefile").read_text().splitlines() if "pip install" in line]
    assert installs
    assert all("--require-hashes --no-deps" in line for line in installs)
