"""The record form: every reader finds every image, with its label, in an order that is shuffled and always the same."""

import io
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from include.faceset.errors import NotReadyError
from include.faceset.ground import tables
from include.faceset.ground.files import WriteError
from include.faceset.records import packed, pixels, recordio
from include.faceset.records.make import PackError
from include.faceset.records.packed import Packed
from include.faceset.release import release
from include.faceset.steps import pack, preflight
from tests.unit.disks import fill_blocks, free
from tests.unit.faceset.pipeline import TREE, Result, face, make_dataset, make_run, put, run_to_seal

MAGIC = recordio.MAGIC


def read_all(folder: Path) -> list[tuple[int, int, bytes]]:
    """Key, label and bytes of every record, found by the index; it must name exactly where each begins."""
    found = []
    with (folder / "train.rec").open("rb") as file:
        for line in (folder / "train.idx").read_text().splitlines():
            key, offset = map(int, line.split("\t"))
            assert file.tell() == offset, "records lie back to back"
            record = recordio.read_record(file)
            assert record is not None
            assert recordio.decode(record)[0] == key == len(found)
            found.append(recordio.decode(record))
        assert recordio.read_record(file) is None
    return found


@given(st.lists(st.one_of(st.binary(max_size=9), st.just(MAGIC), st.just(bytes(4)), st.just(MAGIC[:2])), max_size=12))
def test_a_record_is_read_back_whatever_its_bytes(pieces: list[bytes]) -> None:
    image = b"".join(pieces)
    record = recordio.encode(7, 12, image)
    assert len(record) % 4 == 0
    file = io.BytesIO(record + recordio.encode(8, 3, b"next"))
    first, second = recordio.read_record(file), recordio.read_record(file)
    assert first is not None
    assert second is not None
    assert recordio.decode(first) == (7, 12, image)
    assert recordio.decode(second) == (8, 3, b"next")
    # A reader that looks for the magic number at multiples of four finds beginnings of pieces only.
    pieces_found = [at for at in range(0, len(record), 4) if record[at : at + 4] == MAGIC]
    at, begins = 0, []
    while at < len(record):
        begins.append(at)
        at += 8 + -(-(int.from_bytes(record[at + 4 : at + 8], "little") & (1 << 29) - 1) // 4) * 4
    assert pieces_found == begins


@pytest.mark.parametrize("cut", [1, 7, 9, 20])
def test_what_is_cut_off_is_no_record(cut: int) -> None:
    record = recordio.encode(0, 1, b"an image" + MAGIC + b"with the magic number")
    with pytest.raises(recordio.RecordError):
        recordio.read_record(io.BytesIO(record[:-cut]))


def test_the_form_is_the_one_that_is_documented() -> None:
    """Written out by hand from dmlc-core's recordio.h and MXNet's recordio.py."""
    assert recordio.encode(5, 2, b"abc") == (
        b"\x0a\x23\xd7\xce" + b"\x1b\0\0\0" + b"\0\0\0\0" + b"\0\0\0\x40" + b"\5" + bytes(7) + bytes(8) + b"abc" + b"\0"
    )


def loaded(data: bytes) -> bytes:
    """What torchvision's ImageFolder hands on: Pillow's pixels in RGB."""
    return Image.open(io.BytesIO(data)).convert("RGB").tobytes()


def saved(mode: str, kind: str, **options: Any) -> bytes:
    written = io.BytesIO()
    Image.open(io.BytesIO(face(3, "PNG"))).convert(mode).save(written, kind, **options)
    return written.getvalue()


def turned(kind: str) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    return saved("RGB", kind, exif=exif)


PLAIN = {
    "a JPEG": face(1),
    "a grey JPEG": saved("L", "JPEG"),
    "a progressive JPEG": saved("RGB", "JPEG", progressive=True),
    "a JPEG with a comment": saved("RGB", "JPEG", comment=b"hello"),
    "a PNG": face(1, "PNG"),
    "a grey PNG": saved("L", "PNG"),
    "a PNG with a palette": saved("P", "PNG"),
}
ODD = {
    "CMYK": saved("CMYK", "JPEG"),
    "a JPEG in RGB": saved("RGB", "JPEG", keep_rgb=True),
    "a JPEG to be turned": turned("JPEG"),
    "a PNG to be turned": turned("PNG"),
    "a TIFF to be turned": turned("TIFF"),
    "WebP": saved("RGB", "WEBP", lossless=True),
    "PPM": saved("RGB", "PPM"),
    "PGM": saved("L", "PPM"),
    "BMP": saved("RGB", "BMP"),
    "TIFF": saved("RGB", "TIFF"),
    "a PNG with alpha": saved("RGBA", "PNG"),
    "a PNG with one transparent colour": saved("RGB", "PNG", transparency=(1, 2, 3)),
    "a palette with transparency": saved("P", "PNG", transparency=3),
    "two colours": saved("1", "PNG"),
    "an APNG": saved("RGB", "PNG", save_all=True, append_images=[Image.new("RGB", (112, 112))]),
}


@pytest.mark.parametrize("name", PLAIN)
def test_what_all_readers_agree_on_goes_in_as_it_is(name: str) -> None:
    assert pixels.for_all_readers(PLAIN[name]) is PLAIN[name]


@pytest.mark.parametrize("name", ODD)
def test_all_else_goes_in_as_a_png_of_what_the_loader_sees(name: str) -> None:
    made = pixels.for_all_readers(ODD[name])
    assert made != ODD[name]
    assert made.startswith(b"\x89PNG")
    assert loaded(made) == loaded(ODD[name])
    assert pixels.for_all_readers(made) is made


def bring(folder: Path, people: int = 5, images: int = 4) -> None:
    odd = iter(ODD.values())
    for person in range(people):
        for number in range(images):
            put(folder / f"exports/training_data/id{person}/{number}.jpg", face(100 * person + number))
        if (data := next(odd, None)) is not None:
            put(folder / f"exports/training_data/id{person}/odd.jpg", data)


def made(folder: Path, run_id: str = "1", **changes: Any) -> Result:
    dataset = make_dataset(folder, [TREE], forms=["image_folder", "record"], **changes)
    result = run_to_seal(make_run(dataset, run_id, skip_upload=True))
    pack.pack(result.run, result.sealed.release_id, None)
    return result


def records(result: Result) -> Path:
    return packed.folder_of(result.run, result.sealed.release_id)


def facts(result: Result) -> Packed:
    found = packed.read(result.run.release(result.sealed.release_id))
    assert found is not None
    return found


@pytest.mark.parametrize("shards", [1, 4])
def test_every_image_is_in_it_once_with_the_label_of_its_identity(tmp_path: Path, shards: int) -> None:
    bring(tmp_path)
    result = made(tmp_path, shards=shards)
    classes = tables.read(result.run.release(result.sealed.release_id) / release.CLASSES_FILE)
    names = dict(zip(classes["label"].to_pylist(), classes["identity"].to_pylist(), strict=True))
    found = sorted((names[label], loaded(data)) for _, label, data in read_all(records(result)))
    assert found == sorted((key.partition("/")[0], loaded(data)) for key, data in result.output.items())
    assert os.listdir(result.run.records) == [result.sealed.release_id]
    assert facts(result).reencoded == 5
    assert facts(result).images == result.sealed.images == 25
    for name, file in facts(result).files.items():
        assert (records(result) / name).stat().st_size == file.size


def test_the_same_release_gives_the_same_bytes_whatever_the_shards(tmp_path: Path) -> None:
    bring(tmp_path)
    first = made(tmp_path, shards=1)
    again = made(tmp_path, "2", shards=7, output=str(tmp_path / "other"))
    assert facts(first) == facts(again)
    assert (records(first) / "train.rec").read_bytes() == (records(again) / "train.rec").read_bytes()


@pytest.mark.long
def test_the_first_records_are_of_as_many_classes_as_if_they_were_drawn(tmp_path: Path) -> None:
    """Images of an identity lie side by side in the exports; who shuffles within a window needs them apart."""
    for person in range(400):
        for number in range(4):
            put(tmp_path / f"exports/training_data/id{person:03d}/{number}.jpg", face(4 * person + number))
    labels = [label for _, label, _ in read_all(records(made(tmp_path)))]
    drawn = len(set(labels[:200]))
    assert 140 <= drawn <= 175, "uniformly drawn, 200 of 1,600 are of 157 classes"
    assert len(set(labels)) == 400


def test_nothing_is_packed_again_that_is_there_and_all_that_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bring(tmp_path)
    result = made(tmp_path)
    before = (records(result) / "train.rec").stat()
    pack.pack(result.run, result.sealed.release_id, None)
    assert (records(result) / "train.rec").stat().st_ino == before.st_ino
    (records(result) / "train.idx").unlink()
    pack.pack(result.run, result.sealed.release_id, None)
    assert len(read_all(records(result))) == result.sealed.images


def test_with_other_class_numbers_a_release_is_packed_anew(tmp_path: Path) -> None:
    bring(tmp_path, 3)
    first = made(tmp_path)
    shutil.rmtree(tmp_path / "exports/training_data/id0")
    made(tmp_path, "2")
    bring(tmp_path, 3)
    same = made(tmp_path, "3")
    assert sorted({label for _, label, _ in read_all(records(same))}) == [0, 1, 2]
    shutil.rmtree(tmp_path / "exports/training_data/id0")
    compact = made(tmp_path, "4", compact_labels=True)
    assert sorted({label for _, label, _ in read_all(records(compact))}) == [0, 1]
    assert first.sealed.release_id == same.sealed.release_id


def test_only_the_newest_records_are_kept_unless_more_are_wanted(tmp_path: Path) -> None:
    bring(tmp_path, 3)
    first = made(tmp_path)
    bring(tmp_path, 4)
    second = made(tmp_path, "2", keep_records=2)
    assert sorted(os.listdir(second.run.records)) == sorted([first.sealed.release_id, second.sealed.release_id])
    bring(tmp_path, 5)
    third = made(tmp_path, "3")
    assert os.listdir(third.run.records) == [third.sealed.release_id]


def test_without_the_form_nothing_is_packed(tmp_path: Path) -> None:
    bring(tmp_path)
    result = run_to_seal(make_run(make_dataset(tmp_path, [TREE])))
    assert pack.pack(result.run, result.sealed.release_id, None) is None
    assert not result.run.records.exists()


class Killed(BaseException):
    pass


@pytest.mark.parametrize("at", [0, 1, 12, 24, 25])
def test_a_pack_that_was_killed_goes_on_where_it_was_safe(
    tmp_path: Path, at: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    bring(tmp_path)
    whole = made(tmp_path)
    expected = (records(whole) / "train.rec").read_bytes()
    shutil.rmtree(whole.run.records)
    encode, left = recordio.encode, iter(range(at))

    def kill(key: int, label: int, image: bytes) -> bytes:
        if next(left, None) is None:
            raise Killed
        return encode(key, label, image)

    with monkeypatch.context() as patch:
        patch.setattr("include.faceset.records.writer.SAFE_EVERY", 1)
        patch.setattr(recordio, "encode", kill)
        if at < 25:
            with pytest.raises(Killed):
                pack.pack(whole.run, whole.sealed.release_id, None)
            assert [path.name[:9] for path in whole.run.records.iterdir()] == [".packing-"]
    encoded = []

    def count(key: int, label: int, image: bytes) -> bytes:
        encoded.append(key)
        return encode(key, label, image)

    monkeypatch.setattr(recordio, "encode", count)
    pack.pack(whole.run, whole.sealed.release_id, None)
    assert (records(whole) / "train.rec").read_bytes() == expected
    assert facts(whole).reencoded == 5
    assert encoded == list(range(25 if at == 25 else at, 25)) or at == 25
    assert os.listdir(whole.run.records) == [whole.sealed.release_id]


def test_what_a_killed_pack_left_of_another_release_is_not_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bring(tmp_path)
    first = made(tmp_path)
    left = first.run.records / ".packing-left"
    shutil.copytree(records(first), left)
    bring(tmp_path, 5, 5)
    second = made(tmp_path, "2")
    found = sorted(loaded(data) for _, _, data in read_all(records(second)))
    assert found == sorted(map(loaded, second.output.values()))


def test_what_a_killed_pack_left_may_be_longer_than_what_is_packed(tmp_path: Path) -> None:
    bring(tmp_path)
    first = made(tmp_path)
    expected = (records(first) / "train.rec").read_bytes()
    left = records(first).rename(first.run.records / ".packing-left")
    with (left / "train.rec").open("ab") as rec, (left / "train.idx").open("a") as idx:
        idx.write(recordio.index_line(25, len(expected)))
        rec.write(recordio.encode(25, 0, b"one more"))
    pack.pack(first.run, first.sealed.release_id, None)
    assert (records(first) / "train.rec").read_bytes() == expected


def test_a_damaged_rest_is_taken_up_to_where_it_is_whole(tmp_path: Path) -> None:
    bring(tmp_path)
    first = made(tmp_path)
    expected = (records(first) / "train.rec").read_bytes()
    left = records(first).rename(first.run.records / ".packing-left")
    data = bytearray(expected)
    data[len(data) // 2 :] = bytes(len(data) - len(data) // 2)
    (left / "train.rec").write_bytes(data)
    pack.pack(first.run, first.sealed.release_id, None)
    assert (records(first) / "train.rec").read_bytes() == expected


def test_an_image_that_is_no_longer_what_was_sealed_stops_it(tmp_path: Path) -> None:
    bring(tmp_path)
    result = made(tmp_path)
    shutil.rmtree(result.run.records)
    image = result.run.output / "id1/1.jpg"
    image.write_bytes(image.read_bytes()[:-1])
    with pytest.raises(PackError, match=r"^1.jpg \(of export training_data\) holds other bytes"):
        pack.pack(result.run, result.sealed.release_id, None)
    image.unlink()
    with pytest.raises(PackError, match=r"^1.jpg .* cannot be packed: No such file"):
        pack.pack(result.run, result.sealed.release_id, None)
    assert not [name for name in os.listdir(result.run.records) if not name.startswith(".packing-")]


def test_no_room_is_told_with_numbers_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bring(tmp_path)
    result = made(tmp_path)
    shutil.rmtree(result.run.records)
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1000))
    with pytest.raises(NotReadyError, match=r"need 0.00 GB on the disk of .* has 0.00 GB free; make room"):
        pack.pack(result.run, result.sealed.release_id, None)


def test_a_disk_that_is_full_in_the_middle_leaves_nothing_that_looks_packed(
    tmp_path: Path, small_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bring(tmp_path)
    monkeypatch.setattr(preflight, "ROOM_TO_START", 0)
    dataset = make_dataset(tmp_path, [TREE], forms=["record"], output=str(small_disk / "merged"))
    result = run_to_seal(make_run(dataset, skip_upload=True))
    monkeypatch.setattr("include.faceset.records.make._check_room", lambda *_: None)
    fill_blocks(small_disk, 20)
    with pytest.raises(WriteError, match="No space left on device; make room on its disk, then clear this task"):
        pack.pack(result.run, result.sealed.release_id, None)
    assert not records(result).exists()
    free(small_disk)
    pack.pack(result.run, result.sealed.release_id, None)
    assert len(read_all(records(result))) == result.sealed.images


def test_more_classes_than_a_float_can_tell_apart_are_refused(tmp_path: Path) -> None:
    bring(tmp_path)
    result = made(tmp_path)
    folder = result.run.release(result.sealed.release_id)
    said = (folder / "release.json").read_text()
    (folder / "release.json").write_text(said.replace('"labels": 5', '"labels": 16777217'))
    with pytest.raises(PackError, match=r"16,777,217 class numbers were given, .* only 16,777,216 apart"):
        pack.pack(result.run, result.sealed.release_id, None)
    (folder / "release.json").write_text(said.replace('"labels": 5', '"labels": 0'))
    with pytest.raises(PackError, match="was sealed before there were class numbers"):
        pack.pack(result.run, result.sealed.release_id, None)


@pytest.mark.long
@settings(max_examples=15, deadline=None)
@given(st.dictionaries(st.sampled_from(["ann", "ben", "cyd"]), st.integers(1, 4), min_size=1), st.integers(1, 3))
def test_whatever_is_sealed_is_packed(people: dict[str, int], shards: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        for number, (name, images) in enumerate(sorted(people.items())):
            for image in range(images):
                put(Path(folder) / f"exports/training_data/{name}/{image}.jpg", face(10 * number + image))
        result = made(Path(folder), shards=shards, min_images=1)
        assert len(read_all(records(result))) == sum(people.values())
