"""A disk that is full, that fails or may not be read, files that change while they are read, a clock that is wrong.

Each ends in an error that names the file, the rule and the remedy, or in a row of the ledger; the task tried again
ends as if nothing had happened.
"""

import errno
import os
import re
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, tzinfo
from pathlib import Path
from typing import Any

import pytest

from include.faceset.errors import NotReadyError
from include.faceset.ground.files import WriteError
from include.faceset.release import history, pointer, release
from include.faceset.run.run import Run
from include.faceset.steps import copy, preflight, render, scan, seal, select, summarise
from include.faceset.steps.copy import CopyError
from include.faceset.steps.retire import retire
from include.faceset.steps.scan import ScanError
from tests.unit.disks import fill_blocks, fill_inodes, free
from tests.unit.faceset.pipeline import TREE, Result, face, make_dataset, make_run, put, run_to_seal

pytestmark = pytest.mark.long

ROOT = Path(__file__).parents[3]


def exports(folder: Path, identities: int = 20) -> None:
    for number in range(identities):
        put(folder / f"exports/training_data/id{number}/a.jpg", face(number))
        put(folder / f"exports/training_data/id{number}/b.jpg", face(100 + number))
    put(folder / "exports/faces_only/id0_face.png", face(200, "PNG"))


def steps(run: Run) -> list[tuple[str, Callable[[], Any]]]:
    """The steps that write on disk, in the DAG's order."""
    return [
        ("scan", lambda: [scan.scan(run, export.name) for export in run.dataset.exports]),
        ("filter_manifest", lambda: select.filter_manifest(run)),
        ("copy_shard", lambda: [copy.copy_shard(run, shard) for shard in range(run.params.shards)]),
        ("seal", lambda: seal.seal(run)),
        ("render_config", lambda: render.render_config(run, sealed(run))),
        ("summary", lambda: (summarise.summarise(run, sealed(run), [], None), retire(run, None))),
    ]


def sealed(run: Run) -> release.Release:
    return release.read(pointer.last(run) or run.releases)


@pytest.mark.parametrize("left", [0, 3, 12])
@pytest.mark.parametrize("fill", [fill_blocks, fill_inodes])
def test_a_disk_that_is_full(
    tmp_path: Path, small_disk: Path, fill: Callable[[Path, int], None], left: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    exports(tmp_path)
    dataset = make_dataset(tmp_path, output=str(small_disk / "merged"))
    monkeypatch.setattr(preflight, "ROOM_TO_START", 0)
    run, failed = make_run(dataset), {}
    for name, step in steps(run):
        fill(small_disk, left)
        try:
            step()
        except (WriteError, CopyError, NotReadyError) as error:
            failed[name] = str(error)
        finally:
            free(small_disk)
        assert not list(run.releases.rglob(".*.tmp"))
        step()
    assert "copy_shard" in failed
    for message in failed.values():
        assert re.search(r"No space left on device|GB free", message)
        assert str(small_disk) in message
        assert "make room" in message
    if not left:
        assert list(failed) == [name for name, _ in steps(run)]
    elsewhere = run_to_seal(make_run(make_dataset(tmp_path)))
    assert sealed(run).release_id == elsewhere.sealed.release_id
    assert Result(sealed(run), run, 0).output == elsewhere.output
    assert not list(run.staging.iterdir())


UNREADABLE = """
import sys
from pathlib import Path
from include.faceset.steps import scan
from tests.unit.faceset.pipeline import make_dataset, make_run, run_to_seal
run_to_seal(make_run(make_dataset(Path(sys.argv[1]))))
"""


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("exports/training_data/id3/b.jpg", r"CopyError: export training_data: b.jpg: Permission denied; .*read it"),
        ("exports/training_data/id3", r"ScanError: export training_data: the folder id3 cannot be read \(Permission"),
        ("exports/faces_only", r"NotReadyError: export faces_only: .*cannot be read \(Permission denied\)"),
    ],
)
def test_what_may_not_be_read(tmp_path: Path, path: str, message: str) -> None:
    exports(tmp_path)
    mode = (tmp_path / path).stat().st_mode
    (tmp_path / path).chmod(0)
    command = [sys.executable, "-c", UNREADABLE, str(tmp_path)]
    if os.geteuid() == 0:  # root may read everything, unless it gives that up
        command = ["setpriv", "--bounding-set=-dac_override,-dac_read_search", *command]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "plugins")])}
    refused = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    (tmp_path / path).chmod(mode)
    assert re.search(message, refused.stderr), refused.stderr
    assert "let the user that runs Airflow's workers read it" in refused.stderr
    assert subprocess.run(command, env=environment, check=False).returncode == 0


