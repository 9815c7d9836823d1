"""A person is erased: nothing that the project writes names them, or holds their images or these images' digests."""

import hashlib
import json
import os
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from include.faceset import erase, filter_manifest, receipt, release, render_config, sharded, tables
from include.faceset.ledger import balance, count_rows
from include.faceset.preflight import nothing_to_do, preflight
from include.faceset.run import Run
from include.faceset.scan import scan
from include.faceset.summary import clean_up, dry_run, summarise
from tests.unit.faceset.pipeline import TREE, Result, face, make_dataset, make_run, put, run_to_seal
from tests.unit.faceset.test_parts import BASE, DAILY, WEEKLY
from tests.unit.faceset.test_properties import EXPORTS, Files, path_of, trees, write

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


def publish(run: Run, *, wait: bool = False) -> Result:
    """All that a run with skip_upload does on disk, and the record of a sync, as a run with upload leaves it."""
    if wait:  # release.json tells seconds
        time.sleep(1.1)
    result = run_to_seal(run)
    sealed = result.sealed
    folder = run.release(sealed.release_id)
    rows = tables.read(folder / release.MANIFEST_FILE, ["key", "size", "sha256"])
    rows = rows.append_column("etag", [[str(number) for number in range(rows.num_rows)]])
    tables.write(rows, folder / release.OBJECTS_FILE)
    tables.write(rows.select(["key", "sha256", "etag"]).replace_schema_metadata({"of": "a sync"}), run.sync_record())
    render_config.render_config(run, sealed)
    listed = erase.finish(run)
    written = receipt.write(run, listed)
    receipt.close(run)
    summarise(run, sealed, [], None)
    clean_up(run)
    assert bool(written) == bool(list((run.releases / receipt.FOLDER).glob("*.md")) and written)
    return result


def check(run: Run) -> None:
    """Every release that is kept balances, and is what its files say."""
    for folder in release.folders(run):
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
        config = (folder / render_config.file_name("faces")).read_text()
        assert f"num_image = {sealed.images}\n" in config
        assert folder.name in config


@pytest.fixture
def history(tmp_path: Path) -> Callable[..., Run]:
    """Three releases that know the canary in every way, and the run after them, which is to erase."""
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
    publish(make_run(dataset, "1", skip_upload=True))
    put(tree / "d/more.jpg", face(60))
    publish(make_run(dataset, "2", skip_upload=True), wait=True)
    # The canary with too few images, and one that is set aside.
    for name in ("1.jpg", "2.jpg", "again.jpg"):
        (tree / CANARY / name).rename(tmp_path / name)
    publish(make_run(dataset, "3", skip_upload=True), wait=True)
    for name in ("1.jpg", "2.jpg", "again.jpg"):
        (tmp_path / name).rename(tree / CANARY / name)

    def next_run(run_id: str = "4", *names: str, **changes: Any) -> Run:
        listed = people(tmp_path, *(names or (CANARY,)))
        return make_run(dataset, run_id, suppressed=listed, skip_upload=True, **changes)

    return next_run


def ids(run: Run) -> list[str]:
    return [folder.name for folder in release.folders(run)]


def test_nothing_is_left_of_a_person_who_is_erased(tmp_path: Path, history: Callable[..., Run]) -> None:
    run = history()
    before = ids(run)
    assert len(traces(run.releases)) > 10
    assert any(path.startswith("removed/") for path in traces(run.releases))
    result = publish(run, wait=True)
    assert traces(run.releases) == traces(run.output) == []
    check(run)
    assert result.read < 5
    assert sum(row["outcome"] == "suppressed" for row in result.ledger.to_pylist()) == 6
    assert (tmp_path / "exports/training_data" / CANARY / "1.jpg").exists()

    # As if they had never been there.
    for path in [*tmp_path.glob("exports/*/Canary*/*"), *tmp_path.glob("exports/*/Canary*_face.*")]:
        path.unlink()
    (tmp_path / "exports/training_data" / CANARY).rmdir()
    never = run_to_seal(make_run(make_dataset(tmp_path, output=str(tmp_path / "never")), "1"))
    assert (result.sealed.release_id, result.output) == (never.sealed.release_id, never.output)

    # Every earlier release is still there, by its old id too; the receipt says what it is called now.
    told = json.loads(next((run.releases / receipt.FOLDER).glob("*.json")).read_text())
    now = {what.split()[1]: counts["now"] for what, counts in told["erased"].items() if what.startswith("release ")}
    assert set(now) == set(before)
    for old, new in now.items():
        assert release.kept_as(run, old) == run.release(new)
    assert told["people_listed"] == 1
    assert told["erased"]["output"] == {"images": 0}  # the last release had too few of them
    assert "replicas of the bucket" in next((run.releases / receipt.FOLDER).glob("*.md")).read_text()
    assert len(list((run.releases / receipt.FOLDER).iterdir())) == 2

    # The next run has nothing to erase, and writes no receipt.
    publish(history("5"))
    assert len(list((run.releases / receipt.FOLDER).iterdir())) == 2


