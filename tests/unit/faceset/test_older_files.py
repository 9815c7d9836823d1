"""What an earlier version of this project left is understood: its files have no column for ETags."""

import json
from pathlib import Path

import pyarrow.parquet as pq

from include.faceset.release import release
from include.faceset.run.run import RELEASE_FILE
from tests.unit.faceset.pipeline import TREE, face, make_dataset, make_run, put, run_to_seal

WEEKLY = {**TREE, "root": "weekly/{partition}"}


def without_etags(path: Path) -> None:
    """Write a file as it would have been written then, shard by shard and with its note."""
    file = pq.ParquetFile(path)
    groups = [file.read_row_group(number).drop_columns(["etag"]) for number in range(file.num_row_groups)]
    note = (file.metadata.metadata or {}).get(b"faceset")
    with pq.ParquetWriter(path, groups[0].schema.remove_metadata()) as writer:
        for group in groups:
            writer.write_table(group, row_group_size=group.num_rows)
        if note is not None:
            writer.add_key_value_metadata({"faceset": note.decode()})


def test_a_run_goes_on_from_an_older_release_and_rolls_back_to_one(tmp_path: Path) -> None:
    for number in range(3):
        put(tmp_path / f"exports/weekly/2026-05-01/ann/{number}.jpg", face(number))
    dataset = make_dataset(tmp_path, [WEEKLY])
    first = run_to_seal(make_run(dataset, "1"))
    folder = first.run.release(first.sealed.release_id)
    for path in (folder / release.LEDGER_FILE, folder / release.MANIFEST_FILE, *first.run.releases.glob("parts/*/*")):
        without_etags(path)
    put(tmp_path / "exports/weekly/2026-05-08/ben/1.jpg", face(10))
    put(tmp_path / "exports/weekly/2026-05-08/ben/2.jpg", face(11))
    second = run_to_seal(make_run(dataset, "2", ("2026-05-08",)))
    assert (second.read, second.sealed.images) == (2, 5)
    back = run_to_seal(make_run(dataset, "back", release=first.sealed.release_id))
    assert back.output == {f"ann/2026-05-01__{number}.jpg": face(number) for number in range(3)}


def test_what_an_older_release_kept_is_judged_by_the_rules_of_now(tmp_path: Path) -> None:
    for number in range(2):
        put(tmp_path / f"exports/training_data/ann/{number}.jpg", face(number))
    dataset = make_dataset(tmp_path, [TREE])
    first = run_to_seal(make_run(dataset, "1"))
    assert run_to_seal(make_run(dataset, "2")).read == 0
    path = first.run.release(first.sealed.release_id) / RELEASE_FILE
    sealed = json.loads(path.read_text())
    del sealed["rules"]
    path.write_text(json.dumps(sealed))
    assert run_to_seal(make_run(dataset, "3")).read == 2
    assert run_to_seal(make_run(dataset, "4")).read == 0
