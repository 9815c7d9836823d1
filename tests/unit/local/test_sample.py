"""The sample is what a run is shown with, the reference what it is measured with: both must be what they say."""

import os
import stat
import subprocess
import sys
from collections import Counter
from hashlib import sha256
from pathlib import Path

import pytest
from PIL import Image

from include.faceset import names
from include.faceset.declared import dataset, loading
from include.faceset.ledger import Outcome
from local.sample import entries as drawn
from local.sample import sample
from tests.unit.faceset.pipeline import ASKED_FOR, make_run, run_to_seal

pytestmark = pytest.mark.long

SCALE = 0.003


def regular_files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if stat.S_ISREG(path.lstat().st_mode))


def digests(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): sha256(path.read_bytes()).hexdigest() for path in regular_files(folder)}


def images(folder: Path) -> list[Path]:
    return [path for path in regular_files(folder) if path.name != sample.MARKER]


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("reference") / "exports"
    sample.make_reference(folder, SCALE, workers=2)
    return folder


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sample") / "exports"
    sample.make_sample(folder)
    return folder


@pytest.fixture(scope="module")
def entries() -> list[drawn.Entry]:
    return list(drawn.sample_entries())


class TestReference:
    def test_has_the_reference_run_s_numbers_times_the_scale(self, reference: Path) -> None:
        per_identity = [len(list(folder.iterdir())) for folder in (reference / drawn.FOLDERS).iterdir()]
        assert len(list((reference / drawn.FLAT).iterdir())) == round(390_856 * SCALE)
        assert len(per_identity) == round(102_491 * SCALE)
        assert sum(per_identity) == round(430_143 * SCALE)
        assert min(per_identity) >= 2
        assert len(set(per_identity)) > 5

    def test_whole_has_exactly_the_reference_run_s_numbers(self) -> None:
        spread = drawn.images_per_identity(sample.REFERENCE_IDENTITIES, sample.REFERENCE_IMAGES)
        assert (len(spread), sum(spread)) == (102_491, 430_143)
        assert min(spread) == 2

    def test_flat_identities_occur_nowhere_else(self, reference: Path) -> None:
        flat = [path.name.removesuffix("_face.png") for path in (reference / drawn.FLAT).iterdir()]
        folders = [path.name for path in (reference / drawn.FOLDERS).iterdir()]
        assert len({*flat, *folders}) == len(flat) + len(folders)

    def test_every_image_decodes_in_full_and_differs_from_all_others(self, reference: Path) -> None:
        bytes_seen, pixels_seen = set(), set()
        for path in images(reference):
            with Image.open(path) as image:
                image.load()
                assert (image.format, image.mode, image.size) == (
                    {".jpg": "JPEG", ".png": "PNG"}[path.suffix],
                    "RGB",
                    (112, 112),
                )
                pixels_seen.add(sha256(image.tobytes()).digest())
            bytes_seen.add(sha256(path.read_bytes()).digest())
        assert len(bytes_seen) == len(pixels_seen) == len(images(reference))

    def test_is_the_same_with_any_number_of_workers(self, reference: Path, tmp_path: Path) -> None:
        sample.make_reference(tmp_path / "again", SCALE, workers=1)
        assert digests(tmp_path / "again") == digests(reference)

    def test_a_killed_one_is_made_again_in_full(self, reference: Path, tmp_path: Path) -> None:
        folder = tmp_path / "exports"
        command = [
            sys.executable,
            "-m",
            "local.sample.sample",
            "--scale",
            str(SCALE),
            "--out",
            str(folder),
            "--workers",
            "2",
        ]
        root = Path(sample.__file__).parents[2]
        with subprocess.Popen(command, cwd=root, env=os.environ | {"PYTHONPATH": str(root)}) as process:
            while not (tmp_path / "exports.partial" / drawn.FLAT).exists():
                assert process.poll() is None
            process.kill()
        assert not folder.exists()
        sample.make_reference(folder, SCALE, workers=2)
        assert digests(folder) == digests(reference)
        assert not (tmp_path / "exports.partial").exists()

    @pytest.mark.parametrize("scale", [0, -1, 1e-9])
    def test_a_scale_that_leaves_nothing_is_refused(self, scale: float, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match="leaves no image"):
            sample.make_reference(tmp_path / "exports", scale)


