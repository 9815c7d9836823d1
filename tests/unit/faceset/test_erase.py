"""A person is erased: nothing that the project writes names them, or holds their images or these images' digests."""

import hashlib
import json
import os
import shutil
import signal
import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from include.faceset.declared.dataset import Dataset
from include.faceset.erasure import copies, receipt, rewrite
from include.faceset.ground import sharded, tables
from include.faceset.ledger import balance, count_rows
from include.faceset.release import history as shelf
from include.faceset.release import release
from include.faceset.run.attempt import trying
from include.faceset.run.run import Run
from include.faceset.steps import forget, select
from include.faceset.steps.preflight import nothing_to_do, preflight
from include.faceset.steps.retire import retire
from include.faceset.steps.scan import scan
from include.faceset.steps.summarise import dry_run, summarise
from include.faceset.training import arcface_torch
from include.faceset.training.counts import Counts
from tests.unit.faceset.pipeline import TREE, Result, face, make_dataset, make_run, put, run_to_seal
from tests.unit.faceset.test_parts import BASE, DAILY, WEEKLY
from tests.unit.faceset.test_properties import EXPORTS, Files, path_of, trees, write

pytestmark = pytest.mark.long

CANARY = "Canary Quill"
IMAGES = [face(900 + number) for number in range(3)]
OWN = {"name": "apart", "layout": "image_folder", "namespace": "own"}


def traces(root: Path, name: str = CANARY, images: list[bytes] = IMAGES) -> list[str]:
    """Where below a folder a name, an image, or the SHA-256 of one is to be found: in paths, bytes and Parquet rows."""
    needles = [name.encode(), *images]
    for image in images:
        needles += [hashlib.sha256(image).digest(), hashlib.sha256(image).hexdigest().encode()]
    found = []
    for path in root.rglob("*"):
        told = [str(path.relative_to(root)).encode()]
        if path.is_file():
            told.append(path.read_bytes())
        if path.suffix == ".parquet":
            file = pq.ParquetFile(path)
            told.append(str(file.metadata.metadata).encode())
            values = [value for column in file.read().columns for value in column.to_pylist()]
            told += [value if isinstance(value, bytes) else str(value).encode() for value in values]
        if any(needle in one for needle in needles for one in told):
            found.append(str(path.relative_to(root)))
    return found


def people(root: Path, *names: str) -> str:
    path = root / "people.suppressed"
    path.write_text("# asked for by themselves\n\n" + "".join(f"{name}\n" for name in names), encoding="utf-8")
    return str(path)


def publish(run: Run) -> Result:
    """All that a run does on disk, with the record of a sync as a run with upload leaves it."""
    result = run_to_seal(run)
    sealed = result.sealed
    folder = run.release(sealed.release_id)
    rows = tables.read(folder / release.MANIFEST_FILE, ["key", "size", "sha256"])
    rows = rows.append_column("etag", pa.array([str(number) for number in range(rows.num_rows)]))
    tables.write(rows, folder / release.OBJECTS_FILE)
    tables.write(rows.select(["key", "sha256", "etag"]).replace_schema_metadata({"of": "a sync"}), run.sync_record())
    config = arcface_torch.values(run, Counts.of(sealed))
    put(folder / arcface_torch.file_name("faces"), arcface_torch.render(sealed, folder, config).encode())
    receipt.write(run, rewrite.finish_erasure(run))
    receipt.close(run)
    summarise(run, sealed, [], None)
    retire(run, None)
    return result


def check(run: Run) -> None:
    """Every release that is kept balances, and is what its files say."""
    for folder in shelf.folders(run):
        sealed = release.read(folder)
        counts = Counter[str]()
        for _, rows in sharded.groups(folder / release.LEDGER_FILE):
            counts.update(count_rows(rows))
        balance(counts, sealed.scanned)
        manifest, digest = tables.read(folder / release.MANIFEST_FILE), release.Digest()
        digest.add(manifest)
        classes = tables.read(folder / release.CLASSES_FILE)
        assert (digest.release_id, digest.images, digest.size) == (folder.name, sealed.images, sealed.size)
        assert sealed.release_id == folder.name
        assert hashlib.sha256((folder / release.MANIFEST_FILE).read_bytes()).hexdigest() == sealed.manifest_sha256
        assert classes["index"].to_pylist() == list(range(sealed.identities))
        assert classes["identity"].to_pylist() == sorted({key.split("/")[0] for key in manifest["key"].to_pylist()})
        assert set(tables.read(folder / release.OBJECTS_FILE)["key"].to_pylist()) == set(manifest["key"].to_pylist())
        facts = json.loads((folder / release.SUMMARY_JSON_FILE).read_text())
        assert facts["scanned_files"] == facts["kept_files"] + sum(facts["rejected"].values())
        assert (facts["release_id"], facts["images"]) == (folder.name, sealed.images)
        assert facts["config"]["num_classes"] == facts["training"]["num_classes"] == sealed.identities
        assert facts["config"]["verbose"] <= facts["training"]["rank_steps_per_epoch"], "verified once an epoch"
        config = (folder / arcface_torch.file_name("faces")).read_text()
        assert f"num_image = {sealed.images}\n" in config
        assert folder.name in config


