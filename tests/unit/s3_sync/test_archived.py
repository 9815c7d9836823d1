"""What S3 has archived is listed, and cannot be read.

SeaweedFS keeps an object's storage class and lists it, but lets everything be read. Where that matters, and for the
archive tiers of Intelligent-Tiering, a proxy before it answers as S3 does.
"""

import io
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from local.s3 import seaweed
from s3_sync.bucket.connection import S3Connection, connect
from s3_sync.bucket.target import S3Target
from s3_sync.errors import SourceNotReady, UploadFailed, VerifyFailed
from s3_sync.listing import archived, contents
from s3_sync.proof.verify import verify
from s3_sync.sources import ranges
from s3_sync.sources.origins import Origin
from s3_sync.sources.source import S3Source
from s3_sync.sync import expected as expected_objects
from s3_sync.sync import record
from s3_sync.sync.request import SyncRequest
from s3_sync.sync.sync import sync
from tests.unit.s3_sync import proxy
from tests.unit.s3_sync.conftest import BUCKET, FILES, airflow_connection, there

pytestmark = [pytest.mark.usefixtures("connection"), pytest.mark.long]

KEY = "anna/1.jpg"
REFUSED = "<Error><Code>InvalidObjectState</Code><Message>the object's storage class forbids it</Message></Error>"
IN_A_TIER = (("x-amz-storage-class", "INTELLIGENT_TIERING"), ("x-amz-archive-status", "ARCHIVE_ACCESS"))
LONG_AGO = b"<LastModified>2020-01-01T00:00:00.000Z</LastModified>"


def as_s3_has_it(request: proxy.Request, answer: proxy.Answer, key: str = KEY) -> proxy.Answer:
    """What S3 answers once it has archived the object with this key, in a tier that no listing tells of."""
    asked_for = unquote(request.header("x-amz-copy-source") or urlsplit(request.path).path)
    if request.operation == "ListObjectsV2":
        return replace(answer, body=re.sub(rb"<LastModified>.*?</LastModified>", LONG_AGO, answer.body))
    if not asked_for.endswith(key):
        return answer
    if request.operation == "HeadObject":
        return replace(answer, headers=(*answer.headers, *IN_A_TIER))
    if request.operation in {"GetObject", "CopyObject"}:
        return proxy.Answer(403, "Forbidden", (("Content-Type", "application/xml"),), REFUSED.encode())
    return answer


