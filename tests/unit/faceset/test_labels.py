"""An identity keeps its class number from release to release, and nobody else ever gets it."""

import logging
import shutil
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from include.faceset.ground import tables
from include.faceset.release import labels
from include.faceset.release.labels import LabelError
from include.faceset.steps.retire import retire
from tests.unit.faceset.pipeline import TREE, Result, face, make_dataset, make_run, put, run_to_seal

PEOPLE = ["ann", "ben", "cyd", "dan", "eve", "fay"]


def bring(folder: Path, people: set[str]) -> None:
    """Make the export hold these people, with two images each."""
    tree = folder / "exports/training_data"
    shutil.rmtree(tree, ignore_errors=True)
    for name in people:
        for number in range(2):
            put(tree / name / f"{number}.jpg", face(10 * PEOPLE.index(name) + number))


def released(folder: Path, people: set[str], run_id: str, shards: int = 3, **changes: Any) -> Result:
    bring(folder, people)
    result = run_to_seal(make_run(make_dataset(folder, [TREE], **changes), run_id, shards=shards))
    retire(result.run, None)
    return result


def numbers(result: Result) -> dict[str, int]:
    """The class number of each identity of a release; its index is what ImageFolder counts."""
    classes = tables.read(result.run.release(result.sealed.release_id) / "classes.parquet")
    assert classes["identity"].to_pylist() == sorted(classes["identity"].to_pylist())
    assert classes["index"].to_pylist() == list(range(result.sealed.identities))
    return dict(zip(classes["identity"].to_pylist(), classes["label"].to_pylist(), strict=True))


@pytest.mark.parametrize("shards", [1, 5])
def test_the_first_release_numbers_as_image_folder_does_whatever_the_shards(tmp_path: Path, shards: int) -> None:
    result = released(tmp_path, {"cyd", "ann", "ben"}, "1", shards)
    assert numbers(result) == {"ann": 0, "ben": 1, "cyd": 2}
    assert result.sealed.labels == 3


def test_who_leaves_keeps_the_number_and_who_comes_gets_a_new_one(tmp_path: Path) -> None:
    released(tmp_path, {"ben", "cyd"}, "1")
    assert numbers(released(tmp_path, {"ann", "cyd"}, "2")) == {"ann": 2, "cyd": 1}
    back = released(tmp_path, {"ann", "ben", "dan"}, "3", shards=1)
    assert numbers(back) == {"ann": 2, "ben": 0, "dan": 3}
    assert back.sealed.labels == 4
    again = released(tmp_path, {"ann", "ben", "dan"}, "3", shards=7)
    assert (numbers(again), again.sealed.labels) == (numbers(back), 4)


@pytest.mark.long
@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.sets(st.sampled_from(PEOPLE), min_size=1), st.integers(1, 3)), min_size=2, max_size=5))
def test_no_number_is_ever_given_twice(states: list[tuple[set[str], int]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        given_to: dict[str, int] = {}
        for at, (people, shards) in enumerate(states):
            result = released(Path(folder), people, str(at), shards, keep_releases=2)
            for identity, number in numbers(result).items():
                assert given_to.setdefault(identity, number) == number
            assert sorted(given_to.values()) == list(range(result.sealed.labels))


def test_the_number_of_a_person_who_is_erased_is_nobodys(tmp_path: Path) -> None:
    released(tmp_path, {"ann", "ben", "cyd"}, "1")
    released(tmp_path, {"ann", "cyd"}, "2", keep_releases=1)  # no release holds ben any more, but the numbers do
    listed = put(tmp_path / "list.suppressed", b"ann\nben\n")
    erased = released(tmp_path, {"ann", "cyd", "dan"}, "3", suppressed=str(listed))
    assert numbers(erased) == {"cyd": 2, "dan": 3}
    rows = tables.read(erased.run.labels)
    assert sorted(zip(rows["label"].to_pylist(), map(str, rows["identity"].to_pylist()), strict=True)) == [
        (0, "None"),
        (1, "None"),
        (2, "cyd"),
        (3, "dan"),
    ]
    listed.write_bytes(b"")
    assert numbers(released(tmp_path, {"ann", "ben", "cyd"}, "4")) == {"ann": 4, "ben": 5, "cyd": 2}


def lose(path: Path) -> None:
    path.unlink()


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-9])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def bring_an_old_one(path: Path) -> None:
    shutil.copy(path.with_name("an old one"), path)


@pytest.mark.parametrize("damage", [lose, cut, empty, bring_an_old_one])
def test_what_was_lost_is_made_anew_from_the_releases_and_told(
    tmp_path: Path, damage: Any, caplog: pytest.LogCaptureFixture
) -> None:
    first = released(tmp_path, {"ben", "cyd"}, "1")
    shutil.copy(first.run.labels, first.run.labels.with_name("an old one"))
    second = released(tmp_path, {"ann", "cyd"}, "2")
    damage(second.run.labels)
    with caplog.at_level(logging.WARNING):
        third = released(tmp_path, {"ann", "ben", "cyd", "dan"}, "3")
    assert numbers(third) == {"ann": 2, "ben": 0, "cyd": 1, "dan": 3}
    assert "is made anew from the releases that are kept" in caplog.text
    assert ("is gone" in caplog.text) == (damage is lose)


def test_where_the_releases_are_damaged_too_nobody_is_numbered_anew_in_silence(tmp_path: Path) -> None:
    second = released(tmp_path, {"ann", "cyd"}, "2")
    lose(second.run.labels)
    cut(second.run.release(second.sealed.release_id) / "classes.parquet")
    with pytest.raises(LabelError, match="compact_labels: true in the dataset file to number all identities anew"):
        released(tmp_path, {"ann", "ben"}, "3")
    assert numbers(released(tmp_path, {"ann", "ben"}, "4", compact_labels=True)) == {"ann": 0, "ben": 1}


def test_compact_labels_start_anew(tmp_path: Path) -> None:
    released(tmp_path, {"ann", "cyd"}, "1")
    compact = released(tmp_path, {"cyd", "dan"}, "2", compact_labels=True)
    assert (numbers(compact), compact.sealed.labels) == ({"cyd": 0, "dan": 1}, 2)
    assert numbers(released(tmp_path, {"ann", "cyd", "dan"}, "3")) == {"ann": 2, "cyd": 0, "dan": 1}


def test_a_release_of_before_there_were_numbers_is_followed_by_one_with_them(tmp_path: Path) -> None:
    first = released(tmp_path, {"ben"}, "1")
    folder = first.run.release(first.sealed.release_id)
    tables.write(tables.read(folder / "classes.parquet").drop_columns(["label"]), folder / "classes.parquet")
    said = (folder / "release.json").read_text()
    (folder / "release.json").write_text(said.replace('"labels": 1', '"labels": 0'))
    first.run.labels.unlink()
    assert numbers(released(tmp_path, {"ann", "ben"}, "2")) == {"ann": 0, "ben": 1}
    assert labels.LABELS.names == tables.read(first.run.labels).column_names
