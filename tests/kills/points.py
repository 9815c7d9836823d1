"""The moments at which a task is killed: before and after each call that changes a disk or a bucket.

The calls are wrapped in the process that runs the task, and counted; a point has the name of the line that makes the
call. Parquet files are written by native code: the calls that bring it rows are among the points.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from typing import TYPE_CHECKING, Any

import obstore
import pyarrow.parquet as pq
from botocore.client import BaseClient

if TYPE_CHECKING:
    from collections.abc import Callable

OS_CALLS = ("fsync", "link", "mkdir", "rename", "replace", "rmdir", "unlink", "utime")
READING = ("Get", "Head", "List")


class Points:
    """Counts the calls; kills its process at one of them, by SIGKILL or (to let it wake up later) SIGSTOP.

    `at` counts two for a call: an even number is the moment before it, an odd one the moment after. None: only count.
    """

    def __init__(self, at: int | None = None, number: signal.Signals = signal.SIGKILL) -> None:
        self.at, self.number = at, number
        self.names: list[str] = []
        self.lock = threading.Lock()

    def watch(self) -> None:
        """Wrap the calls of this process."""
        for name in OS_CALLS:
            setattr(os, name, self._wrapped(name, getattr(os, name)))
        pq.ParquetWriter.write_table = self._wrapped("write_table", pq.ParquetWriter.write_table)
        obstore.put = self._wrapped("PUT", obstore.put)
        BaseClient._make_api_call = self._wrapped_api(BaseClient._make_api_call)

    def _wrapped(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*arguments: Any, **named: Any) -> Any:
            moment = self._count(name)
            self._kill_if(moment)
            try:
                return call(*arguments, **named)
            finally:
                self._kill_if(moment + 1)

        return wrapped

    def _wrapped_api(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(client: Any, operation: str, arguments: Any) -> Any:
            changes = not operation.startswith(READING)
            return (self._wrapped(operation, call) if changes else call)(client, operation, arguments)

        return wrapped

    def _count(self, name: str) -> int:
        with self.lock:
            self.names.append(f"{name} in {_line()}")
            return 2 * len(self.names) - 2

    def _kill_if(self, moment: int) -> None:
        if moment == self.at:
            os.kill(os.getpid(), self.number)


def _line() -> str:
    """The nearest line of the project's own code."""
    frame = sys._getframe(1)
    while frame.f_back:
        name = frame.f_code.co_filename
        if any(part in name for part in ("/include/faceset/", "/plugins/s3_sync/", "/dags/")):
            return f"{name.rpartition('/')[2]}:{frame.f_code.co_name}:{frame.f_lineno}"
        frame = frame.f_back
    return "?"
