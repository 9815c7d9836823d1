"""Values that a file system allows and a table of 64-bit numbers does not, and files that no memory holds."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from include.faceset.declared.params import LinkMode
from include.faceset.errors import NotReadyError
from include.faceset.ground import times
from include.faceset.images import judge
from include.faceset.steps import scan, select
from tests.unit.faceset.pipeline import FLAT, TREE, face, make_dataset, make_run, put, run_to_seal

pytestmark = pytest.mark.long

ROOT = Path(__file__).parents[3]
YEAR_S = 31_556_952
# ext4 goes from 1901 to 2446, others much further; 64 bits of nanoseconds from 1677 to 2262.
FAR_S = 15_032_304_000  # 2446-05-10
MOMENTS_S = [-(1 << 33), -YEAR_S * 400, -YEAR_S * 300, -(1 << 31), -1, 0, 1 << 33, YEAR_S * 293, FAR_S, 1 << 35]
HUGE = (1 << 63) - 1
JPEG = face(1)


def sparse(path: Path, start: bytes, size: int) -> Path:
    put(path, start)
    os.truncate(path, size)
    return path


@pytest.fixture
def far_disk() -> Iterator[Path]:
    """A folder on a file system that knows all times and sizes (tmpfs)."""
    memory = Path("/dev/shm")  # noqa: S108 always in memory
    if not memory.is_dir():
        pytest.skip("there is no /dev/shm, a file system that knows all times and sizes")
    with tempfile.TemporaryDirectory(dir=memory) as folder:
        yield Path(folder)


@pytest.fixture
def tree(far_disk: Path) -> Path:
    """An export in which one person has images of every time."""
    tree = far_disk / "exports/training_data"
    for number, seconds in enumerate(MOMENTS_S):
        put(tree / f"anna/{number}.jpg", face(number))
        os.utime(tree / f"anna/{number}.jpg", ns=(0, seconds * 10**9 + 7))
    return tree


@pytest.mark.parametrize("link_mode", ["copy", "hardlink"])
def test_a_file_of_any_time_is_kept_and_stays_as_it_is(tree: Path, far_disk: Path, link_mode: LinkMode) -> None:
    told = [(tree / f"anna/{number}.jpg").stat().st_mtime_ns for number in range(len(MOMENTS_S))]
    assert (min(told) < times.EARLIEST, max(told) > times.LATEST) == (True, True), "the disk knows fewer times"
    dataset = make_dataset(far_disk, [TREE])
    first = run_to_seal(make_run(dataset, "1", link_mode=link_mode))
    assert first.outcomes == {f"training_data/anna/{number}.jpg": "kept" for number in range(len(MOMENTS_S))}
    again = run_to_seal(make_run(dataset, "2", link_mode=link_mode))
    assert (again.sealed.release_id, again.output) == (first.sealed.release_id, first.output)
    assert again.read == sum(not times.EARLIEST < time < times.LATEST for time in told), "those that may have changed"
    assert [(tree / f"anna/{number}.jpg").stat().st_mtime_ns for number in range(len(MOMENTS_S))] == told


def test_a_change_from_one_far_time_to_another_is_seen(tree: Path, far_disk: Path) -> None:
    dataset = make_dataset(far_disk, [TREE])
    run_to_seal(make_run(dataset, "1"))
    path = tree / "anna/9.jpg"
    before = path.read_bytes()
    path.write_bytes(before[:-30] + bytes([before[-30] ^ 1]) + before[-29:])
    os.utime(path, ns=(0, (1 << 36) * 10**9))
    assert run_to_seal(make_run(dataset, "2")).output["anna/9.jpg"] == path.read_bytes() != before


@pytest.mark.parametrize("link_mode", ["copy", "hardlink"])
def test_a_release_with_files_of_far_times_comes_back(tree: Path, far_disk: Path, link_mode: LinkMode) -> None:
    put(tree / "ben/1.jpg", face(50))
    put(tree / "ben/2.jpg", face(51))
    dataset = make_dataset(far_disk, [TREE])
    first = run_to_seal(make_run(dataset, "1", link_mode=link_mode))
    for path in (tree / "anna").iterdir():
        path.unlink()
    assert run_to_seal(make_run(dataset, "2", link_mode=link_mode)).output.keys() == {"ben/1.jpg", "ben/2.jpg"}
    back = run_to_seal(make_run(dataset, "3", link_mode=link_mode, release=first.sealed.release_id))
    assert back.output == first.output


def test_strangers_of_far_times_in_the_output_are_removed(tree: Path, far_disk: Path) -> None:
    dataset = make_dataset(far_disk, [TREE])
    first = run_to_seal(make_run(dataset, "1"))
    for key in ("anna/stranger.jpg", "nobody/1.jpg"):
        os.utime(sparse(first.run.output / key, b"", HUGE), ns=(0, (1 << 35) * 10**9))
    assert run_to_seal(make_run(dataset, "2")).output == first.output


def test_sizes_near_the_end_of_64_bits_are_rows_and_need_no_room(far_disk: Path) -> None:
    exports = far_disk / "exports"
    for number in range(3):
        put(exports / f"training_data/anna/{number}.jpg", face(number))
        sparse(exports / f"training_data/anna/huge-{number}.jpg", b"", HUGE)
    sparse(exports / "training_data/anna/huge.txt", b"", HUGE)
    sparse(exports / "training_data/README", b"", HUGE)
    sparse(exports / "faces_only/ben_face.png", face(9, size=(64, 64)), HUGE)
    sparse(exports / "faces_only/anna_face.png", b"\x89PNG\r\n\x1a\n" + b"\0\0\0\x0dIHDR", HUGE)
    sparse(exports / "faces_only/cleo_face.png", face(9, "PNG"), HUGE)
    result = run_to_seal(make_run(make_dataset(far_disk, [FLAT, TREE])))
    assert result.outcomes == {
        **{f"training_data/anna/{number}.jpg": "kept" for number in range(3)},
        **{f"training_data/anna/huge-{number}.jpg": "not_an_image" for number in range(3)},
        "training_data/anna/huge.txt": "unmatched_name",
        "training_data/README": "unmatched_name",
        "faces_only/ben_face.png": "too_few_images",
        "faces_only/anna_face.png": "corrupt",
        "faces_only/cleo_face.png": "too_few_images",
    }


@pytest.mark.parametrize("decode", ["full", "header"])
def test_a_large_file_gets_the_verdict_of_its_header(tmp_path: Path, decode: str) -> None:
    tree = tmp_path / "exports/training_data"
    good = face(1, "PNG")
    starts = {
        "wrong_size": face(1, size=(64, 64)),
        "not_8_bit": JPEG.replace(b"\xff\xc0\x00\x11\x08", b"\xff\xc0\x00\x11\x0c"),
        "not_an_image": b"nothing",
        "other_format": b"GIF89a\x70\x00\x70\x00\x80\x00\x00" + bytes(6) + b",\0\0\0\0\x70\0\x70\0\0",
        "corrupt": good.replace(b"IHDR", b"IHDX"),
        "too_large": good[:33] + b"\x7f\xff\xff\xfftEXt",
    }
    for outcome, start in starts.items():
        sparse(tree / f"ben/{outcome}.jpg", start, 1 << 40)
    for number in range(2):
        put(tree / f"ben/{number}.jpg", face(number))
    result = run_to_seal(make_run(make_dataset(tmp_path, [TREE]), decode=decode))
    outcomes = {path.rpartition("/")[2].removesuffix(".jpg"): outcome for path, outcome in result.outcomes.items()}
    assert outcomes == {**dict.fromkeys(["0", "1"], "kept"), **{outcome: outcome for outcome in starts}}


@pytest.mark.parametrize("link_mode", ["clone", "copy", "hardlink"])
@pytest.mark.parametrize("decode", ["full", "header", "off"])
def test_a_large_image_that_is_good_is_kept_by_blocks(tmp_path: Path, decode: str, link_mode: LinkMode) -> None:
    """As one that is not large; and it is known, comes back, and is told from a copy."""
    tree = tmp_path / "exports/training_data"
    data = face(1) + os.urandom(9_000_000)  # more than two blocks
    for name in ("1.jpg", "copy.jpg"):
        put(tree / f"ben/{name}", data)
    put(tree / "ben/2.jpg", face(2))
    small = run_to_seal(make_run(make_dataset(tmp_path, [TREE], output=str(tmp_path / "small")), decode=decode))
    dataset = make_dataset(tmp_path, [TREE], max_file_size=8_000_000)
    large = run_to_seal(make_run(dataset, "1", decode=decode, link_mode=link_mode))
    assert large.sealed.release_id == small.sealed.release_id
    assert (large.outcomes, large.output) == (small.outcomes, small.output)
    assert large.outcomes["training_data/ben/copy.jpg"] == "duplicate_content"
    assert run_to_seal(make_run(dataset, "2", decode=decode, link_mode=link_mode)).read == 0
    (tree / "ben/1.jpg").unlink()
    (tree / "ben/copy.jpg").unlink()
    put(tree / "ben/3.jpg", face(3))
    assert run_to_seal(make_run(dataset, "3", decode=decode, link_mode=link_mode)).sealed.images == 2
    back = run_to_seal(make_run(dataset, "4", decode=decode, link_mode=link_mode, release=large.sealed.release_id))
    assert back.output == large.output


def test_room_is_asked_for_what_a_large_file_may_need(tmp_path: Path) -> None:
    tree = tmp_path / "exports/training_data"
    for number in range(2):
        put(tree / f"ben/{number}.jpg", face(number))
    sparse(tree / "ben/nothing.jpg", b"nothing", 1 << 43)
    run = make_run(make_dataset(tmp_path, [TREE]))
    scan.scan(run, "training_data")
    size = select.filter_manifest(run).size
    assert size == sum((tree / f"ben/{number}.jpg").stat().st_size for number in range(2))
    sparse(tree / "ben/good.jpg", face(9), 1 << 43)
    run = make_run(make_dataset(tmp_path, [TREE], output=str(tmp_path / "other")))
    scan.scan(run, "training_data")
    with pytest.raises(NotReadyError, match=r"needs up to 8796\.1 GB \(8796\.1 GB of it for files that are larger"):
        select.filter_manifest(run)


@pytest.mark.parametrize("when", ["it is judged", "it is hashed"])
def test_a_large_file_that_changes_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, when: str) -> None:
    tree = tmp_path / "exports/training_data"
    large = put(tree / "ben/large.jpg", face(1) + bytes(9_000_000))
    for number in range(2):
        put(tree / f"ben/{number}.jpg", face(number + 2))
    run = make_run(make_dataset(tmp_path, [TREE], max_file_size=1_000_000), shards=1)
    really = judge.inspect_large
    seen: list[Any] = []

    def judged(*what: Any) -> judge.Inspection:
        found = really(*what)
        seen.append(found)
        if len(seen) == 2:  # the first is for the room
            with large.open("r+b" if when == "it is judged" else "ab") as file:
                file.write(b"x" * 300)
        return found

    monkeypatch.setattr(judge, "inspect_large", judged)
    assert run_to_seal(run).outcomes["training_data/ben/large.jpg"] == "changed_during_run"


_WITH_LITTLE_MEMORY = """
import resource, sys
resource.setrlimit(resource.RLIMIT_AS, (3 << 30, 3 << 30))
from pathlib import Path
from tests.unit.faceset.pipeline import TREE, make_dataset, make_run, run_to_seal
for outcome in run_to_seal(make_run(make_dataset(Path(sys.argv[1]), [TREE]))).outcomes.items(): print(*outcome)
print(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0])  # ru_maxrss would count the parent's
"""


def test_no_file_is_larger_than_memory(tmp_path: Path) -> None:
    tree = tmp_path / "exports/training_data"
    for number in range(2):
        put(tree / f"ben/{number}.jpg", face(number))
    png = face(1, "PNG")[:33] + b"\x7f\xff\xff\xfftEXt"
    starts = {"zeros": b"", "png": png, "webp": face(1, "WEBP"), "tiff": b"II*\0"}
    for name, start in starts.items():
        sparse(tree / f"ben/{name}.jpg", start, 12 << 30)
    sparse(tree / "ben/jpeg.jpg", face(3), 100 << 20)
    command = [sys.executable, "-c", _WITH_LITTLE_MEMORY, str(tmp_path)]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "ARROW_DEFAULT_MEMORY_POOL": "system"}
    told = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    *outcomes, peak = told.stdout.splitlines() or [told.stderr]
    assert sorted(outcomes) == [
        "training_data/ben/0.jpg kept",
        "training_data/ben/1.jpg kept",
        "training_data/ben/jpeg.jpg kept",
        "training_data/ben/png.jpg too_large",
        "training_data/ben/tiff.jpg corrupt",
        "training_data/ben/webp.jpg too_large",
        "training_data/ben/zeros.jpg not_an_image",
    ], told.stderr
    assert int(peak) < 400_000
