"""The sync as its user sees it: files here, keys there."""

import os
import stat
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from s3_sync.bucket.connection import S3Connection, connect
from s3_sync.bucket.options import ObjectOptions
from s3_sync.bucket.target import S3Target
from s3_sync.errors import (
    DeletionRefused,
    DestinationNotReady,
    InvalidTarget,
    RecordNotWritten,
    UploadFailed,
    VerifyFailed,
)
from s3_sync.listing import contents
from s3_sync.operators import S3SyncOperator
from s3_sync.preflight import check_destination
from s3_sync.proof.verify import verify
from s3_sync.sync import expected as expected_objects
from s3_sync.sync import record
from s3_sync.sync.request import SyncRequest
from s3_sync.sync.sync import sync
from tests.unit.disks import fill_blocks, free
from tests.unit.s3_sync.conftest import FILES, put, there


def test_the_prefix_gets_exactly_the_files(
    admin: Any, connection: S3Connection, target: S3Target, source: Path, tmp_path: Path
) -> None:
    neighbour = target.prefix.removesuffix("/") + "2/x.jpg"
    admin.put_object(Bucket=target.bucket, Key=neighbour, Body=b"not ours")
    kept = tmp_path / "record.parquet"
    first = sync(connection.at(target), SyncRequest(source=source, record_path=kept))
    assert (first.uploaded, first.skipped, first.deleted, first.bytes) == (3, 0, 0, 11)
    assert there(admin, target) == FILES
    head = admin.head_object(Bucket=target.bucket, Key=target.key("anna/1.jpg"), ChecksumMode="ENABLED")
    assert head["ContentType"] == "image/jpeg"
    assert head["ChecksumSHA256"]

    assert stat.S_IMODE(kept.stat().st_mode) == 0o640
    again = sync(connection.at(target), SyncRequest(source=source, record_path=kept))
    assert (again.uploaded, again.skipped, again.deleted) == (0, 3, 0)
    assert admin.get_object(Bucket=target.bucket, Key=neighbour)["Body"].read() == b"not ours"
    proof = verify(connection.at(target), expected_objects.walk(source), record.read(kept, connection.at(target)))
    assert (proof.by_record, proof.by_checksum) == (3, 0)


def test_a_record_for_which_there_is_no_room(
    admin: Any, connection: S3Connection, target: S3Target, source: Path, small_disk: Path
) -> None:
    fill_blocks(small_disk, left=0)
    with pytest.raises(RecordNotWritten, match=r"No space left on device.*: make room on its disk"):
        sync(connection.at(target), SyncRequest(source=source, record_path=small_disk / "kept.parquet"))
    free(small_disk)
    assert list(small_disk.iterdir()) == []
    again = sync(connection.at(target), SyncRequest(source=source, record_path=small_disk / "kept.parquet"))
    assert (again.uploaded, again.skipped) == (0, 3)
    assert there(admin, target) == FILES
    assert record.read(small_disk / "kept.parquet", connection.at(target)).num_rows == 3


def test_a_changed_file_of_the_same_size_and_time_is_uploaded(
    admin: Any, connection: S3Connection, target: S3Target, source: Path, tmp_path: Path
) -> None:
    sync(connection.at(target), SyncRequest(source=source, record_path=tmp_path / "record.parquet"))
    status = (source / "anna/1.jpg").stat()
    put(source / "anna/1.jpg", b"eno")
    os.utime(source / "anna/1.jpg", ns=(status.st_atime_ns, status.st_mtime_ns))
    result = sync(connection.at(target), SyncRequest(source=source, record_path=tmp_path / "record.parquet"))
    assert (result.uploaded, result.skipped) == (1, 2)
    assert there(admin, target)["anna/1.jpg"] == b"eno"


