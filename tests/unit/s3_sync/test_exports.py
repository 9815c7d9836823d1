"""Exports in S3, from the listing to the proven prefix: the steps as the DAG calls them, against a real server."""

import gc
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from include.faceset.declared.dataset import Dataset
from include.faceset.declared.params import ParamsError
from include.faceset.erasure import rewrite
from include.faceset.exports import parts
from include.faceset.ground import tables
from include.faceset.ledger import Outcome
from include.faceset.release import release
from include.faceset.run.run import Run
from include.faceset.steps import copy, preflight, scan, seal, select
from local.s3 import seaweed, storage
from s3_sync.bucket.connection import S3Connection, connect
from s3_sync.bucket.target import S3Target
from s3_sync.errors import InvalidObjects, UploadFailed
from s3_sync.proof.verify import VerifyResult, verify
from s3_sync.sources import origins
from s3_sync.sources import source as sources
from s3_sync.sources.source import S3Source
from s3_sync.sync import bring, record, task
from tests.s3_client import client
from tests.unit.faceset.pipeline import ASKED_FOR, FLAT, TREE, Result, face, make_dataset, make_run, put, run_to_seal
from tests.unit.faceset.test_erase import traces
from tests.unit.faceset.test_odd_images import REJECTED
from tests.unit.s3_sync import proxy
from tests.unit.s3_sync.conftest import BUCKET, airflow_connection
from tests.unit.s3_sync.test_archived import as_s3_has_it

pytestmark = [pytest.mark.usefixtures("connection"), pytest.mark.long]

GREY_16, UNSEEN = (REJECTED[name][0]() for name in ("PNG of 16 bits", "PNG, nothing to be seen"))
FACES = {
    "faces_only/anna_face.png": face(1, "PNG"),
    "faces_only/ben_face.png": face(2, "PNG"),
    "faces_only/cyd_face.png": face(3, "PNG"),
    "faces_only/dora_face.png": b"",
    "faces_only/README.txt": b"how these were made",
    "faces_only/.hid_face.png": face(4, "PNG"),
    "training_data/anna/1.jpg": face(5),
    "training_data/anna/2.jpg": face(5),
    "training_data/anna/anna_face.png": face(6, "PNG"),
    "training_data/ben/1.jpg": face(7),
    "training_data/ben/it's #1 é.jpg": face(8, mode="L"),
    "training_data/cyd/1.jpg": face(9)[:-40],
    "training_data/ben/16_bits.png": GREY_16,
    "training_data/ben/closed.jpg": face(20)[:2000] + b"\xff\xd9",
    "training_data/ben/really_a_gif.jpg": face(21, "GIF", "P"),
    "training_data/ben/unseen.png": UNSEEN,
    "training_data/dora/1.jpg": face(10),
    "training_data/dora/2.jpg": face(11, size=(64, 64)),
    "training_data/emil/1.jpg": face(12),
    "training_data/emil/2.jpg": face(13),
    "training_data/emil/3.jpg": b"no image",
    "training_data/fay/1.jpg": face(12),
    "training_data/fay/2.jpg": face(14),
    "training_data/fay/3.jpg": face(15),
    "training_data/stray.jpg": face(16),
}


@pytest.fixture(autouse=True)
def forget(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], None]]:
    """Make each client once for a test, which takes longer than all it is used for here; a server waits for its end."""
    cached = cache(connect)
    for module in (task, sources):
        monkeypatch.setattr(module, "connect", cached)

    def clear() -> None:
        cached.cache_clear()
        gc.collect()

    yield clear
    clear()


@pytest.fixture
def root(admin: Any, target: S3Target) -> S3Target:
    """A prefix beside the destination, that holds the exports."""
    exports = S3Target.parse(target.uri.replace("/set/", "/exports/"))
    for path, data in FACES.items():
        admin.put_object(Bucket=BUCKET, Key=exports.key(path), Body=data)
    return exports


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for path, data in FACES.items():
        put(tmp_path / "exports" / path, data)
    return tmp_path


def in_s3(export: dict[str, Any], root: S3Target, **more: Any) -> dict[str, Any]:
    return {**export, "root": f"{root.uri}{export['name']}/", **more}


def without_output(folder: Path, target: S3Target, exports: list[dict[str, Any]]) -> Dataset:
    return make_dataset(folder, exports, output=None, releases=str(folder / "kept"), destination=target.uri)