@dataclass(frozen=True)
class History:
    """Three releases that know the canary in every way; `first` and `last` are ids of the first and the third."""

    root: Path
    dataset: Dataset
    first: str
    last: str

    def run(self, run_id: str, *names: str, **changes: Any) -> Run:
        """A run that is to erase, the canary if nobody else is named."""
        listed = people(self.root, *(names or (CANARY,)))
        return make_run(self.dataset, run_id, suppressed=listed, **changes)


@pytest.fixture
def history(tmp_path: Path) -> History:
    tree, flat = tmp_path / "exports/training_data", tmp_path / "exports/faces_only"
    for number in range(12):
        put(tree / f"{'abcd'[number % 4]}/{number}.jpg", face(number))
    put(tree / f"{CANARY}/1.jpg", IMAGES[0])
    put(tree / f"{CANARY}/2.jpg", IMAGES[1])
    put(tree / f"{CANARY}/again.jpg", IMAGES[1])
    put(tree / f"{CANARY}/notes.txt", b"about the canary")
    put(flat / f"{CANARY}_face.png", IMAGES[2])
    put(flat / f"{CANARY}_face.txt", b"no image")
    put(flat / "a_face.png", face(50))
    dataset = make_dataset(tmp_path)
    first = publish(make_run(dataset, "1"))
    put(tree / "d/more.jpg", face(60))
    publish(make_run(dataset, "2"))
    # Now with too few images, so that those kept before are set aside.
    for name in ("1.jpg", "2.jpg", "again.jpg"):
        (tree / CANARY / name).rename(tmp_path / name)
    last = publish(make_run(dataset, "3"))
    for name in ("1.jpg", "2.jpg", "again.jpg"):
        (tmp_path / name).rename(tree / CANARY / name)
    return History(tmp_path, dataset, first.sealed.release_id, last.sealed.release_id)


def ids(run: Run) -> list[str]:
    return sorted(folder.name for folder in shelf.folders(run))


def receipts(run: Run) -> list[dict[str, Any]]:
    """What the receipts say, the first one first."""
    return [json.loads(path.read_text()) for path in sorted((run.releases / receipt.FOLDER).glob("[0-9]*.json"))]


def begin(run: Run) -> None:
    with trying(run, "filter") as mine:
        rewrite.begin_erasure(mine)


@pytest.mark.quick
def test_nothing_is_left_of_a_person_who_is_erased(tmp_path: Path, history: History) -> None:
    run = history.run("4")
    before = ids(run)
    known_by = {path.split("/")[0] for path in traces(run.releases)}
    assert known_by == {*before, "labels.parquet", "removed", ".work"}
    result = publish(run)
    assert traces(run.releases) == traces(run.output) == []
    check(run)
    assert sum(row["outcome"] == "suppressed" for row in result.ledger.to_pylist()) == 6
    assert (tmp_path / "exports/training_data" / CANARY / "1.jpg").exists()

    # As if they had never been there.
    for path in [*tmp_path.glob("exports/*/Canary*/*"), *tmp_path.glob("exports/*/Canary*_face.*")]:
        path.unlink()
    (tmp_path / "exports/training_data" / CANARY).rmdir()
    never = run_to_seal(make_run(make_dataset(tmp_path, output=str(tmp_path / "never")), "1"))
    assert (result.sealed.release_id, result.output) == (never.sealed.release_id, never.output)

    # Every earlier release is still there, by its old id too; the receipt says what it is called now.
    told = receipts(run)[0]
    now = {what.split()[1]: counts["now"] for what, counts in told["erased"].items() if what.startswith("release ")}
    assert sorted(now) == before
    for old, new in now.items():
        assert shelf.kept_as(run, old) == run.release(new)
    assert now[history.last] == history.last  # no image of theirs was in it
    assert told["people_listed"] == 1
    assert told["erased"]["set aside"] == {"images": 3}

    # The next run has nothing to erase, and writes no receipt.
    assert publish(history.run("5")).read == 0
    assert len(receipts(run)) == 1


