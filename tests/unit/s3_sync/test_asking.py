"""Which requests are sent again, and for how long."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ClientError
from obstore.exceptions import GenericError, NotFoundError, PermissionDeniedError

from s3_sync.bucket import retry
from s3_sync.bucket.retry import Damaged, ask, pages
from s3_sync.errors import LeaseLost, NoAnswer

if TYPE_CHECKING:
    from collections.abc import Callable


def refused(code: str, status: int) -> ClientError:
    return ClientError({"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}}, "PutObject")  # type: ignore[typeddict-item]


def failing(*errors: Exception) -> Callable[[], str]:
    left = list(errors)

    def call() -> str:
        if left:
            raise left.pop(0)
        return "answer"

    return call


@pytest.mark.parametrize(
    "error",
    [
        Damaged("half a page"),
        ValueError("no date"),
        refused("BadDigest", 400),
        refused("InternalError", 200),
        refused("", 503),
        GenericError("<Code>NoSuchUpload</Code>"),
        GenericError("ETag Header missing from response"),
        NotFoundError("<Code>NoSuchUpload</Code>"),
    ],
)
def test_what_was_damaged_is_asked_again(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "PAUSE_S", 0)
    assert ask("it", failing(error, error)) == "answer"


@pytest.mark.parametrize(
    "error",
    [
        LeaseLost("it is another's"),
        FileNotFoundError(2, "no such file"),
        refused("AccessDenied", 403),
        refused("NotImplemented", 501),
        refused("PreconditionFailed", 412),
        PermissionDeniedError("<Code>SignatureDoesNotMatch</Code>"),
        NotFoundError("<Code>NoSuchBucket</Code>"),
    ],
)
def test_what_was_understood_and_refused_is_not(error: Exception) -> None:
    with pytest.raises(type(error)) as raised:
        ask("it", failing(error))
    assert raised.value is error


def test_it_ends_after_some_attempts_or_some_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "PAUSE_S", 0)
    assert ask("it", failing(*[Damaged("garbled")] * (retry.ATTEMPTS - 1))) == "answer"
    with pytest.raises(NoAnswer, match=r"it: S3 gives no usable answer \(garbled\)"):
        ask("it", failing(*[Damaged("garbled")] * retry.ATTEMPTS))

    asked = 0

    def slow() -> None:
        nonlocal asked
        asked += 1
        time.sleep(0.02)
        raise Damaged("late")

    with pytest.raises(NoAnswer):
        ask("it", slow, within_s=0.01)
    assert asked == 1


def test_a_page_that_does_not_say_how_to_go_on_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "PAUSE_S", 0)
    answers: list[dict[str, Any]] = [
        {"IsTruncated": True, "Next": "b"},
        {"IsTruncated": True},
        {},
        {"IsTruncated": True, "Next": "c"},
        {"IsTruncated": False},
    ]
    asked: list[str] = []

    def call(*, after: str = "a") -> dict[str, Any]:
        asked.append(after)
        return answers[len(asked) - 1]

    assert list(pages("it", call, {"Next": "after"})) == [answers[0], answers[3], answers[4]]
    assert asked == ["a", "b", "b", "b", "c"]
