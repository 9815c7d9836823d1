"""What the steps ask of a bucket: the one in memory, by which they are tested, does what the real one does."""

import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from include.faceset.ports import Bundle
from local.s3 import seaweed, storage
from s3_sync.destination import S3Destination
from s3_sync.sync import record as uploads
from s3_sync.sync.request import SyncRequest
from s3_sync.sync.sync import sync
from tests.s3_client import client
from tests.unit.faceset.memory_bucket import MemoryBucket
from tests.unit.faceset.pipeline import put

pytestmark = pytest.mark.long

PLAIN, VERSIONED = "plain.example.com", "versioned.example.com"
ID = r"[0-9a-f]{16}"
ONE, TWO = "1" * 16, "2" * 16

There = Callable[[str], dict[str, bytes]]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[seaweed.S3Server]:
    with seaweed.running(tmp_path_factory.mktemp("s3"), [PLAIN, VERSIONED]) as running:
        admin = client(running, running.admin)
        admin.put_bucket_versioning(Bucket=VERSIONED, VersioningConfiguration={"Status": "Enabled"})
        yield running


def scene(bucket: Any, bring: Callable[[Path], None], there: There, folder: Path) -> list[Any]:
    """All that the steps do with a bucket, in some order; what could be seen of it after each."""
    seen: list[Any] = []
    for key, content in {"ann/1.jpg": b"one", "ann/2.jpg": b"two", "ben/1.jpg": b"three"}.items():
        put(folder / "images" / key, content)
    bring(folder / "images")
    expected = pa.table(
        {
            "key": ["ann/1.jpg", "ann/2.jpg", "ben/1.jpg"],
            "size": pa.array([3, 3, 5], pa.int64()),
            "sha256": pa.array([hashlib.sha256(one).digest() for one in (b"one", b"two", b"three")], pa.binary(32)),
        }
    )
    proven = bucket.prove(expected, folder / "record.parquet")
    seen.append(proven.select(["key", "sha256"]).sort_by("key").to_pylist())
    seen.append(sorted(bucket.listing()["key"].to_pylist()))
    seen += [bucket.pointer(), bucket.records_pointer()]
    for name in (ONE, TWO):
        put(folder / name / "ledger.parquet", f"ledger of {name}".encode())
        put(folder / name / "SUMMARY.md", b"a summary")
        with bucket.hold("a run") as check:
            bucket.publish(folder / name, ["ledger.parquet"], {"release_id": name}, check)
            bucket.put(folder / name / "SUMMARY.md", f"{name}/SUMMARY.md", check)
        put(folder / "records" / name / "train.rec", f"records of {name}".encode())
        sha256 = hashlib.sha256(f"records of {name}".encode()).digest()
        objects = pa.table({"key": ["train.rec"], "size": pa.array([27], pa.int64()), "sha256": [sha256]})
        objects = objects.set_column(2, "sha256", objects["sha256"].cast(pa.binary(32)))
        pointer = {"records": f"{bucket.records_uri}{name}/"}
        with bucket.hold("a run") as check:
            bundle = Bundle(folder / "records" / name, objects, folder / "of-records.parquet", pointer)
            bucket.publish_records(bundle, [name, ONE], check)
    seen += [
        bucket.pointer(),
        bucket.releases(ID),
        {k: v for k, v in bucket.records_pointer().items() if k != "records"},
    ]
    seen.append(_released(there))

    # Somebody is erased: their objects, and what a release said of them before.
    found = bucket.versions_of(["ben"])
    seen += [found.counts, found.folders]
    copies = folder / "copies" / ONE
    copies.mkdir(parents=True)
    bucket.fetch(copies, ["ledger.parquet", "SUMMARY.md", "absent"])
    seen.append(sorted((path.name, path.read_bytes()) for path in copies.iterdir()))
    anew = copies.rename(folder / "copies" / ("3" * 16))
    put(anew / "ledger.parquet", b"without them")
    with bucket.hold("a run") as check:
        replaced, before = bucket.renew(iter([(ONE, anew), (TWO, folder / TWO)]), ID, check)
        seen += [replaced, before.counts]
        bucket.erase(found, check)
        bucket.erase(before, check)
        seen += [bucket.releases(ID), bucket.versions_of(["ben"]).counts]
        seen.append(bucket.erase_records([TWO], check))
        seen.append(sorted(there("set.records/")))
        bucket.delete_release(TWO, check)
        seen.append(bucket.erase_records([], check)["objects"])
    seen += [_released(there), sorted(there("set.records/")), sorted(there("set/"))]
    return seen


def _released(there: There) -> dict[str, bytes]:
    """What lies beside the prefix, but for the lease and the pointer."""
    return {key: content for key, content in there("set.releases/").items() if "/" in key}


@pytest.mark.parametrize("versioned", [False, True])
def test_the_bucket_in_memory_does_what_the_real_one_does(
    server: seaweed.S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, versioned: bool
) -> None:
    memory = MemoryBucket(versioned=versioned)
    in_memory = scene(memory, memory.bring, memory.there, tmp_path / "memory")

    for name, value in storage.connection(server).items():
        monkeypatch.setenv(name, value)
    bucket = VERSIONED if versioned else PLAIN
    # SeaweedFS lets only an administrator delete versions.
    connection = json.loads(storage.connection(server)["AIRFLOW_CONN_AWS_DEFAULT"])
    connection |= {"login": server.admin.access_key, "password": server.admin.secret_key}
    monkeypatch.setenv("AIRFLOW_CONN_AWS_DEFAULT", json.dumps(connection))
    real = S3Destination.reach(f"s3://{bucket}/set/", holder="a test")
    admin = client(server, server.admin)

    def bring(source: Path) -> None:
        with real.hold("a run") as check:
            record = source.parent / "record.parquet"
            sync(real.prefix, SyncRequest(source=source, record_path=record, max_delete_fraction=1.0), check=check)
            assert uploads.read(record, real.prefix).num_rows == 3

    def there(place: str) -> dict[str, bytes]:
        listed = admin.list_objects_v2(Bucket=bucket, Prefix=place).get("Contents", ())
        read = {one["Key"]: admin.get_object(Bucket=bucket, Key=one["Key"])["Body"].read() for one in listed}
        return {key.removeprefix(place): content for key, content in read.items()}

    assert scene(real, bring, there, tmp_path / "real") == in_memory
