"""Files here, keys there, on every server."""

import base64
import hashlib
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest
from botocore.exceptions import ClientError

from s3_sync.bucket.options import ObjectOptions
from s3_sync.bucket.target import POINTER
from s3_sync.errors import DeletionRefused, LeaseLost, UploadFailed, VerifyFailed
from s3_sync.proof.publish import publish
from s3_sync.sync import expected
from tests.servers import disguises
from tests.servers.matrix import promise
from tests.servers.places import Place
from tests.servers.release import FILES, MANY, Release

LARGE = bytes(range(256)) * (20 << 12)
NAMES = [
    *("a b", "a+b", "a%20b", "a%2Fb", "it's", 'q"q', "a&b;c", "a<b>", ".hidden", "~", "*", "a*b", "a=b", "a?b", "a#b"),
    *("a:b", "a|b", "[x]", "{x}", "^", "`", "$x", "@", "!", "(x)", ",", " lead", "trail ", "..x", "x..", "-", "_"),
    *("\N{LATIN SMALL LETTER E WITH ACUTE}", "e\N{COMBINING ACUTE ACCENT}", "日本語", "\N{GRINNING FACE}"),
    *("\N{LINE SEPARATOR}", "\N{NO-BREAK SPACE}", "x" * 250, "é" * 120, f"{'d' * 250}/{'e' * 250}/{'f' * 250}"),
]  # fmt: skip


@promise
def test_first_sync(at: Place, release: Release) -> None:
    """A first sync brings every file, and the proof finds each by the record"""
    done = release.sync()
    assert (done.uploaded, done.skipped, done.deleted) == (len(FILES), 0, 0)
    assert at.holds(release.target) == FILES
    proof = release.prove()
    assert (proof.by_record, proof.by_checksum) == (len(FILES), 0)


@promise
def test_again(at: Place, release: Release) -> None:
    """A second sync uploads nothing"""
    release.sync()
    again = release.sync()
    assert (again.uploaded, again.skipped, again.deleted) == (0, len(FILES), 0)


@promise
def test_changed(at: Place, release: Release) -> None:
    """A changed file of the same size and time is uploaded, and no other"""
    release.sync()
    release.rewrite("anna/1.jpg", b"1 anna")
    done = release.sync()
    assert (done.uploaded, done.skipped) == (1, len(FILES) - 1)
    assert at.holds(release.target) == FILES | {"anna/1.jpg": b"1 anna"}


@promise
def test_deletions(at: Place, release: Release) -> None:
    """Too many deletions are refused; approved ones are made, and nothing beside the prefix is touched"""
    beside = release.target.prefix.removesuffix("/") + "2/x.jpg"
    at.admin.put_object(Bucket=release.target.bucket, Key=beside, Body=b"not ours")
    release.sync()
    fewer = {key: content for key, content in FILES.items() if not key.startswith("anna/")}
    release.write(fewer)
    with pytest.raises(DeletionRefused, match=r"5 of the 11 keys .* max_delete_fraction"):
        release.sync(approved_deletions=4)
    assert at.holds(release.target) == FILES
    assert release.sync(approved_deletions=5).deleted == 5
    assert at.holds(release.target) == fewer
    assert at.read(release.target.bucket, beside) == b"not ours"


@promise
def test_never_emptied(at: Place, release: Release) -> None:
    """An empty source never empties the prefix"""
    release.sync()
    release.write({})
    release.source.mkdir()
    with pytest.raises(DeletionRefused, match="never empties a prefix"):
        release.sync(max_delete_fraction=1.0)
    assert at.holds(release.target) == FILES


@promise
def test_record_lost(at: Place, release: Release) -> str | None:
    """Without the record the MD5 tells what is unchanged"""
    release.sync()
    release.record.unlink()
    release.rewrite("anna/1.jpg", b"1 anna")
    done = release.sync()
    assert at.holds(release.target) == FILES | {"anna/1.jpg": b"1 anna"}
    assert done.uploaded in {1, len(FILES)}
    return None if done.uploaded == 1 else "another way: all are uploaded again, since an ETag is no MD5"


