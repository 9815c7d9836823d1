"""What a person is shown: the answer is the ledger's, nobody to erase is in it, and a sheet waits for nothing."""

import hashlib
import io
import os
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
import pytest
from PIL import Image

from include.faceset.declared.decisions import HEADER
from include.faceset.ground import sharded
from include.faceset.ledger import EXPLANATIONS, LEDGER, Outcome
from include.faceset.release import release
from include.faceset.show import ask, releases, rows, sheet
from tests.unit.faceset.pipeline import FLAT, TREE, Result, face, make_dataset, make_run, put, run_to_seal

PEOPLE = {"ann": [1, 2, 1], "ben": [3, 4, 50], "cleo": [5, 6, 50], "few": [7], "gone": [8, 9]}


@pytest.fixture
def made(tmp_path: Path) -> Result:
    for name, seeds in PEOPLE.items():
        for number, seed in enumerate(seeds):
            put(tmp_path / f"exports/training_data/{name}/{number}.jpg", face(seed))
    put(tmp_path / "exports/training_data/ann/broken.jpg", face(20)[:-300])
    put(tmp_path / "exports/training_data/ann/notes.txt", b"-")
    put(tmp_path / "exports/faces_only/ann_face.png", face(30, "PNG"))
    return again(tmp_path)


def again(folder: Path, run_id: str = "1", **changes: Any) -> Result:
    return run_to_seal(make_run(make_dataset(folder, [FLAT, TREE], **{"min_images": 2, **changes}), run_id))


def paths(run: Any, question: str) -> list[list[str]]:
    """The paths of the files that each release answers with, the newest first."""
    return [sorted(row["path"] for row in answer.rows) for answer in ask.ask(run, question)]


def sha(seed: int) -> str:
    return hashlib.sha256(face(seed)).hexdigest()


QUESTIONS = {
    "few": ["few/0.jpg"],
    "few/0.jpg": ["few/0.jpg"],
    "  ann_face.png ": ["ann_face.png"],
    "broken.jpg": ["ann/broken.jpg"],
    "notes.txt": ["ann/notes.txt"],
    "2.jpg": ["ann/2.jpg", "ben/2.jpg", "cleo/2.jpg"],
    "ann/2.jpg": ["ann/2.jpg"],
    sha(50): ["ben/2.jpg", "cleo/2.jpg"],
    sha(50).upper(): ["ben/2.jpg", "cleo/2.jpg"],
    "an": [],
    "jpg": [],
    "": [],
    "../ann": [],
}


@pytest.mark.parametrize("question", QUESTIONS)
def test_a_question_is_answered_with_exactly_its_files(made: Result, question: str) -> None:
    assert paths(made.run, question) == ([QUESTIONS[question]] if question.strip() else [])


def test_an_answer_has_outcome_meaning_remedy_and_where_the_same_bytes_are_kept(made: Result) -> None:
    (answer,) = ask.ask(made.run, "ann")
    told = {row["path"]: row for row in answer.rows}
    assert (answer.release_id, answer.in_place, answer.total) == (made.sealed.release_id, True, 5)
    assert {path: row["outcome"] for path, row in told.items()} == {
        path.partition("/")[2]: outcome
        for path, outcome in made.outcomes.items()
        if path.partition("/")[2].startswith("ann") and not path.endswith("notes.txt")
    }
    assert told["ann/2.jpg"]["kept_as"] == "ann/0.jpg"
    assert told["ann/broken.jpg"]["meaning"] == EXPLANATIONS[Outcome.CORRUPT]
    assert all(row["remedy"] for row in told.values())


def test_every_outcome_has_a_remedy() -> None:
    assert set(ask.REMEDIES) == set(Outcome)


def test_every_kept_release_answers_and_a_merged_identity_is_found_by_both_names(tmp_path: Path, made: Result) -> None:
    table = put(tmp_path / "table", f"{HEADER}\nsame_person,ann,few,,me,2026-11-30,why\n".encode())
    merged = again(tmp_path, "2", decisions=str(table))
    few = list(ask.ask(merged.run, "few"))
    assert [(one.in_place, [row["outcome"] for row in one.rows]) for one in few] == [
        (True, ["kept"]),
        (False, ["too_few_images"]),
    ]
    assert few[0].rows[0]["kept_as"] == "ann/training_data__0.jpg"
    assert paths(merged.run, "few/0.jpg") == [["few/0.jpg"], ["few/0.jpg"]]
    assert len(paths(merged.run, "ann")[0]) == len(paths(merged.run, "ann")[1]) + 1