def run_of(dataset: Dataset, run_id: str = "1", **changes: Any) -> Run:
    in_s3 = [one for one in dataset.exports if one.in_s3]
    sources = {one.name: S3Source(one.prefix, one.aws_conn_id or "aws_default") for one in in_s3}
    return replace(make_run(dataset, run_id, **changes), sources=sources)


def told(result: Result) -> list[tuple[Any, ...]]:
    """The ledger but for what a place says of a file: when it was written, its ETag."""
    rows = result.ledger.drop_columns(["mtime_ns", "etag", "staged_mtime_ns"]).to_pylist()
    return sorted(tuple(map(repr, row.values())) for row in rows)


def deliver(result: Result, target: S3Target, marker: bool = True) -> dict[str, Any]:
    """What the task `sync` does."""
    places = {
        one.name: {"root": one.prefix, "aws_conn_id": one.aws_conn_id or "aws_default"}
        if one.in_s3
        else {"root": str(result.run.folder(one))}
        for one in result.run.dataset.exports
    }
    folder = result.run.release(result.sealed.release_id)
    return task.run(
        source=None,
        destination=target.uri,
        objects=str(folder / release.MANIFEST_FILE),
        origins=json.dumps(places),
        record=str(result.run.sync_record()),
        marker=f"{target.releases.uri}latest.json" if marker else None,
        lease=f"here/{result.run.run_id}",
        max_delete_fraction=1.0,
    )


def prove(result: Result, target: S3Target) -> VerifyResult:
    connection = connect(target.bucket)
    manifest = tables.read(result.run.release(result.sealed.release_id) / release.MANIFEST_FILE)
    return verify(
        connection.at(target),
        manifest.select(["key", "size", "sha256"]),
        record.read(result.run.sync_record(), connection.at(target)),
    )


def there(admin: Any, target: S3Target) -> dict[str, bytes]:
    found = admin.list_objects_v2(Bucket=target.bucket, Prefix=target.prefix).get("Contents", ())
    return {
        item["Key"].removeprefix(target.prefix): admin.get_object(Bucket=target.bucket, Key=item["Key"])["Body"].read()
        for item in found
    }


@pytest.fixture
def on_disk(folder: Path) -> Result:
    return run_to_seal(make_run(make_dataset(folder)))


def test_the_same_files_give_the_same_release_wherever_they_lie(
    tmp_path: Path, folder: Path, root: S3Target, target: S3Target, on_disk: Result
) -> None:
    exports_of = {
        "s3": [in_s3(FLAT, root), in_s3(TREE, root)],
        "mixed": [FLAT, in_s3(TREE, root)],
        "mixed, the other way round": [in_s3(FLAT, root), TREE],
    }
    assert set(on_disk.outcomes.values()) == set(Outcome) - ASKED_FOR - {
        Outcome.ARCHIVED,
        Outcome.TOO_LARGE,
        Outcome.NOT_REGULAR_FILE,
        Outcome.CHANGED_DURING_RUN,
        Outcome.HELD_OUT,
        Outcome.SUPPRESSED,
    }
    for number, exports in enumerate(exports_of.values()):
        output = make_dataset(folder, exports, output=str(tmp_path / f"merged-{number}"))
        for dataset in (output, without_output(tmp_path / str(number), target, exports)):
            source = {} if all("s3:" in str(one) for one in exports) else {"local_source": str(folder / "exports")}
            result = run_to_seal(run_of(dataset, **source))
            assert result.sealed.release_id == on_disk.sealed.release_id
            assert told(result) == told(on_disk)
            assert result.sealed.scanned == on_disk.sealed.scanned
            if result.run.on_disk:
                assert result.output == on_disk.output
            again = run_to_seal(run_of(dataset, "2", **source))
            assert again.read == 0, "what is unchanged is not read again"
            assert (again.sealed.release_id, told(again)) == (on_disk.sealed.release_id, told(on_disk))


