"""What a server does not check itself is compared, or read back."""

import hashlib
from pathlib import Path
from typing import Any

import pytest

from s3_sync.bucket.connection import S3Connection
from s3_sync.bucket.retry import Damaged
from s3_sync.bucket.target import S3Target
from s3_sync.errors import UploadFailed
from s3_sync.proof import vouch
from s3_sync.proof.publish import put_bytes
from s3_sync.sync import bring
from s3_sync.sync.request import SyncRequest
from s3_sync.sync.sync import sync

FACE = b"a face"


def sha256(content: bytes) -> bytes:
    return hashlib.sha256(content).digest()


def test_other_bytes_are_noticed_whatever_the_etag_is(admin: Any, connection: S3Connection, target: S3Target) -> None:
    key = target.key("ann/1.jpg")
    etag = admin.put_object(Bucket=target.bucket, Key=key, Body=b"b face")["ETag"]
    for content in (FACE, None):
        with pytest.raises(Damaged, match="what lies there is not what was sent"):
            vouch.vouch(connection, key, etag, sha256(FACE), content)
    for opaque in ("x", None):
        vouch.vouch(connection, key, opaque, sha256(b"b face"), b"b face")


def test_an_etag_that_is_the_md5_says_enough(connection: S3Connection, target: S3Target) -> None:
    """Nothing lies there that could be read."""
    md5 = hashlib.md5(FACE, usedforsecurity=False).hexdigest()
    vouch.vouch(connection, target.key("ann/1.jpg"), f'"{md5}"', sha256(FACE), FACE)


@pytest.fixture
def unchecked(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that was found to check nothing."""
    monkeypatch.setattr(vouch, "checks_bytes", lambda _: False)
    monkeypatch.setattr(bring, "MULTIPART_ABOVE", 1 << 20)
    monkeypatch.setattr(bring, "PART", 5 << 20)


@pytest.mark.long
@pytest.mark.usefixtures("unchecked")
def test_uploads_to_such_a_server_are_vouched_for(
    admin: Any, connection: S3Connection, target: S3Target, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {"ann/1.jpg": FACE, "ann/large.jpg": FACE * (1 << 20)}
    for key, content in files.items():
        (tmp_path / key).parent.mkdir(exist_ok=True)
        (tmp_path / key).write_bytes(content)
    assert sync(connection.at(target), SyncRequest(source=tmp_path)).uploaded == 2
    put_bytes(connection.at(target.releases), b"{}", "latest.json")

    real = bring.vouch
    monkeypatch.setattr(bring, "vouch", lambda on, key, etag, *_: real(on, key, etag, bytes(32)))
    with pytest.raises(UploadFailed, match="what lies there is not what was sent"):
        sync(connection.at(target.below("other")), SyncRequest(source=tmp_path))
