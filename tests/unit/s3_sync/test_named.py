"""A connection that is named: there and whole, or refused with what to type; nothing else is asked instead."""

import json
from pathlib import Path

import pytest

from local.s3 import storage
from local.s3.seaweed import S3Server
from s3_sync.bucket.connection import connect
from s3_sync.errors import DestinationNotReady
from s3_sync.sources.source import S3Source

ELSEWHERE = {"AWS_ACCESS_KEY_ID": "lying", "AWS_SECRET_ACCESS_KEY": "about"}
KEYS = {"conn_type": "aws", "login": "key", "password": "drawn-secret"}


@pytest.fixture(autouse=True)
def other_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    """What boto3's chain would find."""
    for name, value in ELSEWHERE.items():
        monkeypatch.setenv(name, value)


@pytest.mark.parametrize("name", ["typo", "aws_defualt", "AWS_DEFAULT ", "aws default", ""])
def test_one_that_is_not_there_is_refused_with_what_to_type(name: str) -> None:
    with pytest.raises(DestinationNotReady, match="there is no connection") as refused:
        connect("bucket", aws_conn_id=name)
    assert repr(name) in str(refused.value)
    assert "airflow connections add " in str(refused.value)
    with pytest.raises(DestinationNotReady, match="there is no connection"):
        S3Source("s3://exports/a/", name).holds("")


def test_only_the_default_may_be_absent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AIRFLOW_CONN_AWS_DEFAULT", raising=False)
    for name in ("aws_default", None):
        assert connect("bucket", aws_conn_id=name).bucket == "bucket"


def test_without_any_credentials_it_says_what_to_type(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("AIRFLOW_CONN_AWS_DEFAULT", raising=False)
    for name in ELSEWHERE:
        monkeypatch.delenv(name)
    for name in ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with pytest.raises(DestinationNotReady, match="airflow connections add aws_default --conn-type aws"):
        connect("bucket")


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ('{"conn_type": "aws", "login": ', "AIRFLOW_CONN_{name} says cannot be read; write it as JSON"),
        (json.dumps({**KEYS, "conn_type": "postgres"}), "is of type 'postgres'"),
        (json.dumps({**KEYS, "password": None}), "has no password"),
        (json.dumps({**KEYS, "login": ""}), "has no login"),
        (json.dumps({"conn_type": "aws", "extra": {"aws_access_key_id": "key"}}), "has no aws_secret_access_key"),
        (json.dumps({**KEYS, "extra": "endpoint_url=http://127.0.0.1:1"}), "has an extra that is no JSON object"),
        (json.dumps({**KEYS, "extra": "[1]"}), "has an extra that is no JSON object"),
    ],
)
@pytest.mark.parametrize("name", ["aws_default", "exports_reader"])
def test_one_that_would_count_in_part_is_refused(
    monkeypatch: pytest.MonkeyPatch, name: str, written: str, message: str
) -> None:
    monkeypatch.setenv(f"AIRFLOW_CONN_{name.upper()}", written)
    with pytest.raises(DestinationNotReady, match=f"connection '{name}'.*{message.format(name=name.upper())}") as found:
        connect("bucket", aws_conn_id=name)
    assert "drawn-secret" not in str(found.value)


@pytest.mark.parametrize(
    "whole",
    [
        KEYS,
        {"conn_type": "aws"},
        {"conn_type": "aws", "extra": {"aws_access_key_id": "key", "aws_secret_access_key": "secret"}},
        {"conn_type": "aws", "extra": {"region_name": "eu-central-1"}},
    ],
)
def test_a_whole_one_is_used(monkeypatch: pytest.MonkeyPatch, whole: dict[str, object]) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_EXPORTS_READER", json.dumps(whole))
    assert connect("bucket", aws_conn_id="exports_reader").bucket == "bucket"


def test_the_embedded_servers_is_whole(monkeypatch: pytest.MonkeyPatch, server: S3Server) -> None:
    for name, value in storage.connection(server).items():
        monkeypatch.setenv(name, value)
    assert connect("bucket").endpoint == server.endpoint
