"""Who is held out trains no model, stays held out, and becomes the pairs that a model is verified by."""

import hashlib
import io
import pickle
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from include.faceset.declared.holdout import Holdout
from include.faceset.report import changes
from include.faceset.steps import pack, scan, select
from include.faceset.steps.retire import retire
from include.faceset.training import pairs
from include.faceset.training.pairs import HoldoutError
from tests.unit.faceset.pipeline import TREE, Result, face, make_dataset, make_run, put, run_to_seal

HOLDOUT = {"fraction": 0.4, "pairs": 20}
PEOPLE = [f"person {number}" for number in range(24)]
HELD = {name for name in PEOPLE if Holdout(**HOLDOUT).holds(name)}


def bring(folder: Path, people: list[str] = PEOPLE) -> None:
    for name in people:
        for number in range(3):
            put(folder / f"exports/training_data/{name}/{number}.jpg", face(10 * PEOPLE.index(name) + number))


def made(folder: Path, run_id: str = "1", **changes: Any) -> Result:
    settings = {"holdout": HOLDOUT, "min_images": 2, **changes}
    result = run_to_seal(make_run(make_dataset(folder, [TREE], **settings), run_id))
    pack.pack(result.run, result.sealed.release_id, None)
    retire(result.run, None)
    return result


def pairs_of(result: Result) -> tuple[list[bytes], list[bool]]:
    path = result.run.release(result.sealed.release_id) / "faces_holdout.bin"
    images, same = pickle.loads(path.read_bytes())  # noqa: S301
    assert len(images) == 2 * len(same)
    return images, same


def people_of(result: Result) -> dict[bytes, str]:
    """Whose the bytes of each held-out image are."""
    rows = result.ledger.select(["identity", "sha256", "outcome"]).to_pylist()
    return {row["sha256"]: row["identity"] for row in rows if row["outcome"] == "held_out"}


def test_who_is_held_out_is_in_no_training_set_and_in_the_pairs(tmp_path: Path) -> None:
    bring(tmp_path)
    assert 4 <= len(HELD) <= 16
    result = made(tmp_path)
    assert {key.partition("/")[0] for key in result.output} == set(PEOPLE) - HELD
    outcomes = Counter(result.outcomes.values())
    assert outcomes == {"kept": 3 * (24 - len(HELD)), "held_out": 3 * len(HELD)}
    images, same = pairs_of(result)
    assert same == [True, False] * 10
    whose = people_of(result)
    seen = [tuple(whose[hashlib.sha256(image).digest()] for image in images[at : at + 2]) for at in range(0, 40, 2)]
    assert all((one == other) == is_same for (one, other), is_same in zip(seen, same, strict=True))
    assert {Image.open(io.BytesIO(image)).size for image in images} == {(112, 112)}
    drawn = [frozenset(images[at : at + 2]) for at in range(0, 40, 2)]
    assert len(set(drawn)) == 20
    assert all(len(pair) == 2 for pair in drawn)


def test_who_was_held_out_stays_so_and_nothing_is_read_twice(tmp_path: Path) -> None:
    bring(tmp_path, PEOPLE[:20])
    first = made(tmp_path)
    again = made(tmp_path, "2")
    assert (again.read, again.sealed.release_id, pairs_of(again)) == (0, first.sealed.release_id, pairs_of(first))
    bring(tmp_path, PEOPLE[20:])
    more = made(tmp_path, "3")
    assert more.read == 4 * 3
    assert set(people_of(first).values()) <= set(people_of(more).values())


def test_pairs_are_drawn_anew_where_more_are_held_out_or_asked_for_though_the_release_is_the_same(
    tmp_path: Path,
) -> None:
    bring(tmp_path)
    first = made(tmp_path)
    before = len(people_of(first))
    put(tmp_path / f"exports/training_data/{min(HELD)}/new.jpg", face(998))
    second = made(tmp_path, "2")
    assert second.sealed.release_id == first.sealed.release_id
    assert len(people_of(second)) == before + 1
    more = made(tmp_path, "3", holdout={**HOLDOUT, "pairs": 24})
    assert len(pairs_of(more)[1]) == 24


def test_the_rule_can_be_changed_in_either_direction(tmp_path: Path) -> None:
    bring(tmp_path)
    held = made(tmp_path)
    off = made(tmp_path, "2", holdout=None)
    assert {key.partition("/")[0] for key in off.output} == set(PEOPLE)
    back = made(tmp_path, "3")
    assert (back.output, back.sealed.release_id) == (held.output, held.sealed.release_id)
    fresh = made(tmp_path / "fresh", output=str(tmp_path / "fresh/merged"), local_source=str(tmp_path / "exports"))
    assert fresh.sealed.release_id == held.sealed.release_id