def test_an_object_that_somebody_else_changed_is_put_right(
    admin: Any, connection: S3Connection, target: S3Target, source: Path, tmp_path: Path
) -> None:
    sync(connection.at(target), SyncRequest(source=source, record_path=tmp_path / "record.parquet"))
    admin.put_object(Bucket=target.bucket, Key=target.key("anna/1.jpg"), Body=b"bad")
    expected, recorded = expected_objects.walk(source), record.read(tmp_path / "record.parquet", connection.at(target))
    with pytest.raises(VerifyFailed, match=r"anna/1.jpg"):
        verify(connection.at(target), expected, recorded)
    assert (
        sync(connection.at(target), SyncRequest(source=source, record_path=tmp_path / "record.parquet")).uploaded == 1
    )
    assert there(admin, target) == FILES


def test_without_a_record_the_md5_tells(connection: S3Connection, target: S3Target, source: Path) -> None:
    sync(connection.at(target), SyncRequest(source=source))
    put(source / "anna/1.jpg", b"eno")
    result = sync(connection.at(target), SyncRequest(source=source))
    assert (result.uploaded, result.skipped) == (1, 2)
    proof = verify(connection.at(target), expected_objects.walk(source), record.empty())
    assert proof.by_checksum == 3


def test_strays_go_whatever_their_names(admin: Any, connection: S3Connection, target: S3Target, source: Path) -> None:
    for stray in ("stray.jpg", "anna/", "a//b", "line\nbreak", "anna/old.jpg"):
        admin.put_object(Bucket=target.bucket, Key=target.key(stray), Body=b"")
    data = contents.list_prefix(connection.at(target)).num_rows
    result = sync(connection.at(target), SyncRequest(source=source, max_delete_fraction=1.0))
    assert result.deleted == data == 4
    assert there(admin, target) == FILES | {"anna/": b""}


def test_too_many_deletions_stop_before_anything_is_changed(
    admin: Any, connection: S3Connection, target: S3Target, source: Path
) -> None:
    for number in range(9):
        admin.put_object(Bucket=target.bucket, Key=target.key(f"old/{number}.jpg"), Body=b"x")
    with pytest.raises(DeletionRefused, match=r"9 of the 9 keys .* max_delete_fraction=1"):
        sync(connection.at(target), SyncRequest(source=source))
    with pytest.raises(
        DeletionRefused, match=r"more than max_delete_fraction=0.1 allows, and more than the 8 that were"
    ):
        sync(connection.at(target), SyncRequest(source=source, approved_deletions=8))
    assert len(there(admin, target)) == 9
    assert sync(connection.at(target), SyncRequest(source=source, approved_deletions=9)).deleted == 9


def test_an_empty_source_never_empties_the_prefix(
    admin: Any, connection: S3Connection, target: S3Target, source: Path, tmp_path: Path
) -> None:
    sync(connection.at(target), SyncRequest(source=source))
    (tmp_path / "empty").mkdir()
    with pytest.raises(DeletionRefused, match="never empties a prefix"):
        sync(connection.at(target), SyncRequest(source=tmp_path / "empty", max_delete_fraction=1.0))
    assert there(admin, target) == FILES


def test_a_file_that_is_not_the_listed_one_is_never_uploaded(
    admin: Any, connection: S3Connection, target: S3Target, source: Path
) -> None:
    expected = expected_objects.walk(source)
    put(source / "anna/1.jpg", b"eno")
    with pytest.raises(UploadFailed, match=r"anna/1.jpg"):
        sync(connection.at(target), SyncRequest(source=source, objects=expected))
    assert there(admin, target).keys() == FILES.keys() - {"anna/1.jpg"}


def test_a_dry_run_touches_nothing(
    admin: Any, connection: S3Connection, target: S3Target, source: Path, tmp_path: Path
) -> None:
    result = sync(
        connection.at(target), SyncRequest(source=source, record_path=tmp_path / "record.parquet", dry_run=True)
    )
    assert (result.uploaded, result.dry_run) == (3, True)
    assert there(admin, target) == {}
    assert not (tmp_path / "record.parquet").exists()


