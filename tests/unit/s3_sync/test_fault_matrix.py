"""Every S3 operation that the project uses meets every fault; none makes `latest.json` name what is not there.

With FAULTS=all (`make faults`) every pair of operation and fault is tried, at the operation's first, middle and last
request; by default a third of these 536 cells.
"""

from __future__ import annotations

import hashlib
import logging
import os
import random
import zlib
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from botocore.retries.standard import ExponentialBackoff

from s3_sync.bucket import connection, retry
from s3_sync.bucket.connection import S3Connection, connect
from s3_sync.bucket.target import POINTER
from s3_sync.errors import S3SyncError
from s3_sync.listing import contents
from s3_sync.preflight import check_destination
from s3_sync.sources import ranges, source
from s3_sync.sources.origins import Origin
from s3_sync.sources.source import S3Source
from s3_sync.sync import bring
from s3_sync.sync.request import SyncRequest
from s3_sync.sync.sync import sync
from tests.s3_client import client
from tests.unit.s3_sync import proxy
from tests.unit.s3_sync.conftest import airflow_connection
from tests.unit.s3_sync.delivery import EXPORT, FOLDERS, Bucket, Delivery

pytestmark = pytest.mark.long

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from local.s3.seaweed import S3Server
    from s3_sync.bucket.target import S3Target

    Choose = Callable[[str, int], str | None]

log = logging.getLogger(__name__)

BUCKET = "versions.example.com"
NO_ANSWER = ("500 InternalError", "503 SlowDown", "reset before", "reset after", "stall", "answer cut off")
ALL = os.environ.get("FAULTS") == "all"
PAGE = 4
LANES = 6
TRIES = 4  # of a task of the DAG that touches the network
# Far more than the retries' own limits add up to, as they are set here: it only keeps a hanging test from hanging.
WATCHDOG_S = 300


