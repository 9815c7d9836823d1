"""What an upload has done so far, and whether there is any use in going on."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import pyarrow as pa
from obstore.exceptions import PermissionDeniedError, UnauthenticatedError

from s3_sync.errors import CredentialsNotReady, LeaseLost, cause
from s3_sync.sources.reading import bare
from s3_sync.sync import record

if TYPE_CHECKING:
    from s3_sync.sync.expected import Item

MAX_FAILURES = 1000
# So many in a row, after all their retries, mean that the next ones will fail too.
MAX_FAILURES_IN_A_ROW = 100

Outcome = Literal["uploaded", "copied", "unchanged"]


@dataclass
class Progress:
    """Counts of keys and bytes. Threads change them with ``lock``; a single value is read without."""

    files: int
    total_bytes: int
    uploaded: int = 0
    uploaded_bytes: int = 0
    copied: int = 0
    copied_bytes: int = 0
    unchanged: int = 0
    unchanged_bytes: int = 0
    failures: dict[str, str] = field(default_factory=dict)
    failures_in_a_row: int = 0
    stopped: str | None = None
    proofs: list[tuple[str, bytes, str]] = field(default_factory=list)
    proven: list[pa.RecordBatch] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def succeeded(self, item: Item, etag: str | None, outcome: Outcome) -> None:
        with self.lock:
            self.failures_in_a_row = 0
            if outcome == "uploaded":
                self.uploaded += 1
                self.uploaded_bytes += item.size
            elif outcome == "copied":
                self.copied += 1
                self.copied_bytes += item.size
            else:
                self.unchanged += 1
                self.unchanged_bytes += item.size
            if etag:
                self.proofs.append((item.key, item.sha256, bare(etag)))

    def failed(self, item: Item, error: Exception) -> None:
        with self.lock:
            self.failures[item.key] = cause(error)
            self.failures_in_a_row += 1
            if isinstance(error, CredentialsNotReady):
                self.stopped = cause(error)
            elif _is_hopeless(error):
                self.stopped = "the next ones would fail in the same way"
            elif len(self.failures) >= MAX_FAILURES:
                self.stopped = f"{MAX_FAILURES} failures are enough"
            elif self.failures_in_a_row >= MAX_FAILURES_IN_A_ROW:
                self.stopped = f"{MAX_FAILURES_IN_A_ROW} failed in a row"

    def record(self) -> pa.Table:
        """Return what is proven so far, as a record's rows."""
        with self.lock:
            proofs, self.proofs = self.proofs, []
        if proofs:
            columns = [list(column) for column in zip(*proofs, strict=True)]
            self.proven.append(pa.record_batch(columns, schema=record.SCHEMA))
        return pa.Table.from_batches(self.proven, schema=record.SCHEMA)


def _is_hopeless(error: Exception) -> bool:
    """Say whether ``error`` is about credentials, the lease or the bucket rather than about one key."""
    denied = isinstance(error, PermissionDeniedError | UnauthenticatedError | LeaseLost)
    return denied or "<Code>NoSuchBucket</Code>" in str(error)
