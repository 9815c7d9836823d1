"""Of runs that began on an output only the last one changes it; the others say why they do not."""

import json
from pathlib import Path
from typing import Any

import pytest

from include.faceset.declared.dataset import Dataset
from include.faceset.erasure import receipt, rewrite
from include.faceset.run import owner, turns
from include.faceset.run.attempt import SupersededError
from include.faceset.run.run import Run
from include.faceset.steps import copy, forget, restore, scan, seal, select, summarise
from include.faceset.steps.retire import retire
from tests.unit.faceset.pipeline import TREE, face, make_dataset, make_run, put, run_to_seal
from tests.unit.faceset.test_parts import BASE, DAILY


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    for number in range(4):
        put(tmp_path / f"exports/training_data/id{number % 2}/{number}.jpg", face(number))
    return make_dataset(tmp_path, [TREE], shards=1)


def begin(dataset: Dataset, run_id: str, **changes: Any) -> Run:
    """What preflight does, once the run before is over."""
    run = make_run(dataset, run_id, **changes)
    assert owner.take(run, lambda _: True, anew=True) is None
    return turns.take_turn(run)


def cleared(run: Run) -> Run:
    """What any other task does first, once the run before is over."""
    assert owner.take(run, lambda _: True) is None
    return run


def add(dataset: Dataset, number: int) -> None:
    put(Path(str(dataset.local_source)) / f"training_data/id0/{number}.jpg", face(number))


def test_a_turn_is_higher_than_all_before_also_of_the_same_run(dataset: Dataset) -> None:
    begun = [begin(dataset, run_id) for run_id in ("1", "1", "2", "1", "3", "3")]
    assert [run.turn for run in begun] == [1, 2, 3, 4, 5, 6]


def test_who_changes_nothing_takes_nothing_away(dataset: Dataset) -> None:
    first = begin(dataset, "1")
    sealed = run_to_seal(first).sealed
    dry = begin(dataset, "2", dry_run=True)
    scan.scan(dry, "training_data")
    select.filter_manifest(dry)
    begin(dataset, "skipped")
    turns.check_turn(first)
    turns.check_sealed(first, sealed.release_id)
    copy.copy_shard(cleared(first), 0)
    assert seal.seal(first).release_id == sealed.release_id


@pytest.mark.parametrize("broken_off", [False, True])
def test_a_later_change_refuses_all_that_began_before(dataset: Dataset, broken_off: bool) -> None:
    first = begin(dataset, "1")
    sealed = run_to_seal(first).sealed
    add(dataset, 10)
    later = begin(dataset, "2")
    if broken_off:
        scan.scan(later, "training_data")
        select.filter_manifest(later)
        turns.check_turn(first)  # until then, only what is the run's own was written
        copy.copy_shard(later, 0)
        did = r"has begun to change \S+/merged and sealed no release"
    else:
        did = f"has published release {run_to_seal(later).sealed.release_id} in \\S+/merged"
    for check in (lambda: turns.check_turn(first), lambda: turns.check_sealed(first, sealed.release_id)):
        with pytest.raises(
            turns.OutdatedError, match=rf"^a later run \(2\) {did}, .*trigger again, or roll back with `release`"
        ):
            check()
    turns.check_turn(later)


def test_the_same_release_is_whoever_published_it(dataset: Dataset) -> None:
    first = begin(dataset, "1")
    sealed = run_to_seal(first).sealed
    second = begin(dataset, "2")
    assert run_to_seal(second).sealed.release_id == sealed.release_id
    turns.check_sealed(first, sealed.release_id)
    with pytest.raises(turns.OutdatedError, match="a later run"):
        turns.check_turn(first)  # what passed between its tasks may be gone

    add(dataset, 10)
    third = begin(dataset, "3")
    run_to_seal(third)
    back = begin(dataset, "4", release=sealed.release_id)
    run_to_seal(back)
    turns.check_sealed(first, sealed.release_id)
    turns.check_sealed(second, sealed.release_id)


def test_a_run_that_began_again_after_another_uses_nothing_of_what_it_knew(dataset: Dataset) -> None:
    first = begin(dataset, "1")
    run_to_seal(first)
    again = begin(dataset, "1")
    assert again.work == first.work  # nobody has been there since
    run_to_seal(again)
    assert begin(dataset, "1").work == first.work

    add(dataset, 10)
    run_to_seal(begin(dataset, "2"))
    anew = begin(dataset, "1")
    turns.check_turn(anew)
    with pytest.raises(select.FilterError, match=r"it has not run in this run .*from `scan` on"):
        copy.copy_shard(anew, 0)
    assert run_to_seal(anew).sealed.images == 5


def test_a_run_that_has_changed_the_output_since_it_was_sealed_is_sealed_again_first(dataset: Dataset) -> None:
    run = begin(dataset, "1")
    sealed = run_to_seal(run).sealed
    (run.output / "id0/0.jpg").write_bytes(face(30))
    copy.copy_shard(run, 0)
    assert not run.latest.exists()
    with pytest.raises(turns.OutdatedError, match="clear it from `copy_shard` on"):
        turns.check_sealed(run, sealed.release_id)


def test_a_release_that_somebody_removed_is_told(dataset: Dataset) -> None:
    run = begin(dataset, "1")
    sealed = run_to_seal(run).sealed
    run.release(sealed.release_id).rename(run.releases / "elsewhere")
    with pytest.raises(turns.OutdatedError, match=f"release {sealed.release_id} is no longer in"):
        turns.check_sealed(run, sealed.release_id)


