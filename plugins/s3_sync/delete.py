"""Delete keys of a prefix, the most guarded thing there is here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from s3_sync import listing
from s3_sync.asking import ATTEMPTS, Damaged, ask, is_for_now
from s3_sync.errors import DeleteFailed

if TYPE_CHECKING:
    from collections.abc import Callable

    import pyarrow as pa

    from s3_sync.connection import S3Connection
    from s3_sync.target import S3Target

# The most that one DeleteObjects request takes.
BATCH = 1000


def delete(
    connection: S3Connection, target: S3Target, keys: pa.ChunkedArray, *, check: Callable[[], None] = lambda: None
) -> int:
    """Delete ``keys``, relative to the prefix and exactly as `listing.list_raw` has them; return how many.

    ``check`` is called before each request. What S3 could not delete at that moment is tried again.

    Raises DeleteFailed with the keys that S3 refused to delete, NoAnswer.
    """
    failures: dict[str, str] = {}
    for start in range(0, len(keys), BATCH):
        left = [target.key(key) for key in keys.slice(start, BATCH).to_pylist()]
        for _ in range(ATTEMPTS):
            check()
            refused = _delete(connection, target, left)
            left = [key for key, code in refused.items() if is_for_now(code.partition(":")[0])]
            failures |= {key: why for key, why in refused.items() if key not in left}
            if not left:
                break
        failures |= {key: refused[key] for key in left}
    if failures:
        raise DeleteFailed(target.uri, failures)
    return len(keys)


def _delete(connection: S3Connection, target: S3Target, keys: list[str]) -> dict[str, str]:
    """Delete ``keys``, whole ones; return the code and the message of those that S3 did not delete."""
    objects = {"Objects": [{"Key": key} for key in keys], "Quiet": True}

    def request() -> dict[str, str]:
        answer = connection.client.delete_objects(Bucket=target.bucket, Delete=objects)
        refused = {error["Key"]: f"{error['Code']}: {error.get('Message')}" for error in answer.get("Errors", ())}
        if not refused.keys() <= set(keys):
            raise Damaged("it tells of keys that were not asked about")
        return refused

    return ask(f"deleting under {target.uri}", request)


def delete_prefix(connection: S3Connection, target: S3Target) -> int:
    """Delete all that lies under ``target``; return how many. Raises DeleteFailed as `delete` does."""
    return delete(connection, target, listing.list_raw(connection, target)["key"])
