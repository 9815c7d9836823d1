"""What is said to differ, from real runs; and what a dry run foresees is what the run then finds."""

from dataclasses import replace
from pathlib import Path

from include.faceset import changes, filter_manifest, release, render_config, scan, tables
from include.faceset.changes import State
from tests.unit.faceset.pipeline import TREE, Result, face, make_dataset, make_run, put, run_to_seal


def state(result: Result) -> State:
    values = render_config.values(result.run, result.sealed.identities, result.sealed.images)
    return changes.of_ledger(result.ledger, values)


def test_every_kind_of_change_is_counted(tmp_path: Path) -> None:
    exports, dataset = tmp_path / "exports/training_data", make_dataset(tmp_path, [TREE])
    for number, name in enumerate(
        ["ann/1.jpg", "ann/2.jpg", "ben/1.jpg", "cyd/1.jpg", "cyd/2.jpg", "dan/1.jpg", "dan/2.jpg"]
    ):
        put(exports / name, face(number))
    before = state(run_to_seal(make_run(dataset, "1")))
    assert changes.compare(before, before).none

    put(exports / "ann/1.jpg", face(20))  # changed
    put(exports / "ann/3.jpg", face(21))  # added
    put(exports / "ben/2.jpg", face(22))  # ben has enough now
    (exports / "cyd/2.jpg").unlink()  # cyd has too few now
    put(exports / "amy/1.jpg", face(23))  # amy is new
    put(exports / "amy/2.jpg", face(24))
    dry = make_run(dataset, "2", dry_run=True)
    scan.scan(dry, "training_data")
    filter_manifest.filter_manifest(dry)
    shards = [changes.foreseen(dry, shard, release.known_files(dry, shard)) for shard in range(dry.params.shards)]
    foreseen = changes.together(shards, render_config.values(dry, 4, 9))
    after = run_to_seal(make_run(dataset, "3"))

    found = changes.compare(before, state(after))
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
    assert changes.compare(before, foreseen) == replace(found, images_changed=foreseen_changed(foreseen, before))
    assert release.baseline(make_run(dataset, "3")) != release.last(after.run)
    assert tables.read(after.run.release(after.sealed.release_id) / release.LEDGER_FILE).num_rows == 10


def foreseen_changed(foreseen: State, before: State) -> int:
    """A changed image of the same size is not told before its bytes are read."""
    sizes = dict(zip(before.images["key"].to_pylist(), before.images["size"].to_pylist(), strict=True))
    rows = zip(*(foreseen.images[name].to_pylist() for name in ("key", "size", "sha256")), strict=True)
    return sum(sha256 is None and key in sizes and sizes[key] != size for key, size, sha256 in rows)
