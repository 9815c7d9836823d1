"""The list of people to erase: what may stand in it, where it lies, and which rows name somebody."""

import shutil
from pathlib import Path

import pyarrow as pa
import pytest

from include.faceset import people
from include.faceset.declared import loading
from include.faceset.errors import NotReadyError
from include.faceset.ground import tables
from include.faceset.ledger import SCANNED
from include.faceset.people import SuppressedError
from include.faceset.steps.preflight import preflight
from tests.unit.faceset.pipeline import TREE, make_dataset, make_run, put

REFERENCE = Path(__file__).parents[3] / "include/datasets/reidnet_v3.yaml"


def test_one_identity_a_line_with_comments(tmp_path: Path) -> None:
    path = put(tmp_path / "list", "\ufeff# asked for\r\n\r\n  ann \n\\#ben\né ü__3\nann\n".encode())
    assert {line.name for line in people.read_lines(path)} == {"ann", "#ben", "é ü__3"}


@pytest.mark.parametrize("line", ["ann/1.jpg", "a\\nn", ".ann", "e\u0301", "x" * 256, "a\x07n", "\\ann"])
def test_a_line_that_is_no_identity_is_told_by_number(tmp_path: Path, line: str) -> None:
    path = put(tmp_path / "list", f"# comment\nben\n{line}\n".encode())
    with pytest.raises(SuppressedError, match=r"list: line 3 is no identity .*; write it as its folder") as refused:
        people.read_lines(path)
    assert line not in str(refused.value)


def test_a_list_that_cannot_be_read_stops_the_run_before_it_begins(tmp_path: Path) -> None:
    put(tmp_path / "exports/training_data/ann/1.jpg", b"-")
    absent = make_run(make_dataset(tmp_path, [TREE], suppressed=str(tmp_path / "absent")))
    with pytest.raises(NotReadyError, match=r"suppressed: .*absent: .* cannot be read \(No such file"):
        preflight(absent)
    latin = put(tmp_path / "latin", "é".encode("latin-1"))
    with pytest.raises(NotReadyError, match=r"suppressed: .*latin: is not UTF-8 \(byte 0\)"):
        preflight(make_run(make_dataset(tmp_path, [TREE]), suppressed=str(latin)))


def test_all_lists_count_that_beside_the_dataset_file_and_those_that_are_named(tmp_path: Path) -> None:
    copy = Path(shutil.copy(REFERENCE, tmp_path / "copied.yaml"))
    assert people.to_erase(make_run(loading.load(copy))) == set()
    put(tmp_path / "copied.suppressed", b"ann\n")
    with copy.open("a") as file:
        file.write(f"suppressed: {put(tmp_path / 'elsewhere', b'ben')}\n")
    loaded = loading.load(copy)
    assert people.to_erase(make_run(loaded)) == {"ann", "ben"}
    # A run that names another one, or none, forgets nobody.
    assert people.to_erase(make_run(loaded, suppressed=str(put(tmp_path / "third", b"cyd")))) == {"ann", "ben", "cyd"}
    assert people.to_erase(make_run(loaded, suppressed=None)) == {"ann", "ben"}


@pytest.mark.parametrize(
    "name", ["copied.supressed", "Copied.suppressed", "copied.suppressed.txt", "copied.SUPPRESSED", "gone.suppressed"]
)
def test_a_list_that_no_dataset_reads_is_told(tmp_path: Path, name: str) -> None:
    shutil.copy(REFERENCE, tmp_path / "copied.yaml")
    put(tmp_path / "copied.suppressed", b"ann\n")
    put(tmp_path / "people.txt", b"ann\n")
    assert list(loading.stray_lists(tmp_path)) == []
    put(tmp_path / name, b"ann\n")
    (told,) = loading.stray_lists(tmp_path)
    assert told.startswith(f"{name}: looks like a list of people to erase, and no dataset reads it")


@pytest.mark.parametrize(
    ("identity", "path", "named"),
    [
        ("ann", "x/1.jpg", True),
        ("anna", "anna/ann.jpg", False),  # somebody else's, whatever the file is called
        (None, "ann/notes.txt", True),
        (None, "dt=2026-05-01/ann_face.txt", True),
        (None, "hanna/notes.txt", False),
        (None, "ann2.txt", False),
        (None, "e\u0301 x/1.gif", True),  # é, written as two characters
        (None, "own_one/notes.txt", True),  # apart__own_one, of the export `apart`
        ("apart__own_one", "own_one/1.jpg", True),
        ("own_one", "own_one/1.jpg", False),
        (None, None, False),
    ],
)
def test_a_row_names_somebody_by_its_identity_or_without_one_by_a_word_of_its_path(
    identity: str | None, path: str | None, *, named: bool
) -> None:
    listed = frozenset({"ann", "é x", "apart__own_one"})
    rows = tables.of_rows([(identity, path, "apart", None, 1, 2, None, None, None)], SCANNED)
    of_people, others = people.separate(listed, rows)
    assert (of_people.num_rows, others.num_rows) == (int(named), int(not named))
    blank = people.blanked(listed, rows).to_pylist()[0]
    assert blank["export"] == "apart"
    if named:
        assert {name for name, value in blank.items() if value is not None} == {"export", "outcome"}
        assert blank["outcome"] == "suppressed"


def test_nobody_listed_nothing_changes_and_many_can_be(tmp_path: Path) -> None:
    rows = tables.of_rows(
        [(None, f"{number}/x.gif", "e", "p", 1, 2, "etag", None, "corrupt") for number in range(300)], SCANNED
    )
    assert people.blanked(frozenset(), rows).equals(rows)
    listed = frozenset(map(str, range(1, 1000, 2)))
    assert people.separate(listed, rows)[0]["path"].to_pylist() == [f"{number}/x.gif" for number in range(1, 300, 2)]
    assert people.of_keys(listed, pa.chunked_array([["1/2.jpg", "2/1.jpg"]])).to_pylist() == [True, False]
