"""Every error says by its base whether another try can help, and both operators go by it."""

import importlib
import pkgutil

import pytest
from airflow.sdk.exceptions import AirflowFailException

import s3_sync
from s3_sync import errors
from s3_sync.operators import final

for _module in pkgutil.walk_packages(s3_sync.__path__, "s3_sync."):
    importlib.import_module(_module.name)


def below(kind: type[Exception]) -> list[type[Exception]]:
    return [one for child in kind.__subclasses__() for one in (child, *below(child))]


EVERY = sorted(set(below(errors.S3SyncError)) - {errors.Final, errors.Again}, key=lambda one: one.__name__)


@pytest.mark.parametrize("kind", EVERY, ids=lambda kind: kind.__name__)
def test_an_error_is_final_or_may_pass_and_so_it_is_treated(kind: type[Exception]) -> None:
    assert issubclass(kind, errors.Final) != issubclass(kind, errors.Again)
    error = kind.__new__(kind)
    expected = AirflowFailException if issubclass(kind, errors.Final) else kind
    with pytest.raises(expected), final():
        raise error


def test_what_nobody_can_put_right_by_waiting_is_final() -> None:
    assert {one.__name__ for one in EVERY if issubclass(one, errors.Final)} >= {
        "InvalidTarget",
        "InvalidOption",
        "InvalidRecord",
        "DeletionRefused",
        "LeaseHeld",
    }


def test_that_nothing_was_deleted_is_said_before_deletions_only() -> None:
    failures = {"ann/1.jpg": "503 SlowDown"}
    assert "nothing was deleted" in str(errors.UploadFailed("s3://b/set/", failures, before_deletions=True))
    assert "deleted" not in str(errors.UploadFailed("s3://b/set.releases/", failures))
