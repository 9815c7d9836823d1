"""Uploads in parts that nobody will finish: a killed sync leaves them, or an answer that was lost on its way."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from botocore.exceptions import ClientError

from s3_sync.bucket.retry import ask
from s3_sync.errors import NoAnswer, cause

if TYPE_CHECKING:
    from s3_sync.bucket.prefix import S3Prefix

log = logging.getLogger(__name__)


def abort_unfinished(prefix: S3Prefix) -> int:
    """Abort every upload in parts under ``target``; return how many. Call it while nobody uploads there.

    They hold bytes of images, cost money, and appear in no listing of objects. What S3 does not let be listed or
    aborted is logged, and left: the objects themselves are right all the same.
    """
    aborted: set[tuple[str, str]] = set()
    try:
        while uploads := _first_page(prefix) - aborted:
            for key, upload in sorted(uploads):
                _abort(prefix, key, upload)
            aborted |= uploads
    except (ClientError, NoAnswer) as error:
        log.warning(
            "%s: uploads in parts that broke off may be left (%s). Allow s3:ListBucketMultipartUploads and"
            " s3:AbortMultipartUpload, or have the bucket's lifecycle abort them",
            prefix.uri,
            cause(error),
        )
    if aborted:
        log.info("%s: %d uploads that broke off were aborted", prefix.uri, len(aborted))
    return len(aborted)


def _first_page(prefix: S3Prefix) -> set[tuple[str, str]]:
    """Return key and id of unfinished uploads.

    What follows a page is not asked for: once these are aborted, it is the first. (SeaweedFS 4.48 leaves some out when
    one key has more uploads than a page has room for.)
    """
    where = {"Bucket": prefix.bucket, "Prefix": prefix.target.prefix}
    page = ask(prefix.uri, lambda: prefix.client.list_multipart_uploads(**where))
    found = {(upload["Key"], upload["UploadId"]) for upload in page.get("Uploads", ())}
    # The server's word for the prefix is not enough where something is to be removed.
    return {(key, upload) for key, upload in found if key.startswith(prefix.target.prefix)}


def _abort(prefix: S3Prefix, key: str, upload: str) -> None:
    """Abort an upload. If there is none it is over, or its id was damaged on the way: then the next page tells it."""

    def abort() -> None:
        try:
            prefix.client.abort_multipart_upload(Bucket=prefix.bucket, Key=key, UploadId=upload)
        except ClientError as error:
            if error.response["ResponseMetadata"]["HTTPStatusCode"] != 404:
                raise

    ask(prefix.uri, abort)
