"""Every S3 operation that the project uses meets every fault; none makes `latest.json` name what is not there."""

from __future__ import annotations

import os
import random
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import TYPE_CHECKING

import pytest
from botocore.retries.standard import ExponentialBackoff

from s3_sync import connection as connections
from s3_sync import listing, preflight, transfer
from s3_sync.connection import S3Connection, connect
from s3_sync.errors import S3SyncError
from tests.s3_client import client
from tests.unit.s3_sync import proxy
from tests.unit.s3_sync.delivery import Bucket, Delivery
from tests.unit.s3_sync.conftest import airflow_connection

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from local.seaweed import S3Server

BUCKET = "versions.example.com"
PAGE = 4
WORKERS = 6


@pytest.fixture(scope="module", autouse=True)
def small_and_quick() -> Iterator[None]:
    """Small pages, parts and ranges; short waits."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(connections, "REQUEST_TIMEOUT_S", 1.5)
        patch.setattr(connections, "RETRY_TIMEOUT_S", 10)
        patch.setattr(preflight, "READ_TIMEOUT_S", 1.5)
        patch.setattr(listing, "KEYS_A_RANGE", 8)
        patch.setattr(transfer, "MULTIPART_ABOVE", 1 << 20)
        patch.setattr(transfer, "PART", 5 << 20)
        patch.setattr(ExponentialBackoff, "delay_amount", lambda self, context: 0.02)
        yield


@dataclass(frozen=True)
class Lane:
    """A proxy, and a connection through it."""

    proxy: proxy.Proxy
    connection: S3Connection


@dataclass(frozen=True)
class Lanes:
    """Several of them, each used by one thread at a time."""

    bucket: Bucket
    delivery: Delivery
    folder: Path
    free: SimpleQueue[Lane]
    seen: Counter[str]

    @contextmanager
    def lane(self) -> Iterator[Lane]:
        lane = self.free.get()
        try:
            yield lane
        finally:
            self.free.put(lane)


@pytest.fixture(scope="module")
def lanes(server: S3Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lanes]:
    folder = tmp_path_factory.mktemp("lanes")
    free: SimpleQueue[Lane] = SimpleQueue()
    with ExitStack() as stack:
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        for number in range(WORKERS):
            running = stack.enter_context(proxy.running(server))
            patch.setenv(f"AIRFLOW_CONN_LANE{number}", airflow_connection(server, running.endpoint))
            free.put(Lane(running, connect(BUCKET, aws_conn_id=f"lane{number}")))
        patch.setenv("AIRFLOW_CONN_DIRECT", airflow_connection(server, server.endpoint))
        admin = client(server, server.admin)
        admin.put_bucket_versioning(Bucket=BUCKET, VersioningConfiguration={"Status": "Enabled"})
        bucket = Bucket(connect(BUCKET, aws_conn_id="direct"), admin)
        delivery = Delivery.drawn(folder)
        lanes = Lanes(bucket, delivery, folder, free, Counter())
        with lanes.lane() as lane:
            lane.proxy.begin(never, page_size=PAGE)
            target = bucket.with_old()
            delivery.run(lane.connection, target, folder / "record.parquet")
            lanes.seen.update(lane.proxy.seen)
            assert not bucket.wrongs(target, ended_well=True)
        yield lanes


def never(operation: str, number: int) -> None:
    """No fault."""


@dataclass
class Outcome:
    name: str
    error: BaseException | None = None
    wrongs: list[str] = field(default_factory=list)
    seconds: float = 0.0


def delivered(lanes: Lanes, name: str, choose: Callable[[str, int], str | None], **how: bool) -> Outcome:
    """Run one delivery with faults, look what it left, and if it failed run it again without."""
    target = lanes.bucket.with_old()
    outcome = Outcome(name)
    kept = lanes.folder / f"{target.prefix.partition('/')[0]}.parquet"
    with lanes.lane() as lane:
        begun = time.monotonic()
        lane.proxy.begin(choose, page_size=PAGE, **how)
        try:
            lanes.delivery.run(lane.connection, target, kept)
        except Exception as error:  # noqa: BLE001 which errors may come is what is tested
            outcome.error = error
        outcome.seconds = time.monotonic() - begun
        if not how and not lane.proxy.spoilt:
            outcome.wrongs.append("the fault was never met")
        outcome.wrongs += lanes.bucket.wrongs(target, ended_well=outcome.error is None)
        if outcome.error:
            if not isinstance(outcome.error, S3SyncError):
                outcome.wrongs.append(f"no clear error: {outcome.error!r}")
            lane.proxy.begin(never, page_size=PAGE)
            try:
                lanes.delivery.run(lane.connection, target, kept, run="two")
            except Exception as error:
                outcome.wrongs.append(f"run again: {error!r}")
            outcome.wrongs += [f"run again: {wrong}" for wrong in lanes.bucket.wrongs(target, ended_well=True)]
    return outcome


def cells(seen: Counter[str], fault: str) -> list[tuple[str, int]]:
    """Return the operations that can meet ``fault``, with the first, middle and last of their requests."""
    return [
        (operation, number)
        for operation, count in sorted(seen.items())
        if proxy.can_meet(fault, operation)
        for number in sorted({0, count // 2, count - 1})
    ]


def at(operation: str, number: int, fault: str) -> Callable[[str, int], str | None]:
    return lambda op, n: fault if (op, n) == (operation, number) else None


@pytest.mark.parametrize("fault", proxy.FAULTS)
def test_one_fault(lanes: Lanes, fault: str) -> None:
    todo = cells(lanes.seen, fault)
    with ThreadPoolExecutor(WORKERS) as pool:
        jobs = [pool.submit(delivered, lanes, f"{fault} at {op} {n}", at(op, n, fault)) for op, n in todo]
        outcomes = [job.result() for job in jobs]
    for one in outcomes:
        if one.error or one.wrongs:
            print(f"{one.name} [{one.seconds:.1f}s]: {one.error!r:.300} {one.wrongs}")
    print(f"{fault}: {len(outcomes)} cells, {sum(not one.error for one in outcomes)} right at once")
    assert not [(one.name, one.wrongs) for one in outcomes if one.wrongs]
