"""Names that travel to S3 and back."""

import os

import pyarrow as pa
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
    names.as_text(one).encode("utf-8")
    assert (names.as_text(one) == names.as_text(other)) == (one == other)


@given(st.text().filter(names.is_safe))
def test_a_safe_name_is_shown_as_it_is(name: str) -> None:
    assert names.as_text(name) == name
    assert name not in {".", ".."}
    assert "/" not in name


@given(st.lists(st.text(st.characters(codec="utf-8") | st.sampled_from("./\\ \x7f\n~a"))))
def test_judged_by_column_a_plain_name_is_safe(texts: list[str]) -> None:
    plain = names.are_plain(pa.array(texts, pa.string())).to_pylist()
    for text, is_plain in zip(texts, plain, strict=True):
        assert is_plain == (text.isascii() and names.is_safe(text))


@pytest.mark.parametrize("name", ["a.jpg", "a.JPEG", "a.b.png", "a.txt", "jpg", "a.jpg ", "a.jpgx", "a.jpg\n", ".jpg"])
def test_judged_by_column_a_plain_image_is_a_safe_one(name: str) -> None:
    (plain,) = names.are_plain_images(pa.array([name])).to_pylist()
    assert plain == (names.is_safe(name) and names.is_image(name))
