"""The merge as a user sees it: exports in, merged ImageFolder and ledger out."""

import os
from pathlib import Path

import pytest
from PIL import Image

from include.faceset.ground import tables
from include.faceset.output.tidy import SealError
from include.faceset.release import pointer, release
from include.faceset.steps.select import FilterError
from tests.unit.faceset.pipeline import FLAT, TREE, face, make_dataset, make_run, put, run_to_seal


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Anna: one flat, two in the tree. Ben: two in the tree. Cleo: one flat only."""
    exports = tmp_path / "exports"
    put(exports / "faces_only" / "anna_face.png", face(1, "PNG"))
    put(exports / "faces_only" / "cleo_face.png", face(2, "PNG"))
    for number, name in enumerate(["anna/1.jpg", "anna/2.jpg", "ben/1.jpg", "ben/2.jpg"], start=10):
        put(exports / "training_data" / name, face(number))
    return exports


def test_exports_are_merged_and_counted_after_the_merge(tmp_path: Path, source: Path) -> None:
    result = run_to_seal(make_run(make_dataset(tmp_path)))
    assert result.output == {
        "anna/anna_face.png": (source / "faces_only/anna_face.png").read_bytes(),
        **{
            key: (source / "training_data" / key).read_bytes()
            for key in ("anna/1.jpg", "anna/2.jpg", "ben/1.jpg", "ben/2.jpg")
        },
    }
    assert result.outcomes["faces_only/cleo_face.png"] == "too_few_images"
    assert (result.sealed.identities, result.sealed.images) == (2, 5)
    assert pointer.last(result.run) == result.run.release(result.sealed.release_id)


def test_a_second_run_opens_nothing_and_seals_the_same_release(tmp_path: Path, source: Path) -> None:
    dataset = make_dataset(tmp_path)
    first = run_to_seal(make_run(dataset))
    second = run_to_seal(make_run(dataset, "manual__2", shards=7))
    assert (first.read, second.read) == (5, 0)
    assert second.sealed.release_id == first.sealed.release_id
    assert second.output == first.output


def test_a_file_of_the_output_that_was_touched_is_written_again(tmp_path: Path, source: Path) -> None:
    dataset = make_dataset(tmp_path)
    first = run_to_seal(make_run(dataset))
    spoiled = first.run.output / "anna" / "1.jpg"
    spoiled.write_bytes(b"x" * spoiled.stat().st_size)
    second = run_to_seal(make_run(dataset, "manual__2"))
    assert second.read == 1
    assert second.output["anna/1.jpg"] == (source / "training_data/anna/1.jpg").read_bytes()


def test_what_is_no_longer_kept_leaves_the_output(tmp_path: Path, source: Path) -> None:
    dataset = make_dataset(tmp_path)
    first = run_to_seal(make_run(dataset))
    (source / "training_data/ben/2.jpg").unlink()
    (source / "training_data/anna/2.jpg").unlink()
    put(first.run.output / "train.rec", b"would win over the images")
    put(first.run.output / "anna" / "stray.jpg", b"stray")
    (first.run.output / "empty").mkdir()
    (first.run.output / "link").symlink_to(source)
    second = run_to_seal(make_run(dataset, "manual__2"))
    assert second.output.keys() == {"anna/anna_face.png", "anna/1.jpg"}
    assert os.listdir(second.run.output) == ["anna"]
    assert (source / "training_data/anna/1.jpg").exists()


@pytest.mark.parametrize("shards", [1, 3, 16])
def test_same_bytes_under_two_identities_are_taken_out_of_both(tmp_path: Path, source: Path, shards: int) -> None:
    put(source / "training_data/anna/dora.jpg", face(50))
    put(source / "training_data/dora/1.jpg", face(50))
    put(source / "training_data/dora/2.jpg", face(51))
    result = run_to_seal(make_run(make_dataset(tmp_path), shards=shards))
    assert result.outcomes["training_data/anna/dora.jpg"] == "identity_conflict"
    assert result.outcomes["training_data/dora/1.jpg"] == "identity_conflict"
    assert result.outcomes["training_data/dora/2.jpg"] == "too_few_images"
    assert "dora" not in os.listdir(result.run.output)
    assert "anna/dora.jpg" not in result.output


def test_same_bytes_twice_in_one_identity_are_kept_once(tmp_path: Path, source: Path) -> None:
    put(source / "training_data/ben/3.jpg", (source / "training_data/ben/1.jpg").read_bytes())
    put(source / "training_data/emil/1.jpg", face(60))
    put(source / "training_data/emil/2.jpg", face(60))
    result = run_to_seal(make_run(make_dataset(tmp_path)))
    assert result.outcomes["training_data/ben/3.jpg"] == "duplicate_content"
    assert {result.outcomes[f"training_data/emil/{name}.jpg"] for name in (1, 2)} == {
        "too_few_images",
        "duplicate_content",
    }


def test_same_file_name_twice_keeps_both(tmp_path: Path, source: Path) -> None:
    second = {"name": "more", "layout": "image_folder"}
    put(source / "more/ben/1.jpg", face(70))
    result = run_to_seal(make_run(make_dataset(tmp_path, [TREE, second])))
    assert result.output["ben/1.jpg"] == (source / "more/ben/1.jpg").read_bytes()
    assert result.output["ben/training_data__1.jpg"] == (source / "training_data/ben/1.jpg").read_bytes()


def test_own_namespace_keeps_identities_apart(tmp_path: Path, source: Path) -> None:
    result = run_to_seal(make_run(make_dataset(tmp_path, [FLAT, {**TREE, "namespace": "own"}])))
    assert sorted(os.listdir(result.run.output)) == ["training_data__anna", "training_data__ben"]
    assert result.outcomes["faces_only/anna_face.png"] == "too_few_images"


def test_every_kind_of_bad_file_has_its_row(tmp_path: Path, source: Path) -> None:
    tree = source / "training_data"
    good = face(80)
    put(source / "faces_only/README.txt", b"hello")
    put(tree / "stray.jpg", good)
    put(tree / "ben/empty.jpg", b"")
    put(tree / "ben/text.jpg", b"no image at all")
    put(tree / "ben/cut.jpg", good[: len(good) // 2])
    put(tree / "ben/cut.png", face(81, "PNG")[:-30])
    put(tree / "ben/large.jpg", face(82, size=(113, 112)))
    put(tree / "ben/notes.txt", b"no image name")
    put(tree / "ben/inner/1.jpg", good)
    put(tree / "ben/line\nbreak.jpg", good)
    put(tree / "ben/back\\slash.jpg", good)
    put(tree / ".hidden/1.jpg", good)
    put(tree / "e\u0301va/1.jpg", good)
    put(source / "faces_only/.._face.png", face(83, "PNG"))
    (tree / "ben" / os.fsdecode(b"caf\xe9.jpg")).write_bytes(good)
    (tree / "ben/inside.jpg").symlink_to(tree / "ben/1.jpg")
    (tree / "ben/outside.jpg").symlink_to("/etc/passwd")
    (tree / "ben/loop").symlink_to(tree / "ben")
    (tree / "linked_identity").symlink_to(tree / "anna")
    os.mkfifo(tree / "ben/pipe.jpg")
    result = run_to_seal(make_run(make_dataset(tmp_path)))
    bad = {path: outcome for path, outcome in result.outcomes.items() if outcome != "kept"}
    assert bad == {
        "faces_only/cleo_face.png": "too_few_images",
        "faces_only/README.txt": "unmatched_name",
        "faces_only/.._face.png": "unsafe_name",
        "training_data/stray.jpg": "unmatched_name",
        "training_data/ben/empty.jpg": "empty_file",
        "training_data/ben/text.jpg": "not_an_image",
        "training_data/ben/cut.jpg": "corrupt",
        "training_data/ben/cut.png": "corrupt",
        "training_data/ben/large.jpg": "wrong_size",
        "training_data/ben/notes.txt": "unmatched_name",
        "training_data/ben/inner": "not_regular_file",
        "training_data/ben/line\nbreak.jpg": "unsafe_name",
        "training_data/ben/back\\\\slash.jpg": "unsafe_name",
        "training_data/.hidden/1.jpg": "unsafe_name",
        "training_data/e\u0301va/1.jpg": "unsafe_name",
        "training_data/ben/caf\\xe9.jpg": "unsafe_name",
        "training_data/ben/inside.jpg": "not_regular_file",
        "training_data/ben/outside.jpg": "not_regular_file",
        "training_data/ben/loop": "not_regular_file",
        "training_data/linked_identity": "not_regular_file",
        "training_data/ben/pipe.jpg": "not_regular_file",
    }


def test_odd_but_good_files_are_kept_and_counted_by_colour(tmp_path: Path, source: Path) -> None:
    tree = source / "training_data"
    put(tree / "ben/grey.jpg", face(90, mode="L"))
    put(tree / "ben/cmyk.jpg", face(91, mode="CMYK"))
    put(tree / "ben/alpha.png", face(92, "PNG", "RGBA"))
    put(tree / "ben/really_a_jpeg.png", face(93))
    put(tree / 'ben/a "quoted" & spaced é name.jpg', face(94))
    put(tree / "ben" / ("n" * 251 + ".jpg"), face(95))
    put(tree / "Ben/1.jpg", face(96))
    put(tree / "Ben/2.jpg", face(97))
    result = run_to_seal(make_run(make_dataset(tmp_path)))
    assert {path for path, outcome in result.outcomes.items() if outcome != "kept"} == {"faces_only/cleo_face.png"}
    rows = {row["key"]: (row["format"], row["colour"]) for row in result.ledger.to_pylist()}
    assert rows["ben/grey.jpg"] == ("JPEG", "L")
    assert rows["ben/cmyk.jpg"] == ("JPEG", "CMYK")
    assert rows["ben/alpha.png"] == ("PNG", "RGBA")
    assert rows["ben/really_a_jpeg.png"] == ("JPEG", "RGB")
    for path in result.run.output.rglob("*.*"):
        with Image.open(path) as image:
            assert image.convert("RGB").size == (112, 112)


@pytest.mark.parametrize("link_mode", ["clone", "copy", "hardlink"])
def test_link_modes_give_the_same_bytes(tmp_path: Path, source: Path, link_mode: str) -> None:
    result = run_to_seal(make_run(make_dataset(tmp_path), link_mode=link_mode))
    assert result.output["anna/1.jpg"] == (source / "training_data/anna/1.jpg").read_bytes()
    shares = (result.run.output / "anna/1.jpg").samefile(source / "training_data/anna/1.jpg")
    assert shares == (link_mode == "hardlink")


def test_a_file_that_changes_after_the_scan_is_not_taken(tmp_path: Path, source: Path) -> None:
    from include.faceset.steps import copy, scan, seal, select

    run = make_run(make_dataset(tmp_path), shards=1)
    for export in run.dataset.exports:
        scan.scan(run, export.name)
    select.filter_manifest(run)
    put(source / "training_data/anna/1.jpg", face(99))
    (source / "training_data/anna/2.jpg").unlink()
    (source / "faces_only/anna_face.png").unlink()
    (source / "faces_only/anna_face.png").symlink_to("/etc/passwd")
    copy.copy_shard(run, 0)
    ledger = tables.read(run.release(seal.seal(run).release_id) / release.LEDGER_FILE).to_pylist()
    assert sorted(row["path"] for row in ledger if row["outcome"] == "changed_during_run") == [
        "anna/1.jpg",
        "anna/2.jpg",
        "anna_face.png",
    ]
    assert os.listdir(run.output) == ["ben"]


def test_nothing_left_is_an_error(tmp_path: Path, source: Path) -> None:
    with pytest.raises(FilterError, match="none of 3 identities has 9 images"):
        run_to_seal(make_run(make_dataset(tmp_path), min_images=9))
    for path in (source / "training_data").rglob("*.jpg"):
        path.write_bytes(b"")
    with pytest.raises(SealError, match="no image is left"):
        run_to_seal(make_run(make_dataset(tmp_path, [TREE])))


def test_exports_are_never_written_to(tmp_path: Path, source: Path) -> None:
    def state() -> dict[str, tuple[int, int, bytes]]:
        return {
            str(path): (
                path.stat().st_mtime_ns,
                path.stat().st_mode,
                b"" if path.is_dir() else path.read_bytes(),
            )
            for path in source.rglob("*")
        }

    before = state()
    run_to_seal(make_run(make_dataset(tmp_path), link_mode="hardlink"))
    assert state() == before
