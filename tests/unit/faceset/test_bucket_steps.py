"""The steps that change a bucket, by a bucket in memory: publish, erase, the summary, and what is retired."""

import json
from pathlib import Path
from typing import Any

import pytest

from include.faceset.declared.holdout import Holdout
from include.faceset.erasure import receipt
from include.faceset.release import release
from include.faceset.run.run import Run
from include.faceset.steps import erase, pack, publish, retire, summarise
from include.faceset.steps.render import render_config
from tests.unit.faceset.memory_bucket import MemoryBucket
from tests.unit.faceset.pipeline import TREE, Result, face, make_dataset, make_run, put, run_to_seal
from tests.unit.faceset.test_erase import CANARY, IMAGES, people, traces

SYNCED = dict.fromkeys(("uploaded", "restored", "copied", "skipped", "deleted", "bytes"), 0)


def deliver(run: Run, bucket: MemoryBucket) -> tuple[Result, dict[str, Any] | None]:
    """All tasks of a run that uploads; what `erase` handed over beside what was sealed."""
    result = run_to_seal(run)
    bucket.bring(run.output)
    sealed = result.sealed
    publish.publish(run, sealed.release_id, bucket)
    pack.pack(run, sealed.release_id, bucket)
    erased = erase.erase(run, sealed.release_id, bucket)
    render_config(run, sealed)
    summarise.tell(run, sealed.release_id, [], SYNCED, erased, bucket=bucket)
    retire.retire(run, bucket)
    assert bucket.held_by is None
    return result, erased


@pytest.fixture
def exports(tmp_path: Path) -> Path:
    tree = tmp_path / "exports/training_data"
    for number in range(8):
        put(tree / f"{'abcd'[number % 4]}/{number}.jpg", face(number))
    for number, image in enumerate(IMAGES[:2]):
        put(tree / f"{CANARY}/{number}.jpg", image)
    return tree


@pytest.fixture(params=[False, True], ids=["plain", "versioned"])
def bucket(request: pytest.FixtureRequest) -> MemoryBucket:
    return MemoryBucket(versioned=request.param)


def written(run: Run) -> list[str]:
    return sorted(path.name for path in (run.releases / receipt.FOLDER).glob("*.md"))


def test_a_release_lies_beside_the_prefix_and_the_pointer_is_written_after_its_proof(
    tmp_path: Path, exports: Path, bucket: MemoryBucket
) -> None:
    run = make_run(make_dataset(tmp_path, [TREE]), "1")
    result, _ = deliver(run, bucket)
    there = bucket.there("set.releases/")
    assert json.loads(there["latest.json"])["release_id"] == result.sealed.release_id
    names = {key.partition("/")[2] for key in there if key.startswith(result.sealed.release_id)}
    assert names == {*release.SEALED_FILES, "faces_imagefolder.py", "SUMMARY.md", "summary.json", "report.html"}
    assert [change for change in bucket.changes if "set.releases/" in change][len(release.SEALED_FILES)] == (
        "put set.releases/latest.json"
    )


def test_what_is_not_in_the_bucket_is_not_published(tmp_path: Path, exports: Path, bucket: MemoryBucket) -> None:
    run = make_run(make_dataset(tmp_path, [TREE]), "1")
    sealed = run_to_seal(run).sealed
    with pytest.raises(AssertionError):
        publish.publish(run, sealed.release_id, bucket)
    assert bucket.pointer() == {}
    with pytest.raises(summarise.NotProvenError, match="names nothing, so release"):
        summarise.tell(run, sealed.release_id, [], None, None, bucket=bucket)


def test_a_person_is_erased_with_all_versions_and_one_receipt_says_so(
    tmp_path: Path, exports: Path, bucket: MemoryBucket
) -> None:
    dataset = make_dataset(tmp_path, [TREE])
    deliver(make_run(dataset, "1"), bucket)
    run = make_run(dataset, "2", suppressed=people(tmp_path, CANARY))
    _, erased = deliver(run, bucket)
    assert erased is not None
    assert erased["images"] == 2
    assert not [one for one in bucket.kept if one.key.startswith(CANARY) or (one.content or b"") in IMAGES]
    for number, one in enumerate(bucket.kept):
        put(tmp_path / f"kept/{number}-{one.key.replace('/', '-')}", one.content or b"")
    assert traces(tmp_path / "kept") == []
    assert len(written(run)) == 1
    assert f"erasures/{written(run)[0]}" in bucket.there("set.releases/")


