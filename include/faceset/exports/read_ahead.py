"""Reading ahead: bytes are fetched side by side and handed over one by one, in the order they are needed in."""

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Generic, TypeVar

READERS = 32
"""Requests under way at a time: what hides the 10 to 30 ms that S3 takes to answer one."""
BYTES_AHEAD = 64 << 20
"""What may be fetched before it is needed."""

T = TypeVar("T")
R = TypeVar("R")


class ReadAhead(Generic[T, R]):
    """Results of `read` of things, in their order."""

    def __init__(self, pool: ThreadPoolExecutor, things: Iterator[tuple[T, int]], read: Callable[[T], R]):
        self._pool, self._things, self._read = pool, things, read
        self._coming: deque[tuple[T, int, Future[R]]] = deque()
        self._bytes = 0

    def take(self, thing: T) -> R:
        """What was read of the next of the things, which must be this one."""
        self._fetch()
        expected, size, coming = self._coming.popleft()
        if expected != thing:
            raise RuntimeError(
                "images are not asked for in their order; this is a fault of the program, please report it"
            )
        self._bytes -= size
        return coming.result()

    def _fetch(self) -> None:
        while len(self._coming) < 2 * READERS and (not self._coming or self._bytes < BYTES_AHEAD):
            thing, size = next(self._things, (None, 0))
            if thing is None:
                return
            self._coming.append((thing, size, self._pool.submit(self._read, thing)))
            self._bytes += size


@contextmanager
def reading_ahead(
    things: Iterator[tuple[T, int]], read: Callable[[T], R], readers: int = READERS
) -> Iterator[ReadAhead[T, R]]:
    """Give an `Ahead`; what was fetched and not taken is dropped at the end of the block.

    Args:
        things: what is to be read, and its size in bytes.
        read: reads one; called in other threads.
        readers: how many threads.
    """
    pool = ThreadPoolExecutor(readers, thread_name_prefix="read-ahead")
    try:
        yield ReadAhead(pool, things, read)
    finally:
        pool.shutdown(cancel_futures=True)
