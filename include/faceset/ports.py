"""What the steps ask of an export that lies in S3.

Nothing here knows S3: whoever starts a step hands the places over.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import BinaryIO

    import pyarrow as pa

ARCHIVED: Final = "archived"
"""In the place of bytes: they are there, but nobody can read them before they are restored."""


class Source(Protocol):
    """A prefix that holds an export. Keys are relative to it; `below` is empty, or the key of a folder and a slash.

    What cannot be listed or read raises an error that names the remedy.
    """

    def listing(self, below: str) -> Iterator[pa.RecordBatch]:
        """Every object (schema `objects.OBJECT`) whose key begins with `below`, and that key without it.

        One that is archived has no ETag.
        """

    def folders(self, below: str) -> list[str]:
        """Names of what would be folders on a disk, directly below."""

    def holds(self, below: str) -> bool:
        """Whether there is any object below."""

    def read(self, key: str, etag: str) -> bytes | Literal["archived"] | None:
        """The bytes of an object; None if it is gone or has changed, so that its ETag is another."""

    def open(self, key: str, etag: str, size: int) -> BinaryIO | Literal["archived"] | None:
        """An object of `size` bytes, to be read in parts; None as above.

        Reading raises FileNotFoundError once the object is gone or has changed.
        """
