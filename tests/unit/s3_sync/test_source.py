"""A prefix that objects are taken from."""

import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from local.s3 import seaweed
from s3_sync.bucket.connection import S3Connection
from s3_sync.bucket.target import S3Target
from s3_sync.errors import SourceNotReady
from s3_sync.sources import ranges
from s3_sync.sources import source as sources
from s3_sync.sources.ranges import bounds_from, in_ranges
from s3_sync.sources.source import S3Source
from tests.unit.s3_sync import proxy
from tests.unit.s3_sync.conftest import BUCKET, airflow_connection


def rows(source: S3Source, below: str = "") -> dict[str, tuple[int, str]]:
    """Size and ETag by key; each key is listed once."""
    found = pa.Table.from_batches(source.listing(below), schema=ranges.SCHEMA)
    assert len(found) == len(set(found["key"].to_pylist()))
    return {row["key"]: (row["size"], row["etag"]) for row in found.to_pylist()}


@pytest.fixture
def source(connection: S3Connection, target: S3Target) -> S3Source:
    return S3Source(target.uri)


def test_a_listing_has_each_object_as_s3_has_it(admin: Any, source: S3Source, target: S3Target) -> None:
    keys = ["anna/1.jpg", "anna/", "b en/it's #1 é.png", "line\nbreak", "a+b/%2e%2e.jpg"]
    for key in keys:
        admin.put_object(Bucket=BUCKET, Key=target.key(key), Body=key.encode() if key[-1] != "/" else b"")
    listed = {item["Key"].removeprefix(target.prefix): item for item in contents(admin, target)}
    assert rows(source).keys() == set(keys) == listed.keys()
    page = next(source.listing(""))
    for row in page.to_pylist():
        there = listed[row["key"]]
        assert (row["size"], f'"{row["etag"]}"') == (there["Size"], there["ETag"])
        assert row["mtime_ns"] == int(there["LastModified"].timestamp()) * 10**9
    assert rows(source, "anna/").keys() == {"", "1.jpg"}
    assert sorted(source.folders("")) == ["a+b", "anna", "b en"]
    assert (source.holds("anna/"), source.holds("ann/")) == (True, False)


def contents(admin: Any, target: S3Target) -> list[dict[str, Any]]:
    pages = admin.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=target.prefix)
    return [item for page in pages for item in page.get("Contents", ())]


