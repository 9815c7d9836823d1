"""Which tasks are tried again, and which errors end a task for good."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

from airflow.sdk import ExceptionRetryPolicy, RetryAction
from airflow.sdk.exceptions import AirflowFailException

from include.faceset.errors import Final
from s3_sync import errors as s3

DISK: dict[str, Any] = {
    # An error is final: the same files give it again. A try whose worker was lost left none, and is tried again.
    "retries": 2,
    "retry_policy": ExceptionRetryPolicy(rules=[], default=RetryAction.FAIL),
    "retry_delay": timedelta(seconds=5),
}
NETWORK: dict[str, Any] = {
    "retry_policy": None,
    "retries": 3,
    "retry_delay": timedelta(seconds=10),
    "retry_exponential_backoff": True,
    "max_retry_delay": timedelta(minutes=5),
}


@contextmanager
def final(*also: type[Exception]) -> Iterator[None]:
    """End the task for good where the block says that another try would find the same, or raises one of `also`."""
    errors: tuple[type[Exception], ...] = (Final, s3.Final, *also)
    try:
        yield
    except errors as why:
        raise AirflowFailException(str(why)) from why
