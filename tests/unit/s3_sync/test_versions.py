"""Rolling back in a bucket with versioning: what S3 still holds is not uploaded again."""

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from local.s3 import seaweed
from s3_sync.bucket.connection import S3Connection
from s3_sync.bucket.target import S3Target
from s3_sync.proof.verify import verify
from s3_sync.sync import expected as expected_objects
from s3_sync.sync import record
from s3_sync.sync.request import SyncRequest
from s3_sync.sync.sync import sync
from tests.s3_client import client
from tests.unit.s3_sync.conftest import FILES, put, there


@pytest.fixture
def versioned(server: seaweed.S3Server) -> None:
    admin = client(server, server.admin)
    admin.put_bucket_versioning(Bucket="data.example.com", VersioningConfiguration={"Status": "Enabled"})


def write(folder: Path, files: dict[str, bytes]) -> Path:
    for key, data in files.items():
        put(folder / key, data)
    return folder


@pytest.mark.usefixtures("versioned")
def test_old_versions_come_back_without_an_upload(
    admin: Any, connection: S3Connection, target: S3Target, tmp_path: Path
) -> None:
    kept, history = tmp_path / "record.parquet", tmp_path / "history.parquet"
    old = write(tmp_path / "old", FILES)
    sync(connection.at(target), SyncRequest(source=old, record_path=kept))
    proof = verify(
        connection.at(target), expected_objects.load(None, old, target), record.read(kept, connection.at(target))
    )
    pq.write_table(proof.objects, history)
    new = write(tmp_path / "new", {"anna/1.jpg": b"ONE", "cleo/1.jpg": b"four"})
    sync(connection.at(target), SyncRequest(source=new, record_path=kept, max_delete_fraction=1))
    assert there(admin, target) == {"anna/1.jpg": b"ONE", "cleo/1.jpg": b"four"}

    back = sync(
        connection.at(target), SyncRequest(source=old, record_path=kept, history=history, max_delete_fraction=1)
    )
    assert (back.restored, back.uploaded, back.bytes, back.deleted) == (3, 0, 0, 1)
    assert there(admin, target) == FILES
    expected = expected_objects.load(None, old, target)
    assert verify(connection.at(target), expected, record.read(kept, connection.at(target))).by_record == 3


@pytest.mark.usefixtures("versioned")
def test_a_version_of_other_bytes_is_not_taken(
    admin: Any, connection: S3Connection, target: S3Target, tmp_path: Path
) -> None:
    """The history says what the ETag of the right bytes is; another version of the key has another."""
    kept, history = tmp_path / "record.parquet", tmp_path / "history.parquet"
    old = write(tmp_path / "old", {"anna/1.jpg": b"one"})
    sync(connection.at(target), SyncRequest(source=old, record_path=kept))
    pq.write_table(record.read(kept, connection.at(target)), history)
    for version in admin.list_object_versions(Bucket=target.bucket, Prefix=target.prefix)["Versions"]:
        admin.delete_object(Bucket=target.bucket, Key=version["Key"], VersionId=version["VersionId"])
    admin.put_object(Bucket=target.bucket, Key=target.key("anna/1.jpg"), Body=b"TWO")
    admin.put_object(Bucket=target.bucket, Key=target.key("anna/1.jpg"), Body=b"TO")
    back = sync(connection.at(target), SyncRequest(source=old, record_path=kept, history=history))
    assert (back.restored, back.uploaded) == (0, 1)
    assert there(admin, target) == {"anna/1.jpg": b"one"}
