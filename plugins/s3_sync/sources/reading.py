"""An object's bytes, if it still is the one that was listed."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import obstore
from obstore.exceptions import BaseError, PreconditionError

from s3_sync.bucket.retry import Damaged
from s3_sync.listing import archived
from s3_sync.listing.archived import ObjectArchived

if TYPE_CHECKING:
    from collections.abc import Callable

    from _typeshed import WriteableBuffer
    from obstore import GetOptions

    from s3_sync.bucket.connection import S3Connection

READ_AT_ONCE = 128 << 10


class Parts(io.RawIOBase):
    """An object as a file, of which ``part`` returns the bytes from a place up to another."""

    def __init__(self, part: Callable[[int, int], bytes | None], size: int) -> None:
        self.part, self.size, self.at = part, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self.at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self.at, io.SEEK_END: self.size}[whence]
        return self.at

    def readinto(self, buffer: WriteableBuffer) -> int:
        view = memoryview(buffer).cast("B")
        end = min(self.at + len(view), self.size)
        if end <= self.at:
            return 0
        try:
            content = self.part(self.at, end)
        except ObjectArchived:
            content = None
        if content is None:
            raise FileNotFoundError
        view[: len(content)] = content
        self.at += len(content)
        return len(content)


def bare(etag: str) -> str:
    """Return an ETag without its quotes, and without the mark of a weak one."""
    return etag.removeprefix("W/").strip('"')


def read_object(
    connection: S3Connection, key: str, etag: str | None, part: tuple[int, int] | None = None
) -> bytes | None:
    """Return the bytes of the object ``key`` (of the bucket); None if it is gone, or has another ETag than given.

    ``part`` are the first byte wanted and the one behind the last. Raises ObjectArchived.
    """
    options: GetOptions = {"if_match": f'"{etag}"'} if etag else {}
    if part is not None:
        options["range"] = part
    try:
        answer = obstore.get(connection.store, key, options=options)
        if etag and bare(answer.meta["e_tag"] or "") != etag:
            return None
        content = bytes(answer.bytes())
    except (PreconditionError, FileNotFoundError):
        return None
    except (BaseError, OSError) as error:
        if archived.is_refusal(error):
            raise ObjectArchived from error
        raise
    if part is not None and len(content) != part[1] - part[0]:
        raise Damaged("an answer has fewer bytes than were asked for")
    return content
