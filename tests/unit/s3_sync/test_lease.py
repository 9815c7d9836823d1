"""Two deployments, one destination: one of them changes it, the other hears who does."""

import json
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from s3_sync import lease
from s3_sync.bucket.capabilities import Writes
from s3_sync.bucket.connection import S3Connection
from s3_sync.bucket.target import LEASE, S3Target
from s3_sync.errors import LeaseHeld, LeaseLost, UploadFailed
from s3_sync.lease import hold
from s3_sync.listing import contents
from s3_sync.sync import expected
from s3_sync.sync.request import SyncRequest
from s3_sync.sync.sync import sync

ROOT = Path(__file__).parents[3]
BOTH = Writes(creates=True, replaces="quoted")


def put(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


def test_the_second_hears_who_holds_it_until_it_is_given_back(connection: S3Connection, target: S3Target) -> None:
    with hold(connection.at(target), owner="a", holder="run one on host h", give_back=False):
        pass  # as after a sync: what was uploaded is not proven yet
    with (
        pytest.raises(LeaseHeld, match=r"is being changed by run one on host h.* its lease runs out in \d+ s"),
        hold(connection.at(target), owner="b", holder="run two", give_back=True),
    ):
        pytest.fail("held twice")
    with hold(connection.at(target), owner="a", holder="run one on host h", give_back=True):
        pass
    with hold(connection.at(target), owner="b", holder="run two", give_back=True):
        pass


def test_the_next_run_of_a_deployment_takes_it_from_the_one_before(connection: S3Connection, target: S3Target) -> None:
    def overtaken() -> None:
        with hold(connection.at(target), owner="a/1", holder="run one", give_back=True) as check:
            with hold(connection.at(target), owner="a/2", holder="run two", give_back=False):
                pass
            time.sleep(1)
            check()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lease, "RENEW_EVERY_S", 0.3)
        with pytest.raises(LeaseLost, match="run two took it"):
            overtaken()
    with pytest.raises(LeaseHeld, match="run two"):
        lease._Lease(connection.at(target), lease.Claim("b/1", "another"), BOTH).take()


def test_whoever_fails_gives_it_back(connection: S3Connection, target: S3Target) -> None:
    def failing() -> None:
        with hold(connection.at(target), owner="a/1", holder="run one", give_back=False):
            raise ValueError("no such thing")

    with pytest.raises(ValueError, match="no such thing"):
        failing()
    with hold(connection.at(target), owner="b/1", holder="another", give_back=True):
        pass


def test_of_many_at_once_one_holds_it(connection: S3Connection, target: S3Target) -> None:
    at_once, over = threading.Barrier(12), threading.Event()

    def attempt(number: int) -> bool:
        at_once.wait()
        with suppress(LeaseHeld), hold(connection.at(target), owner=str(number), holder="somebody", give_back=True):
            over.wait(20)
            return True
        return False

    with ThreadPoolExecutor(12) as pool:
        tried = [pool.submit(attempt, number) for number in range(12)]
        while sum(one.done() for one in tried) < 11:
            time.sleep(0.05)
        over.set()
        assert sum(one.result() for one in tried) == 1


@pytest.mark.long
def test_a_lease_that_ran_out_is_anothers_and_its_old_holder_stops(
    connection: S3Connection, target: S3Target, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease, "TTL_S", 2.0)
    monkeypatch.setattr(lease, "RENEW_EVERY_S", 3600.0)  # as if it slept
    source = put(tmp_path, {"ann/1.jpg": "ann"})

    def overslept() -> None:
        with hold(connection.at(target), owner="a", holder="one", give_back=True) as check:
            time.sleep(4)
            with hold(connection.at(target), owner="b", holder="two", give_back=False):
                pass
            with pytest.raises(UploadFailed, match=r"the lease of .* is lost"):
                sync(connection.at(target), SyncRequest(source=source), check=check)
            assert contents.list_raw(connection.at(target)).num_rows == 0

    with pytest.raises(LeaseLost):
        overslept()
    with pytest.raises(LeaseHeld, match="two"):
        lease._Lease(connection.at(target), lease.Claim("a", "one"), BOTH).take()


