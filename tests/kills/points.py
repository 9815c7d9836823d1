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
    """Counts the calls; kills its process before or after one of them, by SIGKILL or, so that it wakes up, SIGSTOP.

    `at` is the number of a call, from 0, or the name of a line: its first call then. None: only count.
    """

    def __init__(self, at: int | str | None = None, *, after: bool = False, number: int = signal.SIGKILL) -> None:
        self.at, self.after, self.number = at, after, number
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
            due = self._is_due(name)
            if due and not self.after:
                os.kill(os.getpid(), self.number)
            try:
                return call(*arguments, **named)
            finally:
                if due and self.after:
                    os.kill(os.getpid(), self.number)

        return wrapped

    def _wrapped_api(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(client: Any, operation: str, arguments: Any) -> Any:
            changes = not operation.startswith(READING)
            return (self._wrapped(operation, call) if changes else call)(client, operation, arguments)

        return wrapped

    def _is_due(self, name: str) -> bool:
        line = f"{name} in {_line()}"
        with self.lock:
            self.names.append(line)
            if self.at not in (line, len(self.names) - 1):
                return False
            self.at = None
            return True


def _line() -> str:
    """The nearest line of the project's own code."""
    frame = sys._getframe(1)
    while frame.f_back:
        name = frame.f_code.co_filename
        if any(part in name for part in ("/include/faceset/", "/plugins/s3_sync/", "/dags/")):
            return f"{name.rpartition('/')[2]}:{frame.f_code.co_name}:{frame.f_lineno}"
        frame = frame.f_back
    return "?"
