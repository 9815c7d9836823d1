"""Where to add what (docs/architecture.md): each is one new file and one line, in a copy of the project."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.long

ROOT = Path(__file__).parents[2]

LAYOUT = """
from collections.abc import Sequence
from typing import ClassVar, Literal

from include.faceset.declared.export import Export


class GroupedExport(Export):
    depth: ClassVar[int] = 2
    layout: Literal["grouped"]

    def identities(self, folders: Sequence[str], names: Sequence[str]) -> list[str | None]:
        return [folder.partition("/")[2] or None for folder in folders]
"""
CHECK = """
from include.faceset.images.inspection import Inspection
from include.faceset.ledger import Outcome


def one_of_two(data: bytes, seen: Inspection) -> Outcome | None:
    return Outcome.TRANSPARENT if len(data) % 2 else None
"""
TRAINER = """
import json


def file_name(dataset):
    return f"{dataset}.json"


def is_wanted(run, folder):
    return True


def values(run, counts):
    return {"classes": counts.identities, "images": counts.images}


def render(release, folder, config):
    return json.dumps(config)


def read_back(path):
    return json.loads(path.read_text())
"""
VERB = """
from s3_sync.listing.contents import list_prefix


def total_size(prefix):
    return sum(list_prefix(prefix)["size"].to_pylist())
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    for name in ("dags", "include", "plugins", "tests", "local"):
        skipped = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, tmp_path / "project" / name, ignore=skipped)
    return tmp_path / "project"


def add(project: Path, file: str, content: str, registry: str, *, line: str, behind: str) -> None:
    """Write a new file, and register it: an import, and one line changed."""
    (project / file).write_text(content)
    place = project / registry
    text = place.read_text()
    assert text.count(behind) == 1
    module = file.removeprefix("plugins/").removesuffix(".py").replace("/", ".")
    package, name = module.rsplit(".", 1)
    importing = f"from {package} import {name}\n"
    start = text.index("from ")
    future = "from __future__ import annotations\n\n"
    start += len(future) if text[start:].startswith(future) else 0
    place.write_text(text[:start] + importing + text[start:].replace(behind, line))


def said(project: Path, script: str, **environment: str) -> str:
    paths = os.pathsep.join([str(project), str(project / "plugins")])
    run = subprocess.run(
        [sys.executable, "-c", script],
        cwd=project,
        env={**os.environ, **environment, "PYTHONPATH": paths},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    return run.stdout


SCENE = """
from pathlib import Path
from tests.unit.faceset.pipeline import *
from include.faceset.steps.render import render_config
folder = Path("scene").absolute()
"""


def test_a_new_layout_of_exports(project: Path) -> None:
    add(
        project,
        "include/faceset/declared/layouts/grouped.py",
        LAYOUT,
        "include/faceset/declared/layouts/__init__.py",
        line="LAYOUTS = (FlatExport, ImageFolderExport, grouped.GroupedExport)",
        behind="LAYOUTS = (FlatExport, ImageFolderExport)",
    )
    printed = said(
        project,
        SCENE
        + """
for number, name in enumerate(["x/ann/1.jpg", "y/ann/2.jpg", "x/ben/1.jpg", "y/ben/2.jpg", "x/stray.jpg"]):
    put(folder / "exports/e" / name, face(number))
result = run_to_seal(make_run(make_dataset(folder, [{"name": "e", "layout": "grouped"}])))
print(sorted(result.output), sorted(result.sealed.scanned.items()))
""",
    )
    assert "['ann/1.jpg', 'ann/2.jpg', 'ben/1.jpg', 'ben/2.jpg'] [('e', 5)]" in printed


def test_a_new_check_of_images(project: Path) -> None:
    add(
        project,
        "include/faceset/images/odd_sizes.py",
        CHECK,
        "include/faceset/images/checks.py",
        line="CHECKS: tuple[Check, ...] = (odd_sizes.one_of_two,)",
        behind="CHECKS: tuple[Check, ...] = ()",
    )
    printed = said(
        project,
        SCENE
        + """
even = next(data for data in map(face, range(99)) if len(data) % 2 == 0)
odd = next(data for data in map(face, range(99)) if len(data) % 2)
put(folder / "exports/training_data/ann/1.jpg", even)
put(folder / "exports/training_data/ann/2.jpg", odd)
result = run_to_seal(make_run(make_dataset(folder, [TREE], min_images=1)))
print(sorted(result.output))
""",
    )
    assert "['ann/1.jpg']" in printed


def test_a_new_trainer(project: Path) -> None:
    add(
        project,
        "include/faceset/training/other.py",
        TRAINER,
        "include/faceset/training/trainers.py",
        line="TRAINERS: tuple[Trainer, ...] = (arcface_torch, arcface_torch_record, other)",
        behind="TRAINERS: tuple[Trainer, ...] = (arcface_torch, arcface_torch_record)",
    )
    printed = said(
        project,
        SCENE
        + """
for number in range(2):
    put(folder / f"exports/training_data/ann/{number}.jpg", face(number))
result = run_to_seal(make_run(make_dataset(folder, [TREE])))
for path in render_config(result.run, result.sealed):
    print(path.name)
print(path.read_text())
""",
    )
    assert printed.split("\n")[-4:-1] == ["faces_imagefolder.py", "faces.json", '{"classes": 1, "images": 2}']


def test_a_new_s3_operation(project: Path) -> None:
    add(
        project,
        "plugins/s3_sync/listing/sizes.py",
        VERB,
        "plugins/s3_sync/destination.py",
        line="= False\n    total_size = lambda self: sizes.total_size(self.prefix)\n\n    @classmethod",
        behind="= False\n\n    @classmethod",
    )
    printed = said(
        project,
        """
import tempfile
from pathlib import Path
from local.s3 import seaweed, storage
import os
with tempfile.TemporaryDirectory() as folder, seaweed.running(Path(folder), ["data.example.com"]) as server:
    os.environ |= storage.connection(server)
    from s3_sync.destination import S3Destination
    from s3_sync.proof.publish import put_bytes
    there = S3Destination.reach("s3://data.example.com/set/", holder="a test")
    put_bytes(there.prefix, b"12345", "ann/1.jpg")
    print("size", there.total_size())
""",
    )
    assert "size 5" in printed
