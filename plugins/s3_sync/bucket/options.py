"""How objects are stored: encryption, storage class, tags, content types."""

from __future__ import annotations

import mimetypes
import os.path
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING

from s3_sync.errors import InvalidOption

if TYPE_CHECKING:
    from collections.abc import Mapping

KMS = ("aws:kms", "aws:kms:dsse")
ENCRYPTIONS = ("AES256", *KMS)
DEFAULT_CONTENT_TYPE = "application/octet-stream"


@dataclass(frozen=True)
class ObjectOptions:
    """What every PUT of a sync carries besides bytes and checksum.

    ``content_types`` maps a suffix such as ``.webp`` to a type and wins over Python's built-in table; what
    neither knows is ``application/octet-stream``.
    """

    storage_class: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    content_types: Mapping[str, str] = field(default_factory=dict)

    def attributes(self, key: str) -> dict[str, str]:
        """Return obstore's attributes for ``key``."""
        suffix = os.path.splitext(key)[1].lower()  # noqa: PTH122 once a key: pathlib takes as long as all the rest
        attributes = {"Content-Type": self.content_types.get(suffix) or guessed_type(suffix)}
        if self.storage_class:
            attributes["Storage-Class"] = self.storage_class
        return attributes


@cache
def guessed_type(suffix: str) -> str:
    """Return the content type of a file name's ``suffix``, the same on every machine."""
    # An instance of its own: the module's functions also read what the machine has in /etc/mime.types.
    return mimetypes.MimeTypes().guess_type(f"x{suffix}", strict=False)[0] or DEFAULT_CONTENT_TYPE


def check_encryption(encryption: str | None, kms_key_id: str | None) -> None:
    """Raise InvalidOption for an encryption that S3 does not know, or a key without one by KMS."""
    if encryption is not None and encryption not in ENCRYPTIONS:
        raise InvalidOption(f"encryption is {encryption!r}: use one of {', '.join(ENCRYPTIONS)}, or None")
    if kms_key_id and encryption not in KMS:
        raise InvalidOption(f"kms_key_id needs encryption {' or '.join(KMS)}, but encryption is {encryption!r}")