def test_what_is_archived_is_a_row_of_its_own(
    admin: Any, tmp_path: Path, folder: Path, root: S3Target, target: S3Target
) -> None:
    """SeaweedFS lists the class, and would let it be read."""
    for path in ("training_data/ben/1.jpg", "training_data/stray.jpg", "faces_only/.hid_face.png"):
        admin.put_object(Bucket=BUCKET, Key=root.key(path), Body=FACES[path], StorageClass="DEEP_ARCHIVE")
    for dataset in (
        make_dataset(folder, [FLAT, TREE], output=str(tmp_path / "merged")),
        without_output(tmp_path, target, [in_s3(FLAT, root), in_s3(TREE, root)]),
    ):
        result = run_to_seal(run_of(dataset))
        balanced = {name: sum(1 for path in FACES if path.startswith(name)) for name in ("faces_only", "training_data")}
        assert result.sealed.scanned == balanced
    assert {path for path, outcome in result.outcomes.items() if outcome == Outcome.ARCHIVED} == {
        "training_data/ben/1.jpg",
        "training_data/stray.jpg",
        "faces_only/.hid_face.png",
    }
    admin.put_object(Bucket=BUCKET, Key=root.key("training_data/ben/1.jpg"), Body=FACES["training_data/ben/1.jpg"])
    assert run_to_seal(run_of(dataset, "2")).outcomes["training_data/ben/1.jpg"] == Outcome.KEPT


@pytest.mark.parametrize("on_a_disk", [True, False])
def test_what_is_archived_between_list_and_read_is_told(
    server: seaweed.S3Server,
    monkeypatch: pytest.MonkeyPatch,
    folder: Path,
    root: S3Target,
    on_a_disk: bool,
) -> None:
    large = "faces_only/ben_face.png"
    target = S3Target.parse(root.uri.replace("/exports/", "/set/"))
    with proxy.running(server) as front:
        monkeypatch.setenv("AIRFLOW_CONN_FRONT", airflow_connection(server, front.endpoint))
        exports = [in_s3(export, root, aws_conn_id="front") for export in (FLAT, TREE)]
        if on_a_disk:
            dataset = make_dataset(folder, exports, max_file_size=len(FACES[large]) - 1)
        else:
            dataset = without_output(folder, target, exports).model_copy(
                update={"max_file_size": len(FACES[large]) - 1}
            )
        run = run_of(dataset)
        for export in run.dataset.exports:
            scan.scan(run, export.name)
        shards = select.filter_manifest(run).shards
        front.rewrite = lambda request, answer: as_s3_has_it(request, answer, "/ben/1.jpg")
        for shard in shards:
            copy.copy_shard(run, shard)
        result = Result(seal.seal(run), run, 0)
    archived = {path for path, outcome in result.outcomes.items() if outcome == Outcome.ARCHIVED}
    assert archived == {"training_data/ben/1.jpg"}


def test_a_large_object_is_read_in_parts(
    admin: Any, tmp_path: Path, folder: Path, root: S3Target, target: S3Target
) -> None:
    """As on a disk, whatever is done with it; and large ones that are no image are hardly read."""
    good = face(30) + bytes(17_000_000)
    large = {"ben/large.jpg": good, "ben/large_copy.jpg": good, "ben/nothing.jpg": bytes(9_000_000)}
    for path, data in large.items():
        put(folder / "exports/training_data" / path, data)
        admin.put_object(Bucket=BUCKET, Key=root.key(f"training_data/{path}"), Body=data)
    exports = [in_s3(FLAT, root), in_s3(TREE, root)]
    on_disk = run_to_seal(make_run(make_dataset(folder)))
    from_s3 = run_to_seal(run_of(make_dataset(tmp_path, exports, output=str(tmp_path / "m"), max_file_size=8_000_000)))
    assert (from_s3.outcomes, from_s3.output) == (on_disk.outcomes, on_disk.output)
    assert from_s3.outcomes["training_data/ben/large.jpg"] == Outcome.KEPT
    dataset = without_output(tmp_path, target, exports).model_copy(update={"max_file_size": 8_000_000})
    result = run_to_seal(run_of(dataset))
    assert result.sealed.release_id == on_disk.sealed.release_id
    assert run_to_seal(run_of(dataset, "2")).read == 0
    deliver(result, target)
    assert there(admin, target) == on_disk.output
    prove(result, target)


def test_a_large_object_is_streamed_where_s3_does_not_copy_it(
    admin: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, root: S3Target, target: S3Target
) -> None:
    good = face(30) + bytes(17_000_000)
    admin.put_object(Bucket=BUCKET, Key=root.key("training_data/ben/large.jpg"), Body=good)
    result = run_to_seal(run_of(without_output(tmp_path, target, [in_s3(TREE, root)])))
    monkeypatch.setattr(bring, "MAX_COPY", 1 << 20)
    assert deliver(result, target)["uploaded"] == 1
    assert there(admin, target)["ben/large.jpg"] == good
    prove(result, target)


