"""The check before a sync: who else could read what it writes, and what is stored how."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from local import seaweed
from s3_sync.connection import S3Connection, connect
from s3_sync.errors import DestinationNotReady, InvalidOption
from s3_sync.preflight import check_destination
from s3_sync.sync import sync
from s3_sync.target import S3Target
from tests.unit.s3_sync import proxy
from tests.unit.s3_sync.conftest import airflow_connection

ACTIONS = {"s3:GetObject": "be read", "s3:ListBucket": "be listed"}


@pytest.mark.parametrize("action", ACTIONS)
def test_a_bucket_that_anybody_may_read_or_list_is_refused(
    admin: Any, connection: S3Connection, target: S3Target, action: str
) -> None:
    bucket = f"arn:aws:s3:::{target.bucket}"
    statement = {"Effect": "Allow", "Principal": "*", "Action": action, "Resource": [bucket, f"{bucket}/*"]}
    admin.put_bucket_policy(
        Bucket=target.bucket, Policy=json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    )
    try:
        with pytest.raises(DestinationNotReady, match=rf"is public: it can {ACTIONS[action]} without credentials"):
            check_destination(connection, target)
    finally:
        admin.delete_bucket_policy(Bucket=target.bucket)
    left = admin.list_objects_v2(Bucket=target.bucket, Prefix=target.prefix.removesuffix("/"))
    assert left.get("KeyCount", 0) == 0


@pytest.mark.usefixtures("connection")
def test_a_stranger_who_gets_no_answer_is_not_taken_for_one_who_was_refused(
    server: seaweed.S3Server, target: S3Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    def choose(operation: str, number: int) -> str | None:
        return "500 InternalError" if (operation, number > 0) == ("ListObjectsV2", True) else None

    with proxy.running(server) as spoiling:
        spoiling.begin(choose)  # all listings but the first, which is ours
        monkeypatch.setenv("AIRFLOW_CONN_SPOILT", airflow_connection(server, spoiling.endpoint))
        with pytest.raises(DestinationNotReady, match=r"cannot be reached \(.*InternalError"):
            check_destination(connect(target.bucket, aws_conn_id="spoilt"), target)
        assert spoiling.seen["DeleteObject probe"] == 1


@pytest.mark.usefixtures("connection")
def test_objects_are_encrypted_as_asked(admin: Any, target: S3Target, tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"face")
    encrypted = connect(target.bucket, encryption="AES256")
    check_destination(encrypted, target)
    sync(encrypted, target, source=tmp_path)
    head = admin.head_object(Bucket=target.bucket, Key=target.key("a.jpg"))
    assert head["ServerSideEncryption"] == "AES256"
    assert sync(encrypted, target, source=tmp_path).skipped == 1


@pytest.mark.parametrize(
    "options", [{"encryption": "rot13"}, {"kms_key_id": "k"}, {"encryption": "AES256", "kms_key_id": "k"}]
)
def test_an_encryption_that_cannot_be_meant_is_refused(options: dict[str, str]) -> None:
    with pytest.raises(InvalidOption):
        connect("bucket", **options)


def test_importing_the_operator_loads_no_s3_client_and_no_arrow() -> None:
    program = (
        "import sys, s3_sync.operators\n"
        "print(*{'boto3', 'obstore', 'pyarrow', 'airflow.providers.amazon.aws.hooks.s3'} & sys.modules.keys())"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