@pytest.mark.long
@pytest.mark.parametrize("listed", [CANARY, "nobody"])
def test_a_run_that_erases_nobody_writes_no_receipt(
    tmp_path: Path, exports: Path, bucket: MemoryBucket, listed: str
) -> None:
    dataset = make_dataset(tmp_path, [TREE])
    deliver(make_run(dataset, "1"), bucket)
    deliver(make_run(dataset, "2", suppressed=people(tmp_path, listed)), bucket)
    before = written(make_run(dataset, "2"))
    for number in range(3, 6):
        put(exports / f"a/{number}.jpg", face(100 + number))
        run = make_run(dataset, str(number), suppressed=people(tmp_path, listed))
        result, erased = deliver(run, bucket)
        assert erased is None
        told = (run.release(result.sealed.release_id) / release.SUMMARY_FILE).read_text()
        assert "## People erased" not in told
    assert written(run) == before


def test_nobody_is_erased_where_somebody_else_has_published_since(
    tmp_path: Path, exports: Path, bucket: MemoryBucket
) -> None:
    run = make_run(make_dataset(tmp_path, [TREE]), "1", suppressed=people(tmp_path, "a"))
    sealed = run_to_seal(run).sealed
    bucket.bring(run.output)
    with bucket.hold("another"):
        bucket.write("set.releases/", "latest.json", b'{"release_id": "0123456789abcdef"}')
    changes = list(bucket.changes)
    with pytest.raises(erase.OvertakenError, match=r"names 0123456789abcdef and no longer"):
        erase.erase(run, sealed.release_id, bucket)
    assert bucket.changes == changes


def test_old_releases_go_in_the_bucket_before_they_go_here(tmp_path: Path, exports: Path, bucket: MemoryBucket) -> None:
    dataset = make_dataset(tmp_path, [TREE]).model_copy(update={"keep_releases": 1})
    first, _ = deliver(make_run(dataset, "1"), bucket)
    put(exports / "a/99.jpg", face(99))
    second, _ = deliver(make_run(dataset, "2"), bucket)
    assert bucket.releases(release.ID) == [second.sealed.release_id]
    assert not first.run.release(first.sealed.release_id).exists()


def of_records(run: Run, bucket: MemoryBucket) -> dict[str, bytes]:
    """What lies beside the prefix in the record form: it is what lies on the disk, and its pointer names it."""
    there = bucket.there("set.records/")
    pointer = json.loads(there.pop("latest.json"))
    assert pointer["records"] == f"{bucket.records_uri}{pointer['release_id']}/"
    folder = run.records / pointer["release_id"]
    for name in ("train.rec", "train.idx"):
        assert there[f"{folder.name}/{name}"] == (folder / name).read_bytes()
    return there


def test_records_lie_beside_the_prefix_and_those_of_releases_before_go(
    tmp_path: Path, exports: Path, bucket: MemoryBucket
) -> None:
    dataset = make_dataset(tmp_path, [TREE], forms=["image_folder", "record"])
    first, _ = deliver(make_run(dataset, "1"), bucket)
    assert len(of_records(first.run, bucket)) == 2
    put(exports / "a/new.jpg", face(77))
    second, _ = deliver(make_run(dataset, "2"), bucket)
    assert {key.partition("/")[0] for key in of_records(second.run, bucket)} == {second.sealed.release_id}
    changes = [change for change in bucket.changes if "set.records/" in change][3:]
    assert changes[-2:] == [
        f"delete set.records/{first.sealed.release_id}/{name}" for name in ("train.idx", "train.rec")
    ]
    assert changes[-3] == "put set.records/latest.json", "the new ones are pointed to before the old ones go"
    names = {key.partition("/")[2] for key in bucket.there("set.releases/") if key.startswith(second.sealed.release_id)}
    assert {"faces_record.py", "records.json"} < names