def test_rolling_back_does_not_bring_them_back(history: History) -> None:
    back = publish(history.run("back", release=history.first))
    assert traces(back.run.releases) == traces(back.run.output) == []
    assert history.first in back.sealed.formerly
    pointer = json.loads(back.run.latest.read_text())
    assert pointer["release_id"] == back.sealed.release_id != history.first
    assert pointer["images"] == len(back.output) == back.sealed.images
    manifest = tables.read(back.run.release(back.sealed.release_id) / release.MANIFEST_FILE).to_pylist()
    assert {key: hashlib.sha256(data).digest() for key, data in back.output.items()} == {
        row["key"]: row["sha256"] for row in manifest
    }
    check(back.run)
    # By its old id and by its new one, after a run forth.
    forth = publish(history.run("forth"))
    assert forth.sealed.release_id != back.sealed.release_id
    for number, name in enumerate([history.first, back.sealed.release_id]):
        again = publish(history.run(f"again{number}", release=name))
        assert (again.sealed.release_id, again.output) == (back.sealed.release_id, back.output)


@pytest.mark.parametrize("rolls_back", [False, True])
def test_a_dry_run_foretells_and_changes_nothing(tmp_path: Path, history: History, *, rolls_back: bool) -> None:
    def everything() -> dict[str, bytes]:
        return {
            str(path.relative_to(tmp_path)): path.read_bytes()
            for path in tmp_path.rglob("*")
            if path.is_file() and ".work" not in path.parts
        }

    changes = {"release": history.first} if rolls_back else {}
    run = history.run("dry", dry_run=True, **changes)
    before = everything()
    preflight(run)
    for export in run.dataset.exports:
        scan(run, export.name)
    forget.forget(run)
    select.filter_manifest(run)
    summary = dry_run(run, None, [])
    assert everything() == before
    facts = json.loads(summary.with_name("summary.json").read_text())
    in_last = {"people": 1, "images": 0, "disputed": 0}
    assert facts["erase"] == {"listed": 1, **in_last, "releases": 3, "rows": 6 + 6 + 3, "parts": 0, "numbers": 1}
    assert "1 are on the list. 1 of them are in the last release, with 0 images" in summary.read_text()
    real = run_to_seal(history.run("real", **changes))
    assert (facts["identities"], facts["images"]) == (real.sealed.identities, real.sealed.images)


def test_releases_that_only_the_bucket_holds_are_made_anew_from_a_copy(tmp_path: Path, history: History) -> None:
    """What the bucket holds is a folder here; of the run's own releases only the one in place is left."""
    run = history.run("4")
    bucket = shutil.copytree(run.releases, tmp_path / "bucket")
    known = ids(run)
    result = publish(run)
    for name in ids(run):
        if name != result.sealed.release_id:
            shutil.rmtree(run.release(name))
    nobody = shutil.copytree(run.release(result.sealed.release_id), bucket / ("0" * 16))
    (bucket / ("f" * 16)).mkdir()  # what a broken upload left

    def fetch(folder: Path) -> None:
        shutil.copytree(bucket / folder.name, folder, dirs_exist_ok=True)

    found = {}
    there = [*known, result.sealed.release_id, nobody.name, "f" * 16]
    for release_id, folder in copies.in_bucket(run, frozenset({CANARY}), there, fetch):
        found[release_id] = folder.name if folder else None
        if folder and folder != run.release(folder.name):
            assert folder.parent == run.work / "bucket"
            assert traces(folder) == []
            sealed = release.read(folder)
            assert hashlib.sha256((folder / release.MANIFEST_FILE).read_bytes()).hexdigest() == sealed.manifest_sha256
            of_other_forms = {"records.json", "faces_record.py", "faces_holdout.bin"}
            assert {path.name for path in folder.iterdir()} == set(copies.published_files(run)) - of_other_forms
    assert found[nobody.name] == nobody.name
    assert found["f" * 16] is None
    assert found[result.sealed.release_id] == result.sealed.release_id
    assert found[history.last] == history.last  # no image of theirs was in it
    assert found[history.first] not in {None, history.first}
    assert traces(run.releases) == []
    assert not (run.work / "bucket").exists()


