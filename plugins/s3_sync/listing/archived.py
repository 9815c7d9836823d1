"""Objects that are listed but cannot be read, because S3 has archived them.

A listing tells it of two storage classes. Of Intelligent-Tiering only the object itself tells whether it lies in one of
the archive tiers, and it lies there only after 90 days in which nobody read it; so only older ones are asked.
https://docs.aws.amazon.com/AmazonS3/latest/userguide/restoring-objects.html
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from s3_sync.bucket.retry import ask
from s3_sync.errors import InvalidObjects

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from s3_sync.bucket.prefix import S3Prefix

CLASSES = frozenset({"GLACIER", "DEEP_ARCHIVE"})
TIERED = "INTELLIGENT_TIERING"
# Less than the 90 days, because clocks differ.
TIERED_AFTER = timedelta(days=89)
REFUSAL = "InvalidObjectState"
AT_ONCE = 32


class ObjectArchived(InvalidObjects):
    """An object that was to be read, or copied, has been archived."""

    def __init__(self) -> None:
        super().__init__("S3 has archived it, so that it cannot be read: restore it, or leave it out")


def is_refusal(error: BaseException) -> bool:
    """Say whether ``error``, of boto3 or obstore, refuses to read an object because it is archived."""
    if isinstance(error, ClientError):
        return bool(error.response["Error"].get("Code") == REFUSAL)
    return f"<Code>{REFUSAL}</Code>" in str(error)


def may_be_tiered(storage_class: str, written: str) -> bool:
    """Say whether an object of a class, written then (as a listing has both), may lie in an archive tier."""
    return storage_class == TIERED and written < (datetime.now(UTC) - TIERED_AFTER).isoformat()


def tells_archived(head: Mapping[str, Any]) -> bool:
    """Say whether an object, of which this is boto3's ``head_object``, is archived."""
    return "ArchiveStatus" in head or head.get("StorageClass") in CLASSES


def among(prefix: S3Prefix, keys: Iterable[str]) -> list[str]:
    """Return those of ``keys`` under ``target`` that are archived, or of which it may not be asked (s3:GetObject)."""

    def is_archived(key: str) -> bool:
        try:
            head = ask(key, lambda: prefix.client.head_object(Bucket=prefix.bucket, Key=prefix.key(key)))
        except ClientError as error:
            if error.response["ResponseMetadata"]["HTTPStatusCode"] not in {403, 404}:
                raise
            return bool(error.response["ResponseMetadata"]["HTTPStatusCode"] == 403)
        return tells_archived(head)

    asked = list(keys)
    with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="s3-tiers") as pool:
        return [key for key, gone in zip(asked, pool.map(is_archived, asked), strict=True) if gone]
