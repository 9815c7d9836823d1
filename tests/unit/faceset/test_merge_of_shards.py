"""One order over all shards and what occurs twice, whatever lies in which shard."""

import hashlib
import tempfile
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from include.faceset.ground import sorted_merge

keys = st.lists(st.lists(st.text(max_size=4), max_size=20), min_size=1, max_size=5)


@pytest.mark.long
@settings(deadline=None)
@given(keys, st.integers(1, 40))
def test_files_are_read_in_one_order(shards: list[list[str]], at_once: int) -> None:
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(sorted_merge, "ROWS_OF_EACH", at_once)
        paths = [
            sorted_merge.write_sorted(
                pa.table({"key": pa.array(rows, pa.string()), "n": range(len(rows))}), "key", path
            )
            for number, rows in enumerate(shards)
            for path in [Path(folder) / f"{number}.parquet"]
        ]
        read = list(sorted_merge.in_order(paths, "key"))
    found = [(key, n) for table in read for key, n in zip(*table.to_pydict().values(), strict=True)]
    assert [key for key, _ in found] == sorted(key for rows in shards for key in rows)
    assert Counter(found) == Counter((key, n) for rows in shards for n, key in enumerate(rows))


@settings(deadline=None)
@given(st.lists(st.lists(st.integers(0, 30), max_size=20), min_size=1, max_size=5), st.integers(1, 60))
def test_what_occurs_twice_is_found_in_memory_and_beside_it(shards: list[list[int]], at_once: int) -> None:
    hashes = [[hashlib.sha256(bytes([number])).digest() for number in rows] for rows in shards]
    columns = [pa.chunked_array([pa.array(rows, pa.binary(32))]) for rows in hashes]
    counts = Counter(one for rows in hashes for one in rows)
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(sorted_merge, "HASHES_AT_ONCE", at_once)
        found = sorted_merge.repeated(columns, counts.total(), Path(folder) / "hashes.parquet").to_pylist()
        assert not list(Path(folder).iterdir())
    assert sorted(found) == sorted(one for one, count in counts.items() if count > 1)
