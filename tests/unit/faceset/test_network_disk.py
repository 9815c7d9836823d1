"""One folder as two machines see it, over a file system with a network file system's manners.

bindfs (FUSE) is mounted twice over one folder. A lock binds one mount only; a file that is removed while it is open
stays as `.fuse_hidden…`, as NFS has its `.nfs…`; names and attributes are remembered for a second; nothing can be
cloned, and nothing linked from elsewhere. What it does not do, lost answers and stale handles, is put in by hand.
"""

import errno
import os
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest

from include.faceset.ground import files
from include.faceset.run import owner, workers
from include.faceset.run.attempt import SupersededError, trying
from include.faceset.run.owner import Owner
from include.faceset.run.run import Run
from include.faceset.steps import copy, scan, seal, select
from tests.needs import require
from tests.unit.faceset.pipeline import FLAT, TREE, Result, face, make_dataset, make_run, put, run_to_seal

pytestmark = pytest.mark.long

MACHINES = ("one", "two")


@pytest.fixture
def machines(tmp_path: Path) -> Iterator[list[Path]]:
    """The same folder as each machine sees it."""
    there = shutil.which("bindfs") and Path("/dev/fuse").exists() and os.geteuid() == 0
    require(None if there else "needs root, /dev/fuse and bindfs: apt-get install bindfs")
    (tmp_path / "server").mkdir()
    with ExitStack() as stops:
        for name in MACHINES:
            (tmp_path / name).mkdir()
            mount = ["bindfs", "--multithreaded", str(tmp_path / "server"), str(tmp_path / name)]
            subprocess.run(mount, check=True)
            stops.callback(subprocess.run, ["umount", str(tmp_path / name)], check=True)
        yield [tmp_path / name for name in MACHINES]


def make_exports(folder: Path) -> Path:
    for number in range(24):
        put(folder / f"training_data/{'abcdef'[number % 6]}/{number}.jpg", face(number))
    put(folder / "faces_only/a_face.png", face(100, "PNG"))
    put(folder / "faces_only/z_face.png", face(101, "PNG"))
    return folder


def seen_by(machine: Path, exports: Path, run_id: str, **changes: str) -> Run:
    dataset = make_dataset(machine, [FLAT, TREE], shards=2, local_source=str(exports))
    return make_run(dataset, run_id, **changes)


def test_of_many_runs_on_two_machines_one_has_the_output(machines: list[Path]) -> None:
    together = threading.Barrier(8)

    def take(number: int) -> Owner | None:
        run = seen_by(machines[number % 2], machines[0], f"run-{number}")
        together.wait()
        return owner.take(run, lambda _: False)

    with ThreadPoolExecutor(8) as pool:
        for _ in range(4):
            answers = list(pool.map(take, range(8)))
            [taken_by] = [number for number, answer in enumerate(answers) if answer is None]
            assert {answer for answer in answers if answer} == {Owner("faces", f"run-{taken_by}")}
            assert {owner.token(seen_by(machine, machine, "x")) for machine in machines} == {
                owner.token(seen_by(machines[0], machines[0], "x"))
            }
            shutil.rmtree(machines[0] / "merged.releases")
            time.sleep(workers.LATE_S + 0.1)


def test_a_run_that_is_over_is_followed_by_one(machines: list[Path]) -> None:
    first, *later = (seen_by(machines[number % 2], machines[0], f"run-{number}") for number in range(5))
    assert owner.take(first, lambda _: False) is None
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda run: owner.take(run, lambda other: other.run_id == "run-0"), later))
    assert answers.count(None) == 1
    assert owner.other(first) == Owner("faces", later[answers.index(None)].run_id)


def test_an_answer_that_is_lost_on_its_way_is_none_of_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    really = os.link

    def link(*arguments: str, **named: bool) -> None:
        really(*arguments, **named)
        raise FileExistsError(errno.EEXIST, "the request was sent again")

    monkeypatch.setattr(os, "link", link)
    assert files.create(tmp_path / "claim", "mine")
    monkeypatch.undo()
    assert not files.create(tmp_path / "claim", "another's")
    assert (tmp_path / "claim").read_text() == "mine"
    assert os.listdir(tmp_path) == ["claim"]


@pytest.mark.parametrize("link_mode", ["clone", "copy", "hardlink"])
def test_each_step_on_another_machine_gives_what_one_machine_gives(
    machines: list[Path], tmp_path: Path, link_mode: str
) -> None:
    exports = make_exports(tmp_path / "exports")
    here = tmp_path / "here"  # every machine has the volume at the same place

    def on(machine: Path) -> None:
        here.unlink(missing_ok=True)
        here.symlink_to(machine)

    for run_id in ("1", "2"):
        run = seen_by(here, exports, run_id, link_mode=link_mode)
        on(machines[0])
        for export in ("faces_only", "training_data"):
            scan.scan(run, export)
        on(machines[1])
        select.filter_manifest(run)
        copy.copy_shard(run, 1)
        on(machines[0])
        copy.copy_shard(run, 0)
        time.sleep(workers.LATE_S + 0.1)
        sealed = seal.seal(run)
        alone = run_to_seal(seen_by(tmp_path / "alone", exports, run_id))
        assert sealed.release_id == alone.sealed.release_id
        on(machines[1])
        assert Result(sealed, run, 0).output == alone.output
        put(exports / "training_data/a/new.jpg", face(200))
        (exports / "training_data/b/1.jpg").unlink(missing_ok=True)


def test_a_try_whose_files_are_open_is_taken_away(machines: list[Path]) -> None:
    run = seen_by(machines[0], machines[0], "1")

    def pause_while_another_try_runs() -> None:
        with trying(run, "shard=000") as paused, (paused.new / "image").open("w") as still_open:
            with trying(run, "shard=000") as later:
                later.check()
            hidden = [path for path in run.staging.rglob("*") if path.is_file()]
            assert hidden, "the file system keeps what is open"
            assert all(files.is_still_open(path.name) for path in hidden)
            still_open.write("changes nothing")
            paused.check()

    with pytest.raises(SupersededError):
        pause_while_another_try_runs()
    with trying(run, "shard=000"):
        pass
    assert not list(run.staging.iterdir())


def test_what_is_not_open_must_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path / "folder/kept", b"")

    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EBUSY, "busy")

    monkeypatch.setattr(os, "unlink", refuse)
    with pytest.raises(OSError, match="busy"):
        files.remove_tree(tmp_path / "folder")


def test_a_source_that_another_machine_replaces_is_a_row_of_the_ledger(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    exports = make_exports(tmp_path / "exports")
    really, stale = os.read, (exports / "training_data/a/0.jpg").stat().st_ino

    def read(descriptor: int, size: int) -> bytes:
        if os.fstat(descriptor).st_ino == stale:
            raise OSError(errno.ESTALE, "Stale file handle")
        return really(descriptor, size)

    monkeypatch.setattr(os, "read", read)
    outcomes = run_to_seal(seen_by(tmp_path, exports, "1")).outcomes
    assert outcomes["training_data/a/0.jpg"] == "changed_during_run"
    assert outcomes["training_data/a/6.jpg"] == "kept"


@pytest.mark.parametrize(("number", "matters"), [(errno.EINVAL, False), (errno.EIO, True)])
def test_a_server_without_a_sync_of_folders_will_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, matters: bool
) -> None:
    def fsync(_: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", fsync)
    if matters:
        with pytest.raises(OSError, match="Input/output error"):
            files.sync_folder(tmp_path)
    else:
        files.sync_folder(tmp_path)
