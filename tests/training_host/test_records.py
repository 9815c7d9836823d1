"""Records, read by the reference reader: every label and every pixel is what a training on the folders would see."""

import io
from pathlib import Path

import pytest
from PIL import Image

from include.faceset.ground import tables
from include.faceset.images.judge import without_warnings
from include.faceset.records import packed, recordio
from include.faceset.steps import pack
from tests.needs import require
from tests.training_host import reader
from tests.unit.faceset.pipeline import TREE, face, make_dataset, make_run, put, run_to_seal
from tests.unit.faceset.test_odd_images import KEPT

ROUNDING = 3
"""How far two builds of libjpeg may be apart at a pixel, where they smooth coarse colour."""


def pixels(data: bytes) -> bytes:
    with without_warnings():
        return Image.open(io.BytesIO(data)).convert("RGB").tobytes()


@pytest.fixture(autouse=True)
def _has_mxnet() -> None:
    require(reader.lack())


def test_mxnet_reads_every_pixel_that_the_folders_hold_and_writes_the_same_bytes(tmp_path: Path) -> None:
    for number, (make, _) in enumerate(KEPT.values()):
        put(tmp_path / f"exports/training_data/id{number % 7}/{number}.jpg", make())
    for number in range(40):
        put(tmp_path / f"exports/training_data/id{number % 9}/face{number}.jpg", face(200 + number))
    run = make_run(make_dataset(tmp_path, [TREE], forms=["record"]), skip_upload=True)
    result = run_to_seal(run)
    assert result.sealed.images == len(KEPT) + 40
    pack.pack(run, result.sealed.release_id, None)
    folder, own = packed.folder_of(run, result.sealed.release_id), tmp_path / "own"
    own.mkdir()
    found = reader.ask("read_by_mxnet.py", folder, own)
    assert list(found) == [str(key) for key in range(result.sealed.images)]

    # Byte for byte what MXNet's own writer makes of the same images.
    for name in (packed.REC, packed.IDX):
        assert (own / name).read_bytes() == (folder / name).read_bytes(), name

    classes = tables.read(run.release(result.sealed.release_id) / "classes.parquet")
    names = dict(zip(classes["label"].to_pylist(), classes["identity"].to_pylist(), strict=True))
    seen = sorted((names[label], bytes.fromhex(of_record)) for label, shape, of_record in found.values())
    assert {tuple(shape) for _, shape, _ in found.values()} == {(112, 112, 3)}
    wanted = sorted((key.partition("/")[0], pixels(data)) for key, data in result.output.items())
    assert [name for name, _ in seen] == [name for name, _ in wanted]
    far = [max(map(abs, map(int.__sub__, one, other))) for (_, one), (_, other) in zip(seen, wanted, strict=True)]
    assert max(far) <= ROUNDING


def test_mxnet_reads_what_holds_its_magic_number(tmp_path: Path) -> None:
    images = []
    for at in (0, 1, 4, 6, 8, 0):
        data = face(7, "PNG")
        chunk = bytes(at) + recordio.MAGIC * 2 + b"x"
        images.append(data + chunk)  # behind the end of a PNG no reader looks
    with (tmp_path / packed.REC).open("wb") as rec, (tmp_path / packed.IDX).open("w") as idx:
        for key, image in enumerate(images):
            idx.write(recordio.index_line(key, rec.tell()))
            rec.write(recordio.encode(key, key, image))
    (tmp_path / "own").mkdir()
    found = reader.ask("read_by_mxnet.py", tmp_path, tmp_path / "own")
    assert [label for label, _, _ in found.values()] == list(range(len(images)))
    assert {bytes.fromhex(one) for _, _, one in found.values()} == {pixels(images[0])}
    assert (tmp_path / "own" / packed.REC).read_bytes() == (tmp_path / packed.REC).read_bytes()