def test_what_a_run_without_upload_erased_is_still_to_be_deleted_from_the_bucket(tmp_path: Path) -> None:
    for number in range(3):
        put(tmp_path / f"exports/training_data/{CANARY}/{number}.jpg", IMAGES[number])
        put(tmp_path / f"exports/training_data/ben/{number}.jpg", face(number))
    dataset, listed = make_dataset(tmp_path, [TREE]), people(tmp_path, CANARY)
    publish(make_run(dataset, "1"))
    for run_id in ("2", "3"):
        run = publish(make_run(dataset, run_id, suppressed=listed, skip_upload=True)).run
        assert [one["erased"]["output"]["images"] for one in receipts(run)] == [3]
        assert (receipt.images_erased(run), receipt.images_to_delete(run)) == (0, 3)
    last = make_run(dataset, "4", suppressed=listed)
    receipt.note_bucket(last, {"keys": 3})
    publish(last)
    assert [list(one["erased"]) for one in receipts(run)][1:] == [["bucket s3://faces/set/"]]
    assert receipt.images_to_delete(last) == 0


def test_the_list_is_one_for_the_whole_run(history: History) -> None:
    run = history.run("4")
    run_to_seal(run)
    history.run("4", CANARY, "a")
    with pytest.raises(rewrite.EraseError, match="the list of people to erase was changed while this run"):
        rewrite.finish_erasure(run)
    assert "a/0.jpg" in run_to_seal(history.run("5", CANARY)).output


def test_a_person_of_an_export_with_its_own_namespace_is_told_from_their_namesake(tmp_path: Path) -> None:
    exports = tmp_path / "exports"
    for number in range(2):
        put(exports / f"training_data/{CANARY}/{number}.jpg", face(number))
        put(exports / f"apart/{CANARY}/{number}.jpg", IMAGES[number])
        put(exports / f"apart/ben/{number}.jpg", face(10 + number))
    dataset = make_dataset(tmp_path, [TREE, OWN])
    publish(make_run(dataset, "1"))
    listed = people(tmp_path, f"apart__{CANARY}")
    result = publish(make_run(dataset, "2", suppressed=listed))
    assert traces(result.run.releases, f"apart__{CANARY}") == []
    assert {key.split("/")[0] for key in result.output} == {CANARY, "apart__ben"}
    check(result.run)


def test_images_that_lay_under_another_identity_too_are_its_own_now(tmp_path: Path) -> None:
    tree = tmp_path / "exports/training_data"
    for number in range(3):
        put(tree / f"ben/{number}.jpg", face(number))
        put(tree / f"{CANARY}/{number}.jpg", IMAGES[number])
    put(tree / "ben/shared.jpg", IMAGES[0])
    dataset = make_dataset(tmp_path, [TREE])
    first = publish(make_run(dataset, "1"))
    assert first.outcomes["training_data/ben/shared.jpg"] == "identity_conflict"
    result = publish(make_run(dataset, "2", suppressed=people(tmp_path, CANARY)))
    assert sorted(result.output) == ["ben/0.jpg", "ben/1.jpg", "ben/2.jpg", "ben/shared.jpg"]
    assert traces(result.run.releases, CANARY, IMAGES[1:]) == []
    told = json.loads(next((result.run.releases / receipt.FOLDER).glob("*.json")).read_text())
    assert told["erased"][f"release {first.sealed.release_id}"]["disputed"] == 1
    check(result.run)


def test_whoever_is_alone_in_a_release_takes_it_along(tmp_path: Path) -> None:
    tree = tmp_path / "exports/training_data"
    for number in range(3):
        put(tree / f"{CANARY}/{number}.jpg", IMAGES[number])
    dataset = make_dataset(tmp_path, [TREE])
    publish(make_run(dataset, "1"))
    put(tree / "ben/1.jpg", face(1))
    put(tree / "ben/2.jpg", face(2))
    result = publish(make_run(dataset, "2", suppressed=people(tmp_path, CANARY)))
    assert ids(result.run) == [result.sealed.release_id]
    assert traces(result.run.releases) == traces(result.run.output) == []


