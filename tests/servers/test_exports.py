"""Exports that lie in S3, from their listing to the proven prefix, on every server."""

import json
from pathlib import Path

import pyarrow as pa
import pytest

from include.faceset.release import release as releases
from local.s3 import storage
from s3_sync import lease
from s3_sync.bucket.target import POINTER, S3Target
from s3_sync.errors import UploadFailed
from s3_sync.proof.publish import publish
from s3_sync.sources import ranges
from s3_sync.sources.source import S3Source
from tests.servers.matrix import promise
from tests.servers.places import Place
from tests.servers.release import Release
from tests.servers.test_sync import NAMES
from tests.unit.faceset.pipeline import FLAT, TREE, face, make_dataset, make_run, put, run_to_seal
from tests.unit.s3_sync.test_exports import deliver, in_s3, prove, run_of, told, without_output

FACES = {
    "faces_only/anna_face.png": face(1, "PNG"),
    "faces_only/ben_face.png": face(2, "PNG"),
    "training_data/anna/1.jpg": face(5),
    "training_data/anna/2.jpg": face(5),
    "training_data/ben/1.jpg": face(7),
    "training_data/ben/it's #1 é.jpg": face(8, mode="L"),
    "training_data/cyd/1.jpg": face(9)[:-40],
    "training_data/emil/1.jpg": face(12),
    "training_data/emil/2.jpg": face(13),
}


@pytest.fixture
def root(at: Place) -> S3Target:
    """A prefix that holds the exports."""
    exports = S3Target.parse(at.target().uri.replace("/set/", "/exports/"))
    for path, content in FACES.items():
        at.admin.put_object(Bucket=exports.bucket, Key=exports.key(path), Body=content)
    return exports


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The same on a disk."""
    for path, content in FACES.items():
        put(tmp_path / "exports" / path, content)
    return tmp_path


def listed(target: S3Target) -> dict[str, str]:
    """ETag by key, each of which is listed once."""
    found = pa.Table.from_batches(S3Source(target.uri).listing(""), schema=ranges.SCHEMA)
    assert len(found) == len(set(found["key"].to_pylist()))
    return dict(zip(found["key"].to_pylist(), found["etag"].to_pylist(), strict=True))


@promise
def test_listing_of_an_export(at: Place) -> None:
    """An export is listed as it is, and read only as long as it is what was listed"""
    target = at.target()
    keys = [f"{name}/1.jpg" for name in NAMES]
    for key in keys:
        at.admin.put_object(Bucket=target.bucket, Key=target.key(key), Body=key.encode())
    etags = listed(target)
    assert etags.keys() == set(keys)
    export = S3Source(target.uri)
    assert set(export.folders("")) == {key.partition("/")[0] for key in keys}
    assert {key: export.read(key, etag) for key, etag in etags.items()} == {key: key.encode() for key in keys}
    at.admin.put_object(Bucket=target.bucket, Key=target.key(keys[0]), Body=b"other")
    assert export.read(keys[0], etags[keys[0]]) is None
    assert export.read("absent/1.jpg", etags[keys[0]]) is None


@promise
def test_requester_pays(at: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """An export whose requester pays is listed and read by a connection that says so"""
    said = json.loads(storage.connection(at.server)["AIRFLOW_CONN_AWS_DEFAULT"])
    said["extra"]["service_config"] = {"s3": {"request_payer": True}}
    monkeypatch.setenv("AIRFLOW_CONN_PAYING", json.dumps(said))
    target = at.target()
    at.admin.put_object(Bucket=target.bucket, Key=target.key("anna/1.jpg"), Body=b"x")
    export = S3Source(target.uri, "paying")
    (page,) = export.listing("")
    assert export.read("anna/1.jpg", page["etag"][0].as_py()) == b"x"


@promise
def test_pages_of_an_export(at: Place, many: Release) -> None:
    """2,500 keys of an export, in every script, are listed whole"""
    assert listed(many.target).keys() == many.keys


@promise
def test_exports_in_s3(at: Place, folder: Path, root: S3Target) -> str | None:
    """Exports in S3 give the ledger, the release and the objects that the same files on a disk give"""
    target = at.target()
    on_disk = run_to_seal(make_run(make_dataset(folder)))
    result = run_to_seal(run_of(without_output(folder, target, [in_s3(FLAT, root), in_s3(TREE, root)])))
    assert (result.sealed.release_id, told(result)) == (on_disk.sealed.release_id, told(on_disk))
    done = deliver(result, target)
    assert at.holds(target) == on_disk.output
    assert prove(result, target).objects.num_rows == len(on_disk.output)
    if done["copied"]:
        assert (done["copied"], done["uploaded"]) == (len(on_disk.output), 0)
        return None
    assert done["uploaded"] == len(on_disk.output)
    return "another way: streamed, and hashed on the way"


@promise
def test_changed_since_it_was_judged(at: Place, tmp_path: Path, root: S3Target) -> None:
    """An object that changed since it was judged is never published"""
    target = at.target()
    dataset = without_output(tmp_path, target, [in_s3(TREE, root)])
    result = run_to_seal(run_of(dataset))
    key = root.key("training_data/ben/1.jpg")
    at.admin.put_object(Bucket=root.bucket, Key=key, Body=face(70))
    with pytest.raises(UploadFailed, match=r"ben/1.jpg: the object it is copied from has changed"):
        deliver(result, target)
    assert "ben/1.jpg" not in at.holds(target)
    again = run_to_seal(run_of(dataset, "2"))
    deliver(again, target)
    prove(again, target)
    assert at.holds(target)["ben/1.jpg"] == face(70)


@promise
def test_merge(at: Place, folder: Path, root: S3Target) -> None:
    """A merge of exports on a disk and in S3, from the scan to latest.json, and a second one with nothing to do"""
    target = at.target()
    beside = target.releases
    dataset = without_output(folder, target, [in_s3(FLAT, root), TREE])
    for number in ("1", "2"):
        result = run_to_seal(run_of(dataset, number))
        done = deliver(result, target)
        assert done["uploaded"] + done["copied"] == (result.sealed.images if number == "1" else 0)
        connection, run_folder = at.connect(), result.run.release(result.sealed.release_id)
        with lease.hold(connection.at(target), owner=f"here/{number}", holder="verify", give_back=True) as check:
            prove(result, target)
            names = [releases.MANIFEST_FILE, releases.LEDGER_FILE]
            publish(connection.at(beside), run_folder, names, {"release_id": result.sealed.release_id}, check=check)
        assert json.loads(at.read(beside.bucket, beside.key(POINTER)))["release_id"] == result.sealed.release_id
    assert len(at.holds(target)) == result.sealed.images
