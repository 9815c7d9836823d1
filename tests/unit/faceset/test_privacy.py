"""These are people's faces: what a run writes is for its owner and their group, whatever the umask."""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from include.faceset.run import owner
from include.faceset.steps import render, summarise
from include.faceset.steps.retire import retire
from tests.unit.faceset.pipeline import TREE, face, make_dataset, make_run, put, run_to_seal


@contextmanager
def umask(mask: int) -> Iterator[None]:
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


@pytest.mark.parametrize("link_mode", ["clone", "copy"])
def test_files_are_0640_and_folders_0750(tmp_path: Path, link_mode: str) -> None:
    exports = tmp_path / "exports/training_data"
    for number, name in enumerate(["ann/1.jpg", "ann/2.jpg", "ann/3.jpg", "ben/1.jpg", "ben/2.jpg"]):
        put(exports / name, face(number)).chmod(0o666)
    weekly = {**TREE, "name": "weekly", "root": "weekly/{partition}"}
    put(tmp_path / "exports/weekly/2026-05-01/ann/4.jpg", face(9))
    dataset = make_dataset(tmp_path, [TREE, weekly], output=str(tmp_path / "new/deep/merged"))
    with umask(0):
        first = make_run(dataset, "1", link_mode=link_mode)
        owner.take(first, lambda _: True)
        owner.token(first)
        run_to_seal(first)
        (exports / "ann/1.jpg").unlink()  # its bytes are set aside for the first release
        second = make_run(dataset, "2", link_mode=link_mode)
        owner.take(second, lambda _: True)
        sealed = run_to_seal(second).sealed
        render.render_config(second, sealed)
        summarise.summarise(second, sealed, [], None)
        retire(second, None)
    written = list((tmp_path / "new").rglob("*"))
    assert {path.name for path in written} >= {"removed", "SUMMARY.md", ".owner", ".deployment", "latest.json"}
    modes = {(path.is_dir(), stat.S_IMODE(path.lstat().st_mode)) for path in written}
    assert modes == {(True, 0o750), (False, 0o640)}
