"""The servers that everything is promised of, and what a test needs of one: buckets, clients, a fresh prefix."""

from __future__ import annotations

import gc
import uuid
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from local.s3 import seaweed, storage
from s3_sync.bucket.connection import S3Connection, connect
from s3_sync.bucket.target import S3Target
from tests.needs import require
from tests.s3_client import client
from tests.servers import ceph, disguises, packaged
from tests.servers.processes import ServerError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

    import pytest

    from local.s3.seaweed import S3Server

PLAIN, VERSIONED, SUSPENDED, LOCKED = (f"{name}.example.com" for name in ("plain", "versioned", "suspended", "locked"))
BUCKETS = (PLAIN, VERSIONED, SUSPENDED, LOCKED)
NEVER_MADE = "absent.example.com"


@dataclass(frozen=True)
class Place:
    """A server under test. ``asks_who``: it lets nobody in who has no credentials, so that a preflight can pass.

    ``server`` is what the project is led to, ``admin`` boto3 at the real one, whatever stands before it.
    """

    name: str
    server: S3Server
    admin: Any
    asks_who: bool

    def connect(self, bucket: str = PLAIN, **options: Any) -> S3Connection:
        return connect(bucket, **options)

    def connect_by(self, server: S3Server, monkeypatch: pytest.MonkeyPatch, bucket: str = PLAIN) -> S3Connection:
        """Return a connection that leads to another endpoint, or comes as somebody else."""
        monkeypatch.setenv("AIRFLOW_CONN_OTHERWISE", storage.connection(server)["AIRFLOW_CONN_AWS_DEFAULT"])
        return connect(bucket, aws_conn_id="otherwise")

    def target(self, bucket: str = PLAIN) -> S3Target:
        """Return a destination that nothing has been in."""
        return S3Target.parse(f"s3://{bucket}/{uuid.uuid4().hex}/set/")

    def holds(self, target: S3Target) -> dict[str, bytes]:
        """Return the bytes of all that lies under ``target``, which is no more than a page."""
        found = self.admin.list_objects_v2(Bucket=target.bucket, Prefix=target.prefix).get("Contents", ())
        return {item["Key"].removeprefix(target.prefix): self.read(target.bucket, item["Key"]) for item in found}

    def read(self, bucket: str, key: str) -> bytes:
        content: bytes = self.admin.get_object(Bucket=bucket, Key=key)["Body"].read()
        return content

    def is_there(self, bucket: str, key: str) -> bool:
        return any(
            item["Key"] == key for item in self.admin.list_objects_v2(Bucket=bucket, Prefix=key).get("Contents", ())
        )


@contextmanager
def _seaweed(folder: Path) -> Iterator[S3Server]:
    # The first bucket is what the start waits for. The other ones are made as on every server.
    with seaweed.running(folder, [PLAIN]) as server:
        yield replace(server, user=server.admin)


REAL: dict[str, Callable[[Path], AbstractContextManager[S3Server]]] = {
    "SeaweedFS": _seaweed,
    "LocalStack": packaged.localstack,
    "moto": packaged.moto,
    "Ceph RGW": ceph.gateway,
}
DISGUISED: dict[str, type[disguises.Disguise]] = {
    "as Swift": disguises.LikeSwift,
    "lies about conditions": disguises.Lies,
    "wants Content-MD5": disguises.WantsMd5,
    "no DeleteObjects": disguises.NoBatches,
    "no trailing checksums": disguises.NoTrailers,
    "forgets checksums": disguises.Forgets,
    "keeps sums unread": disguises.KeepsUnread,
    "goes in circles": disguises.GoesInCircles,
    "doubled Date": disguises.DoublesDates,
    "zoneless Date": disguises.NoZones,
    "policy: conditional writes": disguises.OnlyOnCondition,
    "checksum on every PUT": disguises.Locked,
    "SSE-KMS by default": disguises.WithKms,
    "another region": disguises.Elsewhere,
    "requester pays": disguises.RequesterPays,
}
SERVERS = (*REAL, *DISGUISED)


@contextmanager
def started(name: str, folder: Path) -> Iterator[Place]:
    """Run a real server with its buckets; the test is skipped where it cannot be had."""
    if name == "Ceph RGW":
        require(ceph.missing())
    if name in {"LocalStack", "moto"}:
        try:
            packaged.installed(name.lower())
        except ServerError as error:
            require(str(error))
    with REAL[name](folder) as server:
        admin = client(server, server.admin)
        for bucket in BUCKETS:
            make_bucket(admin, bucket)
        try:
            yield Place(name, server, admin, asks_who=name not in {"LocalStack", "moto"})
        finally:
            admin.close()
            gc.collect()  # a server that is to end waits for the connections of clients that are still there


def make_bucket(admin: Any, bucket: str) -> None:
    there = {one["Name"] for one in admin.list_buckets()["Buckets"]}
    if bucket not in there:
        admin.create_bucket(Bucket=bucket, ObjectLockEnabledForBucket=bucket == LOCKED)
    set_versioning = partial(admin.put_bucket_versioning, Bucket=bucket)
    if bucket in {VERSIONED, SUSPENDED}:
        set_versioning(VersioningConfiguration={"Status": "Enabled"})
    if bucket == SUSPENDED:
        set_versioning(VersioningConfiguration={"Status": "Suspended"})


@contextmanager
def disguised(name: str, real: Place) -> Iterator[Place]:
    """Put a disguise before SeaweedFS."""
    with disguises.running(real.server, DISGUISED[name]) as server:
        yield replace(real, name=name, server=server)
