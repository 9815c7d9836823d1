"""A real S3 server, an Airflow connection to it, and a fresh prefix for every test."""

import json
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from local.s3 import seaweed, storage
from s3_sync.bucket.connection import S3Connection, connect
from s3_sync.bucket.target import S3Target
from tests.s3_client import client

BUCKET = "data.example.com"


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[seaweed.S3Server]:
    with seaweed.running(tmp_path_factory.mktemp("s3"), [BUCKET, "versions.example.com"]) as running:
        yield running


@pytest.fixture
def admin(server: seaweed.S3Server) -> Any:
    return client(server, server.admin)


@pytest.fixture
def connection(server: seaweed.S3Server, monkeypatch: pytest.MonkeyPatch) -> S3Connection:
    for name, value in storage.connection(server).items():
        monkeypatch.setenv(name, value)
        wrong = json.loads(value) | {"password": "wrong"}
        monkeypatch.setenv("AIRFLOW_CONN_WRONG", json.dumps(wrong))
    return connect(BUCKET)


def airflow_connection(server: seaweed.S3Server, endpoint: str) -> str:
    """Return what Airflow keeps of a connection to ``server`` by way of ``endpoint``."""
    extra = {"endpoint_url": endpoint, "region_name": "us-east-1"}
    login = {"login": server.user.access_key, "password": server.user.secret_key}
    return json.dumps({"conn_type": "aws", **login, "extra": extra})


@pytest.fixture
def target() -> S3Target:
    return S3Target.parse(f"s3://{BUCKET}/{uuid.uuid4().hex}/set/")


FILES = {"anna/1.jpg": b"one", "anna/2.jpg": b"two", "b en/it's #1 é.png": b"three"}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    for key, data in FILES.items():
        put(folder / key, data)
    return folder


def put(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def there(admin: Any, target: S3Target) -> dict[str, bytes]:
    """Bytes by key of all that lies under the target."""
    found = admin.list_objects_v2(Bucket=target.bucket, Prefix=target.prefix).get("Contents", ())
    return {
        item["Key"].removeprefix(target.prefix): admin.get_object(Bucket=target.bucket, Key=item["Key"])["Body"].read()
        for item in found
    }
