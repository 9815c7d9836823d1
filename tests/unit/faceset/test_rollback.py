"""Releases are kept, and any of them can come back."""

import os
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from include.faceset.errors import NotReadyError
from include.faceset.output import set_aside
from include.faceset.release import history as shelf
from include.faceset.release import pointer, release
from include.faceset.steps import summarise
from include.faceset.steps.copy import CopyError
from include.faceset.steps.retire import retire
from tests.unit.faceset.pipeline import TREE, Result, face, make_dataset, make_run, put, run_to_seal


@pytest.fixture
def history(tmp_path: Path) -> list[Result]:
    """Three releases: ann and ben; ann with another image and without ben; cyd and ann."""
    exports, dataset = tmp_path / "exports/training_data", make_dataset(tmp_path, [TREE])
    for number, name in enumerate(["ann/1.jpg", "ann/2.jpg", "ben/1.jpg", "ben/2.jpg"]):
        put(exports / name, face(number))
    first = run_to_seal(make_run(dataset, "1"))
    put(exports / "ann/1.jpg", face(10))
    for path in (exports / "ben").iterdir():
        path.unlink()
    second = run_to_seal(make_run(dataset, "2"))
    for number in range(2):
        put(exports / f"cyd/{number}.jpg", face(20 + number))
    return [first, second, run_to_seal(make_run(dataset, "3"))]


def test_any_kept_release_comes_back_though_the_exports_have_gone_on(tmp_path: Path, history: list[Result]) -> None:
    third = history[2]
    wanted = {
        "ann/1.jpg": face(0),
        "ann/2.jpg": face(1),
        "ben/1.jpg": face(2),
        "ben/2.jpg": face(3),
    }
    sealed_before = third.run.release(history[0].sealed.release_id) / release.LEDGER_FILE
    ledger = sealed_before.read_bytes()
    back = run_to_seal(make_run(third.run.dataset, "back", release=history[0].sealed.release_id))
    assert back.output == wanted
    assert back.sealed == history[0].sealed
    assert sealed_before.read_bytes() == ledger
    assert pointer.last(back.run) == back.run.release(history[0].sealed.release_id)

    # And forth again: what the exports hold now, without a look at what is known to be unchanged.
    forth = run_to_seal(make_run(third.run.dataset, "forth"))
    assert forth.sealed.release_id == third.sealed.release_id
    assert forth.output == {
        "ann/1.jpg": face(10),
        "ann/2.jpg": face(1),
        "cyd/0.jpg": face(20),
        "cyd/1.jpg": face(21),
    }
    again = run_to_seal(make_run(third.run.dataset, "again", release=history[0].sealed.release_id))
    assert again.output == wanted
    assert run_to_seal(make_run(third.run.dataset, "same", release=history[0].sealed.release_id)).read == 0


def test_bytes_that_are_nowhere_are_named(history: list[Result]) -> None:
    run = history[2].run
    for path in run.removed.iterdir():
        path.unlink()
    with pytest.raises(CopyError, match=r"3 images of release .* are no longer"):
        run_to_seal(make_run(run.dataset, "back", release=history[0].sealed.release_id, shards=1))
    assert pointer.last(run) == run.release(history[2].sealed.release_id)


def test_in_the_place_of_a_file_of_an_export_nothing_is_waited_for_and_no_link_followed(
    tmp_path: Path, history: list[Result]
) -> None:
    run, ben = history[2].run, tmp_path / "exports/training_data/ben"
    for path in run.removed.iterdir():
        path.unlink()
    for number in (1, 2):
        put(tmp_path / f"elsewhere/{number}.jpg", face(number + 1))
    back = make_run(run.dataset, "back", release=history[0].sealed.release_id, shards=1)
    os.mkfifo(ben / "1.jpg")
    (ben / "2.jpg").symlink_to(tmp_path / "elsewhere/2.jpg")
    with pytest.raises(CopyError, match=r"3 images of release .* are no longer"):
        run_to_seal(back)
    shutil.rmtree(ben)
    ben.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(CopyError, match=r"3 images of release .* are no longer"):
        run_to_seal(back)


def test_a_release_that_is_not_kept_is_refused_at_once(history: list[Result]) -> None:
    with pytest.raises(NotReadyError, match=r"release: release 0000000000000000 is not kept in .*; there are: "):
        run_to_seal(make_run(history[2].run.dataset, "back", release="0" * 16))


def test_releases_beyond_those_to_keep_go_with_what_only_they_held(tmp_path: Path, history: list[Result]) -> None:
    run = history[2].run
    for days, result in enumerate(history):
        folder = run.release(result.sealed.release_id)
        sealed = release.read(folder).__dict__ | {"sealed_at": (datetime.now(UTC) + timedelta(days=days)).isoformat()}
        release.write(release.Release(**sealed), folder)
    ids = [result.sealed.release_id for result in history]
    assert [folder.name for folder in shelf.folders(run)] == ids[::-1]
    few = make_run(make_dataset(tmp_path, [TREE], keep_releases=2), "few")
    assert len(list(run.removed.iterdir())) == 3  # ann's first image, ben's two
    assert retire(few, None) == [ids[0]]
    assert [folder.name for folder in shelf.folders(run)] == ids[:0:-1]
    assert list(run.removed.iterdir()) == []
    assert set_aside.read_image(run, b"x" * 32) is None


def test_the_release_in_place_is_never_removed(tmp_path: Path, history: list[Result]) -> None:
    dataset = make_dataset(tmp_path, [TREE], keep_releases=1)
    back = run_to_seal(make_run(dataset, "back", release=history[0].sealed.release_id))
    retire(back.run, None)
    assert back.run.release(history[0].sealed.release_id).exists()


def test_a_summary_counts_what_the_release_holds_whoever_declares_its_exports_now(tmp_path: Path) -> None:
    for export in ("faces_only", "training_data"):
        for number in range(2):
            name = f"ann{number}_face.png" if export == "faces_only" else f"ben/{number}.jpg"
            put(tmp_path / "exports" / export / name, face(len(export) * 10 + number))
    both = make_dataset(tmp_path, min_images=1)
    first = run_to_seal(make_run(both, "1"))
    one = make_dataset(tmp_path, [TREE], min_images=1)
    run_to_seal(make_run(one, "2"))
    back = run_to_seal(make_run(one, "back", release=first.sealed.release_id))
    facts = summarise.summarise(back.run, back.sealed, [], None)
    assert (facts["images"], facts["scanned_files"], facts["kept_files"]) == (4, 4, 4)
    assert [(export["name"], export["files"]) for export in facts["exports"]] == [
        ("training_data", 2),
        ("faces_only", 2),
    ]
    text = (back.run.release(first.sealed.release_id) / release.SUMMARY_FILE).read_text()
    assert "4 files scanned = 4 kept + 0 skipped" in text
    assert "| faces_only | not declared any more | 2 |" in text
