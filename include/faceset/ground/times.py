"""When a file was last changed, as a table can hold it.

A file system may know times that 64 bits of nanoseconds since 1970 do not reach: they end in 1677 and in 2262, ext4 in
2446. Such a time becomes the nearest one that they reach. Two of them may then look the same, so it tells of no file
that it is unchanged (`are_exact`): the file is read again in each run.
"""

import os
from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc

EARLIEST, LATEST = -(1 << 63), (1 << 63) - 1


def mtime_ns(status: os.stat_result) -> int:
    """When a file was changed (ns since 1970), within 64 bits."""
    return _within(status.st_mtime_ns)


def column(times: Sequence[int]) -> pa.Array:
    """Times (ns since 1970) as int64."""
    try:
        return pa.array(times, pa.int64())
    except (OverflowError, pa.ArrowInvalid):
        return pa.array(map(_within, times), pa.int64())


def are_exact(times: pa.ChunkedArray) -> pa.ChunkedArray:
    """Of each time (int64) whether it is the very one that a file system told."""
    return pc.and_(pc.greater(times, EARLIEST), pc.less(times, LATEST))


def _within(time: int) -> int:
    return min(max(time, EARLIEST), LATEST)