class TestSample:
    def test_has_about_3000_flat_faces_and_800_identities(self, small: Path) -> None:
        identities = [path for path in (small / drawn.FOLDERS).iterdir() if path.is_dir() and not path.is_symlink()]
        assert 2_950 <= len(list((small / drawn.FLAT).iterdir())) <= 3_050
        assert len(identities) == 800
        assert 4.0 < len(images(small / drawn.FOLDERS)) / len(identities) < 4.4

    def test_has_every_outcome_that_needs_neither_a_race_nor_a_request(self, entries: list[drawn.Entry]) -> None:
        never = {Outcome.ARCHIVED, Outcome.CHANGED_DURING_RUN, Outcome.HELD_OUT, Outcome.SUPPRESSED}
        assert {entry.outcome for entry in entries} == set(Outcome) - never - ASKED_FOR

    def test_what_should_be_kept_is_112_by_112_and_decodes_in_full(
        self, small: Path, entries: list[drawn.Entry]
    ) -> None:
        modes: Counter[str] = Counter()
        for entry in entries:
            if entry.outcome in {Outcome.KEPT, Outcome.TOO_FEW_IMAGES}:
                with Image.open(small / entry.path) as image:
                    image.load()
                    assert image.size == (112, 112)
                    modes[image.mode] += 1
        assert set(modes) == {"RGB", "L", "CMYK", "RGBA", "LA"}

    def test_what_should_be_corrupt_is_an_image_that_ends_too_early(
        self, small: Path, entries: list[drawn.Entry]
    ) -> None:
        for entry in entries:
            if entry.outcome is Outcome.CORRUPT:
                with Image.open(small / entry.path) as image, pytest.raises(OSError, match=r"truncated|incomplete"):
                    image.load()

    def test_bytes_occur_twice_only_where_that_is_the_point(self, entries: list[drawn.Entry]) -> None:
        expected = [entry for entry in entries if entry.kind == "file"]
        apart = {entry.content for entry in expected if entry.outcome is Outcome.KEPT}
        disputed = [entry.content for entry in expected if entry.outcome is Outcome.IDENTITY_CONFLICT]
        assert len(apart) == sum(entry.outcome is Outcome.KEPT for entry in expected)
        assert set(Counter(disputed).values()) == {2}

    def test_links_pipes_and_folders_lie_where_files_should(self, small: Path, entries: list[drawn.Entry]) -> None:
        modes = {
            stat.S_IFMT((small / entry.path).lstat().st_mode)
            for entry in entries
            if entry.outcome is Outcome.NOT_REGULAR_FILE
        }
        assert modes == {stat.S_IFLNK, stat.S_IFIFO, stat.S_IFDIR}

    def test_counts_what_lies_on_disk(self, small: Path) -> None:
        counts = sample.make_sample(small)
        flat = len(list((small / drawn.FLAT).iterdir()))
        beside = [path for path in (small / drawn.FOLDERS).iterdir() if path.is_symlink() or not path.is_dir()]
        inside = [path for path in (small / drawn.FOLDERS).glob("*/*") if not path.parent.is_symlink()]
        assert (counts.flat_files, counts.folder_files) == (flat, len(beside) + len(inside))
        assert sum(counts.outcomes.values()) == counts.flat_files + counts.folder_files

    def test_a_run_makes_of_each_entry_what_it_says(
        self, small: Path, entries: list[drawn.Entry], tmp_path: Path
    ) -> None:
        described = loading.load(Path(dataset.__file__).parents[2] / "datasets" / "reidnet_v3.yaml")
        run = make_run(described, local_source=str(small), output=str(tmp_path / "merged"))
        result = run_to_seal(run)
        assert result.outcomes == {names.as_text(entry.path): entry.outcome.value for entry in entries}
        counts = sample.make_sample(small)
        assert (result.sealed.identities, result.sealed.images) == (counts.identities, counts.outcomes["kept"])

    def test_is_drawn_once(self, small: Path) -> None:
        before = small.stat().st_mtime_ns, (small / drawn.FLAT).stat().st_mtime_ns
        sample.make_sample(small)
        assert (small.stat().st_mtime_ns, (small / drawn.FLAT).stat().st_mtime_ns) == before

    def test_is_the_same_each_time(self, small: Path, tmp_path: Path) -> None:
        sample.make_sample(tmp_path / "again")
        assert digests(tmp_path / "again") == digests(small)


@pytest.mark.parametrize("occupant", ["photo.jpg", sample.MARKER])
def test_a_folder_that_holds_something_else_is_left_alone(occupant: str, tmp_path: Path) -> None:
    (tmp_path / occupant).write_text('{"made": {"recipe": 0}}')
    with pytest.raises(FileExistsError, match="name another folder"):
        sample.make_sample(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [occupant]


def test_the_command_reads_what_make_exports(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SCALE", "0.0001")
    monkeypatch.setenv("OUT", str(tmp_path / "exports"))
    sample.main([])
    assert (tmp_path / "exports" / sample.MARKER).exists()
    assert "too_few_images" in capsys.readouterr().out


def test_the_command_refuses_a_scale_that_is_no_number(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        sample.main(["--scale", "large"])
    assert "--scale" in capsys.readouterr().err