def test_the_same_bytes_do_not_verify_what_they_trained(tmp_path: Path) -> None:
    bring(tmp_path)
    held, other = min(HELD), min(set(PEOPLE) - HELD)
    put(tmp_path / f"exports/training_data/{other}/copy.jpg", face(10 * PEOPLE.index(held)))
    result = made(tmp_path)
    assert result.outcomes[f"training_data/{other}/copy.jpg"] == "identity_conflict"
    assert result.outcomes[f"training_data/{held}/0.jpg"] == "identity_conflict"
    again = made(tmp_path, "2")
    assert (again.outcomes, again.read) == (result.outcomes, 0)


def test_a_dry_run_foretells_who_is_kept(tmp_path: Path) -> None:
    bring(tmp_path)
    dry = make_run(make_dataset(tmp_path, [TREE], holdout=HOLDOUT), "dry", dry_run=True)
    scan.scan(dry, "training_data")
    select.filter_manifest(dry)
    foretold = changes.foreseen(dry)
    assert sum(one.images.num_rows for one in foretold) == made(tmp_path).sealed.images


@pytest.mark.parametrize(
    ("holdout", "said"),
    [
        ({"fraction": 0.4, "pairs": 6000}, r"identities with \d+ images are held out, of which \d+ pairs .* 6,000 are"),
        ({"fraction": 0.0001, "pairs": 20}, r"0 identities with 0 images are held out, of which 0 pairs"),
    ],
)
def test_too_little_to_draw_pairs_from_is_refused_with_numbers(tmp_path: Path, holdout: Any, said: str) -> None:
    bring(tmp_path)
    with pytest.raises(HoldoutError, match=said):
        made(tmp_path, holdout=holdout)
    assert not (tmp_path / "merged.releases/latest.json").exists()


def test_the_pairs_of_a_person_who_is_erased_go_everywhere(tmp_path: Path) -> None:
    bring(tmp_path)
    first = made(tmp_path, keep_releases=5)
    erased = sorted(HELD)[1]
    theirs = [face(10 * PEOPLE.index(erased) + number) for number in range(3)]
    assert any(image in theirs for image in pairs_of(first)[0])
    listed = put(tmp_path / "list.suppressed", f"{erased}\n".encode())
    put(tmp_path / f"exports/training_data/{min(set(PEOPLE) - HELD)}/new.jpg", face(999))
    second = made(tmp_path, "2", suppressed=str(listed), keep_releases=5)
    for folder in (first.run.release(first.sealed.release_id), second.run.release(second.sealed.release_id)):
        images, same = pickle.loads((folder / "faces_holdout.bin").read_bytes())  # noqa: S301
        assert not any(image in theirs for image in images)
        assert same == [True, False] * (len(same) // 2)
        assert len(same) > 0
        content = b"".join(path.read_bytes() for path in folder.iterdir())
        assert not any(image in content for image in theirs)
    assert len(pairs_of(second)[1]) == 20


def test_a_config_names_the_pairs_that_are_there(tmp_path: Path) -> None:
    from include.faceset.steps.render import render_config

    bring(tmp_path)
    result = made(tmp_path)
    render_config(result.run, result.sealed)
    text = (result.run.release(result.sealed.release_id) / "faces_imagefolder.py").read_text()
    assert "config.val_targets = ['faces_holdout']" in text
    without = made(tmp_path, "2", holdout=None)
    render_config(without.run, without.sealed)
    text = (without.run.release(without.sealed.release_id) / "faces_imagefolder.py").read_text()
    assert "config.val_targets = []" in text


@given(st.lists(st.integers(2, 5), min_size=2, max_size=9), st.integers(10, 60))
def test_pairs_are_drawn_if_and_only_if_there_are_enough(counts: list[int], half: int) -> None:
    images = {f"id{at}": [bytes([at, number]) for number in range(count)] for at, count in enumerate(counts)}
    whose = {image: name for name, of_one in images.items() for image in of_one}
    try:
        drawn = pairs.draw(images, 2 * half)
    except HoldoutError:
        of_one = sum(count * (count - 1) // 2 for count in counts)
        of_two = sum(one * other for at, one in enumerate(counts) for other in counts[at + 1 :])
        assert min(of_one, of_two) < half
        return
    assert [pair.same for pair in drawn] == [True, False] * half
    assert len({frozenset(pair[:2]) for pair in drawn}) == 2 * half
    assert all((whose[pair.one] == whose[pair.other]) == pair.same and pair.one != pair.other for pair in drawn)


def test_the_fraction_is_about_what_was_asked_for() -> None:
    held = sum(Holdout(fraction=0.01).holds(f"identity {number}") for number in range(50_000))
    assert 400 <= held <= 600