@promise
def test_read_back(at: Place, release: Release) -> str | None:
    """Without the record the proof goes by the SHA-256 that the server keeps"""
    release.sync()
    release.record.unlink()
    assert release.prove().by_checksum == len(FILES)
    where = {"Bucket": release.target.bucket, "Key": release.target.key("anna/1.jpg")}
    head = release.connection.client.head_object(**where, ChecksumMode="ENABLED")
    at.admin.put_object(**where, Body=b"1 anna")
    with pytest.raises(VerifyFailed, match=r"1 differing"):
        release.prove()
    return None if "ChecksumSHA256" in head else "another way: every object is read and hashed"


@promise
def test_proof(at: Place, release: Release) -> None:
    """A missing, a surplus and a changed key are each found by the proof, and put right by the next sync"""
    release.sync()
    bucket, key = release.target.bucket, release.target.key
    at.admin.delete_object(Bucket=bucket, Key=key("anna/1.jpg"))
    at.admin.put_object(Bucket=bucket, Key=key("anna/surplus.jpg"), Body=b"surplus")
    at.admin.put_object(Bucket=bucket, Key=key("ben/1.jpg"), Body=b"1 ben")
    with pytest.raises(VerifyFailed) as found:
        release.prove()
    assert found.value.groups == {
        "missing": ["anna/1.jpg"],
        "unexpected": ["anna/surplus.jpg"],
        "differing": ["ben/1.jpg"],
    }
    done = release.sync()
    assert (done.uploaded, done.deleted) == (2, 1)
    assert release.prove().objects.num_rows == len(FILES)