def test_parts_that_were_scanned_before_lose_them_too(tmp_path: Path) -> None:
    exports = tmp_path / "exports"
    for number, partition in enumerate(["2026-03-06", "2026-03-13"]):
        put(exports / f"weekly/{partition}/{CANARY}_face.png", IMAGES[number])
        put(exports / f"weekly/{partition}/ben_face.png", face(10 + number))
        put(exports / f"daily/dt={partition}/faces/{CANARY}/1.jpg", IMAGES[2])
        put(exports / f"daily/dt={partition}/faces/{CANARY}/README", b"about the canary")
    put(exports / "base/zoe/1.jpg", face(1))
    put(exports / "base/zoe/2.jpg", face(2))
    dataset = make_dataset(tmp_path, [WEEKLY, DAILY, BASE])
    before = publish(make_run(dataset, "1"))
    assert any(path.startswith("parts/") for path in traces(before.run.releases))
    listed = people(tmp_path, CANARY)
    late = make_run(dataset, "late", ("2026-04-03",), suppressed=listed)
    assert nothing_to_do(make_run(dataset, "late", ("2026-04-03",))) is not None
    assert nothing_to_do(late) is None
    result = publish(late)
    assert traces(result.run.releases) == traces(result.run.output) == []
    assert result.sealed.scanned == before.sealed.scanned
    check(result.run)
    # The parts are scanned again, with them in it.
    again = publish(make_run(dataset, "again", suppressed=listed))
    assert traces(again.run.releases) == []
    assert again.sealed.release_id == result.sealed.release_id
    assert nothing_to_do(make_run(dataset, "late", ("2026-04-03",), suppressed=listed)) is not None


@pytest.mark.long
def test_killed_at_any_rename_it_finishes_when_it_is_run_again(tmp_path: Path, history: History) -> None:
    """A process is killed before its first, second, … rename; each time another run comes after it."""
    run = history.run("4")
    kept = [shutil.copytree(one, tmp_path / "start" / one.name) for one in (run.output, run.releases)]
    never_killed: dict[str, object] = {}
    killed, renames = True, -1
    while killed:
        for folder in kept:
            shutil.rmtree(tmp_path / folder.name)
            shutil.copytree(folder, tmp_path / folder.name)
        killed = renames >= 0 and killed_at(renames, lambda: begin(history.run("killed")))
        begin(history.run("after"))
        assert traces(run.releases) == []
        left: dict[str, object] = {
            str(path.relative_to(run.releases)): path.read_bytes()
            for path in run.releases.rglob("*")
            if path.is_file() and path.name not in {"pending.json", rewrite.LIST_FILE}
        }
        left["told"] = receipt.pending(run)["erased"]
        never_killed = never_killed or left
        assert left == never_killed, renames
        killed, renames = killed or renames < 0, renames + 1
    assert renames > 20
    result = publish(history.run("after"))
    assert traces(run.releases) == traces(result.run.output) == []
    check(run)


def killed_at(renames: int, what: Callable[[], object]) -> bool:
    """Do something in another process, which is killed before a rename; False if it does not come that far."""
    child = os.fork()
    if child == 0:
        left = [renames]
        for name in ("rename", "replace"):
            really = getattr(os, name)

            def counted(*arguments: Any, really: Callable[..., None] = really, **named: Any) -> None:
                if left[0] == 0:
                    os.kill(os.getpid(), signal.SIGKILL)
                left[0] -= 1
                really(*arguments, **named)

            setattr(os, name, counted)
        failed = True
        try:
            what()
            failed = False
        finally:
            os._exit(failed)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0, status
    return os.WIFSIGNALED(status)


@pytest.mark.long
@settings(max_examples=12, deadline=None)
@given(trees, trees, st.sets(st.sampled_from(["ann", "ben", "cyd", "Ben", "d e", "nobody"])), st.integers(1, 5))
def test_the_totals_balance_and_the_rest_is_as_if_they_had_never_been(
    files: Files, changes: Files, erased: set[str], shards: int
) -> None:
    zoe = {("training_data", "zoe", f"{number}.jpg"): face(100 + number) for number in range(3)}
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        write(root, files | zoe)
        dataset = make_dataset(root, EXPORTS)
        first = publish(make_run(dataset, "1"))
        write(root, changes)
        listed = people(root, *erased)
        result = publish(make_run(dataset, "2", suppressed=listed, shards=shards))
        check(result.run)
        output = result.output
        assert not {row["identity"] for row in result.ledger.to_pylist()} & erased
        theirs = [file for file in files | changes if file[1] in erased]
        assert sum(row["outcome"] == "suppressed" for row in result.ledger.to_pylist()) == len(theirs)
        back = publish(make_run(dataset, "3", suppressed=listed, release=first.sealed.release_id))
        check(back.run)
        assert back.output == {key: data for key, data in first.output.items() if key.split("/")[0] not in erased}

        for file in theirs:
            (root / "exports" / file[0] / path_of(file)).unlink()
        never = run_to_seal(make_run(make_dataset(root, EXPORTS, output=str(root / "never")), "1"))
        assert (result.sealed.release_id, output) == (never.sealed.release_id, never.output)
