"""What is said to differ, from real runs; and what a dry run foresees is what the run then finds."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from include.faceset.ground import sharded, tables
from include.faceset.release import release
from include.faceset.report import changes
from include.faceset.report.changes import State
from include.faceset.steps import render, scan, select
from tests.unit.faceset.pipeline import TREE, Result, face, make_dataset, make_run, put, run_to_seal


def of(result: Result) -> tuple[list[State], dict[str, Any]]:
    """The state of each shard of a release, and what its config says."""
    ledger, shards = result.ledger, result.run.params.shards
    states = [changes.of_ledger(sharded.of_shard(ledger, shard, shards)) for shard in range(shards)]
    return states, render.values(result.run, result.sealed.identities, result.sealed.images)


def compare(before: tuple[list[State], dict[str, Any]], after: tuple[list[State], dict[str, Any]]) -> changes.Changes:
    return changes.compare(zip(before[0], after[0], strict=True), before[1], after[1])


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
    shards = [changes.foreseen(dry, shard, release.known_files(dry, shard)) for shard in range(dry.params.shards)]
    foreseen = (shards, render.values(dry, 4, 9))
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
    assert release.baseline(make_run(dataset, "3")) != release.last(after.run)
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
