"""Uploads in parts that nobody will finish: a killed sync leaves them, or an answer that was lost on its way."""

from __future__ import annotations

import logging
from functools import partial
from typing import TYPE_CHECKING

from botocore.exceptions import ClientError

from s3_sync.asking import ask, pages
from s3_sync.errors import NoAnswer, cause

if TYPE_CHECKING:
    from collections.abc import Iterator

    from s3_sync.connection import S3Connection
    from s3_sync.target import S3Target

log = logging.getLogger(__name__)


def abort_unfinished(connection: S3Connection, target: S3Target) -> int:
    """Abort every upload in parts under ``target``; return how many. Call it while nobody uploads there.

    They hold bytes of images, cost money, and appear in no listing of objects. What S3 does not let be listed or
    aborted is logged, and left: the objects themselves are right all the same.
    """
    aborted = 0
    try:
        for key, upload in list(_uploads(connection, target)):
            where = {"Bucket": target.bucket, "Key": key, "UploadId": upload}
            try:
                ask(target.uri, partial(connection.client.abort_multipart_upload, **where))
            except ClientError as error:
                if error.response["ResponseMetadata"]["HTTPStatusCode"] != 404:
                    raise
            aborted += 1
    except (ClientError, NoAnswer) as error:
        log.warning(
            "%s: uploads in parts that broke off may be left (%s). Allow s3:ListBucketMultipartUploads and"
            " s3:AbortMultipartUpload, or have the bucket's lifecycle abort them",
            target.uri,
            cause(error),
        )
    if aborted:
        log.info("%s: %d uploads that broke off were aborted", target.uri, aborted)
    return aborted


def _uploads(connection: S3Connection, target: S3Target) -> Iterator[tuple[str, str]]:
    """Yield key and id of every unfinished upload."""
    where = {"Bucket": target.bucket, "Prefix": target.prefix}
    markers = {"NextKeyMarker": "KeyMarker", "NextUploadIdMarker": "UploadIdMarker"}
    for page in pages(target.uri, connection.client.list_multipart_uploads, markers, **where):
        for upload in page.get("Uploads", ()):
            # The server's word for the prefix is not enough where something is to be removed.
            if upload["Key"].startswith(target.prefix):
                yield upload["Key"], upload["UploadId"]
