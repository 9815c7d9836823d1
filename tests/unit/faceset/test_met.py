"""Lines of the list of people to erase that match nobody: told by number, whatever the slip; and only these, ever."""

import json
import logging
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from zlib import crc32

import pytest

from include.faceset.declared.dataset import Dataset
from include.faceset.erasure import met, receipt
from include.faceset.errors import NotReadyError
from include.faceset.release import release
from include.faceset.run.run import Run
from include.faceset.steps import scan, select, summarise
from include.faceset.steps.preflight import preflight
from tests.unit.faceset.pipeline import TREE, face, make_dataset, make_run, put, run_to_seal
from tests.unit.faceset.test_erase import publish

OWN = {"name": "apart", "layout": "image_folder", "namespace": "own"}
DATED = {"name": "parts", "layout": "image_folder", "root": "parts/{partition}"}


def export(folder: Path, *identities: str) -> None:
    for one in identities:
        for number in range(2):
            put(folder / one / f"{number}.jpg", face(crc32(f"{one}{number}".encode())))


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    """Ann and Zoe in one export, Ben in another with a namespace of its own; Cyd's name is on a stray file alone."""
    export(tmp_path / "exports/training_data", "ann", "zoe")
    export(tmp_path / "exports/apart", "ben")
    put(tmp_path / "exports/training_data/cyd notes.txt", b"-")
    return make_dataset(tmp_path, [TREE, OWN])


def run_with(dataset: Dataset, listed: bytes, run_id: str = "1", **changes: Any) -> Run:
    """A run by a list that is written anew."""
    path = put(Path(str(dataset.local_source)).parent / "people", listed)
    return make_run(dataset, run_id, suppressed=str(path), **changes)


def misses(run: Run, names: Iterable[str] = ()) -> list[int]:
    return [number for one in met.unmet(run, names) for number in one["lines"]]


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        (b"ann\napart__ben\ncyd\n", []),
        (b"\xef\xbb\xbfann\r\n \t apart__ben \t\r\n", []),
        (b"# asked for\n\nann\nann\n", []),
        (b"ann\rzoe\r", []),
        (b"anm\nann\n", [1]),
        (b"# asked for\n\nAnn\nANN\n", [3, 4]),
        (b'"ann"\n' + "'ann'\n“ann”\nann,\n".encode(), [1, 2, 3, 4]),
        (b"ann # asked in a letter\nann;zoe\n", [1, 2]),
        ("ann\u200b\nаnn\n".encode(), [1, 2]),  # with a character that cannot be seen; with a Cyrillic one
        (b"ben\nben__ben\napart__Ben\n", [1, 2, 3]),
        (b"0.jpg\nann_face.png\n", [1, 2]),
        (b"\\#ann\nann", [1]),
    ],
)
def test_the_lines_that_match_nobody_are_told_by_their_numbers(dataset: Dataset, text: bytes, lines: list[int]) -> None:
    run = run_with(dataset, text)
    run_to_seal(run)
    assert misses(run) == lines


@pytest.mark.parametrize("text", ["ann\n".encode("utf-16"), b"ann\xff\n", b"ann/0.jpg\n", b"/data/ann\n"])
def test_what_can_be_no_list_stops_the_run_before_it_begins(dataset: Dataset, text: bytes) -> None:
    with pytest.raises(NotReadyError, match=r"suppressed: .*people: (is not UTF-8|line 1 is no identity)"):
        preflight(run_with(dataset, text))


def test_a_folder_is_no_list(dataset: Dataset, tmp_path: Path) -> None:
    with pytest.raises(NotReadyError, match=r"suppressed: .* cannot be read \(Is a directory\)"):
        preflight(make_run(dataset, suppressed=str(tmp_path)))


@pytest.mark.parametrize("text", [b"", b"\n \r\n", b"\xef\xbb\xbf", b"# ann\n"])
def test_a_list_that_names_nobody_at_all_is_told(dataset: Dataset, text: bytes) -> None:
    run = run_with(dataset, text)
    run_to_seal(run)
    (one,) = met.unmet(run)
    assert met.in_words(one).endswith("people: names nobody at all")