def test_a_release_that_lost_people_is_another(tmp_path: Path, dataset: Dataset) -> None:
    first = begin(dataset, "1")
    sealed = run_to_seal(first).sealed
    listed = put(tmp_path / "people", b"id1\n")
    erasing = begin(dataset, "2", suppressed=str(listed))
    scan.scan(erasing, "training_data")
    forget.forget(erasing)
    select.filter_manifest(erasing)
    with pytest.raises(turns.OutdatedError, match=r"a later run \(2\) has begun to change"):
        turns.check_sealed(first, sealed.release_id)
    with pytest.raises(turns.OutdatedError, match=r"a later run \(2\) has begun to change"):
        turns.check_turn(first)


def test_a_part_that_was_scanned_counts_and_what_is_sealed_stays_to_be_published(tmp_path: Path) -> None:
    for day in ("2026-05-01", "2026-05-02"):
        put(tmp_path / f"exports/daily/dt={day}/faces/ann/1.jpg", face(int(day[-2:])))
    for number in range(2):
        put(tmp_path / f"exports/base/ann/{number}.jpg", face(number))
    dataset = make_dataset(tmp_path, [DAILY, BASE], shards=1)
    first = begin(dataset, "1")
    sealed = run_to_seal(first).sealed
    later = begin(dataset, "2")
    scan.scan(later, DAILY["name"])
    with pytest.raises(turns.OutdatedError, match="has begun to change"):
        turns.check_turn(first)
    turns.check_sealed(first, sealed.release_id)


def test_another_run_that_took_over_meanwhile_keeps_its_turn(dataset: Dataset) -> None:
    run = make_run(dataset, "1")
    owner.take(run, lambda _: True, anew=True)
    begin(dataset, "2")
    with pytest.raises(SupersededError, match="trigger again"):
        turns.take_turn(run)


def test_a_note_that_is_damaged_still_counts(dataset: Dataset) -> None:
    first = begin(dataset, "1")
    later = begin(dataset, "2")
    turns.set_out(later)
    [note] = later.owner.glob("*.changed")
    note.write_text("{")
    with pytest.raises(turns.OutdatedError, match=r"^a later run has begun to change"):
        turns.check_turn(first)


def test_one_note_is_kept_and_a_late_one_is_not_the_last(dataset: Dataset) -> None:
    runs = [begin(dataset, str(number)) for number in range(4)]
    for run in (*runs, runs[1]):
        turns.set_out(run)
        turns.note_sealed(run, f"{run.turn:016}")
    with pytest.raises(turns.OutdatedError, match=r"\(3\) has published release 0000000000000004"):
        turns.check_turn(runs[2])
    turns.check_turn(runs[3])
    turns.set_out(runs[3])
    [note] = runs[0].owner.glob("*.changed")
    assert json.loads(note.read_text()) == {"dag_id": "faces", "run_id": "3", "after": 0, "release_id": f"{4:016}"}


def test_of_another_dataset_with_the_same_output_the_name_is_told(dataset: Dataset) -> None:
    first = begin(dataset, "1")
    turns.set_out(begin(dataset.model_copy(update={"name": "others"}), "1"))
    with pytest.raises(turns.OutdatedError, match=r"a later run \(1 of others\) has begun"):
        turns.check_turn(first)


def test_an_erasure_goes_on_by_its_list_or_where_nobody_is_left_to_erase(tmp_path: Path, dataset: Dataset) -> None:
    listed = put(tmp_path / "people", b"id1\n")
    first = begin(dataset, "1", suppressed=str(listed))
    run_to_seal(first)
    second = begin(dataset, "2", suppressed=str(listed))
    run_to_seal(second)
    receipt.write(second, rewrite.finish_erasure(second))
    retire(second, None)
    assert not first.work.exists()
    assert rewrite.finish_erasure(cleared(first)) == {"id1"}
    listed.write_text("id0\n")
    with pytest.raises(rewrite.EraseError, match="trigger a new run"):
        rewrite.finish_erasure(first)


@pytest.mark.parametrize("task", ["filter_manifest", "copy_shard", "restore", "seal", "dry_run"])
def test_a_task_before_that_never_ran_is_named(dataset: Dataset, task: str) -> None:
    release = run_to_seal(begin(dataset, "1")).sealed.release_id
    run = begin(dataset, "2", dry_run=task == "dry_run", release=release if task == "restore" else None)
    if task == "filter_manifest":
        with pytest.raises(select.parts.PartsError, match=r"scan has not run .*Clear this run from `scan` on"):
            select.filter_manifest(run)
    elif task == "seal":
        with pytest.raises(seal.parts.PartsError, match="clear the run's tasks from `filter_manifest` on"):
            seal.seal(run)
    else:
        with pytest.raises(select.FilterError, match="was it marked as success"):
            {
                "copy_shard": lambda: copy.copy_shard(run, 0),
                "restore": lambda: restore.restore_shard(run, 0),
                "dry_run": lambda: summarise.dry_run(run, None, []),
            }[task]()


def test_without_an_output_the_release_counts(tmp_path: Path, dataset: Dataset) -> None:
    apart = dataset.model_copy(update={"output": None, "releases": str(tmp_path / "releases")})
    first = begin(apart, "1")
    sealed = run_to_seal(first).sealed
    add(apart, 10)
    later = begin(apart, "2")
    scan.scan(later, "training_data")
    select.filter_manifest(later)
    copy.copy_shard(later, 0)
    turns.check_turn(first)
    after = seal.seal(later)
    for check in (lambda: turns.check_turn(first), lambda: turns.check_sealed(first, sealed.release_id)):
        with pytest.raises(turns.OutdatedError, match=f"published release {after.release_id} in {tmp_path}/releases"):
            check()
