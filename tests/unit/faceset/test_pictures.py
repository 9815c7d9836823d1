"""How pictures look is measured right, and leaves out what a threshold says, and nothing else."""

import hashlib
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image, ImageFilter

from include.faceset.declared.decisions import HEADER
from include.faceset.declared.holdout import Holdout
from include.faceset.images import judge, pictures
from include.faceset.show import rows
from include.faceset.steps.summarise import summarise
from local.sample import faces
from tests.unit.faceset.pipeline import TREE, Result, make_dataset, make_run, put, run_to_seal

SIZE = (112, 112)


def drawn(seed: int) -> Image.Image:
    rng = np.random.default_rng(seed)
    return Image.fromarray(faces.portrait(faces.person(rng), rng, flat=True))


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    written = io.BytesIO()
    image.convert("RGB").save(written, kind, **options)
    return written.getvalue()


def look_of(data: bytes) -> pictures.Look:
    picture = judge.inspect(data, SIZE, "full", closely=True).picture
    assert picture is not None
    assert picture.half is not None
    assert (picture.small.shape, picture.half.shape) == ((14, 14), (56, 56))
    return pictures.measure([picture])[0]


@given(arrays.arrays(np.uint8, st.tuples(st.integers(1, 5), st.integers(1, 40), st.integers(1, 40))))
def test_many_are_measured_as_each_one_by_the_definition(greys: np.ndarray) -> None:
    looks = pictures.measure([pictures.of_half(grey) for grey in greys])
    for grey, look in zip(greys, looks, strict=True):
        small = pictures.of_half(grey).small.astype(np.float64)
        assert look.brightness == pytest.approx(small.mean(), abs=1e-2)
        assert look.contrast == pytest.approx(small.std(), abs=0.5)
        exact = grey.astype(np.float64)
        assert small[0, 0] == pytest.approx(exact[:4, :4].mean(), abs=0.51)
        inner = 0.0
        if min(grey.shape) >= 3:
            around = exact[:-2, 1:-1] + exact[2:, 1:-1] + exact[1:-1, :-2] + exact[1:-1, 2:]
            inner = float(np.sqrt(((4 * exact[1:-1, 1:-1] - around) ** 2).mean()))
        assert look.sharpness == pytest.approx(inner, abs=1e-2)
        assert len(look.dhash) == 8


def test_every_format_looks_alike_and_another_size_of_the_same_face_too() -> None:
    face = drawn(3)
    plain = look_of(encoded(face))
    for kind, options in (("JPEG", {"quality": 95}), ("WEBP", {"lossless": True}), ("BMP", {}), ("TIFF", {})):
        other = look_of(encoded(face, kind, **options))
        assert other.brightness == pytest.approx(plain.brightness, abs=2)
        assert other.contrast == pytest.approx(plain.contrast, abs=2)
        assert pictures.distance(other.dhash, plain.dhash) <= 4
    smaller = look_of(encoded(face.resize((80, 80)).resize(SIZE)))
    assert pictures.distance(smaller.dhash, plain.dhash) <= 6
    assert pictures.distance(look_of(encoded(drawn(8))).dhash, plain.dhash) > 6


