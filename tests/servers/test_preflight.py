"""What is refused before anything is changed, and with which words."""

from dataclasses import replace
from pathlib import Path

import pytest

from local.s3.identities import Credentials
from s3_sync.errors import DestinationNotReady
from s3_sync.preflight import check_destination
from tests.servers.matrix import promise
from tests.servers.places import NEVER_MADE, VERSIONED, Place
from tests.servers.release import FILES, Release


@promise
def test_preflight(at: Place) -> str:
    """Preflight finds out what the server can do, and leaves nothing behind"""
    target = at.target()
    able = check_destination(at.connect().at(target))
    left = at.admin.list_objects_v2(Bucket=target.bucket, Prefix=target.prefix.removesuffix("/"))
    assert not left.get("Contents")
    return f"works: {able}"


@promise
def test_preflight_with_versions(at: Place) -> str:
    """Preflight finds it out in a bucket with versioning too, and leaves no version behind"""
    target = at.target(VERSIONED)
    able = check_destination(at.connect(VERSIONED).at(target))
    left = at.admin.list_object_versions(Bucket=target.bucket, Prefix=target.prefix.removesuffix("/"))
    assert not left.get("Versions")
    assert not left.get("DeleteMarkers")
    return f"works: {able}"


@promise
def test_wrong_credentials(at: Place, monkeypatch: pytest.MonkeyPatch) -> str | None:
    """Wrong credentials are refused in words"""
    if not at.asks_who:
        with pytest.raises(DestinationNotReady, match="is public"):
            check_destination(at.connect().at(at.target()))
        return "another way: it lets everybody in, and is refused for that"
    for wrong, said in (
        (Credentials(at.server.user.access_key, "wrong"), "the secret key does not fit the access key"),
        (Credentials("nobody", "wrong"), "the access key is unknown"),
    ):
        connection = at.connect_by(replace(at.server, user=wrong), monkeypatch)
        with pytest.raises(DestinationNotReady, match=said):
            check_destination(connection.at(at.target()))
    return None


@promise
def test_no_bucket(at: Place) -> None:
    """A bucket that is not there is refused in words, and none is made"""
    with pytest.raises(DestinationNotReady, match=r"absent\.example\.com .*create it.* or correct the destination"):
        check_destination(at.connect(NEVER_MADE).at(at.target(NEVER_MADE)))
    assert NEVER_MADE not in {one["Name"] for one in at.admin.list_buckets()["Buckets"]}


@promise
def test_encryption(at: Place, tmp_path: Path) -> None:
    """Encryption by S3's own keys is as asked for, over plain HTTP too, or is refused before anything is changed"""
    release = Release.of(at, tmp_path, FILES, encryption="AES256")
    if at.asks_who:
        check_destination(release.connection.at(release.target))
    release.sync()
    where = {"Bucket": release.target.bucket, "Key": release.target.key("anna/1.jpg")}
    assert at.admin.head_object(**where)["ServerSideEncryption"] == "AES256"
    assert release.sync().skipped == len(FILES)


@promise
def test_encryption_by_kms(at: Place, tmp_path: Path) -> None:
    """Encryption by a key of KMS is as asked for, or is refused before anything is changed"""
    release = Release.of(at, tmp_path, FILES, encryption="aws:kms")
    check_destination(release.connection.at(release.target))
    release.sync()
    where = {"Bucket": release.target.bucket, "Key": release.target.key("anna/1.jpg")}
    assert at.admin.head_object(**where)["ServerSideEncryption"] == "aws:kms"