def test_a_list_that_names_everybody_is_told_where_the_run_stops(dataset: Dataset) -> None:
    with pytest.raises(select.FilterError, match="3 people are on the list of people to erase"):
        run_to_seal(run_with(dataset, b"ann\nzoe\napart__ben\n"))


@pytest.mark.long
def test_whoever_was_ever_met_is_no_slip(dataset: Dataset, tmp_path: Path) -> None:
    publish(make_run(dataset, "0"))
    for path in (tmp_path / "exports/training_data/ann").iterdir():
        path.unlink()
    (tmp_path / "exports/training_data/ann").rmdir()
    # In a release that is kept, and in no export any more; then nowhere.
    for run_id in ("1", "2", "3"):
        run = run_with(dataset, b"ann\nanm\n", run_id)
        publish(run)
        assert misses(run) == [2], run_id
    # Off the list, it is forgotten: nothing here is to tell names by.
    publish(run_with(dataset, b"zoe\n", "4"))
    assert len(json.loads((run.releases / receipt.FOLDER / met.MEMORY_FILE).read_text())) == 1
    again = run_with(dataset, b"ann\nzoe\n", "5")
    publish(again)
    assert misses(again) == [1]


def test_a_person_of_another_part_is_no_slip(tmp_path: Path) -> None:
    dataset = make_dataset(tmp_path, [DATED])
    export(tmp_path / "exports/parts/2026-05-01", "ann", "zoe")
    export(tmp_path / "exports/parts/2026-05-08", "zoe", "ben")
    for run_id, partition in enumerate(["2026-05-01", "2026-05-08", "2026-05-08"]):
        path = put(tmp_path / "people", b"ann\nbem\n")
        run = make_run(dataset, str(run_id), (partition,), suppressed=str(path))
        run_to_seal(run)
        assert misses(run) == [2], run_id


def test_only_the_bucket_holds_them(dataset: Dataset) -> None:
    run = run_with(dataset, b"dee\nann\n")
    run_to_seal(run)
    assert (misses(run), misses(run, ["dee"])) == ([1], [])
    met.remember(run, frozenset({"dee", "ann"}), ["dee"])
    assert misses(run) == []


def test_a_run_that_rolls_back_looks_at_no_export_and_accuses_nobody(dataset: Dataset) -> None:
    first = publish(make_run(dataset, "0"))
    back = run_with(dataset, b"anm\n", "1", release=first.sealed.release_id)
    publish(back)
    assert misses(back) == []


def test_a_person_reads_the_numbers_and_the_log_and_the_receipt_name_nobody(
    dataset: Dataset, caplog: pytest.LogCaptureFixture
) -> None:
    run = run_with(dataset, b"ann\nMisspelt One\nzo\xc3\xa9\n", "1", skip_upload=True)
    result = publish(run)
    text = (run.release(result.sealed.release_id) / release.SUMMARY_FILE).read_text()
    assert "**Lines that match nobody**: whom they name was never met in an export or a release (the bucket was" in text
    assert f"- {run.params.suppressed}: lines 2, 3\n" in text
    warned = [one.getMessage() for one in caplog.records if one.levelno == logging.WARNING]
    assert f"people to erase: nobody is matched by {run.params.suppressed}: lines 2, 3" in warned
    for told in (text, caplog.text, *(path.read_text() for path in (run.releases / receipt.FOLDER).iterdir())):
        assert "Misspelt" not in told
        assert "zoé" not in told


def test_a_dry_run_tells_them_too_and_keeps_nothing(dataset: Dataset, tmp_path: Path) -> None:
    publish(make_run(dataset, "0"))
    before = {path for path in tmp_path.rglob("*") if ".work" not in path.parts}
    run = run_with(dataset, b"ann\nanm\ndee\n", "1", dry_run=True)
    for one in run.dataset.exports:
        scan.scan(run, one.name)
    select.filter_manifest(run)
    text = summarise.dry_run(run, None, [], None, ["dee"]).read_text()
    assert f"- {run.params.suppressed}: line 2\n" in text
    assert {path for path in tmp_path.rglob("*") if ".work" not in path.parts} == before | {tmp_path / "people"}
