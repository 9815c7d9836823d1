"""Names that travel to S3 and back."""

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from include.faceset import names

TOO_LONG = ["n" * 256, "é" * 128]


@pytest.mark.parametrize("name", ["anna", "a b", "it's", 'a"b', "é", "日本", "a.b", "-a", "a#%?&+", "n" * 255])
def test_safe(name: str) -> None:
    assert names.is_safe(name)


@pytest.mark.parametrize(
    "name",
    [
        *TOO_LONG,
        os.fsdecode(b"caf\xe9"),
        "a\ufeffb",
        "a\x85b",
        "",
        ".",
        "..",
        ".hidden",
        "a/b",
        "a\\b",
        "a\nb",
        "a\tb",
        "a\x7fb",
        " a",
        "a ",
        "e\u0301",
        "a\u202eb",
        "a\u2028b",
    ],
)
def test_unsafe(name: str) -> None:
    assert not names.is_safe(name)


@given(st.binary(min_size=1).map(os.fsdecode), st.binary(min_size=1).map(os.fsdecode))
def test_shown_names_are_text_and_never_coincide(one: str, other: str) -> None:
    names.shown(one).encode("utf-8")
    assert (names.shown(one) == names.shown(other)) == (one == other)


@given(st.text().filter(names.is_safe))
def test_a_safe_name_is_shown_as_it_is(name: str) -> None:
    assert names.shown(name) == name
    assert name not in {".", ".."}
    assert "/" not in name