def test_many_pages_are_listed_in_ranges(
    admin: Any, source: S3Source, target: S3Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With pages of ten, as the real server cuts them."""
    keys = [f"id-{person * 7919 % 1000:03d}/{image}.jpg" for person in range(30) for image in range(3)]
    keys += ["id-5/x.jpg", "id-50/y.jpg", "id-5.jpg", "id-5-1/z.jpg"]
    for key in keys:
        admin.put_object(Bucket=BUCKET, Key=target.key(key), Body=b"x")
    asked: list[str | None] = []
    real = sources.raw_pages

    def pages_of_ten(client: Any, at: S3Target, after: str | None, read: Any) -> Any:
        asked.append(after)
        client.meta.events.register(
            "before-parameter-build.s3.ListObjectsV2", lambda params, **_: params.update(MaxKeys=10)
        )
        return real(client, at, after, read)

    monkeypatch.setattr(sources, "raw_pages", pages_of_ten)
    assert rows(source).keys() == set(keys)
    assert len(asked) - 2 >= 4, "the first page, then the first range and these"
    assert all(re.fullmatch(r"id-\dzzz[0-9a-f]{32}", after) for after in asked if after)


def test_a_first_page_without_keys_is_not_the_end(
    admin: Any, source: S3Source, target: S3Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    admin.put_object(Bucket=BUCKET, Key=target.key("1.jpg"), Body=b"x")
    real = sources.raw_pages

    def none_at_first(*where: Any) -> Iterator[pa.RecordBatch]:
        yield pa.RecordBatch.from_pylist([], schema=ranges.SCHEMA)
        yield from real(*where)

    monkeypatch.setattr(sources, "raw_pages", none_at_first)
    assert rows(source).keys() == {"1.jpg"}


KEYS = st.sets(st.text("09Zaz_/.-", min_size=1, max_size=6).filter(lambda key: "//" not in key and key[0] != "/"))


@given(keys=KEYS.filter(bool), start=st.sampled_from(["", "x", "person-0"]), by_folder=st.booleans())
def test_ranges_are_the_whole_whatever_the_order(keys: set[str], start: str, by_folder: bool) -> None:
    def order(key: str) -> str:
        return key.replace("/", "\0") if by_folder else key

    there = sorted((start + key for key in keys), key=order)

    def behind(place: str | None) -> list[str]:
        return [key for key in there if place is None or order(key) > order(place)]

    def page(some: list[str]) -> pa.RecordBatch:
        return pa.record_batch([some, [1] * len(some), [1] * len(some), ["e"] * len(some)], schema=ranges.SCHEMA)

    def pages(after: str | None) -> Any:
        found = behind(after)
        yield from (page(found[at : at + 3]) for at in range(0, max(1, len(found)), 3))

    bounds = bounds_from(page(there[:3])["key"], lambda place: next(iter(behind(place)), None))
    listed = [key for one in in_ranges(pages, bounds) for key in one["key"].to_pylist()]
    assert sorted(listed) == sorted(there)


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("2026-11-27T06:31:30Z", 1795761090 * 10**9),
        ("2026-11-27T06:31:30.120Z", 1795761090 * 10**9 + 120_000_000),
        ("2026-11-27T06:31:30.120000999Z", 1795761090 * 10**9 + 120_000_000),
        ("2026-11-27T08:31:30+02:00", 1795761090 * 10**9),
        ("2026-11-27T06:31:30.120", 1795761090 * 10**9 + 120_000_000),
        ("1969-12-31T23:59:59Z", -(10**9)),
        ("2446-05-10T00:00:00Z", ranges.MOST_US * 1000),
        ("9999-12-31T23:59:59Z", ranges.MOST_US * 1000),
        ("0001-01-01T00:00:00Z", -ranges.MOST_US * 1000),
        ("", -ranges.MOST_US * 1000),
    ],
)
def test_when_an_object_was_written_is_told_within_64_bits(written: str, expected: int) -> None:
    assert ranges._times([written, "2026-01-01T00:00:00Z"])[0].as_py() == expected


def test_a_listing_with_times_that_no_table_holds_is_a_listing(
    server: seaweed.S3Server, admin: Any, monkeypatch: pytest.MonkeyPatch, target: S3Target
) -> None:
    def far(_: proxy.Request, answer: proxy.Answer) -> proxy.Answer:
        return replace(answer, body=re.sub(rb"(?<=<LastModified>)[^<]*", b"9999-12-31T23:59:59.000Z", answer.body))

    admin.put_object(Bucket=BUCKET, Key=target.key("1.jpg"), Body=b"x")
    with proxy.running(server) as front:
        monkeypatch.setenv("AIRFLOW_CONN_FRONT", airflow_connection(server, front.endpoint))
        front.rewrite = far
        assert rows(S3Source(target.uri, "front")).keys() == {"1.jpg"}


def test_what_was_read_is_what_was_listed(admin: Any, source: S3Source, target: S3Target) -> None:
    admin.put_object(Bucket=BUCKET, Key=target.key("anna/1.jpg"), Body=b"one")
    etag = rows(source)["anna/1.jpg"][1]
    assert source.read("anna/1.jpg", etag) == b"one"
    admin.put_object(Bucket=BUCKET, Key=target.key("anna/1.jpg"), Body=b"two")
    assert source.read("anna/1.jpg", etag) is None
    admin.delete_object(Bucket=BUCKET, Key=target.key("anna/1.jpg"))
    assert source.read("anna/1.jpg", etag) is None


def test_bytes_that_do_not_have_the_md5_of_their_etag_are_read_again(
    admin: Any, source: S3Source, target: S3Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    admin.put_object(Bucket=BUCKET, Key=target.key("1.jpg"), Body=b"one")
    etag, answers = rows(source)["1.jpg"][1], [b"0ne", b"one"]
    monkeypatch.setattr(sources, "read_object", lambda *_: answers.pop(0))
    assert source.read("1.jpg", etag) == b"one"
    answers += [b"0ne", b"on3"]
    with pytest.raises(SourceNotReady, match="damaged on the way"):
        source.read("1.jpg", etag)
    answers += [b"0ne", b"0ne"]  # so the ETag is none of these bytes, as with encryption by KMS
    assert source.read("1.jpg", etag) == b"0ne"


@pytest.mark.long
def test_refusals_say_what_to_do(admin: Any, source: S3Source, target: S3Target, connection: S3Connection) -> None:
    with pytest.raises(SourceNotReady, match=r"cannot be listed \(.*that connection 'wrong' may read it \(s3:ListBu"):
        S3Source(target.uri, "wrong").holds("")
    with pytest.raises(SourceNotReady, match=r"cannot be listed .*s3:ListBucket"):
        list(S3Source("s3://no-such-bucket/faces/").listing(""))
    for inside in (target, target.below("x"), target.releases.below("y")):
        with pytest.raises(SourceNotReady, match="lie in one another"):
            S3Source(inside.uri).check(connection, target)
    admin.put_object(Bucket=BUCKET, Key=target.key("1.jpg"), Body=b"one")
    source.check(connection, target.sibling("-merged"))


def test_nothing_is_looked_up_before_it_is_used() -> None:
    assert "target" not in vars(S3Source("s3://no-such-bucket/faces/", "no-such-connection"))
