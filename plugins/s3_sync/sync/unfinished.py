"""Uploads in parts that nobody will finish: a killed sync leaves them, or an answer that was lost on its way."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from botocore.exceptions import ClientError

from s3_sync.bucket.retry import ask
from s3_sync.errors import NoAnswer, cause

if TYPE_CHECKING:
    from s3_sync.bucket.connection import S3Connection
    from s3_sync.bucket.target import S3Target

log = logging.getLogger(__name__)


def abort_unfinished(connection: S3Connection, target: S3Target) -> int:
    """Abort every upload in parts under ``target``; return how many. Call it while nobody uploads there.

    They hold bytes of images, cost money, and appear in no listing of objects. What S3 does not let be listed or
    aborted is logged, and left: the objects themselves are right all the same.
    """
    aborted: set[tuple[str, str]] = set()
    try:
        while uploads := _first_page(connection, target) - aborted:
            for key, upload in sorted(uploads):
                _abort(connection, target, key, upload)
            aborted |= uploads
    except (ClientError, NoAnswer) as error:
        log.warning(
            "%s: uploads in parts that broke off may be left (%s). Allow s3:ListBucketMultipartUploads and"
            " s3:AbortMultipartUpload, or have the bucket's lifecycle abort them",
            target.uri,
            cause(error),
        )
    if aborted:
        log.info("%s: %d uploads that broke off were aborted", target.uri, len(aborted))
    return len(aborted)


def _first_page(connection: S3Connection, target: S3Target) -> set[tuple[str, str]]:
    """Return key and id of unfinished uploads.

    What follows a page is not asked for: once these are aborted, it is the first. (SeaweedFS 4.48 leaves some out when
    one key has more uploads than a page has room for.)
    """
    where = {"Bucket": target.bucket, "Prefix": target.prefix}
    page = ask(target.uri, lambda: connection.client.list_multipart_uploads(**where))
    found = {(upload["Key"], upload["UploadId"]) for upload in page.get("Uploads", ())}
    # The server's word for the prefix is not enough where something is to be removed.
    return {(key, upload) for key, upload in found if key.startswith(target.prefix)}


def _abort(connection: S3Connection, target: S3Target, key: str, upload: str) -> None:
    """Abort an upload. If there is none it is over, or its id was damaged on the way: then the next page tells it."""

    def abort() -> None:
        try:
            connection.client.abort_multipart_upload(Bucket=target.bucket, Key=key, UploadId=upload)
        except ClientError as error:
            if error.response["ResponseMetadata"]["HTTPStatusCode"] != 404:
                raise

    ask(target.uri, abort)
