"""A page of a listing, as servers write it."""

from xml.etree import ElementTree as ET

import pytest

from s3_sync.listing import _rows

PAGE = (
    '<?xml version="1.0" encoding="UTF-8"?><{0}ListBucketResult {1}><{0}EncodingType>url</{0}EncodingType><{0}Contents>'
    "<{0}Key>set/a%2Bb/1+2.jpg</{0}Key><{0}ETag>&quot;e&quot;</{0}ETag><{0}Size>7</{0}Size></{0}Contents>"
    "</{0}ListBucketResult>"
)
S3 = "http://s3.amazonaws.com/doc/2006-03-01/"


@pytest.mark.parametrize(("prefix", "declared"), [("", ""), ("", f'xmlns="{S3}"'), ("s:", f'xmlns:s="{S3}"')])
def test_objects_are_found_in_any_namespace(prefix: str, declared: str) -> None:
    rows = _rows(PAGE.format(prefix, declared).encode(), len("set/"))
    assert rows.to_pylist() == [{"key": "a+b/1 2.jpg", "size": 7, "etag": "e"}]


@pytest.mark.parametrize("answer", ["<Error/>", "<ListBucketResult><Contents>", "no XML"])
def test_an_answer_that_is_no_listing_is_an_error_and_not_an_empty_one(answer: str) -> None:
    with pytest.raises(ET.ParseError):
        _rows(answer.encode(), 0)
