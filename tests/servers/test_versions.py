"""What a bucket keeps of earlier states: brought back, or erased for good."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from s3_sync.bucket.target import S3Target
from s3_sync.erasure import erase
from s3_sync.proof.publish import put_bytes
from tests.servers.matrix import promise
from tests.servers.places import LOCKED, PLAIN, SUSPENDED, VERSIONED, Place
from tests.servers.release import FILES, Release

OTHER = {"anna/1.jpg": b"1 anna", "dora/1.jpg": b"new"}


def rolled_back(at: Place, folder: Path, bucket: str) -> tuple[int, int]:
    """Publish, publish something else, and go back; how many were brought back by the server, how many uploaded."""
    release, history = Release.of(at, folder, FILES, bucket), folder / "history.parquet"
    release.sync()
    pq.write_table(release.prove().objects, history)
    release.write(OTHER)
    release.sync(max_delete_fraction=1.0)
    assert at.holds(release.target) == OTHER
    release.write(FILES)
    back = release.sync(history=history, max_delete_fraction=1.0)
    assert at.holds(release.target) == FILES
    assert release.prove().by_record == len(FILES)
    return back.restored, back.uploaded


@promise
def test_roll_back_by_versions(at: Place, tmp_path: Path) -> str | None:
    """Rolling back in a bucket with versioning copies what S3 still holds"""
    restored, uploaded = rolled_back(at, tmp_path, VERSIONED)
    if restored == 0:
        assert uploaded == len(FILES)
        return "another way: it is uploaded again"
    assert (restored, uploaded) == (len(FILES), 0)
    return None


@promise
def test_roll_back_without_versions(at: Place, tmp_path: Path) -> None:
    """Rolling back without versioning uploads it again"""
    assert rolled_back(at, tmp_path, PLAIN) == (0, len(FILES))


def everything(at: Place, target: S3Target) -> set[tuple[str, bytes | None]]:
    """Each key with the bytes of each of its versions, None for a delete marker."""
    page = at.admin.list_object_versions(Bucket=target.bucket, Prefix=target.prefix)
    found: set[tuple[str, bytes | None]] = set()
    for one in page.get("Versions", ()):
        where = {"Bucket": target.bucket, "Key": one["Key"], "VersionId": one["VersionId"]}
        found.add((one["Key"].removeprefix(target.prefix), at.admin.get_object(**where)["Body"].read()))
    for one in page.get("DeleteMarkers", ()):
        found.add((one["Key"].removeprefix(target.prefix), None))
    return found


def erased(at: Place, bucket: str) -> None:
    """Let people come, change and go, erase one of them, and see that nothing is left of that one alone."""
    connection, target = at.connect(bucket), at.target(bucket)
    keys = ("an na/1.jpg", "an na/2.jpg", "an nab/1.jpg", "an na.jpg", "ben/an na/1.jpg")
    for content in (b"old", b"new"):
        for key in keys:
            put_bytes(connection.at(target), content, key)
    at.admin.delete_object(Bucket=bucket, Key=target.key("an na/1.jpg"))
    before = everything(at, target)
    found = erase.of_folders(connection.at(target), ["an na", "nobody"])
    erase.delete_versions(connection.at(target), found)
    assert everything(at, target) == {(key, content) for key, content in before if not key.startswith("an na/")}
    assert erase.of_folders(connection.at(target), ["an na", "nobody"]).num_rows == 0
    assert erase.counts(found)["objects"] == 1


@promise
def test_erasure_with_versions(at: Place) -> None:
    """A person is erased with every version and delete marker, and nobody else"""
    erased(at, VERSIONED)


@promise
def test_erasure_with_versions_suspended(at: Place) -> None:
    """A person is erased where versioning is suspended"""
    erased(at, SUSPENDED)


@promise
def test_erasure_without_versions(at: Place) -> None:
    """A person is erased where versioning was never on"""
    erased(at, PLAIN)


@promise
def test_object_lock(at: Place, tmp_path: Path) -> None:
    """A bucket with Object Lock is synced and proven; what is locked cannot be erased, which is told without a name"""
    release = Release.of(at, tmp_path, FILES, LOCKED)
    release.sync()
    release.prove()
    until = datetime.now(UTC) + timedelta(days=1)
    where = {"Bucket": LOCKED, "Key": release.target.key("anna/1.jpg")}
    lock = {"ObjectLockMode": "COMPLIANCE", "ObjectLockRetainUntilDate": until}
    at.admin.put_object(**where, Body=b"locked", **lock)
    found = erase.of_folders(release.connection.at(release.target), ["anna"])
    with pytest.raises(erase.EraseFailed, match=r"1 versions under .* could not be deleted.*Object Lock") as failed:
        erase.delete_versions(release.connection.at(release.target), found)
    assert "anna" not in str(failed.value)
