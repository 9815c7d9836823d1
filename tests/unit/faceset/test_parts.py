"""Exports that arrive in parts: any order, any grouping, late and corrected parts end in the same release."""

import shutil
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from include.faceset.exports import parts
from include.faceset.exports.parts import PartsError
from include.faceset.steps import scan
from include.faceset.steps.scan import ScanError
from include.faceset.training import arcface_torch
from include.faceset.training.counts import Counts
from tests.unit.faceset.pipeline import FLAT, Result, face, make_dataset, make_run, put, run_to_seal

WEEKLY = {**FLAT, "root": "weekly/{partition}"}
DAILY = {"name": "daily", "layout": "image_folder", "root": "daily/dt={partition}/faces"}
BASE = {"name": "base", "layout": "image_folder"}
PARTITIONS = ["2026-03-06", "2026-03-13", "2026-05-01", "2026-05-08"]
GOOD = [face(seed) for seed in range(6)]

part_files = st.dictionaries(
    st.tuples(
        st.sampled_from(PARTITIONS),
        st.sampled_from(["weekly/{0}/{1}_face.png", "daily/dt={0}/faces/{1}/1.jpg", "daily/dt={0}/faces/{1}/2.jpg"]),
        st.sampled_from(["ann", "ben", "cyd", "dan"]),
    ),
    st.sampled_from([*GOOD, *GOOD, b"text"]),
    max_size=24,
)


def write(root: Path, files: dict[tuple[str, str, str], bytes], partitions: list[str]) -> None:
    """All parts there, none empty; and one identity that is kept whatever else happens."""
    for number in range(2):
        if not (path := root / f"exports/base/zoe/{number}.jpg").exists():
            put(path, face(100 + number))
    for partition in partitions:
        put(root / f"exports/weekly/{partition}/README", b"-")
        put(root / f"exports/daily/dt={partition}/faces/README", b"-")
    for (partition, form, identity), data in files.items():
        put(root / "exports" / form.format(partition, identity), data)


def config(result: Result) -> str:
    sealed = result.sealed
    values = arcface_torch.values(result.run, Counts.of(sealed))
    return arcface_torch.render(sealed, result.run.release(sealed.release_id), values)


