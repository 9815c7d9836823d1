"""Erasing for good, in a bucket with versioning and in one without."""

import uuid
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from local.s3 import seaweed, storage
from s3_sync.bucket.connection import S3Connection, connect
from s3_sync.bucket.target import S3Target
from s3_sync.erasure import erase
from s3_sync.erasure.erase import EraseFailed
from s3_sync.proof.publish import put_bytes
from s3_sync.sync.delete import delete_prefix
from tests.unit.s3_sync.conftest import BUCKET

FOLDER = "[0-9a-f]{4}"


PLAIN = "plain.example.com"


@pytest.fixture(params=["Enabled", "Suspended", None])
def any_bucket(
    admin: Any, server: seaweed.S3Server, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> tuple[S3Connection, S3Target]:
    """A fresh prefix in a bucket that keeps versions, kept them once, or never did; with the administrator's rights."""
    bucket = BUCKET if request.param else PLAIN
    if request.param:
        admin.put_bucket_versioning(Bucket=BUCKET, VersioningConfiguration={"Status": request.param})
    elif PLAIN not in {one["Name"] for one in admin.list_buckets()["Buckets"]}:
        admin.create_bucket(Bucket=PLAIN)
    return as_admin(server, monkeypatch, bucket), S3Target.parse(f"s3://{bucket}/{uuid.uuid4().hex}/set/")


def as_admin(server: seaweed.S3Server, monkeypatch: pytest.MonkeyPatch, bucket: str) -> S3Connection:
    for name, value in storage.connection(replace(server, user=server.admin)).items():
        monkeypatch.setenv(name, value)
    return connect(bucket)


def everything(admin: Any, target: S3Target) -> dict[str, set[bytes]]:
    """All bytes that are to be had under a prefix, by key, over all versions; nothing of a delete marker."""
    found: dict[str, set[bytes]] = {}
    for page in admin.get_paginator("list_object_versions").paginate(Bucket=target.bucket, Prefix=target.prefix):
        for one in page.get("DeleteMarkers", ()):
            found.setdefault(one["Key"].removeprefix(target.prefix), set())
        for one in page.get("Versions", ()):
            where = {"Bucket": target.bucket, "Key": one["Key"], "VersionId": one["VersionId"]}
            body = admin.get_object(**where)["Body"].read()
            found.setdefault(one["Key"].removeprefix(target.prefix), set()).add(body)
    return found


@pytest.mark.parametrize("one_by_one", [True, False])
def test_all_versions_and_markers_of_a_folder_go_and_no_other(
    admin: Any, any_bucket: tuple[S3Connection, S3Target], monkeypatch: pytest.MonkeyPatch, *, one_by_one: bool
) -> None:
    connection, target = any_bucket
    monkeypatch.setattr(erase, "FOLDERS_ONE_BY_ONE", 200 if one_by_one else 0)
    for body in (b"old", b"new"):
        for key in ("an na/1.jpg", "an na/2.jpg", "an nab/1.jpg", "an na.jpg", "ben/an na/1.jpg"):
            put_bytes(connection.at(target), body, key)
    admin.delete_object(Bucket=target.bucket, Key=target.key("an na/1.jpg"))
    before = everything(admin, target)
    found = erase.of_folders(connection.at(target), ["an na", "nobody"])
    erase.delete_versions(connection.at(target), found)
    assert everything(admin, target) == {key: held for key, held in before.items() if not key.startswith("an na/")}
    assert erase.of_folders(connection.at(target), ["an na", "nobody"]).num_rows == 0
    counts = erase.counts(found)
    assert counts["objects"] == 1
    assert sum(counts.values()) == found.num_rows


def test_folders_that_were_made_anew_leave_nothing_of_what_they_were(
    admin: Any, any_bucket: tuple[S3Connection, S3Target], tmp_path: Path
) -> None:
    """1111 changes in its place, 2222 is called 3333 now, 4444 goes, 5555 was deleted before, 6666 is as it was."""
    connection, target = any_bucket
    for name in ("1111", "2222", "4444", "5555", "6666"):
        put_bytes(connection.at(target), f"canary {name}".encode(), f"{name}/ledger")
        put_bytes(connection.at(target), b"same", f"{name}/other")
    delete_prefix(connection.at(target.below("5555")))
    for key in ("latest.json", "kept/ledger"):
        put_bytes(connection.at(target), b"before", key)
        put_bytes(connection.at(target), b"beside", key)
    beside = {key: held for key, held in everything(admin, target).items() if key in {"latest.json", "kept/ledger"}}
    for name in ("1111", "3333", "6666"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "ledger").write_text("blank" if name != "6666" else "canary 6666")
        (tmp_path / name / "other").write_text("same")
    is_now = {"1111": "1111", "2222": "3333", "4444": None, "6666": "6666"}

    def renew() -> tuple[int, int]:
        there = erase.folders(erase.list_all(connection.at(target)), FOLDER)
        anew = ((name, tmp_path / now if (now := is_now.get(name, name)) else None) for name in there)
        replaced, before = erase.renew(connection.at(target), anew, FOLDER)
        erase.delete_versions(connection.at(target), before)
        return replaced, before.num_rows

    assert erase.folders(erase.list_all(connection.at(target)), FOLDER) == sorted(is_now)
    replaced, _ = renew()
    assert replaced == 3
    assert everything(admin, target) == beside | {
        "1111/ledger": {b"blank"},
        "1111/other": {b"same"},
        "3333/ledger": {b"blank"},
        "3333/other": {b"same"},
        "6666/ledger": {b"canary 6666"},
        "6666/other": {b"same"},
    }
    assert renew() == (0, 0)


def test_a_file_that_was_sent_in_parts_is_known_by_its_bytes(
    connection: S3Connection, target: S3Target, tmp_path: Path
) -> None:
    (tmp_path / "1111").mkdir()
    (tmp_path / "1111/ledger").write_bytes(bytes(12 << 20))
    put_bytes(connection.at(target), bytes(12 << 20), "1111/ledger")
    assert erase.renew(connection.at(target), [("1111", tmp_path / "1111")], FOLDER)[0] == 0
    (tmp_path / "1111/ledger").write_bytes(bytes((12 << 20) - 1) + b"1")
    assert erase.renew(connection.at(target), [("1111", tmp_path / "1111")], FOLDER)[0] == 1


def test_only_the_files_asked_for_are_fetched(connection: S3Connection, target: S3Target, tmp_path: Path) -> None:
    for name in ("ledger", "stray"):
        put_bytes(connection.at(target), name.encode(), f"1111/{name}")
    (tmp_path / "1111").mkdir()
    erase.fetch(connection.at(target), tmp_path / "1111", ["ledger", "absent"])
    assert {path.name: path.read_text() for path in (tmp_path / "1111").iterdir()} == {"ledger": "ledger"}


def test_who_may_not_list_versions_is_told_what_is_needed(connection: S3Connection, target: S3Target) -> None:
    with pytest.raises(EraseFailed, match=r"s3:ListBucketVersions"):
        erase.list_all(connect(BUCKET, aws_conn_id="wrong").at(target))


def test_what_an_object_lock_holds_is_told_without_a_name(
    admin: Any, server: seaweed.S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = S3Target("locked.example.com", "set/")
    admin.create_bucket(Bucket=target.bucket, ObjectLockEnabledForBucket=True)
    until = datetime.now(UTC) + timedelta(days=1)
    for number in range(3):
        lock = {"ObjectLockMode": "COMPLIANCE", "ObjectLockRetainUntilDate": until} if number else {}
        admin.put_object(Bucket=target.bucket, Key=target.key(f"canary/{number}.jpg"), Body=b"x", **lock)
    connection = as_admin(server, monkeypatch, target.bucket)
    with pytest.raises(EraseFailed, match=r"2 versions under .* could not be deleted.*Object Lock") as failed:
        erase.delete_versions(connection.at(target), erase.list_all(connection.at(target)))
    assert "canary" not in str(failed.value)
    assert erase.list_all(connection.at(target))["key"].to_pylist() == ["canary/1.jpg", "canary/2.jpg"]