@pytest.mark.parametrize("number", [0, 1, 20])
def test_a_folder_that_the_disk_does_not_give(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    exports(tmp_path)
    run = make_run(make_dataset(tmp_path))
    calls, really = [0], os.scandir

    def scandir(path: Any) -> Any:
        calls[0] += isinstance(path, int)  # by descriptor: the walk
        if isinstance(path, int) and calls[0] == number + 1:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return really(path)

    with monkeypatch.context() as patched:
        patched.setattr(os, "scandir", scandir)
        with pytest.raises(ScanError, match=r"cannot be read \(Input/output error\); look after its disk"):
            scan.scan(run, "training_data")
    assert not run.manifest("training_data").exists()
    assert run_to_seal(run).sealed.images == 41


@pytest.mark.parametrize("number", [0, 1, 17])
def test_a_file_that_the_disk_does_not_give(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    exports(tmp_path)
    run = make_run(make_dataset(tmp_path, shards=1))
    for export in run.dataset.exports:
        scan.scan(run, export.name)
    select.filter_manifest(run)
    with monkeypatch.context() as patched:
        patched.setattr(os, "read", at_read(number, lambda _: fail(errno.EIO), before=True))
        with pytest.raises(CopyError, match=r"export \w+: .*: Input/output error; .*clear this task"):
            copy.copy_shard(run, 0)
    assert not list(run.staging.iterdir())
    assert not run.copied(0).exists()
    copy.copy_shard(run, 0)
    result = Result(seal.seal(run), run, 0)
    assert result.output == run_to_seal(make_run(make_dataset(tmp_path, output=str(tmp_path / "else")))).output


def fail(number: int) -> None:
    raise OSError(number, os.strerror(number))


def at_read(number: int, happens: Callable[[int], None], *, before: bool = False) -> Callable[[int, int], bytes]:
    """`os.read` before or after whose call of that number something happens to the descriptor's file."""
    calls, really = [0], os.read

    def read(descriptor: int, size: int) -> bytes:
        calls[0] += 1
        due = calls[0] == number + 1
        if due and before:
            happens(descriptor)
        data = really(descriptor, size)
        if due and not before:
            happens(descriptor)
        return data

    return read


def path_of(descriptor: int) -> Path:
    return Path(f"/proc/self/fd/{descriptor}").readlink()


def grow(descriptor: int) -> None:
    with path_of(descriptor).open("ab") as file:
        file.write(b"more")


def shrink(descriptor: int) -> None:
    os.truncate(path_of(descriptor), 100)


def change(descriptor: int) -> None:
    with path_of(descriptor).open("r+b") as file:
        file.write(b"other")


def vanish(descriptor: int) -> None:
    path_of(descriptor).unlink()


def be_replaced(descriptor: int) -> None:
    path = path_of(descriptor)
    path.with_name("new").write_bytes(face(999))
    path.with_name("new").rename(path)


@pytest.mark.parametrize("link_mode", ["clone", "copy", "hardlink"])
@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize("happens", [grow, shrink, change, vanish, be_replaced])
def test_a_file_that_changes_while_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, happens: Callable[[int], None], before: bool, link_mode: str
) -> None:
    exports(tmp_path, identities=3)
    dataset = make_dataset(tmp_path, [TREE], shards=1, min_images=1)
    run = make_run(dataset, link_mode=link_mode)
    scan.scan(run, "training_data")
    select.filter_manifest(run)
    with monkeypatch.context() as patched:
        patched.setattr(os, "read", at_read(2, happens, before=before))
        copy.copy_shard(run, 0)
    first = Result(seal.seal(run), run, 0)
    # Whose name is gone was there when it was scanned, and its bytes were read: only a link needs the name.
    whole = happens in (vanish, be_replaced) and link_mode != "hardlink"
    assert list(first.outcomes.values()).count("changed_during_run") == (0 if whole else 1)
    assert {key.partition("/")[0] for key in first.output} == {"id0", "id1", "id2"}
    assert set(first.output.values()) <= {face(number) for number in (0, 1, 2, 100, 101, 102)}

    again = run_to_seal(make_run(dataset, "manual__2", link_mode=link_mode))
    fresh = run_to_seal(make_run(make_dataset(tmp_path, [TREE], shards=1, min_images=1, output=str(tmp_path / "new"))))
    assert (again.output, again.outcomes) == (fresh.output, fresh.outcomes)
    assert "changed_during_run" not in again.outcomes.values()


@pytest.mark.parametrize("hours", [-2, 2])
def test_a_clock_two_hours_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hours: int) -> None:
    class Clock(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> "Clock":
            return super().now(tz) + timedelta(hours=hours)

    dataset = make_dataset(tmp_path, [TREE], keep_releases=2)
    releases = []
    for number in range(4):
        put(tmp_path / f"exports/training_data/id{number}/a.jpg", face(number))
        put(tmp_path / f"exports/training_data/id{number}/b.jpg", face(100 + number))
        # As if another machine, whose clock is right or wrong, had written it.
        moment = datetime.now(UTC).timestamp() + (-hours if number % 2 else hours) * 3600
        os.utime(tmp_path / f"exports/training_data/id{number}/a.jpg", (moment, moment))
        run = make_run(dataset, f"manual__{number}")
        with monkeypatch.context() as patched:
            if number == 1:
                patched.setattr(pointer, "datetime", Clock)
            releases.append(run_to_seal(run).sealed.release_id)
        summarise.summarise(run, sealed(run), [], None)
        retire(run, None)
        # What was sealed last comes first, and is never what is removed.
        assert [folder.name for folder in history.folders(run)] == releases[-2:][::-1]
    assert run_to_seal(make_run(dataset, "manual__again")).read == 0