@pytest.mark.quick
def test_without_an_output_the_prefix_is_the_merged_dataset(
    admin: Any, tmp_path: Path, root: S3Target, target: S3Target, on_disk: Result
) -> None:
    dataset = without_output(tmp_path, target, [in_s3(FLAT, root), TREE])
    admin.put_object(Bucket=BUCKET, Key=target.key("old/1.jpg"), Body=b"x")
    result = run_to_seal(run_of(dataset))
    assert there(admin, target) == {"old/1.jpg": b"x"}, "nothing is changed before the sync"
    sync = deliver(result, target)
    assert there(admin, target) == on_disk.output
    from_s3 = sum(1 for row in on_disk.ledger.to_pylist() if row["export"] == "faces_only" and row["key"])
    assert (sync["copied"], sync["uploaded"], sync["deleted"]) == (from_s3, len(on_disk.output) - from_s3, 1)
    assert from_s3
    proof = prove(result, target)
    assert (proof.by_record, proof.by_checksum) == (len(on_disk.output), 0)
    head = admin.head_object(Bucket=BUCKET, Key=target.key("anna/anna_face.png"))
    assert head["ContentType"] == "image/png"
    assert not [path for path in (tmp_path / "kept").rglob("*") if path.suffix in {".jpg", ".png"}]

    again = deliver(run_to_seal(run_of(dataset, "2")), target)
    assert (again["copied"], again["uploaded"], again["deleted"]) == (0, 0, 0)
    # Without the record of earlier syncs, equal ETags tell, and nothing is copied either.
    result.run.sync_record().unlink()
    assert deliver(result, target)["copied"] == 0


def test_a_person_is_erased_from_a_dataset_without_output(
    admin: Any, tmp_path: Path, root: S3Target, target: S3Target
) -> None:
    dataset = without_output(tmp_path, target, [in_s3(FLAT, root), in_s3(TREE, root)])
    first = run_to_seal(run_of(dataset))
    deliver(first, target)
    listed = str(put(tmp_path / "people", b"anna\n"))
    result = run_to_seal(run_of(dataset, "2", suppressed=listed))
    rewrite.finish_erasure(result.run)
    assert deliver(result, target)["deleted"] == 3
    rewrite.finish_erasure(result.run)
    assert {key.split("/")[0] for key in there(admin, target)} == {"ben", "fay"}
    assert prove(result, target).objects.num_rows == result.sealed.images
    images = [FACES[path] for path in FACES if "anna" in path]
    assert traces(first.run.releases, "anna", images) == traces(tmp_path / "kept", "anna", images) == []
    assert result.sealed.scanned == first.sealed.scanned
    back = run_to_seal(run_of(dataset, "3", suppressed=listed, release=first.sealed.release_id))
    assert back.sealed.release_id == result.sealed.release_id
    assert admin.head_object(Bucket=BUCKET, Key=root.key("training_data/anna/1.jpg"))


def test_what_an_exporter_noted_on_its_objects_is_not_published(
    admin: Any, tmp_path: Path, root: S3Target, target: S3Target
) -> None:
    noted = {"Metadata": {"patient": "anna"}, "Tagging": "ward=7", "ContentType": "text/html"}
    admin.put_object(Bucket=BUCKET, Key=root.key("training_data/ben/1.jpg"), Body=face(7), **noted)
    deliver(run_to_seal(run_of(without_output(tmp_path, target, [in_s3(TREE, root)]))), target)
    where = {"Bucket": BUCKET, "Key": target.key("ben/1.jpg")}
    head = admin.head_object(**where)
    assert (head["Metadata"], head["ContentType"]) == ({}, "image/jpeg")
    assert admin.get_object_tagging(**where)["TagSet"] == []