@promise
def test_damaged_on_the_way(at: Place, release: Release, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bytes that are damaged on their way are sent again, and never proven"""
    with disguises.running(at.server, disguises.Damages) as line:
        damaged = replace(release, connection=at.connect_by(line, monkeypatch))
        damaged.sync()
        damaged.prove()
    assert at.holds(release.target) == FILES


@promise
def test_false_sum(at: Place, release: Release) -> str | None:
    """Bytes that are not those of their SHA-256 are refused, or found by the proof"""
    release.sync()
    release.record.unlink()
    key = release.target.key("anna/1.jpg")
    right = base64.b64encode(hashlib.sha256(FILES["anna/1.jpg"]).digest()).decode()
    where = {"Bucket": release.target.bucket, "Key": key}
    try:
        release.connection.client.put_object(**where, Body=b"1 anna", ChecksumSHA256=right)
    except ClientError:
        release.prove()
        return None
    with pytest.raises(VerifyFailed, match="1 differing"):
        release.prove()
    return "another way: taken, and found by the proof"


@promise
def test_publish_order(at: Place, release: Release, tmp_path: Path) -> None:
    """latest.json goes before the first change, and comes last of all"""
    releases = release.target.releases
    folder = tmp_path / "a1b2"
    folder.mkdir()
    (folder / "manifest").write_text("what is in it")

    def is_published() -> bool:
        return at.is_there(releases.bucket, releases.key(POINTER))

    release.sync(marker=releases.key(POINTER))
    checks = iter([None, LeaseLost("it is another's by now")])

    def check() -> None:
        if lost := next(checks):
            raise lost

    with pytest.raises(LeaseLost):
        publish(release.connection.at(releases), folder, ["manifest"], {"release": "a1b2"}, check=check)
    assert at.is_there(releases.bucket, releases.key("a1b2/manifest"))
    assert not is_published()
    publish(release.connection.at(releases), folder, ["manifest"], {"release": "a1b2"})
    assert is_published()
    release.sync(marker=releases.key(POINTER))
    assert is_published(), "nothing was changed"

    listed = expected.walk(release.source)
    release.rewrite("anna/1.jpg", b"1 anna")
    with pytest.raises(UploadFailed, match="has changed since"):
        release.sync(marker=releases.key(POINTER), objects=spoilt(listed, "anna/1.jpg"))
    assert not is_published()


def spoilt(expected: pa.Table, key: str) -> pa.Table:
    """Return the table with another SHA-256 of one key: so it must be sent, and its file is not what was listed."""
    rows = [{**row, "sha256": bytes(32)} if row["key"] == key else row for row in expected.to_pylist()]
    return pa.Table.from_pylist(rows, schema=expected.schema)


@promise
def test_odd_keys(at: Place, tmp_path: Path) -> None:
    """Odd names (spaces, +, %, quotes, Unicode composed or not, very long ones) come, are proven and go"""
    files = {f"{name}/1.jpg": name.encode() for name in NAMES} | {f"1/{name}": name.encode() for name in NAMES}
    release = Release.of(at, tmp_path, files)
    assert release.sync().uploaded == len(files)
    release.prove()
    assert at.holds(release.target) == files
    assert release.sync().skipped == len(files)
    release.write({"one": b"left"})
    assert release.sync(max_delete_fraction=1.0).deleted == len(files)
    assert at.holds(release.target) == {"one": b"left"}


@promise
def test_backslash(at: Place, tmp_path: Path) -> None:
    """A backslash in a name is a character like others"""
    release = Release.of(at, tmp_path, {"anna/a\\b.jpg": b"x"})
    release.sync()
    release.prove()
    assert at.holds(release.target) == {"anna/a\\b.jpg": b"x"}


@promise
def test_pages(at: Place, many: Release) -> None:
    """2,500 keys at the destination, in every script, are listed whole, and proven"""
    many.prove()
    assert many.sync().skipped == len(many.keys)


@promise
def test_many_deletions(at: Place, many: Release) -> None:
    """More than 1,000 deletions are made at once, and no other key goes"""
    before = len(many.keys)
    left = {key: MANY[key] for key in sorted(many.keys)[1200:]}
    many.write(left)
    done = many.sync(max_delete_fraction=0.5)
    assert (done.listed, done.uploaded, done.deleted) == (before, 0, 1200)
    assert many.prove().by_record == len(left)


@promise
def test_multipart(at: Place, tmp_path: Path) -> None:
    """A file of 20 MB goes in parts, is proven, and is not sent again"""
    release = Release.of(at, tmp_path, {"weights.bin": LARGE})
    assert release.sync().bytes == len(LARGE)
    assert release.prove().by_record == 1
    assert release.sync().skipped == 1
    release.record.unlink()
    assert release.prove().by_checksum == 1
    assert at.holds(release.target) == {"weights.bin": LARGE}


@promise
def test_unfinished_uploads(at: Place, release: Release) -> None:
    """Uploads in parts that broke off below the prefix are aborted, and no other"""
    bucket, beside = release.target.bucket, release.target.prefix.removesuffix("/") + "2/x.bin"
    for key in (beside, release.target.key("gone/0.bin"), release.target.key("anna/1.jpg")):
        at.admin.create_multipart_upload(Bucket=bucket, Key=key)
    release.sync()
    left = at.admin.list_multipart_uploads(Bucket=bucket, Prefix=release.target.prefix.removesuffix("/"))
    assert [upload["Key"] for upload in left.get("Uploads", ())] == [beside]


@promise
def test_tags_and_types(at: Place, release: Release) -> None:
    """Tags and content types are those asked for"""
    release.sync(options=ObjectOptions(None, {"team": "faces"}, {".jpg": "image/x-test"}))
    where = {"Bucket": release.target.bucket, "Key": release.target.key("anna/1.jpg")}
    assert at.admin.get_object_tagging(**where)["TagSet"] == [{"Key": "team", "Value": "faces"}]
    assert at.admin.head_object(**where)["ContentType"] == "image/x-test"


@promise
def test_storage_class(at: Place, release: Release) -> None:
    """A storage class that is asked for is that of the objects"""
    release.sync(options=ObjectOptions("STANDARD_IA"))
    where = {"Bucket": release.target.bucket, "Key": release.target.key("anna/1.jpg")}
    assert at.admin.head_object(**where)["StorageClass"] == "STANDARD_IA"