@pytest.mark.parametrize("keep", [1, 3])
def test_nothing_is_left_of_a_person_in_any_records(
    tmp_path: Path, exports: Path, bucket: MemoryBucket, keep: int
) -> None:
    settings: dict[str, Any] = {"forms": ["image_folder", "record"], "keep_records": keep}
    images = [(exports / CANARY / f"{number}.jpg").read_bytes() for number in range(2)]
    deliver(make_run(make_dataset(tmp_path, [TREE], **settings), "1"), bucket)
    assert any(images[0] in (one.content or b"") for one in bucket.kept if one.place == "set.records/")
    put(exports / "a/new.jpg", face(77))
    deliver(make_run(make_dataset(tmp_path, [TREE], **settings), "2"), bucket)
    listed = people(tmp_path, CANARY)
    result, _ = deliver(make_run(make_dataset(tmp_path, [TREE], suppressed=str(listed), **settings), "3"), bucket)
    of_records(result.run, bucket)
    everything = [one.content or b"" for one in bucket.kept]
    everything += [path.read_bytes() for path in tmp_path.glob("merged*/**/*") if path.is_file()]
    assert not any(image in content for image in images for content in everything)
    assert len(written(result.run)) == 1


def test_records_alone_are_published_where_no_image_is(tmp_path: Path, exports: Path, bucket: MemoryBucket) -> None:
    run = make_run(make_dataset(tmp_path, [TREE], forms=["record"]), "1")
    result = run_to_seal(run)
    name = result.sealed.release_id
    publish.publish(run, name, bucket)
    pack.pack(run, name, bucket)
    assert [path.name for path in render_config(run, result.sealed)] == ["faces_record.py"]
    summarise.tell(run, name, [], None, None, bucket=bucket)
    assert bucket.there("set/") == {}
    assert len(of_records(run, bucket)) == 2
    assert f"{name}/objects.parquet" not in bucket.there("set.releases/")
    text = (run.release(name) / "SUMMARY.md").read_text()
    assert "images** (" in text
    assert "are in the bucket, in the record form alone" in text
    assert "imagefolder" not in text
    assert "```bash\n```" not in text
    bucket.bring(run.output)
    with pytest.raises(publish.NotEmptyError, match="10 objects lie at s3://memory/set/, and forms names no"):
        publish.publish(run, name, bucket)


def test_rolling_back_brings_the_records_back_too(tmp_path: Path, exports: Path, bucket: MemoryBucket) -> None:
    settings: dict[str, Any] = {"forms": ["image_folder", "record"], "holdout": {"fraction": 0.5, "pairs": 20}}
    for number in range(40):
        put(exports / f"person {number // 4}/{number}.jpg", face(300 + number))
    dataset = make_dataset(tmp_path, [TREE], **settings)
    first, _ = deliver(make_run(dataset, "1"), bucket)
    records = of_records(first.run, bucket)
    pairs = bucket.there("set.releases/")[f"{first.sealed.release_id}/faces_holdout.bin"]
    people_there = (f"person {number}" for number in range(10))
    trains = next(name for name in people_there if not Holdout(**settings["holdout"]).holds(name))
    put(exports / trains / "new.jpg", face(77))
    deliver(make_run(dataset, "2"), bucket)
    back, _ = deliver(make_run(dataset, "3", release=first.sealed.release_id), bucket)
    assert back.sealed.release_id == first.sealed.release_id
    assert of_records(back.run, bucket) == records
    assert bucket.there("set.releases/")[f"{first.sealed.release_id}/faces_holdout.bin"] == pairs


def test_a_pointer_to_records_that_were_erased_goes_with_them(
    tmp_path: Path, exports: Path, bucket: MemoryBucket
) -> None:
    """Nobody packs any more, and what was packed held the person."""
    deliver(make_run(make_dataset(tmp_path, [TREE], forms=["image_folder", "record"]), "1"), bucket)
    assert bucket.records_pointer()
    deliver(make_run(make_dataset(tmp_path, [TREE], suppressed=people(tmp_path, CANARY)), "2"), bucket)
    assert [one for one in bucket.kept if one.place == "set.records/"] == []