def test_rolling_back_does_not_bring_them_back(tmp_path: Path, history: Callable[..., Run]) -> None:
    before = ids(history())
    back = publish(history("back", release=before[-1]))
    assert traces(back.run.releases) == traces(back.run.output) == []
    assert before[-1] in back.sealed.formerly
    pointer = json.loads(back.run.latest.read_text())
    assert pointer["release_id"] == back.sealed.release_id != before[-1]
    assert pointer["images"] == len(back.output) == back.sealed.images
    assert {key: hashlib.sha256(data).digest() for key, data in back.output.items()} == {
        row["key"]: row["sha256"]
        for row in tables.read(back.run.release(back.sealed.release_id) / release.MANIFEST_FILE).to_pylist()
    }
    check(back.run)
    # Whether it is named as it was or as it is.
    forth = publish(history("forth"))
    for number, name in enumerate([before[-1], back.sealed.release_id]):
        again = publish(history(f"again{number}", release=name))
        assert (again.sealed.release_id, again.output) == (back.sealed.release_id, back.output)
    assert forth.sealed.release_id != back.sealed.release_id


def test_a_dry_run_foretells_and_changes_nothing(tmp_path: Path, history: Callable[..., Run]) -> None:
    def everything() -> dict[str, bytes]:
        return {
            str(path.relative_to(tmp_path)): path.read_bytes()
            for path in tmp_path.rglob("*")
            if path.is_file() and ".work" not in path.parts
        }

    for changes in ({}, {"release": ids(history())[-1]}):
        run = history("dry", dry_run=True, **changes)
        before = everything()
        preflight(run)
        for export in run.dataset.exports:
            scan(run, export.name)
        filter_manifest.filter_manifest(run)
        summary = dry_run(run, None, [])
        assert everything() == before
        facts = json.loads(summary.with_name("summary.json").read_text())
        assert facts["erase"] == {
            "listed": 1,
            "people": 0,
            "images": 0,
            "disputed": 0,
            "releases": 3,
            "rows": 18 - 4,
            "parts": 0,
        }
        assert "People to erase" in summary.read_text()
        real = run_to_seal(history("real", **changes))
        assert (facts["identities"], facts["images"]) == (real.sealed.identities, real.sealed.images)
        break


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


def test_killed_at_any_rename_it_finishes_when_it_is_run_again(history: Callable[..., Run]) -> None:
    """From the start until the run is over; each time a process is killed for good, and a fresh run comes after it."""
    run = history()
    start = run.releases.parent / "start"
    for name in ("merged", "merged.releases"):
        os.system(f"mkdir -p {start} && cp -a {run.releases.parent / name} {start}")  # noqa: S605
    wanted: dict[str, Any] = {}
    renames = 0
    while True:
        for name in ("merged", "merged.releases"):
            os.system(f"rm -r {run.releases.parent / name}; cp -a {start / name} {run.releases.parent}")  # noqa: S605
        killed = killed_at(renames, lambda: filter_manifest.filter_manifest(history("killed")))
        result = publish(history("after"))
        assert traces(run.releases) == traces(run.output) == []
        check(run)
        left = {
            "ids": sorted(ids(run)),
            "formerly": {folder.name: sorted(release.read(folder).formerly) for folder in release.folders(run)},
            "files": sorted(str(path.relative_to(run.releases)) for path in run.releases.glob("[0-9a-f]*/*")),
            "output": result.output,
            "receipt": json.loads(next((run.releases / receipt.FOLDER).glob("*.json")).read_text())["erased"],
        }
        left["files"] = [name for name in left["files"] if not name.startswith("erasures/")]
        if renames:
            assert left == wanted, renames
        wanted = left
        if not killed:
            break
        renames += 1
    assert renames > 20


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
        try:
            what()
        except BaseException:
            os._exit(3)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0, status
    return os.WIFSIGNALED(status)


@settings(max_examples=25, deadline=None)
@given(trees, trees, st.sets(st.sampled_from(["ann", "ben", "cyd", "Ben", "d e", "nobody"])), st.integers(1, 5))
def test_whoever_is_erased_the_totals_balance_and_the_rest_is_as_if_they_had_never_been(
    files: Files, changes: Files, erased: set[str], shards: int
) -> None:
    zoe = {("training_data", "zoe", f"{number}.jpg"): face(100 + number) for number in range(3)}
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        write(root, files | zoe)
        dataset = make_dataset(root, EXPORTS)
        first = publish(make_run(dataset, "1"))
        write(root, changes)
        result = publish(make_run(dataset, "2", suppressed=people(root, *erased), shards=shards))
        check(result.run)
        without = {path for path, outcome in result.outcomes_of_others.items() if outcome}
        assert not {row["identity"] for row in result.ledger.to_pylist()} & erased
        assert without is not None
        back = publish(make_run(dataset, "3", suppressed=people(root, *erased), release=first.sealed.release_id))
        check(back.run)

        for file in files | changes:
            if file[1] in erased:
                (root / "exports" / file[0] / path_of(file)).unlink()
        never = run_to_seal(make_run(make_dataset(root, EXPORTS, output=str(root / "never")), "1"))
        assert (result.sealed.release_id, result.output) == (never.sealed.release_id, never.output)
