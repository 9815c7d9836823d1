"""The plan against a model in plain Python, for all tables."""

import hashlib
from fractions import Fraction

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from s3_sync.errors import DeletionRefused
from s3_sync.listing import contents
from s3_sync.sync import record
from s3_sync.sync.plan import allowed, guard, may_delete, plan, rounded_up

EXPECTED = pa.schema([("key", pa.string()), ("size", pa.int64()), ("sha256", pa.binary(32))])
keys = st.sampled_from(["a", "b", "c", "d/e", "é"])
hashes = st.sampled_from([hashlib.sha256(bytes([seed])).digest() for seed in range(3)])
etags = st.sampled_from(["0" * 32, "1" * 32, "2" * 32 + "-2", "kms"])
sizes = st.integers(0, 2)


def table(rows: dict[str, tuple[object, ...]], schema: pa.Schema) -> pa.Table:
    columns = zip(*[(key, *values) for key, values in rows.items()], strict=True) if rows else [()] * len(schema)
    return pa.table(
        [pa.array(column, field.type) for column, field in zip(columns, schema, strict=True)], schema=schema
    )


@given(
    st.dictionaries(keys, st.tuples(sizes, hashes)),
    st.dictionaries(keys, st.tuples(sizes, etags)),
    st.dictionaries(keys, st.tuples(hashes, etags)),
)
def test_every_key_is_in_the_right_place(
    expected: dict[str, tuple[int, bytes]], listed: dict[str, tuple[int, str]], recorded: dict[str, tuple[bytes, str]]
) -> None:
    made = plan(table(expected, EXPECTED), table(listed, contents.SCHEMA), table(recorded, record.SCHEMA))
    model: dict[str, set[str]] = {"skip": set(), "compare": set(), "upload": set()}
    for key, (size, sha256) in expected.items():
        there = listed.get(key)
        known = recorded.get(key)
        if there is None or there[0] != size:
            model["upload"].add(key)
        elif known and known[1] == there[1]:
            model["skip" if known[0] == sha256 else "upload"].add(key)
        else:
            model["compare" if len(there[1]) == 32 else "upload"].add(key)
    for place, wanted in model.items():
        assert set(getattr(made, place)["key"].to_pylist()) == wanted
    assert set(made.delete["key"].to_pylist()) == listed.keys() - expected.keys()


@pytest.mark.long
def test_a_fraction_is_what_it_is_written_as() -> None:
    """Of all numbers of keys up to 1,000: the advice of a refusal is enough, and a hundredth less is not."""
    for listed in range(1, 1001):
        may_go = {hundredths / 100: allowed(listed, hundredths / 100) for hundredths in range(101)}
        for deletions in range(1, listed + 1):
            advised = rounded_up(deletions, listed)
            assert may_go[round(advised - 0.01, 2)] < deletions <= may_go[advised]
    assert may_delete(29, 100, 0.29)
    assert not may_delete(30, 100, 0.29)


@given(st.integers(1, 20), st.integers(0, 20), st.floats(0, 1), st.integers(0, 20))
def test_the_guard_counts_what_would_go(stay: int, go: int, fraction: float, approved: int) -> None:
    expected = table({f"stay{number}": (1, b"0" * 32) for number in range(stay)}, EXPECTED)
    listed = {f"stay{number}": (1, "e") for number in range(stay)} | {f"go{number}": (1, "e") for number in range(go)}
    made = plan(expected, table(listed, contents.SCHEMA), record.empty())
    if go > Fraction(str(fraction)) * (stay + go) and go > approved:
        with pytest.raises(DeletionRefused):
            guard(made, fraction, approved)
    else:
        guard(made, fraction, approved)