def test_an_object_that_changes_between_list_and_read_is_told_and_taken_by_the_next_run(
    admin: Any, tmp_path: Path, root: S3Target, target: S3Target
) -> None:
    dataset = without_output(tmp_path, target, [in_s3(TREE, root)])
    run = run_of(dataset)
    scan.scan(run, "training_data")
    admin.put_object(Bucket=BUCKET, Key=root.key("training_data/ben/1.jpg"), Body=face(70))
    admin.delete_object(Bucket=BUCKET, Key=root.key("training_data/fay/3.jpg"))
    for shard in select.filter_manifest(run).shards:
        copy.copy_shard(run, shard)
    outcomes = Result(seal.seal(run), run, 0).outcomes
    changed = {path for path, outcome in outcomes.items() if outcome == Outcome.CHANGED_DURING_RUN}
    assert changed == {"training_data/ben/1.jpg", "training_data/fay/3.jpg"}
    later = run_to_seal(run_of(dataset, "2"))
    assert later.outcomes["training_data/ben/1.jpg"] == Outcome.KEPT
    assert "training_data/fay/3.jpg" not in later.outcomes
    deliver(later, target)
    assert there(admin, target)["ben/1.jpg"] == face(70)


def test_an_object_that_changes_between_read_and_copy_fails_the_sync_and_the_next_run_ends_right(
    admin: Any, tmp_path: Path, root: S3Target, target: S3Target
) -> None:
    dataset = without_output(tmp_path, target, [in_s3(TREE, root)])
    latest = target.releases.key("latest.json")
    deliver(run_to_seal(run_of(dataset)), target)
    admin.put_object(Bucket=BUCKET, Key=latest, Body=b"{}")
    admin.put_object(Bucket=BUCKET, Key=root.key("training_data/ben/3.jpg"), Body=face(71))
    admin.put_object(Bucket=BUCKET, Key=root.key("training_data/ben/4.jpg"), Body=face(72))
    second = run_to_seal(run_of(dataset, "2"))
    admin.put_object(Bucket=BUCKET, Key=root.key("training_data/ben/3.jpg"), Body=face(73))
    admin.delete_object(Bucket=BUCKET, Key=root.key("training_data/ben/4.jpg"))
    with pytest.raises(UploadFailed, match=r"ben/3.jpg: the object it is copied from has changed") as info:
        deliver(second, target)
    assert info.value.failures.keys() == {"ben/3.jpg", "ben/4.jpg"}
    beside = admin.list_objects_v2(Bucket=BUCKET, Prefix=latest)
    assert beside["KeyCount"] == 0, "what says the prefix is complete was withdrawn before"
    third = run_to_seal(run_of(dataset, "3"))
    deliver(third, target)
    prove(third, target)
    assert there(admin, target)["ben/3.jpg"] == face(73)
    assert "ben/4.jpg" not in there(admin, target)


def test_what_another_sync_left_is_taken_if_it_is_right(
    admin: Any, tmp_path: Path, root: S3Target, target: S3Target
) -> None:
    result = run_to_seal(run_of(without_output(tmp_path, target, [in_s3(TREE, root)])))
    admin.put_object(Bucket=BUCKET, Key=target.key("anna/1.jpg"), Body=face(5))
    admin.put_object(Bucket=BUCKET, Key=target.key("ben/1.jpg"), Body=face(7)[::-1])
    sync = deliver(result, target)
    assert (sync["skipped"], sync["copied"]) == (1, result.sealed.images - 1)
    prove(result, target)
    assert there(admin, target)["ben/1.jpg"] == face(7)