def test_whoever_is_to_be_erased_is_in_no_answer(tmp_path: Path, made: Result) -> None:
    listed = put(tmp_path / "listed", b"ben\nann\n")
    run = make_run(make_dataset(tmp_path, [FLAT, TREE], suppressed=str(listed)))
    for question in ("ben", "ben/2.jpg", "ann_face.png", "ann/notes.txt", sha(3)):
        assert paths(run, question) == [[]]
    assert paths(run, sha(50)) == [["cleo/2.jpg"]]
    book = rows.ledger(run, made.run.release(made.sealed.release_id))
    assert set(book.page("kept", 0, 100)[0]["identity"].to_pylist()) == {"cleo", "gone"}
    assert set(book.extremes("brightness", 0, 100)[0]["identity"].to_pylist()) == {"cleo", "gone"}
    assert releases.names_erased(run, made.run.release(made.sealed.release_id))
    assert not releases.names_erased(made.run, made.run.release(made.sealed.release_id))


def test_pages_hold_each_row_once_and_extremes_are_in_order(made: Result) -> None:
    book = rows.ledger(made.run, made.run.release(made.sealed.release_id))
    for one in pc.value_counts(made.ledger["outcome"]).to_pylist():
        outcome, count = one["values"], one["counts"]
        pages = [book.page(outcome, start, 2) for start in range(0, count + 3, 2)]
        seen = [row["path"] for page, total in pages for row in page.to_pylist()]
        assert sorted(seen) == sorted(row["path"] for row in made.ledger.to_pylist() if row["outcome"] == outcome)
        assert {total for _, total in pages} == {count}
    kept = [row for row in made.ledger.to_pylist() if row["outcome"] == "kept"]
    for highest in (False, True):
        wanted = sorted((row["brightness"] for row in kept), reverse=highest)
        found, total = book.extremes("brightness", 1, 3, highest=highest)
        assert (found["brightness"].to_pylist(), total) == (wanted[1:4], len(kept))


def test_conflicts_come_with_all_their_files(made: Result) -> None:
    book = rows.ledger(made.run, made.run.release(made.sealed.release_id))
    ((sha256, files),) = rows.disputes(book.conflicts(), 0, 10)
    assert (sha256.hex(), [row["identity"] for row in files]) == (sha(50), ["ben", "cleo"])
    assert list(rows.disputes(book.conflicts(), 1, 10)) == []


def test_a_ledger_of_old_is_shown_too(made: Result) -> None:
    path = made.run.release(made.sealed.release_id) / release.LEDGER_FILE
    old = [name for name in LEDGER.names if name not in {"scanned_as", "brightness", "contrast", "sharpness", "dhash"}]
    groups = [(shard, rows.select(old)) for shard, rows in sharded.groups(path)]
    with sharded.writing(path, groups[0][1].schema, made.run.params.shards) as add:
        for shard, some in groups:
            add(shard, some)
    assert paths(made.run, "few") == [["few/0.jpg"]]
    book = rows.ledger(made.run, path.parent)
    assert book.extremes("sharpness", 0, 10)[1] == 0
    assert book.page("kept", 0, 1)[1] == len(made.output)


def test_a_sheet_shows_what_can_be_read_and_waits_for_nothing(tmp_path: Path, made: Result) -> None:
    book = rows.ledger(made.run, made.run.release(made.sealed.release_id))
    kept = book.page("kept", 0, 100)[0].to_pylist()
    asked: list[str] = []

    def fetch(key: str) -> bytes | None:
        asked.append(key)
        return None

    assert sheet.contents(made.run, kept, fetch) == [made.output[row["key"]] for row in kept]
    assert asked == []
    gone, piped, linked, of_export = (made.run.output / row["key"] for row in kept[:4])
    for path in (gone, piped, linked, of_export):
        path.unlink()
    os.mkfifo(piped)
    linked.symlink_to("/etc/passwd")
    for row in kept[:3]:
        (tmp_path / "exports" / row["export"] / row["path"]).unlink()
    found = sheet.contents(made.run, kept[:4], fetch)
    assert found[:3] == [None, None, None]
    assert found[3] is not None
    assert sorted(asked) == sorted(row["key"] for row in kept[:4])
    drawn = Image.open(io.BytesIO(sheet.draw([*found, b"no image", face(1, "PNG", size=(600, 300))], (112, 112))))
    assert (drawn.format, drawn.size) == ("WEBP", (4 + 6 * 116, 4 + 116))
    assert Image.open(io.BytesIO(sheet.draw([], (112, 112)))).size == (4 + 116, 4 + 116)


def test_what_differs_is_told_between_any_two_releases(tmp_path: Path, made: Result) -> None:
    put(tmp_path / "exports/training_data/new/0.jpg", face(60))
    put(tmp_path / "exports/training_data/new/1.jpg", face(61))
    again(tmp_path, "2")
    after, before = releases.find(made.run)
    there, back = releases.differences(made.run, before, after), releases.differences(made.run, after, before)
    assert (there.identities_added, there.images_added, there.images_removed) == (1, 2, 0)
    assert (back.identities_removed, back.images_added, back.images_removed) == (1, 0, 2)
    assert releases.get(made.run, "f" * 16) is None
