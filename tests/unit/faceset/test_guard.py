"""A training cannot start on what was not proven: configs of real releases, imported and run as on a training host."""

import ast
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from include.faceset.steps.render import render_config
from tests.unit.faceset.pipeline import TREE, Result, face, make_dataset, make_run, put, run_to_seal

IMPORT = "import runpy, sys; print(runpy.run_path(sys.argv[1])['config'].num_classes)"


@pytest.fixture
def release(tmp_path: Path) -> Result:
    for number in range(12):
        put(tmp_path / f"exports/training_data/id{number % 4} é/{number}.jpg", face(number))
    run = make_run(make_dataset(tmp_path, [TREE]), skip_upload=True)
    result = run_to_seal(run)
    render_config(run, result.sealed)
    return result


def config_of(release: Result) -> Path:
    return release.run.release(release.sealed.release_id) / "faces_imagefolder.py"


def train(config: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Import a config in a fresh interpreter, as each rank of a training does."""
    environment = {"PATH": os.environ["PATH"], **environment}
    command = [sys.executable, "-c", IMPORT, str(config)]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)


def program(config: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(config), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_a_whole_download_trains(release: Result) -> None:
    assert train(config_of(release)).stdout == "4\n"
    said = program(config_of(release))
    assert said.returncode == 0
    assert "4 folders are the classes of release" in said.stdout
    said = program(config_of(release), "--full")
    assert (said.returncode, "12 files hold exactly the bytes" in said.stdout) == (0, True), said.stderr
    assert "12 of 12 files compared, 0 wrong" in said.stderr
    put(release.run.output / "lfw.bin", b"a validation set lies there")
    assert train(config_of(release)).returncode == 0
    assert program(config_of(release), "--fast").returncode == 2


def remove_identity(output: Path) -> None:
    shutil.rmtree(output / "id2 é")


def add_stray(output: Path) -> None:
    put(output / ".cache/1.jpg", face(99))


def empty_identity(output: Path) -> None:
    for path in (output / "id1 é").iterdir():
        path.unlink()


def rename(output: Path) -> None:
    (output / "id3 é").rename(output / "id4 é")


def leave_records(output: Path) -> None:
    put(output / "train.rec", b"")
    put(output / "train.idx", b"")


def link_elsewhere(output: Path) -> None:
    (output / "a link").symlink_to(output / "id1 é")


@pytest.mark.parametrize(
    ("meddle", "said"),
    [
        (remove_identity, "has 3 folders; 1 missing: 'id2 é'"),
        (add_stray, "has 5 folders; 1 surplus: '.cache'"),
        (empty_identity, "1 folders in .* hold no image: 'id1 é'"),
        (rename, "has 4 folders; 1 missing: 'id3 é'; 1 surplus: 'id4 é'"),
        (leave_records, "train.rec and train.idx in .* would be read instead of the images. Move them elsewhere"),
        (link_elsewhere, "has 5 folders; 1 surplus: 'a link'"),
        (shutil.rmtree, "there is no folder .*merged. Download it"),
    ],
)
def test_what_is_not_the_release_is_refused(release: Result, meddle: Callable[[Path], None], said: str) -> None:
    meddle(release.run.output)
    refused = train(config_of(release))
    assert refused.returncode == 1
    message = refused.stderr.strip().splitlines()[-1]
    with pytest.raises(AssertionError, match=said):
        raise AssertionError(message)
    assert f"release {release.sealed.release_id}, with 4 classes and 12 images, but " in message
    run = program(config_of(release))
    assert (run.returncode, run.stdout) == (1, "")
    assert "Traceback" not in run.stderr
    assert train(config_of(release), FACESET_SKIP_CHECK="1").stdout == "4\n"
    assert train(config_of(release), FACESET_SKIP_CHECK="0").returncode == 1


def test_without_the_releases_tables_it_still_refuses_and_says_where_they_would_be_found(
    release: Result, tmp_path: Path
) -> None:
    config = shutil.copy(config_of(release), tmp_path / "faces_imagefolder.py")
    release.run.releases.rename(tmp_path / "elsewhere")
    assert train(Path(config)).returncode == 0
    remove_identity(release.run.output)
    message = train(Path(config)).stderr
    assert "has 3 folders; which of them differ could be told with pyarrow" in message
    assert f"classes.parquet in {tmp_path}/merged.downloaded/{release.sealed.release_id}" in message
    assert "its manifest.parquet is not in" in program(Path(config), "--full").stderr or "has 3 folders" in message


@pytest.mark.parametrize("ranks", [1, 3, 4, 8])
def test_all_ranks_together_look_into_each_folder(release: Result, ranks: int) -> None:
    empty_identity(release.run.output)
    codes = [train(config_of(release), RANK=str(rank), WORLD_SIZE=str(ranks)).returncode for rank in range(ranks)]
    assert sum(codes) == 1


def test_in_full_every_byte_counts(release: Result) -> None:
    """What each training checks in a second does not see this; `--full` does."""
    changed = release.run.output / "id0 é/0.jpg"
    whole = changed.read_bytes()
    changed.unlink()
    changed.write_bytes(whole[:-3] + b"\x00" + whole[-2:])
    put(release.run.output / "id0 é/surplus.jpg", face(98))
    (release.run.output / "id1 é/1.jpg").unlink()
    (release.run.output / "id2 é/2.jpg").unlink()
    put(release.run.output / "id2 é/2.jpg", b"short")
    assert train(config_of(release)).returncode == 0
    said = program(config_of(release), "--full")
    assert said.returncode == 1
    assert "4 files of" in said.stderr
    for one in ("id0 é/0.jpg holds other bytes", "id0 é/surplus.jpg is surplus", "id1 é/1.jpg: No such file"):
        assert one in said.stderr
    assert "id2 é/2.jpg has 5 bytes instead of" in said.stderr


def test_it_runs_on_the_python_of_a_training_host(release: Result) -> None:
    """numpy below 1.24 and scipy below 1.9 are there for Python 3.8 to 3.10."""
    ast.parse(config_of(release).read_text(), feature_version=(3, 8))