def test_a_sync_that_is_killed_while_it_copies_is_gone_on_with(
    admin: Any, tmp_path: Path, root: S3Target, target: S3Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = run_to_seal(run_of(without_output(tmp_path, target, [in_s3(TREE, root)])))
    left = [3]
    really = origins.copy

    def copy(*arguments: Any) -> str:
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt
        return really(*arguments)

    with monkeypatch.context() as patched:
        patched.setattr(origins, "copy", copy)
        with pytest.raises(KeyboardInterrupt):
            deliver(result, target)
    some = len(there(admin, target))
    assert 0 < some < result.sealed.images
    sync = deliver(result, target)
    assert (sync["skipped"], sync["copied"]) == (some, result.sealed.images - some)
    prove(result, target)


@pytest.fixture
def elsewhere(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch, forget: Callable[[], None]
) -> Iterator[Any]:
    """The administrator of a second server, to which the connection `elsewhere` leads."""
    with seaweed.running(tmp_path_factory.mktemp("elsewhere"), ["exports.example.com"]) as server:
        monkeypatch.setenv("AIRFLOW_CONN_ELSEWHERE", storage.connection(server)["AIRFLOW_CONN_AWS_DEFAULT"])
        yield client(server, server.admin)
        forget()


def test_from_another_endpoint_it_is_streamed(
    admin: Any, elsewhere: Any, root: S3Target, target: S3Target, on_disk: Result
) -> None:
    there_root = S3Target.parse("s3://exports.example.com/exports/")
    for path, data in FACES.items():
        elsewhere.put_object(Bucket=there_root.bucket, Key=there_root.key(path), Body=data)
    exports = [in_s3(FLAT, root), in_s3(TREE, there_root, aws_conn_id="elsewhere")]
    dataset = without_output(on_disk.run.output.parent / "other", target, exports)
    result = run_to_seal(run_of(dataset))
    assert result.sealed.release_id == on_disk.sealed.release_id
    sync = deliver(result, target)
    assert sync["uploaded"] == sum(
        1 for row in on_disk.ledger.to_pylist() if row["export"] != "faces_only" and row["key"]
    )
    assert there(admin, target) == on_disk.output
    prove(result, target)

    elsewhere.put_object(Bucket=there_root.bucket, Key=there_root.key("training_data/ben/5.jpg"), Body=face(74))
    second = run_to_seal(run_of(dataset, "2"))
    elsewhere.put_object(Bucket=there_root.bucket, Key=there_root.key("training_data/ben/5.jpg"), Body=face(75))
    with pytest.raises(UploadFailed, match=r"ben/5.jpg: the object it is copied from has changed"):
        deliver(second, target)


def test_a_bucket_that_the_destinations_credentials_may_not_read_is_streamed(
    admin: Any, server: seaweed.S3Server, tmp_path: Path, target: S3Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    admin.create_bucket(Bucket="others.example.com")
    as_admin = json.loads(storage.connection(server)["AIRFLOW_CONN_AWS_DEFAULT"])
    as_admin |= {"login": server.admin.access_key, "password": server.admin.secret_key}
    monkeypatch.setenv("AIRFLOW_CONN_OTHERS", json.dumps(as_admin))
    others = S3Target.parse("s3://others.example.com/exports/")
    for number in range(2):
        admin.put_object(Bucket=others.bucket, Key=others.key(f"training_data/ann/{number}.jpg"), Body=face(number))
    result = run_to_seal(run_of(without_output(tmp_path, target, [in_s3(TREE, others, aws_conn_id="others")])))
    sync = deliver(result, target)
    assert (sync["uploaded"], sync["copied"]) == (2, 0)
    assert there(admin, target) == {"ann/0.jpg": face(0), "ann/1.jpg": face(1)}


def test_every_key_is_told_and_no_name_is_followed(admin: Any, tmp_path: Path, target: S3Target) -> None:
    """Keys as the server has them and as only other servers have them."""
    keys = {
        "ann/1.jpg": Outcome.KEPT,
        "ann/2.jpg": Outcome.KEPT,
        "ann/": None,
        "ann/more/": Outcome.NOT_REGULAR_FILE,
        "ann/more/3.jpg": Outcome.UNMATCHED_NAME,
        "": None,
        "stray.jpg": Outcome.UNMATCHED_NAME,
        "/lead.jpg": Outcome.UNMATCHED_NAME,
        "lead.jpg": Outcome.UNMATCHED_NAME,
        "ben//1.jpg": Outcome.UNMATCHED_NAME,
        "../up.jpg": Outcome.UNSAFE_NAME,
        "ben/..": Outcome.UNMATCHED_NAME,
        "./here.jpg": Outcome.UNSAFE_NAME,
        "ben/a\\b.jpg": Outcome.UNSAFE_NAME,
        "ben/line\nbreak.jpg": Outcome.UNSAFE_NAME,
        "..\\..\\x/1.jpg": Outcome.UNSAFE_NAME,
        f"{'x' * 300}/1.jpg": Outcome.UNSAFE_NAME,
    }
    images = {f"ann/{number}.jpg": face(number) for number in (1, 2)}

    class Told(S3Source):
        """What another server lists."""

        def listing(self, below: str) -> Iterator[pa.RecordBatch]:
            assert not below
            sizes = [0 if key.endswith("/") or not key else len(images.get(key, b"xx")) for key in keys]
            yield pa.record_batch(
                [list(keys), sizes, [1] * len(keys), ["e"] * len(keys)], names=["key", "size", "mtime_ns", "etag"]
            )

        def holds(self, below: str) -> bool:
            return not below

        def read(self, key: str, etag: str) -> bytes | None:
            return images[key] if etag == "e" else None

    run = make_run(without_output(tmp_path, target, [in_s3(TREE, target.sibling("-x"))]))
    result = run_to_seal(replace(run, sources={"training_data": Told("s3://nowhere/x/")}))
    expected = {f"training_data/{key}".replace("\\", "\\\\"): outcome for key, outcome in keys.items() if outcome}
    assert result.outcomes == expected


def test_parts_in_s3_come_one_by_one(admin: Any, tmp_path: Path, target: S3Target) -> None:
    root = S3Target.parse(target.uri.replace("/set/", "/exports/"))
    weekly = {**TREE, "root": f"{root.uri}weekly/{{partition}}/"}
    dataset = without_output(tmp_path, target, [weekly])
    for part, name, seed in (("2026-03-06", "1", 1), ("2026-05-01", "1", 2), ("2026-05-08", "2", 3)):
        admin.put_object(Bucket=BUCKET, Key=root.key(f"weekly/{part}/ann/{name}.jpg"), Body=face(seed))
    admin.put_object(Bucket=BUCKET, Key=root.key("weekly/notes/x.txt"), Body=b"no part")
    first = replace(run_of(dataset), partitions=("2026-03-06", "2026-05-01", "2026-05-15"))
    assert parts.find_parts(first, dataset.exports[0]) == ["2026-03-06", "2026-05-01", "2026-05-08"]
    preflight.preflight(first)
    scanned = scan.scan(first, "training_data")
    assert (scanned.parts, scanned.images, scanned.absent) == (2, 2, ["2026-05-15"])
    all_of_them = run_to_seal(run_of(dataset, "2"))
    deliver(all_of_them, target)
    assert there(admin, target).keys() == {
        "ann/2026-03-06__1.jpg",
        "ann/2026-05-01__1.jpg",
        "ann/2026-05-08__2.jpg",
    }


def test_a_release_comes_back_from_the_exports_as_long_as_they_hold_it(
    admin: Any, tmp_path: Path, root: S3Target, target: S3Target
) -> None:
    dataset = without_output(tmp_path, target, [in_s3(TREE, root)])
    first = run_to_seal(run_of(dataset))
    deliver(first, target)
    wanted = there(admin, target)
    stricter = run_to_seal(run_of(dataset, "2", min_images=3))
    deliver(stricter, target)
    assert there(admin, target) != wanted
    back = run_to_seal(run_of(dataset, "3", release=first.sealed.release_id))
    assert deliver(back, target)["copied"] > 0
    assert there(admin, target) == wanted

    deliver(run_to_seal(run_of(dataset, "4", min_images=3)), target)
    admin.delete_object(Bucket=BUCKET, Key=root.key("training_data/ben/1.jpg"))
    with pytest.raises(
        UploadFailed, match=r"ben/1.jpg: the object it is copied from has changed since it was read, or"
    ):
        deliver(run_to_seal(run_of(dataset, "5", release=first.sealed.release_id)), target)


def test_an_image_of_an_export_that_is_declared_no_more_is_named(
    admin: Any, tmp_path: Path, root: S3Target, target: S3Target, connection: S3Connection
) -> None:
    result = run_to_seal(run_of(without_output(tmp_path, target, [in_s3(TREE, root)])))
    marker = target.releases.key("latest.json")
    admin.put_object(Bucket=BUCKET, Key=marker, Body=b"{}")
    gone = replace(result, run=run_of(without_output(tmp_path, target, [in_s3(FLAT, root)])))
    with pytest.raises(InvalidObjects, match="objects come from 'training_data', which is none of the origins"):
        deliver(gone, target)
    assert admin.list_objects_v2(Bucket=BUCKET, Prefix=marker)["KeyCount"] == 1


def test_what_needs_an_output_says_so(folder: Path, target: S3Target, root: S3Target) -> None:
    dataset = without_output(folder, target, [in_s3(TREE, root)])
    with pytest.raises(ParamsError, match="param 'skip_upload': without an output there is nothing but the upload"):
        make_run(dataset, skip_upload=True)
    with pytest.raises(ParamsError, match="param 'output': give the folder"):
        make_run(make_dataset(folder), output=None)
