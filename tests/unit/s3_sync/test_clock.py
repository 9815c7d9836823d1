"""The server's time, in every form that its `Date` may have."""

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s3_sync.bucket.clock import time_at

THEN = datetime(2026, 11, 6, 8, 49, 37, tzinfo=UTC)


def answer(date: str | None) -> Any:
    return {"ResponseMetadata": {"HTTPHeaders": {} if date is None else {"date": date}}}


@pytest.mark.parametrize(
    "date",
    [
        "Fri, 06 Nov 2026 08:49:37 GMT",
        "Fri, 06 Nov 2026 08:49:37",
        "Fri, 06 Nov 2026 08:49:37 +0000",
        "Fri, 06 Nov 2026 08:49:37 -0000",
        "Fri, 06 Nov 2026 10:49:37 +0200",
        "Fri, 06 Nov 2026 08:49:37 UTC",
        "06 Nov 2026 08:49:37 GMT",
        "Fri, 6 Nov 2026 08:49:37 GMT",
        "Friday, 06-Nov-26 08:49:37 GMT",
        "Fri Nov  6 08:49:37 2026",
        "Fri, 06 Nov 2026 08:49:37 GMT, Fri, 06 Nov 2026 08:49:37 GMT",
        "Fri, 06 Nov 2026 08:49:36 GMT, Fri, 06 Nov 2026 08:49:37 GMT",
        "Fri, 06 Nov 2026 08:49:37, Fri, 06 Nov 2026 08:49:36",
    ],
)
def test_a_time_that_is_told_in_any_form_is_read(date: str) -> None:
    assert time_at(answer(date)) == THEN


@pytest.mark.parametrize("date", [None, "", "yesterday", "Fri, 99 Nov 2026 08:49:37 GMT", "Fri, 06 Nov 2026"])
def test_a_time_that_cannot_be_read_is_none(date: str | None) -> None:
    assert time_at(answer(date)) is None


@given(st.text(alphabet="Fri,06Nov2 :-+GMT", max_size=80))
def test_whatever_is_told_it_is_a_time_with_its_zone_or_none(date: str) -> None:
    told = time_at(answer(date))
    assert told is None or told.tzinfo is not None
