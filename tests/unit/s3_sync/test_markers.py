"""Empty objects that stand for folders are no data."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s3_sync.bucket.connection import S3Connection
from s3_sync.bucket.target import S3Target
from s3_sync.errors import DeletionRefused, VerifyFailed
from s3_sync.listing import contents
from s3_sync.proof.verify import verify
from s3_sync.sync import expected as expected_objects
from s3_sync.sync import record
from s3_sync.sync.plan import guard, may_delete, plan, rounded_up
from s3_sync.sync.request import SyncRequest
from s3_sync.sync.sync import sync
from tests.unit.s3_sync.conftest import BUCKET, FILES, there
from tests.unit.s3_sync.test_plan import EXPECTED, table

OWN = ["anna/", "b en/"]
OTHERS = ["", "nobody/", "anna/deeper/", "anna_$folder$", "nobody_$folder$", "_$folder$"]


@pytest.fixture
def marked(admin: Any, target: S3Target) -> list[str]:
    """The marks of folders that a prefix holds, and nothing else."""
    for key in (*OWN, *OTHERS):
        admin.put_object(Bucket=BUCKET, Key=target.key(key), Body=b"")
    return [*OWN, *OTHERS]


@pytest.mark.usefixtures("marked")
def test_a_prefix_of_markers_is_an_empty_one(connection: S3Connection, target: S3Target, source: Path) -> None:
    foreseen = sync(connection.at(target), SyncRequest(source=source, max_delete_fraction=0.0, dry_run=True))
    assert (foreseen.listed, foreseen.deleted) == (0, 0)
    assert may_delete(foreseen.deleted, foreseen.listed, 0.0), "so nobody is asked"
    done = sync(connection.at(target), SyncRequest(source=source, max_delete_fraction=0.0))
    assert (done.listed, done.uploaded, done.deleted) == (0, 3, 0)


def lines_of_aws_s3_ls(admin: Any, target: S3Target) -> list[str]:
    answer = admin.list_objects_v2(Bucket=BUCKET, Prefix=target.prefix, Delimiter="/")
    folders = [one["Prefix"].removeprefix(target.prefix) for one in answer.get("CommonPrefixes", ())]
    return folders + [one["Key"].removeprefix(target.prefix) for one in answer.get("Contents", ())]


@pytest.mark.usefixtures("marked")
def test_strays_among_them_go_and_the_datasets_own_stay(
    admin: Any, connection: S3Connection, target: S3Target, source: Path, tmp_path: Path
) -> None:
    kept = tmp_path / "record.parquet"
    sync(connection.at(target), SyncRequest(source=source, record_path=kept))
    assert there(admin, target) == FILES | dict.fromkeys(OWN, b"")
    assert sorted(lines_of_aws_s3_ls(admin, target)) == OWN
    expected, recorded = expected_objects.walk(source), record.read(kept, connection.at(target))
    assert verify(connection.at(target), expected, recorded).objects.num_rows == 3
    again = sync(connection.at(target), SyncRequest(source=source, record_path=kept))
    assert (again.listed, again.uploaded, again.skipped, again.deleted) == (3, 0, 3, 0)


@pytest.mark.long
@pytest.mark.parametrize("stray", OTHERS[1:])
def test_the_proof_finds_a_stray_one(
    admin: Any, connection: S3Connection, target: S3Target, source: Path, stray: str
) -> None:
    sync(connection.at(target), SyncRequest(source=source))
    admin.put_object(Bucket=BUCKET, Key=target.key(stray), Body=b"")
    with pytest.raises(VerifyFailed, match="0 missing, 1 unexpected, 0 differing"):
        verify(connection.at(target), expected_objects.walk(source), record.empty())
    sync(connection.at(target), SyncRequest(source=source, max_delete_fraction=0.0))
    verify(connection.at(target), expected_objects.walk(source), record.empty())


def test_data_of_such_a_name_is_data(admin: Any, connection: S3Connection, target: S3Target, source: Path) -> None:
    admin.put_object(Bucket=BUCKET, Key=target.key("nobody_$folder$"), Body=b"x")
    admin.put_object(Bucket=BUCKET, Key=target.key("empty.jpg"), Body=b"")
    with pytest.raises(DeletionRefused, match="2 of the 2 keys"):
        sync(connection.at(target), SyncRequest(source=source))


def test_without_deletions_they_stay(
    admin: Any, connection: S3Connection, target: S3Target, source: Path, marked: list[str]
) -> None:
    sync(connection.at(target), SyncRequest(source=source, delete=False))
    assert there(admin, target) == FILES | dict.fromkeys(marked, b"")


keys = st.sampled_from(["a/1", "a/b/2", "c", "d/x_$folder$"])
marks = st.sampled_from(["", "a/", "a/b/", "d/", "e/", "a/e/", "a_$folder$", "d/x_$folder$", "a//"])


@given(st.sets(keys, min_size=1), st.sets(keys), st.sets(marks))
def test_markers_count_nowhere(expected: set[str], there: set[str], marked: set[str]) -> None:
    sizes = dict.fromkeys(there, 1) | dict.fromkeys(marked, 0)
    wanted = table(dict.fromkeys(expected, (1, b"0" * 32)), EXPECTED)
    listed = table({key: (size, "e") for key, size in sizes.items()}, contents.SCHEMA)
    made, without = (
        plan(wanted, rows, record.empty())
        for rows in (listed, table(dict.fromkeys(there - marked, (1, "e")), contents.SCHEMA))
    )
    strays = marked - expected
    data = marked & expected
    assert made.listed == without.listed + len(data)
    assert set(made.delete["key"].to_pylist()) == set(without.delete["key"].to_pylist())
    assert set(made.markers["key"].to_pylist()) == {
        key for key in strays if not (key.endswith("/") and any(one.startswith(key) for one in expected))
    }
    guard(made, rounded_up(made.delete.num_rows, max(made.listed, 1)))
