"""What the bucket says, and holds: asked when somebody looks, never waited for long, and kept in mind for a moment."""

import time
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as TooLateError
from functools import lru_cache
from typing import Any

from include.faceset.run.run import Run
from s3_sync.destination import S3Destination

PATIENCE_S = 3.0
KEPT_S = 30.0
"""How long an answer is good for."""
_pool = ThreadPoolExecutor(4, thread_name_prefix="face-sets")


def pointer(run: Run) -> dict[str, Any]:
    """What the `latest.json` of the destination says; `error` says why nobody knows."""
    asked = _asked(run.params.destination, run.dataset.aws_conn_id, _moment())
    try:
        return asked.result(PATIENCE_S)
    except TooLateError:  # it is still asked, and whoever looks next has the answer
        return {"error": f"the bucket has not answered within {PATIENCE_S:g} seconds; look again"}
    # A page shows what is known here, whatever keeps the bucket from answering; a run says the same louder.
    except Exception as error:  # noqa: BLE001
        return {"error": f"the bucket could not be asked: {(str(error).splitlines() or [repr(error)])[0]:.300}"}


def _moment() -> int:
    return int(time.monotonic() / KEPT_S)


@lru_cache(maxsize=64)
def _asked(destination: str, aws_conn_id: str, moment: int) -> "Future[dict[str, Any]]":  # noqa: ARG001 asked again later
    return _pool.submit(_ask, destination, aws_conn_id)


def _ask(destination: str, aws_conn_id: str) -> dict[str, Any]:
    return S3Destination.reach(destination, aws_conn_id=aws_conn_id, holder="the pages", sole_writer=False).pointer()


def fetch(run: Run, key: str) -> bytes | None:
    """The bytes of a key at the destination; None if they cannot be had."""
    try:
        prefix = _prefix(run.params.destination, run.dataset.aws_conn_id, _moment())
        found = prefix.client.get_object(Bucket=prefix.bucket, Key=prefix.key(key))
        content: bytes = found["Body"].read(run.dataset.max_file_size + 1)
    # As above: a face that is not there is a grey field on the sheet.
    except Exception:  # noqa: BLE001
        return None
    return content


@lru_cache(maxsize=8)
def _prefix(destination: str, aws_conn_id: str, moment: int) -> Any:  # noqa: ARG001 a connection may be corrected
    return S3Destination.reach(destination, aws_conn_id=aws_conn_id, holder="the pages", sole_writer=False).prefix
