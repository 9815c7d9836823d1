"""A listing: its pages as servers write them, and its ranges."""

import random
from collections.abc import Callable, Iterator
from xml.etree import ElementTree as ET

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from s3_sync.bucket.connection import S3Connection
from s3_sync.bucket.target import S3Target
from s3_sync.listing import contents
from s3_sync.listing.contents import read_page
from s3_sync.proof.publish import put_bytes

PAGE = (
    '<?xml version="1.0" encoding="UTF-8"?><{0}ListBucketResult {1}><{0}EncodingType>url</{0}EncodingType><{0}Contents>'
    "<{0}Key>set/a%2Bb/1+2.jpg</{0}Key><{0}ETag>&quot;e&quot;</{0}ETag><{0}Size>7</{0}Size></{0}Contents>"
    "</{0}ListBucketResult>"
)
S3 = "http://s3.amazonaws.com/doc/2006-03-01/"


@pytest.mark.parametrize(("prefix", "declared"), [("", ""), ("", f'xmlns="{S3}"'), ("s:", f'xmlns:s="{S3}"')])
def test_objects_are_found_in_any_namespace(prefix: str, declared: str) -> None:
    columns = read_page(PAGE.format(prefix, declared).encode(), len("set/"))
    assert columns == [["a+b/1 2.jpg"], [7], ["e"]]


@pytest.mark.parametrize("answer", ["<Error/>", "<ListBucketResult><Contents>", "no XML"])
def test_an_answer_that_is_no_listing_is_an_error_and_not_an_empty_one(answer: str) -> None:
    with pytest.raises(ET.ParseError):
        read_page(answer.encode(), 0)


FOLDERS = ["a", "a-b", "a b", "a0", "aa", "b", "b.c", "c", "c+", "d", "dé", "e", "z", "é", "ё"]


@pytest.mark.long
def test_ranges_are_the_whole_wherever_they_are_divided(
    connection: S3Connection, target: S3Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = [f"{folder}/{name}" for folder in FOLDERS for name in ("0.jpg", "z.jpg", "deeper/1.jpg")] + [
        "b0",
        "stray",
        "~",
    ]
    for key in keys:
        put_bytes(connection.at(target), key.encode(), key)
    monkeypatch.setattr(contents, "PAGE", 5)
    monkeypatch.setattr(contents, "KEYS_A_RANGE", 4)
    bounds = contents.bounds_of(pa.chunked_array([keys]))
    assert len(bounds) > 3
    for some in ([], bounds, ["a0x"], ["Z0x", "a0x", "b0x", "zzz"]):
        for listed in (
            contents.list_prefix(connection.at(target), some),
            contents.list_raw(connection.at(target), some),
        ):
            assert sorted(listed["key"].to_pylist()) == sorted(keys)


def serving(order: list[str], page: int) -> Callable[[str | None], Iterator[pa.RecordBatch]]:
    """A server's pages: what comes after a key, in an order of its own."""

    def pages(after: str | None) -> Iterator[pa.RecordBatch]:
        left = [key for key in order if after is None or key > after]
        for start in range(0, len(left) or 1, page):
            some = left[start : start + page]
            yield pa.record_batch([some, [1] * len(some), ["e"] * len(some)], schema=contents.SCHEMA)

    return pages


@given(
    st.sets(st.tuples(st.text("ab0-. é", min_size=1, max_size=3), st.sampled_from(["1", "2", "x/3"])), max_size=30),
    st.booleans(),
    st.integers(1, 7),
)
def test_ranges_are_the_whole_by_key_and_by_folder(files: set[tuple[str, str]], by_folder: bool, page: int) -> None:
    keys = ["/".join(file) for file in files]
    order = sorted(keys, key=lambda key: key.split("/") if by_folder else key)
    found = contents._in_ranges(serving(order, page), ["a0x", "ab0x", "b0x"])["key"].to_pylist()
    assert sorted(found) == sorted(keys)


def test_a_server_that_lists_in_no_order_is_listed_without_ranges() -> None:
    keys = [f"{number:03d}/1.jpg" for number in range(300)]
    shuffled = random.Random(1).sample(keys, len(keys))
    found = contents._in_ranges(serving(shuffled, 50), ["100x", "200x"])["key"].to_pylist()
    assert sorted(found) == sorted(keys)
