"""Reading ahead."""

import threading

import pytest

from include.faceset.exports import read_ahead
from include.faceset.exports.read_ahead import reading_ahead


def test_what_is_taken_is_in_order_and_little_is_held(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(read_ahead, "BYTES_AHEAD", 1000)
    sizes = [1 + number * 37 % 400 for number in range(300)]
    held, most, lock = [0], [0], threading.Lock()

    def read(number: int) -> bytes:
        with lock:
            held[0] += sizes[number]
            most[0] = max(most[0], held[0])
        return b"x" * sizes[number]

    with reading_ahead(iter(enumerate(sizes)), read) as coming:
        for number, size in enumerate(sizes):
            data = coming.take(number)
            assert data == b"x" * size
            with lock:
                held[0] -= size
    assert 500 < most[0] < 1000 + 2 * max(sizes)


def test_a_thing_larger_than_all_that_may_be_held_is_read_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(read_ahead, "BYTES_AHEAD", 10)
    with reading_ahead(iter([("a", 50), ("b", 60)]), str.encode) as coming:
        assert (coming.take("a"), coming.take("b")) == (b"a", b"b")


def test_an_error_is_told_where_its_thing_is_taken() -> None:
    def read(number: int) -> bytes:
        return bytes([1 // number])

    with reading_ahead(iter([(1, 1), (0, 1), (1, 1)]), read) as coming:
        assert coming.take(1) == b"\x01"
        with pytest.raises(ZeroDivisionError):
            coming.take(0)


def test_another_thing_than_the_next_is_refused() -> None:
    with reading_ahead(iter([("a", 1), ("b", 1)]), str.encode) as coming, pytest.raises(RuntimeError, match="order"):
        coming.take("b")
