"""One request, sent again while its answer is damaged in a way that neither obstore nor botocore repeats by itself.

Both of them repeat what gets no answer, and what is answered with 500 or 503. Neither does it for an answer that cannot
be read (cut off, garbled, of something else), nor for a request that was damaged on its way to the server.
"""

from __future__ import annotations

import logging
import random
import re
import time
from itertools import count
from typing import TYPE_CHECKING, Any, TypeVar
from xml.etree import ElementTree as ET

from botocore.exceptions import BotoCoreError, ClientError
from botocore.parsers import ResponseParserError
from obstore.exceptions import BaseError, PermissionDeniedError, UnauthenticatedError

from s3_sync.bucket.remedies import is_refused
from s3_sync.errors import NoAnswer, cause

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from s3_sync.bucket.credentials import S3Credentials

log = logging.getLogger(__name__)

T = TypeVar("T")
Answer = dict[str, Any]

ATTEMPTS = 6
PAUSE_S = 0.1
# A client that has been repeating a request for so long by itself is not asked again.
WITHIN_S = 60.0
# The server got something damaged, or does not know any more what it has done: the answer to that was lost.
DAMAGED_ON_THE_WAY = {
    "BadDigest",
    "IncompleteBody",
    "InvalidDigest",
    "InvalidPart",
    "MalformedXML",
    "NoSuchUpload",
    "RequestTimeout",
    "XAmzContentChecksumMismatch",
    "XAmzContentSHA256Mismatch",
}
FOR_NOW = {"InternalError", "OperationAborted", "ServiceUnavailable", "SlowDown"}
FOR_NOW_STATUS = {500, 502, 503, 504}


class Damaged(Exception):  # noqa: N818 it says what was found
    """An answer that cannot be what the server meant."""


def ask(what: str, call: Callable[[], T], *, within_s: float = WITHIN_S, credentials: S3Credentials | None = None) -> T:
    """Return what ``call`` returns, which sends one request and reads its answer; call it again where that may help.

    ``credentials`` are those of a request by obstore: where S3 refuses them as ended they are renewed, once. (boto3's
    clients do that by themselves.) Raises CredentialsNotReady when that is no help.

    Raises NoAnswer, which begins with ``what``, when the answer is still damaged after some attempts, or one that
    ended later than ``within_s`` seconds after the first began; whatever else ``call`` raises goes through.
    """
    begun, renewed = time.monotonic(), False
    for attempt in count(1):
        try:
            return call()
        except Exception as error:
            if credentials is not None and is_refused(error):
                if renewed:
                    raise credentials.not_ready("are refused by S3, renewed as they are", error) from error
                credentials.renew()
                renewed = True
            elif not may_help(error):
                raise
            elif attempt >= ATTEMPTS or time.monotonic() - begun > within_s:
                raise NoAnswer(f"{what}: S3 gives no usable answer ({cause(error)}). Run again") from error
            log.debug("asked again: %s", cause(error))
        # At least as long as obstore may keep credentials that were renewed meanwhile.
        time.sleep(PAUSE_S * 2**attempt * random.uniform(0.5, 1))  # noqa: S311 only so that not all come at once
    raise AssertionError("unreachable")


def list_objects(client: Any, **where: Any) -> Answer:
    """Return a page of boto3's ``list_objects_v2``.

    One that is empty is asked for once more: S3 may mean that, but so looks a page that has lost its keys.
    """
    answer: Answer = client.list_objects_v2(**where)
    return answer if answer.get("KeyCount", 1) else client.list_objects_v2(**where)


def pages(what: str, call: Callable[..., Answer], markers: Mapping[str, str], **where: Any) -> Iterator[Answer]:
    """Yield the pages of a listing that boto3's ``call`` starts with the arguments ``where``.

    ``markers`` maps what a page says of the next one to the argument that asks for it.

    Raises NoAnswer as `ask` does, also for a listing that comes back to a page which it has given before.
    """
    following: dict[str, Any] | None = {}
    asked = set[tuple[Any, ...]]()

    def page() -> tuple[Answer, dict[str, Any] | None]:
        answer = call(**where, **(following or {}))
        if not answer["IsTruncated"]:
            return answer, None
        after = {argument: answer[name] for name, argument in markers.items()}
        if tuple(after.values()) in asked:
            raise Damaged("a listing goes in circles: it comes back to a page that it has given before")
        return answer, after

    while following is not None:
        answer, following = ask(what, page)
        yield answer
        if following:
            asked.add(tuple(following.values()))


def may_help(error: BaseException) -> bool:
    """Say whether asking again may help: not where the server has understood, and refuses."""
    if isinstance(error, ClientError):
        status = error.response["ResponseMetadata"].get("HTTPStatusCode")
        return status in FOR_NOW_STATUS or is_for_now(error.response["Error"].get("Code", ""))
    if isinstance(error, PermissionDeniedError | UnauthenticatedError):
        return False
    # obstore also raises Python's own errors, which then have no number.
    if isinstance(error, BaseError) or (isinstance(error, OSError) and error.errno is None):
        code = re.search("<Code>(.*?)</Code>", str(error))
        return code is None or is_for_now(code[1])
    # What a garbled answer leads to: no XML, no number, no date, a part that is missing.
    garbled = (BotoCoreError, ResponseParserError, Damaged, ET.ParseError, ValueError, KeyError, TypeError)
    return isinstance(error, garbled)


def is_for_now(code: str) -> bool:
    """Say whether an error ``code`` of S3 may be another one the next time."""
    return code in DAMAGED_ON_THE_WAY or code in FOR_NOW