@pytest.mark.long
@settings(max_examples=40, deadline=None)
@given(part_files, st.permutations(PARTITIONS), st.lists(st.booleans(), min_size=4, max_size=4), st.integers(1, 5))
def test_order_and_grouping_of_parts_do_not_matter(
    files: dict[tuple[str, str, str], bytes], order: list[str], ends_a_run: list[bool], shards: int
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        write(root, files, PARTITIONS)
        declared = [WEEKLY, DAILY, BASE]
        at_once = run_to_seal(make_run(make_dataset(root, declared)))
        dataset = make_dataset(root, declared[::-1], output=str(root / "elsewhere"))
        waiting: list[str] = []
        for number, (partition, ends) in enumerate(zip(order, ends_a_run, strict=True)):
            waiting.append(partition)
            if ends or number == len(order) - 1:
                run = make_run(dataset, f"run__{number}", tuple(waiting), shards=shards)
                result = run_to_seal(run)
                waiting = []
        assert result.sealed.release_id == at_once.sealed.release_id
        assert result.outcomes == at_once.outcomes
        assert result.output == at_once.output
        assert config(result) == config(at_once)
        again = run_to_seal(make_run(dataset, "again", shards=shards))
        assert (again.sealed.release_id, again.read) == (at_once.sealed.release_id, 0)


def test_a_singleton_is_kept_once_its_second_image_comes(tmp_path: Path) -> None:
    dataset = make_dataset(tmp_path, [WEEKLY, BASE])
    write(tmp_path, {("2026-03-06", "weekly/{0}/{1}_face.png", "ann"): GOOD[0]}, ["2026-03-06"])
    march = run_to_seal(make_run(dataset, "march", ("2026-03-06",)))
    assert march.outcomes["faces_only/2026-03-06/ann_face.png"] == "too_few_images"
    write(tmp_path, {("2026-05-01", "weekly/{0}/{1}_face.png", "ann"): GOOD[1]}, ["2026-05-01"])
    may = run_to_seal(make_run(dataset, "may", ("2026-05-01",)))
    assert may.read == 2
    assert sorted(key for key in may.output if key.startswith("ann/")) == [
        "ann/2026-03-06__ann_face.png",
        "ann/2026-05-01__ann_face.png",
    ]
    assert may.sealed.scanned == {"faces_only": 4, "base": 2}


def test_a_corrected_part_replaces_only_its_own_rows(tmp_path: Path) -> None:
    dataset = make_dataset(tmp_path, [WEEKLY, BASE])
    form = "weekly/{0}/{1}_face.png"
    files = {(partition, form, "ann"): data for partition, data in zip(PARTITIONS[:3], GOOD, strict=False)}
    write(tmp_path, files, PARTITIONS[:3])
    run_to_seal(make_run(dataset, "all"))
    shutil.rmtree(tmp_path / "exports/weekly/2026-03-13")
    shutil.rmtree(tmp_path / "exports/weekly/2026-03-06")  # gone from the disk: what is known of it stays
    write(tmp_path, {("2026-03-13", form, "ben"): GOOD[4], ("2026-03-13", form, "zoe"): GOOD[5]}, ["2026-03-13"])
    corrected = run_to_seal(make_run(dataset, "corrected", ("2026-03-13",)))
    kept = sorted(path for path, outcome in corrected.outcomes.items() if outcome == "kept" and "weekly" not in path)
    assert kept == [
        "base/zoe/0.jpg",
        "base/zoe/1.jpg",
        "faces_only/2026-03-06/ann_face.png",
        "faces_only/2026-03-13/zoe_face.png",
        "faces_only/2026-05-01/ann_face.png",
    ]
    assert corrected.read == 1


def test_a_part_that_is_not_there_is_named_and_what_is_no_part_is_left_alone(tmp_path: Path) -> None:
    dataset = make_dataset(tmp_path, [WEEKLY, BASE])
    write(tmp_path, {}, ["2026-03-06"])
    put(tmp_path / "exports/weekly/2026-03-13.partial/ann_face.png", GOOD[0])
    put(tmp_path / "exports/weekly/2026-3-20/ann_face.png", GOOD[0])
    run = make_run(dataset, "one", ("2026-03-13",))
    counts = scan.scan(run, "faces_only")
    assert (counts.files, counts.parts, counts.absent) == (0, 0, ["2026-03-13"])
    assert parts.find_parts(run, dataset.exports[0]) == ["2026-03-06"]


def test_an_empty_part_is_an_error_and_what_is_known_of_it_stays(tmp_path: Path) -> None:
    dataset = make_dataset(tmp_path, [WEEKLY, BASE])
    write(tmp_path, {}, ["2026-03-06"])
    first = make_run(dataset, "first")
    scan.scan(first, "faces_only")
    (tmp_path / "exports/weekly/2026-03-06/README").unlink()
    with pytest.raises(ScanError, match=r"2026-03-06 is empty.*if the part is withdrawn, remove"):
        scan.scan(make_run(dataset, "second"), "faces_only")
    assert list(parts.known_manifests(first, dataset.exports[0])) == ["2026-03-06"]


def test_a_part_in_the_place_of_which_a_link_lies_is_refused(tmp_path: Path) -> None:
    dataset = make_dataset(tmp_path, [WEEKLY, BASE])
    put(tmp_path / "outside/ann_face.png", GOOD[0])
    (tmp_path / "exports/weekly").mkdir(parents=True)
    (tmp_path / "exports/weekly/2026-03-06").symlink_to(tmp_path / "outside")
    with pytest.raises(ScanError, match="is not a folder"):
        scan.scan(make_run(dataset), "faces_only")


def test_parts_of_another_declaration_are_not_mixed_in(tmp_path: Path) -> None:
    write(tmp_path, {}, ["2026-03-06", "2026-03-13"])
    run_to_seal(make_run(make_dataset(tmp_path, [WEEKLY, BASE]), "before"))
    changed: dict[str, Any] = {**WEEKLY, "namespace": "own"}
    dataset = make_dataset(tmp_path, [changed, BASE])
    with pytest.raises(PartsError, match=r"export faces_only: partition 2026-03-06 was scanned when .* otherwise"):
        run_to_seal(make_run(dataset, "one", ("2026-03-13",)))
    run_to_seal(make_run(dataset, "all"))


def test_a_dry_run_makes_no_part_known(tmp_path: Path) -> None:
    dataset = make_dataset(tmp_path, [WEEKLY, BASE])
    write(tmp_path, {}, ["2026-03-06"])
    dry = make_run(dataset, "dry", dry_run=True)
    scan.scan(dry, "faces_only")
    assert list(parts.known_manifests(dry, dataset.exports[0])) == ["2026-03-06"]
    assert list(parts.known_manifests(make_run(dataset, "other"), dataset.exports[0])) == []
