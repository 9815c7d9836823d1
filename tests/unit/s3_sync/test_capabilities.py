"""What the embedded server is found to be able to do, and that asking leaves nothing behind."""

from typing import Any

import pytest

from local.s3.seaweed import S3Server
from s3_sync.bucket import capabilities, probe
from s3_sync.bucket.capabilities import Writes
from s3_sync.bucket.connection import S3Connection, connect
from s3_sync.bucket.probe import NAME, Probe
from s3_sync.bucket.target import S3Target
from s3_sync.preflight import check_destination
from s3_sync.sync import delete
from s3_sync.sync.delete import Way
from tests.unit.s3_sync import proxy
from tests.unit.s3_sync.conftest import airflow_connection


def left(admin: Any, target: S3Target) -> list[tuple[str, str]]:
    beside = target.prefix.removesuffix("/")
    found = admin.list_object_versions(Bucket=target.bucket, Prefix=beside)
    return [(kind, item["Key"]) for kind in ("Versions", "DeleteMarkers") for item in found.get(kind, ())]


@pytest.mark.parametrize("status", ["Suspended", "Enabled"])
@pytest.mark.usefixtures("connection")
def test_seaweedfs_can_do_all_that_safety_rests_on(admin: Any, status: str) -> None:
    """Also in a bucket with versions, of which none is left; suspended, it leaves the markers that a deletion makes."""
    target = S3Target.parse(f"s3://versions.example.com/{status.lower()}/set/")
    admin.put_bucket_versioning(Bucket=target.bucket, VersioningConfiguration={"Status": status})
    found = check_destination(connect(target.bucket).at(target))
    assert found.writes == Writes(creates=True, replaces="quoted")
    assert (found.copies, found.checks, found.keeps, found.listing.whole) == (True, True, True, True)
    assert found.versions == {"Enabled": "on", "Suspended": "suspended"}[status]
    assert found.deletes is Way.BATCH
    assert [key for kind, key in left(admin, target) if (status, kind) != ("Suspended", "DeleteMarkers")] == []


def test_what_a_killed_question_left_is_swept(admin: Any, connection: S3Connection, target: S3Target) -> None:
    beside = target.releases
    for key in (f"{NAME}killed", f"{NAME}other/one", "latest.json"):
        admin.put_object(Bucket=target.bucket, Key=beside.key(key), Body=b"one")
    probe.sweep(connection.at(beside))
    assert left(admin, target) == [("Versions", beside.key("latest.json"))]


def test_questions_that_are_disturbed_are_asked_again(admin: Any, connection: S3Connection, target: S3Target) -> None:
    """As by a sweep of another deployment, in the middle of a round."""
    probe, asked = Probe.of(connection.at(target.releases)), list[str]()
    plain = probe.send

    def disturbed(call: Any, **arguments: Any) -> Any:
        asked.append(arguments["Key"])
        if len(asked) == 2:
            admin.delete_object(Bucket=target.bucket, Key=arguments["Key"])
        return plain(call, **arguments)

    probe.send = disturbed
    assert capabilities.conditional_writes(probe).both
    assert len(set(asked)) == 2


def test_a_server_that_keeps_versions_that_it_has_deleted_is_left_alone(
    admin: Any, connection: S3Connection, target: S3Target, server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = S3Target.parse(f"s3://versions.example.com/{target.prefix}")
    admin.put_bucket_versioning(Bucket=target.bucket, VersioningConfiguration={"Status": "Enabled"})
    kept = proxy.Answer(204, "No Content", (), b"")

    def keeping(request: proxy.Request) -> proxy.Answer | None:
        return kept if request.method == "DELETE" and "versionId=" in request.path else None

    with proxy.running(server) as running:
        running.instead = keeping
        monkeypatch.setenv("AIRFLOW_CONN_KEEPING", airflow_connection(server, running.endpoint))
        keeps = connect(target.bucket, aws_conn_id="keeping")
        assert capabilities.keeps_sums(Probe.of(keeps.at(target.releases)))


def test_deletions_go_one_by_one_or_with_content_md5_where_they_must(
    admin: Any, connection: S3Connection, target: S3Target
) -> None:
    for key in ("a/1.jpg", "a/2.jpg"):
        admin.put_object(Bucket=target.bucket, Key=target.key(key), Body=b"one")
    doomed = [{"Key": target.key("a/1.jpg")}, {"Key": target.key("a/2.jpg")}, {"Key": target.key("never")}]
    for way in (Way.BATCH_WITH_MD5, Way.ONE_BY_ONE):
        assert delete.remove(connection, target.bucket, doomed, way) == ([], way)
    assert left(admin, target) == []
