"""Of two deployments that sync to one destination one changes it, on every server, or neither does."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest

from s3_sync import lease
from s3_sync.errors import LeaseHeld, LeaseLost
from s3_sync.lease import hold
from tests.servers.matrix import promise
from tests.servers.places import PLAIN, SUSPENDED, VERSIONED, Place

AT_ONCE = 8


def one_of_many_holds_it(at: Place, bucket: str) -> None:
    connection, target = at.connect(bucket), at.target(bucket)
    ready, over = threading.Barrier(AT_ONCE), threading.Event()

    def attempt(number: int) -> bool:
        ready.wait()
        with suppress(LeaseHeld), hold(connection.at(target), owner=str(number), holder="somebody", give_back=True):
            over.wait(20)
            return True
        return False

    with ThreadPoolExecutor(AT_ONCE) as pool:
        tried = [pool.submit(attempt, number) for number in range(AT_ONCE)]
        while sum(one.done() for one in tried) < AT_ONCE - 1:
            time.sleep(0.05)
        over.set()
        assert sum(one.result() for one in tried) == 1


@promise
def test_lease_of_two(at: Place) -> None:
    """Of many that take a destination at once exactly one has it"""
    one_of_many_holds_it(at, PLAIN)


@promise
def test_lease_with_versions(at: Place) -> None:
    """Of many that take a destination in a bucket with versioning at once exactly one has it"""
    one_of_many_holds_it(at, VERSIONED)


@promise
def test_lease_with_versions_suspended(at: Place) -> None:
    """Of many that take one in a bucket whose versioning is suspended at once exactly one has it"""
    one_of_many_holds_it(at, SUSPENDED)


@promise
def test_lease_given_back(at: Place) -> None:
    """The second hears who holds it, until it is given back"""
    connection, target = at.connect(), at.target()
    with hold(connection.at(target), owner="a", holder="run one", give_back=False):
        pass
    with (
        pytest.raises(LeaseHeld, match=r"is being changed by run one.* its lease runs out in \d+ s"),
        hold(connection.at(target), owner="b", holder="run two", give_back=True),
    ):
        pytest.fail("held twice")
    with hold(connection.at(target), owner="a", holder="run one", give_back=True):
        pass
    with hold(connection.at(target), owner="b", holder="run two", give_back=True):
        pass


@promise
def test_lease_ran_out(at: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """A lease that ran out is another's, and its old holder stops"""
    monkeypatch.setattr(lease, "TTL_S", 2.0)
    monkeypatch.setattr(lease, "RENEW_EVERY_S", 3600.0)
    connection, target = at.connect(), at.target()

    def overslept() -> None:
        with hold(connection.at(target), owner="a", holder="run one", give_back=True) as check:
            time.sleep(3.5)  # a server may tell times in whole seconds
            with hold(connection.at(target), owner="b", holder="run two", give_back=False):
                pass
            check()

    with pytest.raises(LeaseLost):
        overslept()


@promise
def test_sole_writer(at: Place) -> None:
    """Where somebody vouches that nobody else writes, the lease needs no decision of the server's"""
    connection, target = at.connect(VERSIONED), at.target(VERSIONED)
    for owner in ("a/1", "a/2"):
        with hold(connection.at(target), owner=owner, holder="run", give_back=True, sole_writer=True) as check:
            check()