def test_the_marker_goes_before_the_first_change_and_stays_without_one(
    admin: Any, connection: S3Connection, target: S3Target, source: Path, tmp_path: Path
) -> None:
    marker = target.releases.key("latest.json")

    def is_there() -> bool:
        return bool(admin.list_objects_v2(Bucket=target.bucket, Prefix=marker).get("KeyCount"))

    admin.put_object(Bucket=target.bucket, Key=marker, Body=b"{}")
    sync(connection.at(target), SyncRequest(source=source, record_path=tmp_path / "r.parquet", marker=marker))
    assert not is_there()
    admin.put_object(Bucket=target.bucket, Key=marker, Body=b"{}")
    sync(connection.at(target), SyncRequest(source=source, record_path=tmp_path / "r.parquet", marker=marker))
    assert is_there()


def test_tags_and_content_types(admin: Any, connection: S3Connection, target: S3Target, source: Path) -> None:
    options = ObjectOptions(None, {"team": "faces"}, {".jpg": "image/x-test"})
    sync(connection.at(target), SyncRequest(source=source, options=options))
    where = {"Bucket": target.bucket, "Key": target.key("anna/1.jpg")}
    assert admin.get_object_tagging(**where)["TagSet"] == [{"Key": "team", "Value": "faces"}]
    assert admin.head_object(**where)["ContentType"] == "image/x-test"


def test_wrong_credentials_and_missing_buckets_are_refused_and_none_is_made(
    admin: Any, connection: S3Connection, target: S3Target, source: Path
) -> None:
    wrong = connect(target.bucket, aws_conn_id="wrong")
    with pytest.raises(DestinationNotReady, match="secret key does not fit"):
        check_destination(wrong.at(target))
    missing = replace(target, bucket="no-such-bucket")
    with pytest.raises(DestinationNotReady, match=r"bucket no-such-bucket"):
        check_destination(connect("no-such-bucket").at(missing))
    with pytest.raises(Exception, match=r"(?i)denied"):
        sync(connect("no-such-bucket").at(missing), SyncRequest(source=source))
    assert "no-such-bucket" not in [bucket["Name"] for bucket in admin.list_buckets()["Buckets"]]


def test_preflight_passes_and_leaves_nothing_behind(admin: Any, connection: S3Connection, target: S3Target) -> None:
    check_destination(connection.at(target))
    left = admin.list_objects_v2(Bucket=target.bucket, Prefix=target.prefix.removesuffix("/"))
    assert left.get("KeyCount", 0) == 0


def test_plain_http_leaves_this_machine_only_if_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(
        "AIRFLOW_CONN_FAR", '{"conn_type":"aws","login":"a","password":"b","extra":{"endpoint_url":"http://192.0.2.1"}}'
    )
    with pytest.raises(DestinationNotReady, match="has no TLS"):
        connect("bucket", aws_conn_id="far")


@pytest.mark.usefixtures("connection")
def test_the_operator_from_rendered_strings(admin: Any, target: S3Target, source: Path, tmp_path: Path) -> None:
    objects = tmp_path / "objects.parquet"
    pq.write_table(expected_objects.walk(source), objects)
    operator = S3SyncOperator(
        task_id="sync",
        source="{{ root }}/source",
        objects=str(objects),
        destination="{{ uri }}",
        max_delete_fraction="{{ 1.0 }}",
        approved_deletions="{{ 0 }}",
        dry_run="{{ False }}",
    )
    operator.render_template_fields({"root": str(tmp_path), "uri": target.uri})
    result = operator.execute({})
    assert result["uploaded"] == 3
    assert there(admin, target) == FILES


@pytest.mark.parametrize(
    "uri", ["bucket/prefix/", "s3://bucket", "s3://bucket/", "s3:///x/", "s3://b/a//b/", "s3://b/../x/"]
)
def test_what_is_no_target_is_refused(uri: str) -> None:
    with pytest.raises(InvalidTarget):
        S3Target.parse(uri)


def test_links_in_the_source_are_an_error(connection: S3Connection, target: S3Target, source: Path) -> None:
    (source / "anna/link.jpg").symlink_to("/etc/passwd")
    with pytest.raises(Exception, match=r"link.jpg"):
        sync(connection.at(target), SyncRequest(source=source))
