"""What a measurement says, and that what it measures is the real work."""

import json
import sys
from pathlib import Path

import pytest

from bench import disk, measure, report
from bench.measure import BenchError, Row, Target, Usage
from local.sample.entries import FLAT, FOLDERS
from tests.unit.faceset.pipeline import face, put

pytestmark = pytest.mark.long


def row(name: str, ours: float, other: float) -> Row:
    sides = {"ours": lambda _: Usage(ours), "cp": lambda _: Usage(other)}
    return Row(name, "a row", 10, sides, [Target("wall_s", 1.0, ("cp",))])


def test_a_command_that_fails_is_no_measurement(tmp_path: Path) -> None:
    with pytest.raises(BenchError, match="no such export"):
        measure.run([sys.executable, "-c", "raise SystemExit('no such export')"], tmp_path / "said")


def test_a_command_is_measured_with_its_children_and_without_who_started_it(tmp_path: Path) -> None:
    hungry = "bytearray(300_000_000); sum(range(3_000_000))"
    code = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {hungry!r}])"
    used = measure.run([sys.executable, "-c", code], tmp_path / "said")
    idle = measure.run([sys.executable, "-IS", "-c", "pass"], tmp_path / "said")
    assert (used.cpu_s or 0) > 0
    assert (used.peak_mb or 0) > 300
    assert 0 < (idle.peak_mb or 0) < 50


def test_a_row_replaces_only_itself_and_says_what_is_missed(tmp_path: Path) -> None:
    for name, ours in (("copy", 3.0), ("scan", 1.0), ("copy", 2.0)):
        measured = measure.measure(row(name, ours, other=1.0), rounds=2)
        report.keep(report.as_dict(measured, scale=1, rounds=2, versions={"cp": "cp (GNU coreutils) 9.1"}), tmp_path)
    kept = json.loads((tmp_path / "benchmarks.json").read_text())["rows"]
    assert {name: found["targets"][0]["reached"] for name, found in kept.items()} == {"copy": 2.0, "scan": 1.0}
    said = (tmp_path / "benchmarks.md").read_text()
    assert "| [copy](#copy) | wall | cp | ≤ 1 × | 2 × | **missed** |" in said
    assert "| [scan](#scan) | wall | cp | ≤ 1 × | 1 × | ✓ |" in said


def test_ours_is_the_real_work(tmp_path: Path) -> None:
    put(tmp_path / FLAT / "ann_face.png", face(1, "PNG"))
    for number in (2, 3):
        put(tmp_path / FOLDERS / "ben" / f"{number}.jpg", face(number))
    disk.copy_row(tmp_path, tmp_path / "scratch", files=2).sides["ours"](0)
    merged = tmp_path / "scratch/copy/0/merged"
    assert sorted(str(path.relative_to(merged)) for path in merged.rglob("*.*")) == ["ben/2.jpg", "ben/3.jpg"]
