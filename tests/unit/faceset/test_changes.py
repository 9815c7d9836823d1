"""What is said to differ, from real runs; and what a dry run foresees is what the run then finds."""

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from include.faceset.ground import sharded, tables
from include.faceset.release import memory, pointer, release
from include.faceset.report import changes
from include.faceset.report.changes import State
from include.faceset.run.run import Run
from include.faceset.steps import scan, select
from include.faceset.training import arcface_torch
from include.faceset.training.counts import Counts
from tests.unit.faceset.pipeline import TREE, Result, face, make_dataset, make_run, put, run_to_seal


def of(result: Result) -> tuple[list[State], dict[str, Any]]:
    """The state of each shard of a release, and what its config says."""
    ledger, shards = result.ledger, result.run.params.shards
    states = [changes.of_ledger(sharded.of_shard(ledger, shard, shards)) for shard in range(shards)]
    return states, values_of(result.run, result.sealed.identities, result.sealed.images)


def values_of(run: Run, identities: int, images: int) -> dict[str, Any]:
    """What the config says, but for what follows from these two numbers and the release's id."""
    values = arcface_torch.values(run, Counts("", identities, images))
    return {name: value for name, value in values.items() if name not in {"output", "verbose"}}


def compare(before: tuple[list[State], dict[str, Any]], after: tuple[list[State], dict[str, Any]]) -> changes.Changes:
    return changes.compare_states(zip(before[0], after[0], strict=True), before[1], after[1])


def test_every_kind_of_change_is_counted(tmp_path: Path) -> None:
    exports, dataset = tmp_path / "exports/training_data", make_dataset(tmp_path, [TREE])
    for number, name in enumerate(
        ["ann/1.jpg", "ann/2.jpg", "ben/1.jpg", "cyd/1.jpg", "cyd/2.jpg", "dan/1.jpg", "dan/2.jpg"]
    ):
        put(exports / name, face(number))
    before = of(run_to_seal(make_run(dataset, "1")))
    assert compare(before, before).none

    put(exports / "ann/1.jpg", face(20))  # changed
    put(exports / "ann/3.jpg", face(21))  # added
    put(exports / "ben/2.jpg", face(22))  # ben has enough now
    (exports / "cyd/2.jpg").unlink()  # cyd has too few now
    put(exports / "amy/1.jpg", face(23))  # amy is new
    put(exports / "amy/2.jpg", face(24))
    dry = make_run(dataset, "2", dry_run=True)
    scan.scan(dry, "training_data")
    select.filter_manifest(dry)
    shards = changes.foreseen(dry)
    foreseen = (shards, values_of(dry, 4, 9))
    after = run_to_seal(make_run(dataset, "3"))

    found = compare(before, of(after))
    assert found == changes.Changes(
        identities_added=2,
        identities_removed=1,
        images_added=5,
        images_removed=2,
        images_changed=1,
        grew_into=1,
        fell_under=1,
        classes_moved=2,  # ann and dan, since amy and ben come before them
        values={"num_classes": (3, 4), "num_image": (6, 9)},
    )
    assert compare(before, foreseen) == replace(found, images_changed=foreseen_changed(shards, before[0]))
    assert memory.baseline(make_run(dataset, "3")) != pointer.last(after.run)
    assert tables.read(after.run.release(after.sealed.release_id) / release.LEDGER_FILE).num_rows == 10


def foreseen_changed(foreseen: list[State], before: list[State]) -> int:
    """A changed image of the same size is not told before its bytes are read."""
    there = pa.concat_tables([state.images for state in before]).to_pylist()
    sizes = {row["key"]: row["size"] for row in there}
    return sum(
        row["sha256"] is None and row["key"] in sizes and sizes[row["key"]] != row["size"]
        for state in foreseen
        for row in state.images.to_pylist()
    )