@pytest.fixture(scope="module", autouse=True)
def small_and_quick() -> Iterator[None]:
    """Small parts and ranges, short waits."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(connection, "REQUEST_TIMEOUT_S", 2)
        patch.setattr(connection, "RETRY_TIMEOUT_S", 20)
        patch.setattr(connection, "FIRST_BACKOFF_S", 0.01)
        patch.setattr(connection, "MAX_BACKOFF_S", 0.2)
        patch.setattr(retry, "PAUSE_S", 0.005)
        patch.setattr(contents, "KEYS_A_RANGE", 8)
        patch.setattr(bring, "MULTIPART_ABOVE", 1 << 20)
        patch.setattr(bring, "PART", 5 << 20)
        patch.setattr(ExponentialBackoff, "delay_amount", lambda *_: 0.01)
        yield


@dataclass(frozen=True)
class Lane:
    """A proxy, and a connection through it."""

    name: str
    proxy: proxy.Proxy
    connection: S3Connection


@dataclass(frozen=True)
class Lanes:
    """Several of them, each used by one test thread at a time, and how often a run without faults asks for what."""

    bucket: Bucket
    delivery: Delivery
    folder: Path
    free: SimpleQueue[Lane]
    export: S3Target
    of_preflight: Counter[str]
    of_delivery: Counter[str]
    of_taking: Counter[str]
    of_streaming: Counter[str]
    of_records: Counter[str]

    @contextmanager
    def lane(self) -> Iterator[Lane]:
        lane = self.free.get()
        try:
            yield lane
        finally:
            lane.proxy.begin(never)
            self.free.put(lane)


@pytest.fixture(scope="module")
def lanes(server: S3Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lanes]:
    folder = tmp_path_factory.mktemp("lanes")
    admin = client(server, server.admin)
    admin.put_bucket_versioning(Bucket=BUCKET, VersioningConfiguration={"Status": "Enabled"})
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AIRFLOW_CONN_DIRECT", airflow_connection(server, server.endpoint))
        bucket = Bucket(connect(BUCKET, aws_conn_id="direct"), admin)
        with free_lanes(server) as free:
            export = bucket.with_export()
            lanes = Lanes(bucket, Delivery.drawn(folder), folder, free, export, *(Counter() for _ in range(5)))
            count_requests(lanes)
            yield lanes


@contextmanager
def free_lanes(server: S3Server) -> Iterator[SimpleQueue[Lane]]:
    free: SimpleQueue[Lane] = SimpleQueue()
    made: dict[str, S3Connection] = {}
    with ExitStack() as stack:
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        for number in range(LANES):
            running = stack.enter_context(proxy.running(server))
            name = f"lane{number}"
            patch.setenv(f"AIRFLOW_CONN_{name.upper()}", airflow_connection(server, running.endpoint))
            made[name] = with_kept_clients(connect(BUCKET, aws_conn_id=name))
            free.put(Lane(name, running, made[name]))
        patch.setattr(source, "connect", lambda _, aws_conn_id: made[aws_conn_id])
        yield free


def count_requests(lanes: Lanes) -> None:
    """Run once without faults."""
    target = lanes.bucket.with_old()
    with lanes.lane() as lane:
        lane.proxy.begin(never, page_size=PAGE)
        check_destination(lane.connection.at(target))
        lanes.of_preflight.update(lane.proxy.seen)
        lane.proxy.begin(never, page_size=PAGE)
        lanes.delivery.run(lane.connection, target, lanes.folder / "record.parquet")
        lanes.of_delivery.update(lane.proxy.seen)
        lane.proxy.begin(never, page_size=PAGE)
        lanes.delivery.bring_records(lane.connection, lanes.bucket.with_old_records(), lanes.folder / "records.parquet")
        lanes.of_records.update(lane.proxy.seen)
        for seen, streamed in ((lanes.of_taking, False), (lanes.of_streaming, True)):
            lane.proxy.begin(never, page_size=PAGE)
            assert not take(lanes, lane, streamed=streamed)
            seen.update(lane.proxy.seen)
    assert not lanes.bucket.wrongs(target, ended_well=True)


def with_kept_clients(made: S3Connection) -> S3Connection:
    """Return the connection, which makes each kind of client once: that takes longer than all that is tested here."""
    kept: dict[tuple[Any, ...], Any] = {}

    def new_client(config: Any) -> Any:
        kind = (config.signature_version, config.read_timeout, str(config.s3))
        if kind not in kept:
            kept[kind] = made.new_client(config)
        return kept[kind]

    return replace(made, new_client=new_client)


def never(_operation: str, _number: int) -> None:
    """No fault."""


def at(operation: str, number: int, fault: str) -> Choose:
    return lambda other, count: fault if (other, count) == (operation, number) else None


def often(part: float, seed: str) -> Choose:
    """Choose a fault that the operation can meet for a ``part`` of all requests."""

    def choose(operation: str, number: int) -> str | None:
        drawn = random.Random(f"{seed} {operation} {number}")
        possible = [fault for fault in proxy.FAULTS if proxy.can_meet(fault, operation)]
        return drawn.choice(possible) if drawn.random() < part else None

    return choose


@dataclass
class Outcome:
    """What became of a cell."""

    name: str
    error: Exception | None = None
    tries: int = 1
    wrongs: list[str] = field(default_factory=list)


def preflighted(lanes: Lanes, name: str, choose: Choose) -> Outcome:
    """Run preflight with faults: it may refuse, with a clear error, and leaves no more than its probe behind."""
    outcome, target = Outcome(name), lanes.bucket.with_pointer()
    with lanes.lane() as lane:
        lane.proxy.begin(choose, page_size=PAGE)
        try:
            check_destination(lane.connection.at(target))
        except Exception as error:  # noqa: BLE001 which errors come is what is tested
            outcome.error = error
        outcome.wrongs += unclear(outcome.error) + missed(lane)
    left = {"": lanes.bucket.holds(target), ".releases": lanes.bucket.holds(target.releases)}
    if not outcome.error and left != {"": {}, ".releases": {POINTER: b'{"release": "old"}'}}:
        outcome.wrongs.append(f"it left {left}")
    return outcome


def delivered(
    lanes: Lanes,
    name: str,
    choose: Choose,
    *,
    tries: int = 1,
    opaque_etags: bool = False,
    again: Lanes | None = None,
) -> Outcome:
    """Run a delivery with faults, look what it left, and if something is left to do run it ``again`` without any."""
    outcome, target = Outcome(name), lanes.bucket.with_old()
    kept = lanes.folder / f"{target.prefix.partition('/')[0]}.parquet"
    with lanes.lane() as lane:
        lane.proxy.begin(choose, page_size=PAGE, opaque_etags=opaque_etags)
        for outcome.tries in range(1, tries + 1):
            outcome.error = attempt(lanes, lane, target, kept)
            outcome.wrongs += unclear(outcome.error)
            hidden = lane.proxy.spoilt["ListMultipartUploads", "page dropped"] > 0
            outcome.wrongs += lanes.bucket.wrongs(target, ended_well=not outcome.error, uploads_shown=not hidden)
            if not outcome.error:
                break
        if choose is not never:
            outcome.wrongs += missed(lane)
    if outcome.error or hidden:
        with (again or lanes).lane() as lane:
            lane.proxy.begin(never, page_size=PAGE, opaque_etags=opaque_etags)
            if error := attempt(lanes, lane, target, kept):
                outcome.wrongs.append(f"run again: {error!r}")
        outcome.wrongs += [f"run again: {wrong}" for wrong in lanes.bucket.wrongs(target, ended_well=True)]
    return outcome


def brought(lanes: Lanes, name: str, choose: Choose) -> Outcome:
    """Publish records with a fault; if that failed, do so again without any."""
    outcome, target = Outcome(name), lanes.bucket.with_old_records()
    kept = lanes.folder / f"records-{target.prefix.partition('/')[0]}.parquet"
    with lanes.lane() as lane:
        for chosen in (choose, never):
            lane.proxy.begin(chosen, page_size=PAGE)
            error = None
            try:
                lanes.delivery.bring_records(lane.connection, target, kept)
            except Exception as why:  # noqa: BLE001 which errors come is what is tested
                error = why
            outcome.wrongs += unclear(error) + lanes.bucket.wrongs_of_records(target, ended_well=not error)
            if chosen is not never:
                outcome.error = error
                outcome.wrongs += missed(lane)
        outcome.wrongs += [f"run again: {error!r}"] if error else []
    return outcome


def taken(lanes: Lanes, name: str, choose: Choose, *, tries: int = 1, streamed: bool = False) -> Outcome:
    """Read an export with faults, and sync from it; if that failed, do so again without any."""
    outcome = Outcome(name)
    with lanes.lane() as lane:
        lane.proxy.begin(choose, page_size=PAGE)
        for outcome.tries in range(1, tries + 1):
            outcome.error = None
            try:
                outcome.wrongs += take(lanes, lane, streamed=streamed)
                break
            except Exception as error:  # noqa: BLE001 which errors come is what is tested
                outcome.error = error
                outcome.wrongs += unclear(error)
        outcome.wrongs += missed(lane)
        lane.proxy.begin(never, page_size=PAGE)
        outcome.wrongs += take(lanes, lane, streamed=streamed) if outcome.error else []
    return outcome


def take(lanes: Lanes, lane: Lane, *, streamed: bool) -> list[str]:
    """Do what the tasks do with an export in S3; what they got wrong.

    Without TLS nothing tells that a key or an ETag in a listing was damaged: such an object counts as changed.
    The destination has the export's own endpoint, and its server copies, or (``streamed``) another one.
    """
    export = S3Source(lanes.export.uri, lane.name)
    listed = pa.Table.from_batches(export.listing(""), schema=ranges.SCHEMA)
    read = {row["key"]: export.read(row["key"], row["etag"]) for row in listed.to_pylist()}
    contents = {key: content for key, content in read.items() if content is not None}
    wrong = [] if contents.items() <= EXPORT.items() else ["what it read is not what is there"]
    if listed.num_rows != len(EXPORT):
        wrong.append(f"of {len(EXPORT)} objects it saw {listed.num_rows}")
    if len(folders := export.folders("")) != len(FOLDERS):
        wrong.append(f"of folders it saw {folders}")
    if not export.holds("ann/") or export.holds("nobody/"):
        wrong.append("it took a prefix that holds something for an empty one, or the other way round")
    rows = listed.filter(pc.is_in(listed["key"], pa.array(contents)))
    digests = [hashlib.sha256(contents[key]).digest() for key in rows["key"].to_pylist()]
    sizes = [len(contents[key]) for key in rows["key"].to_pylist()]
    keys, etags, exports = rows["key"], rows["etag"], ["faces"] * rows.num_rows
    columns = [keys, pa.array(sizes, pa.int64()), pa.array(digests, pa.binary(32)), exports, keys, etags]
    target = lanes.bucket.with_pointer()
    sync(
        (lanes.bucket.direct if streamed else lane.connection).at(target),
        SyncRequest(
            source=None,
            objects=pa.table(columns, names=["key", "size", "sha256", "export", "path", "etag"]),
            origins={"faces": Origin(lanes.export.uri, lane.name)},
            max_concurrency=4,
        ),
    )
    return wrong + ([] if lanes.bucket.holds(target) == contents else ["what it copied is not what it read"])


def attempt(lanes: Lanes, lane: Lane, target: S3Target, kept: Path) -> Exception | None:
    try:
        lanes.delivery.run(lane.connection, target, kept)
    except Exception as error:  # noqa: BLE001 which errors come is what is tested
        return error
    return None


def unclear(error: Exception | None) -> list[str]:
    return [] if error is None or isinstance(error, S3SyncError) else [f"no clear error: {error!r}"]


def missed(lane: Lane) -> list[str]:
    return [] if lane.proxy.spoilt else ["the fault was never met"]


def cells(seen: Counter[str], fault: str) -> list[tuple[str, int]]:
    """Return the operations that can meet ``fault``, with the first, middle and last of their requests.

    Without ALL it is one of these, and of the faults that leave a request without any answer half.
    """
    found = []
    for operation, count in sorted(seen.items()):
        if proxy.can_meet(fault, operation):
            places = sorted({0, count // 2, count - 1})
            drawn = zlib.crc32(f"{operation} {fault}".encode())
            some = [] if fault in NO_ANSWER and drawn % 2 else [places[drawn // 2 % len(places)]]
            found += [(operation, number) for number in (places if ALL else some)]
    return found


def at_once(jobs: list[Callable[[], Outcome]]) -> list[Outcome]:
    with ThreadPoolExecutor(LANES) as pool:
        return [job.result(WATCHDOG_S) for job in [pool.submit(job) for job in jobs]]


def check(outcomes: list[Outcome]) -> None:
    """Fail with all that is wrong; tell what was right at once (`pytest -rP` shows it)."""
    right = sum(not one.error for one in outcomes)
    log.info("%d cells, %d right at once", len(outcomes), right)
    for one in outcomes:
        if one.error:
            log.info("%s: %s", one.name, one.error)
    assert outcomes
    assert not [(one.name, one.wrongs) for one in outcomes if one.wrongs]


def at_each(seen: Counter[str], faults: Iterable[str], meet: Callable[[str, Choose], Outcome]) -> None:
    """Check what becomes of each operation that was ``seen`` when it meets each of the faults."""
    check(
        at_once(
            [
                lambda op=op, n=n, fault=fault: meet(f"{fault} at {op} {n}", at(op, n, fault))
                for fault in faults
                for op, n in cells(seen, fault)
            ]
        )
    )


@pytest.mark.parametrize("fault", proxy.FAULTS)
def test_a_fault_at_each_operation_of_a_delivery(lanes: Lanes, fault: str) -> None:
    at_each(lanes.of_delivery, [fault], partial(delivered, lanes))


def test_each_fault_at_each_operation_of_preflight(lanes: Lanes) -> None:
    at_each(lanes.of_preflight, proxy.FAULTS, partial(preflighted, lanes))


def test_each_fault_at_each_operation_of_publishing_records(lanes: Lanes) -> None:
    at_each(lanes.of_records, proxy.FAULTS, partial(brought, lanes))


@pytest.mark.parametrize("streamed", [False, True])
def test_each_fault_at_each_operation_on_an_export(lanes: Lanes, *, streamed: bool) -> None:
    seen = lanes.of_streaming if streamed else lanes.of_taking
    at_each(seen, proxy.FAULTS, partial(taken, lanes, streamed=streamed))


@pytest.mark.parametrize(
    ("fault", "operation", "error"),
    [
        ("page dropped", "ListObjectsV2", "VerifyFailed"),
        ("byte of the request", "PutObject", "UploadFailed"),
        ("200 with an error", "PutObject latest.json", "UploadFailed"),
        ("200 with an error", "ListObjectsV2", "DestinationNotReady"),
        ("byte of the answer", "GetObject", "NoAnswer"),
        ("key refused", "DeleteObjects", "DeleteFailed"),
    ],
)
def test_a_fault_that_stays_ends_with_an_error_that_names_it(
    lanes: Lanes, fault: str, operation: str, error: str
) -> None:
    """Of listings, every one but the first page: what a page hides is never taken for proven, nor for deleted."""
    first = 1 if operation == "ListObjectsV2" else 0
    choose = lambda other, number: fault if other == operation and number >= first else None  # noqa: E731
    outcome = delivered(lanes, f"{fault} at each {operation}", choose)
    check([outcome])
    assert type(outcome.error).__name__ == error


def test_where_etags_are_no_md5_as_with_kms(lanes: Lanes) -> None:
    outcomes = [delivered(lanes, "opaque", never, opaque_etags=True)]
    outcomes += at_once([lambda: delivered(lanes, "opaque", often(0.1, "opaque"), tries=TRIES, opaque_etags=True)])
    check(outcomes)
    assert not any(one.error for one in outcomes)


def test_three_requests_of_ten_fail_and_the_run_ends_right(lanes: Lanes) -> None:
    outcomes = at_once(
        [
            lambda seed=seed: delivered(lanes, f"seed {seed}", often(0.3, str(seed)), tries=TRIES)
            for seed in range(100 if ALL else 3)
        ]
    )
    log.info("tries: %s", sorted(Counter(one.tries for one in outcomes).items()))
    check(outcomes)
    assert not any(one.error for one in outcomes)


def test_three_requests_of_ten_on_an_export_fail_and_it_ends_right(lanes: Lanes) -> None:
    outcomes = at_once(
        [
            lambda seed=seed: taken(lanes, f"seed {seed}", often(0.3, str(seed)), tries=TRIES, streamed=seed % 2 > 0)
            for seed in range(30 if ALL else 2)
        ]
    )
    log.info("tries: %s", sorted(Counter(one.tries for one in outcomes).items()))
    check(outcomes)
    assert not any(one.error for one in outcomes)


def test_eight_of_ten_fail_and_nothing_is_published(
    lanes: Lanes, server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "REQUEST_TIMEOUT_S", 0.3)  # so many of them stall
    with free_lanes(server) as free:
        hasty = replace(lanes, free=free)
        outcomes = at_once(
            [
                lambda seed=seed: delivered(hasty, f"seed {seed}", often(0.8, str(seed)), again=lanes)
                for seed in range(30 if ALL else 2)
            ]
        )
    check(outcomes)
    assert all(one.error for one in outcomes)