def test_dark_bright_flat_and_blurred_pictures_measure_so() -> None:
    face = drawn(5)
    plain = look_of(encoded(face))
    assert look_of(encoded(face.point(lambda value: value // 8))).brightness < plain.brightness / 4
    assert look_of(encoded(face.point(lambda value: 255 - (255 - value) // 8))).brightness > 220
    assert look_of(encoded(Image.new("RGB", SIZE, (90, 120, 90)))).contrast == pytest.approx(0, abs=0.1)
    blurred = [look_of(encoded(face.filter(ImageFilter.GaussianBlur(sigma)))).sharpness for sigma in (1, 2, 4)]
    assert plain.sharpness > blurred[0] > blurred[1] > blurred[2]


def test_what_is_not_decoded_in_full_or_is_no_whole_picture_is_not_measured() -> None:
    data = encoded(drawn(1), "JPEG")
    assert judge.inspect(data, SIZE, "header").picture is None
    assert judge.inspect(data[:-200], SIZE, "full").picture is None


def bring(folder: Path) -> dict[str, bytes]:
    """An identity with a picture of each kind, and one whose video was cut into frames."""
    face = drawn(1)
    files = {
        "ann/good": encoded(face),
        "ann/dark": encoded(face.point(lambda value: value // 8)),
        "ann/bright": encoded(face.point(lambda value: 255 - value // 6)),
        "ann/flat": encoded(Image.new("RGB", SIZE, (99, 99, 99))),
        "ann/blurred": encoded(face.filter(ImageFilter.GaussianBlur(6))),
        "ben/frame1": encoded(drawn(2).filter(ImageFilter.GaussianBlur(0.6))),
        "ben/frame2": encoded(drawn(2)),
        "ben/frame3": encoded(drawn(2).filter(ImageFilter.GaussianBlur(0.4))),
        "ben/other": encoded(drawn(9)),
    }
    for name, data in files.items():
        put(folder / f"exports/training_data/{name}.png", data)
    return files


def made(folder: Path, run_id: str = "1", **changes: Any) -> Result:
    return run_to_seal(make_run(make_dataset(folder, [TREE], **{"min_images": 1, **changes}), run_id))


def gone(result: Result) -> dict[str, str]:
    return {
        path.removeprefix("training_data/").removesuffix(".png"): outcome
        for path, outcome in result.outcomes.items()
        if outcome != "kept"
    }


RULES = {"too_dark": 30, "too_bright": 220, "placeholder": 2, "blurred": 3, "near_duplicate": 3}
LEFT_OUT = {
    "ann/dark": "too_dark",
    "ann/bright": "too_bright",
    "ann/flat": "placeholder",
    "ann/blurred": "blurred",
    "ben/frame1": "near_duplicate",
    "ben/frame3": "near_duplicate",
}


def test_nothing_is_left_out_by_default_and_each_threshold_leaves_out_its_kind(tmp_path: Path) -> None:
    bring(tmp_path)
    assert gone(made(tmp_path)) == {}
    for number, (name, value) in enumerate(RULES.items(), start=2):
        result = made(tmp_path, str(number), pictures={name: value})
        # What is dark is less sharp too, and nearly the same picture as the bright one.
        wanted = {path: outcome for path, outcome in LEFT_OUT.items() if outcome == name}
        assert wanted.items() <= gone(result).items(), name
        assert set(gone(result).values()) == {name}
        if name in {"too_dark", "too_bright", "placeholder"}:
            assert gone(result) == wanted
    every = made(tmp_path, "9", pictures=RULES)
    assert gone(every) == LEFT_OUT
    assert set(every.output) == {"ann/good.png", "ben/frame2.png", "ben/other.png"}
    again = made(tmp_path, "10", pictures=RULES)
    assert (again.read, again.sealed.release_id) == (0, every.sealed.release_id)
    assert again.ledger.sort_by("path").equals(every.ledger.sort_by("path"))
    back = made(tmp_path, "11")
    assert gone(back) == {}


def test_a_threshold_counts_before_min_images_and_a_decision_before_a_threshold(tmp_path: Path) -> None:
    files = bring(tmp_path)
    few = made(tmp_path, pictures=RULES, min_images=2)
    assert {path: outcome for path, outcome in gone(few).items() if path not in LEFT_OUT} == {
        "ann/good": "too_few_images"
    }
    kept = [hashlib.sha256(files[name]).hexdigest() for name in ("ann/dark", "ben/frame1")]
    lines = [f"keep_image,,,{sha256},me,2026-11-30,a good one" for sha256 in kept]
    table = put(tmp_path / "table", "\n".join([HEADER, *lines]).encode())
    result = made(tmp_path, "2", pictures=RULES, min_images=2, decisions=str(table))
    assert set(result.output) == {"ann/good.png", "ann/dark.png", "ben/frame1.png", "ben/frame2.png", "ben/other.png"}
    assert gone(result)["ben/frame3"] == "near_duplicate"


def test_what_each_threshold_would_leave_out_is_counted_as_it_would(tmp_path: Path) -> None:
    bring(tmp_path)
    result = made(tmp_path, pictures={"blurred": 0})  # so that all are looked at closely
    told = summarise(result.run, result.sealed, [], None)["pictures"]
    for name, steps in told.items():
        for number, one in enumerate(steps):
            again = made(tmp_path, f"{name} {number}", pictures={name: one["threshold"]})
            assert len(gone(again)) == one["images"], (name, one)


def test_sharpness_is_measured_of_a_sample_until_somebody_asks(tmp_path: Path) -> None:
    for number in range(120):
        face = drawn(number).filter(ImageFilter.GaussianBlur(3 if number % 2 else 0))
        put(tmp_path / f"exports/training_data/{number}/face.jpg", encoded(face, "JPEG", quality=90))
    first = made(tmp_path)
    measured = 120 - first.ledger["sharpness"].null_count
    assert 1 <= measured <= 30
    assert first.ledger["brightness"].null_count == 0
    told = summarise(first.run, first.sealed, [], None)["pictures"]["blurred"]
    asked = made(tmp_path, "2", pictures={"blurred": 10})
    assert asked.ledger["sharpness"].null_count == 0
    assert len(gone(asked)) == 60
    assert {one["threshold"]: one["images"] for one in told}[10] % (120 / measured) < 1
    assert made(tmp_path, "3", pictures={"blurred": 10}).read == 0


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_how_a_picture_looks_depends_neither_on_what_is_beside_it_nor_on_how_closely(tmp_path: Path, kind: str) -> None:
    files = {f"{number}/face.{kind}": encoded(drawn(number), kind) for number in range(40)}
    for name, data in files.items():
        put(tmp_path / "exports/training_data" / name, data)
    for shards in (1, 7):
        for row in made(tmp_path, str(shards), shards=shards).ledger.to_pylist():
            look = look_of(files[row["path"]])
            assert (row["brightness"], row["contrast"]) == pytest.approx(look[:2], abs=0.6)
            assert pictures.distance(row["dhash"], look.dhash) <= 2
            assert row["sharpness"] is None or row["sharpness"] == pytest.approx(look.sharpness, abs=1e-3)


def test_what_is_nearly_a_held_out_picture_trains_nothing_as_long_as_that_is_there(tmp_path: Path) -> None:
    holdout = {"fraction": 0.4, "pairs": 20}
    people = [f"person {number}" for number in range(24)]
    held = next(name for name in people if Holdout(**holdout).holds(name))
    other = next(name for name in people if not Holdout(**holdout).holds(name))
    for at, name in enumerate(people):
        for number in range(3):
            put(tmp_path / f"exports/training_data/{name}/{number}.png", encoded(drawn(100 * at + number)))
    copied = drawn(100 * people.index(held)).filter(ImageFilter.GaussianBlur(0.4))
    put(tmp_path / f"exports/training_data/{other}/copied.png", encoded(copied))
    without = made(tmp_path, holdout=holdout)
    assert without.outcomes[f"training_data/{other}/copied.png"] == "kept"
    rules = {"holdout": holdout, "pictures": {"near_duplicate": 1}}
    result = made(tmp_path, "2", **rules)
    assert result.outcomes[f"training_data/{other}/copied.png"] == "near_held_out"
    assert f"{other}/copied.png" not in result.output
    again = made(tmp_path, "3", **rules)
    assert (again.outcomes, again.sealed.release_id) == (result.outcomes, result.sealed.release_id)
    (tmp_path / f"exports/training_data/{held}/0.png").unlink()
    left = made(tmp_path, "4", **rules)
    assert left.outcomes[f"training_data/{other}/copied.png"] == "kept"
    anew = made(tmp_path, "5", **rules, output=str(tmp_path / "anew"))
    assert (anew.outcomes, anew.sealed.release_id) == (left.outcomes, left.sealed.release_id)


def test_nearly_the_same_picture_under_two_identities_is_told_and_kept(tmp_path: Path) -> None:
    bring(tmp_path)
    copied = encoded(drawn(1).resize((90, 90)).resize(SIZE))
    put(tmp_path / "exports/training_data/cleo/copied.png", copied)
    put(tmp_path / "exports/training_data/cleo/own.png", encoded(drawn(77)))
    result = made(tmp_path)
    told = summarise(result.run, result.sealed, [], None)
    assert told["near_copies"] == 1
    assert "1 pictures lie nearly the same under two identities" in "\n".join(told["explanation"])
    groups, count = rows.ledger(result.run, result.run.release(result.sealed.release_id)).near_copies(10)
    assert count == 1
    assert {"cleo/copied.png", "ann/good.png"} <= set(groups[0]["key"].to_pylist())
    assert gone(result) == {}