ZOE = {f"{name}/zoe/{name}{number}.jpg": 200 + ord(name) * 2 + number for name in "xy" for number in (1, 2)}
"""Somebody who is always there, so that there is a release."""


@st.composite
def exports_and_next(draw: st.DrawFn) -> tuple[dict[str, int], dict[str, int]]:
    """Two states of two exports: the number of an image by its path. In the second one files came, went and changed."""
    paths = [
        f"{export}/{who}/{name}" for export in "xy" for who in ("ann", "ben", "cyd") for name in ("1.jpg", "2.jpg")
    ]
    first = {path: number for number, path in enumerate(paths) if draw(st.booleans())}
    second = {path: number for path, number in first.items() if draw(st.integers(0, 3))}
    second |= {path: number for number, path in enumerate(paths) if path not in first and draw(st.booleans())}
    for path in list(second):
        if path in first and draw(st.integers(0, 4)) == 0:
            second[path] = len(paths) + paths.index(path)
    shared = draw(st.lists(st.sampled_from(paths), min_size=0, max_size=2, unique=True))
    people = [path.split("/")[1] for path in first]
    # The same bytes twice, which the first run learns: it opens nothing of somebody who has too few files.
    if len(shared) == 2 and all(path in first and people.count(path.split("/")[1]) > 1 for path in shared):
        for state in (first, second):
            if all(path in state for path in shared) and state[shared[1]] == first[shared[1]]:
                state[shared[0]] = state[shared[1]]
    return first, second


def bring(root: Path, state: dict[str, int]) -> None:
    """Make the exports hold a state; what it has already is not touched. Every image has a size of its own."""
    for path in [path for path in root.rglob("*.jpg") if str(path.relative_to(root)) not in state]:
        path.unlink()
    for path, number in state.items():
        image = face(number)
        content = image + bytes(64 * number + (-len(image)) % 64)
        if not (root / path).exists() or (root / path).read_bytes() != content:
            put(root / path, content)


@pytest.mark.long
@settings(max_examples=60, deadline=None)
@given(exports_and_next())
def test_what_a_dry_run_foretells_is_what_the_run_does(states: tuple[dict[str, int], dict[str, int]]) -> None:
    exports = [{"name": name, "layout": "image_folder"} for name in "xy"]
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        dataset = make_dataset(root, exports, shards=2)
        bring(root / "exports", {**states[0], **ZOE})
        before = of(run_to_seal(make_run(dataset, "1")))
        bring(root / "exports", {**states[1], **ZOE})
        dry = make_run(dataset, "2", dry_run=True)
        for name in "xy":
            scan.scan(dry, name)
        select.filter_manifest(dry)
        foretold = changes.foreseen(dry)
        counts = sum(len(one.identities) for one in foretold), sum(one.images.num_rows for one in foretold)
        after = run_to_seal(make_run(dataset, "3"))
        assert counts == (after.sealed.identities, after.sealed.images)
        values = values_of(dry, *counts)
        assert compare(before, (foretold, values)) == compare(before, of(after))


def test_the_same_file_name_in_a_second_export_is_one_more_image(tmp_path: Path) -> None:
    exports = [{"name": name, "layout": "image_folder"} for name in "xy"]
    dataset = make_dataset(tmp_path, exports)
    for number in (1, 2):
        put(tmp_path / f"exports/y/ann/{number}.jpg", face(number))
    put(tmp_path / "exports/x/ben/1.jpg", face(3))
    before = of(run_to_seal(make_run(dataset, "1")))
    put(tmp_path / "exports/x/ann/1.jpg", face(4))
    dry = make_run(dataset, "2", dry_run=True)
    for name in "xy":
        scan.scan(dry, name)
    select.filter_manifest(dry)
    foretold = changes.foreseen(dry)
    after = run_to_seal(make_run(dataset, "3"))
    found = compare(before, (foretold, values_of(dry, 1, 3)))
    assert found == compare(before, of(after))
    assert (found.images_added, found.images_removed) == (1, 0)