@pytest.fixture
def front(server: seaweed.S3Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[proxy.Proxy]:
    with proxy.running(server) as running:
        monkeypatch.setenv("AIRFLOW_CONN_FRONT", airflow_connection(server, running.endpoint))
        yield running


@pytest.mark.parametrize("storage_class", ["GLACIER", "DEEP_ARCHIVE"])
@pytest.mark.parametrize("recorded", [True, False])
def test_an_archived_object_is_neither_unchanged_nor_proven(
    admin: Any, target: S3Target, source: Path, storage_class: str, recorded: bool
) -> None:
    connection = connect(BUCKET)
    kept = source.parent / "record.parquet" if recorded else None
    sync(connection.at(target), SyncRequest(source=source, record_path=kept))
    where = {"Bucket": BUCKET, "Key": target.key(KEY)}
    admin.put_object(**where, Body=FILES[KEY], StorageClass=storage_class)
    expected = expected_objects.walk(source)
    known = record.read(kept, connection.at(target)) if kept else record.empty()
    with pytest.raises(VerifyFailed, match=r"0 missing, 0 unexpected, 1 differing") as failed:
        verify(connection.at(target), expected, known)
    assert failed.value.differing == [KEY]
    assert sync(connection.at(target), SyncRequest(source=source, record_path=kept, dry_run=True)).uploaded == (
        1 if recorded else 3
    )
    result = sync(connection.at(target), SyncRequest(source=source, record_path=kept))
    assert (result.uploaded, result.skipped) == (1, 2)
    assert admin.head_object(**where).get("StorageClass", "STANDARD") == "STANDARD"
    known = record.read(kept, connection.at(target)) if kept else record.empty()
    assert verify(connection.at(target), expected, known).objects.num_rows == 3


@pytest.mark.parametrize("storage_class", ["GLACIER_IR", "STANDARD_IA", "INTELLIGENT_TIERING"])
def test_what_can_be_read_at_once_is_not_archived(
    admin: Any, connection: S3Connection, target: S3Target, source: Path, storage_class: str
) -> None:
    kept = source.parent / "record.parquet"
    sync(connection.at(target), SyncRequest(source=source, record_path=kept))
    admin.put_object(Bucket=BUCKET, Key=target.key(KEY), Body=FILES[KEY], StorageClass=storage_class)
    assert sync(connection.at(target), SyncRequest(source=source, record_path=kept)).skipped == 3
    verify(connection.at(target), expected_objects.walk(source), record.read(kept, connection.at(target)))


def test_a_tier_that_no_listing_tells_of_is_asked_for(
    admin: Any, front: proxy.Proxy, connection: S3Connection, target: S3Target, source: Path
) -> None:
    kept = source.parent / "record.parquet"
    through = connect(BUCKET, aws_conn_id="front")
    sync(through.at(target), SyncRequest(source=source, record_path=kept))
    for key in ("anna/1.jpg", "anna/2.jpg"):
        tiered = {"StorageClass": "INTELLIGENT_TIERING"}
        admin.put_object(Bucket=BUCKET, Key=target.key(key), Body=FILES[key], **tiered)
    front.rewrite = as_s3_has_it
    front.begin(lambda *_: None)
    listed = {row["key"]: row["etag"] for row in contents.list_raw(through.at(target)).to_pylist()}
    assert [key for key, etag in listed.items() if etag is None] == [KEY]
    assert front.seen["HeadObject"] == 2, "only the two are asked"
    expected = expected_objects.walk(source)
    with pytest.raises(VerifyFailed, match="1 differing"):
        verify(through.at(target), expected, record.read(kept, through.at(target)))
    assert sync(through.at(target), SyncRequest(source=source, record_path=kept)).uploaded == 1
    front.rewrite = lambda _, answer: answer
    verify(connection.at(target), expected, record.read(kept, through.at(target)))


def test_of_an_object_that_may_not_be_asked_nothing_is_proven(
    admin: Any, front: proxy.Proxy, connection: S3Connection, target: S3Target
) -> None:
    def refuses(request: proxy.Request, answer: proxy.Answer) -> proxy.Answer:
        if request.operation == "HeadObject":
            return proxy.Answer(403, "Forbidden", (), b"")
        return as_s3_has_it(request, answer)

    admin.put_object(Bucket=BUCKET, Key=target.key(KEY), Body=b"x", StorageClass="INTELLIGENT_TIERING")
    front.rewrite = refuses
    assert contents.list_raw(connect(BUCKET, aws_conn_id="front").at(target))["etag"].null_count == 1
    assert contents.list_raw(connection.at(target))["etag"].null_count == 0, "it is new, so that nobody need ask"


def test_a_version_that_is_archived_is_not_copied_back(
    admin: Any, connection: S3Connection, source: Path, tmp_path: Path, target: S3Target
) -> None:
    versioned = replace(target, bucket="versions.example.com")
    admin.put_bucket_versioning(Bucket=versioned.bucket, VersioningConfiguration={"Status": "Enabled"})
    to = connect(versioned.bucket)
    admin.put_object(Bucket=versioned.bucket, Key=versioned.key(KEY), Body=FILES[KEY], StorageClass="DEEP_ARCHIVE")
    expected = expected_objects.walk(source)
    etag = admin.head_object(Bucket=versioned.bucket, Key=versioned.key(KEY))["ETag"].strip('"')
    history = tmp_path / "history.parquet"
    known = pa.table({"key": [KEY], "sha256": expected["sha256"].slice(0, 1), "etag": [etag]}).cast(record.SCHEMA)
    pq.write_table(known, history)
    result = sync(to.at(versioned), SyncRequest(source=source, history=history))
    assert (result.restored, result.uploaded) == (0, 3)


class TestSource:
    def test_its_listing_names_no_etag_unless_it_is_restored(
        self, admin: Any, front: proxy.Proxy, target: S3Target
    ) -> None:
        def restored(request: proxy.Request, answer: proxy.Answer) -> proxy.Answer:
            if request.operation != "ListObjectsV2":
                return answer
            assert request.header("x-amz-optional-object-attributes") == "RestoreStatus"
            done = rb"<IsRestoreInProgress>false</IsRestoreInProgress><RestoreExpiryDate>2099-01-01</RestoreExpiryDate>"
            going_on = rb"<IsRestoreInProgress>true</IsRestoreInProgress>"
            body = answer.body
            for key, status in ((b"2.jpg", done), (b"3.jpg", going_on)):
                entry = re.compile(rb"(<Key>[^<]*%s</Key>)" % re.escape(key))
                body = entry.sub(rb"\1<RestoreStatus>" + status + rb"</RestoreStatus>", body)
            return replace(answer, body=body)

        classes = {"1.jpg": "GLACIER", "2.jpg": "GLACIER", "3.jpg": "DEEP_ARCHIVE", "4.jpg": "GLACIER_IR"}
        for key, storage_class in classes.items():
            admin.put_object(Bucket=BUCKET, Key=target.key(key), Body=b"x", StorageClass=storage_class)
        front.rewrite = restored
        for name, readable in (("aws_default", {"4.jpg"}), ("front", {"2.jpg", "4.jpg"})):
            found = pa.Table.from_batches(S3Source(target.uri, name).listing(""), schema=ranges.SCHEMA).to_pylist()
            assert {row["key"] for row in found if row["etag"]} == readable
            assert {row["key"] for row in found} == set(classes)

    def test_what_is_archived_by_the_time_it_is_read_is_told(
        self, admin: Any, front: proxy.Proxy, target: S3Target
    ) -> None:
        source = S3Source(target.uri, "front")
        for key in (KEY, "anna/2.jpg"):
            admin.put_object(Bucket=BUCKET, Key=target.key(key), Body=FILES[key])
        etags = {row["key"]: row["etag"] for row in next(source.listing("")).to_pylist()}
        file = source.open(KEY, etags[KEY], len(FILES[KEY]))
        assert file is not None
        assert file != "archived"
        assert file.read(2) == FILES[KEY][:2]
        front.rewrite = as_s3_has_it
        assert source.read(KEY, etags[KEY]) == source.open(KEY, etags[KEY], len(FILES[KEY])) == "archived"
        assert source.read("anna/2.jpg", etags["anna/2.jpg"]) == FILES["anna/2.jpg"]
        assert isinstance(file, io.BufferedReader)
        file.raw.seek(0)  # what it has in its buffer it need not read again
        with pytest.raises(FileNotFoundError):
            file.raw.read()

    def test_what_may_not_be_read_for_another_reason_is_named(
        self, admin: Any, front: proxy.Proxy, target: S3Target
    ) -> None:
        """It is encrypted with a key of its own, or another account's: the person who fixes it must know which."""
        denied = "<Error><Code>AccessDenied</Code><Message>no</Message></Error>"
        source = S3Source(target.uri, "front")
        admin.put_object(Bucket=BUCKET, Key=target.key(KEY), Body=FILES[KEY])
        etag = next(source.listing(""))["etag"][0].as_py()
        front.rewrite = lambda request, answer: (
            proxy.Answer(403, "Forbidden", (("Content-Type", "application/xml"),), denied.encode())
            if request.operation == "GetObject"
            else answer
        )
        for read in (lambda: source.read(KEY, etag), lambda: source.open(KEY, etag, len(FILES[KEY]))):
            with pytest.raises(SourceNotReady, match=rf"{target.uri}{KEY} cannot be read \(AccessDenied"):
                read()

    @pytest.mark.parametrize("inside", [True, False])
    def test_what_is_archived_by_the_time_it_is_copied_fails_alone(
        self, admin: Any, front: proxy.Proxy, target: S3Target, source: Path, inside: bool
    ) -> None:
        export = S3Target.parse(target.uri.replace("/set/", "/export/"))
        for key, data in FILES.items():
            admin.put_object(Bucket=BUCKET, Key=export.key(key), Body=data)
        listed = pa.Table.from_batches(S3Source(export.uri).listing(""), schema=ranges.SCHEMA)
        rows = expected_objects.walk(source)
        etags = listed["etag"].take(pa.array([listed["key"].to_pylist().index(key) for key in rows["key"].to_pylist()]))
        rows = rows.append_column("export", pa.array(["e"] * 3)).append_column("path", rows["key"])
        front.rewrite = as_s3_has_it
        to = connect(BUCKET, aws_conn_id="front" if inside else "aws_default")
        with pytest.raises(UploadFailed, match=r"anna/1.jpg: S3 has archived it, .*: restore it") as failed:
            sync(
                to.at(target),
                SyncRequest(
                    source=None, objects=rows.append_column("etag", etags), origins={"e": Origin(export.uri, "front")}
                ),
            )
        assert list(failed.value.failures) == [KEY]
        if not inside:  # the server behind the proxy knows of no archive, and has copied it
            assert there(admin, target).keys() == FILES.keys() - {KEY}


def test_a_refusal_is_told_from_others() -> None:
    assert archived.is_refusal(PermissionError(REFUSED))
    assert not archived.is_refusal(PermissionError("<Code>AccessDenied</Code>"))