@pytest.mark.long
def test_a_lease_is_renewed_while_it_is_held_and_its_loss_is_noticed(
    connection: S3Connection, target: S3Target, monkeypatch: pytest.MonkeyPatch, admin: Any
) -> None:
    monkeypatch.setattr(lease, "TTL_S", 4.0)
    monkeypatch.setattr(lease, "RENEW_EVERY_S", 0.3)
    with hold(connection.at(target), owner="a", holder="one", give_back=True) as check:
        time.sleep(5)
        check()
    stolen = json.dumps({"owner": "b", "holder": "two", "free": False})

    def robbed() -> None:
        with hold(connection.at(target), owner="a", holder="one", give_back=True):
            admin.put_object(Bucket=target.bucket, Key=target.releases.key(LEASE), Body=stolen)
            time.sleep(1)

    with pytest.raises(LeaseLost, match="two took it"):
        robbed()


DEPLOYMENT = """
import json, sys
from pathlib import Path
from s3_sync import lease
from s3_sync.sync import expected, record, task
from s3_sync.bucket.connection import connect
from s3_sync.errors import LeaseHeld
from s3_sync.proof.publish import publish
from s3_sync.bucket.target import S3Target
from s3_sync.proof.verify import verify

name, source, uri = sys.argv[1:]
target, folder = S3Target.parse(uri), Path(source).with_name(name + "-release")
folder.mkdir()
(folder / "manifest.txt").write_text(name)
marker = target.releases.uri + "latest.json"
print("ready", flush=True)
sys.stdin.readline()
try:
    task.run(source=source, destination=uri, marker=marker, max_delete_fraction=1.0, lease=name, holder=name)
    connection = connect(target.bucket)
    prefix = connection.at(target)
    with lease.hold(prefix, owner=name, holder=name, give_back=True):
        verify(prefix, expected.walk(Path(source)), record.empty())
        publish(prefix.releases, folder, ["manifest.txt"], {"by": name})
    print("published")
except LeaseHeld as error:
    print(error)
"""


@pytest.mark.long
def test_of_two_deployments_at_once_exactly_one_publishes(
    connection: S3Connection, target: S3Target, admin: Any, tmp_path: Path
) -> None:
    """With real processes, twice: the bucket always holds what `latest.json` says."""
    sources = {
        name: put(tmp_path / name, {f"{number % 20}/{number}.jpg": f"{name}{number}" for number in range(300)})
        for name in ("one", "two")
    }
    for attempt in range(2):
        processes = {
            name: subprocess.Popen(
                [sys.executable, "-c", DEPLOYMENT, f"{name}{attempt}", str(source), target.uri],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                cwd=ROOT,
            )
            for name, source in sources.items()
        }
        said = {}
        for process in processes.values():
            assert process.stdout is not None
            while process.stdout.readline() != "ready\n":
                assert process.poll() is None
        for process in processes.values():
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        for name, process in processes.items():
            said[name] = process.communicate(timeout=120)[0].strip().splitlines()[-1]
            assert process.returncode == 0
        winner = next(name for name, last in said.items() if last == "published")
        loser = next(name for name in sources if name != winner)
        assert f"is being changed by {winner}{attempt}" in said[loser]
        latest = admin.get_object(Bucket=target.bucket, Key=target.releases.key("latest.json"))
        assert json.loads(latest["Body"].read()) == {"by": f"{winner}{attempt}"}
        listed = expected.walk(sources[winner])
        for row in listed.to_pylist():
            body = admin.get_object(Bucket=target.bucket, Key=target.key(row["key"]))["Body"].read()
            assert body == (sources[winner] / row["key"]).read_bytes()
        assert contents.list_raw(connection.at(target)).num_rows == listed.num_rows
