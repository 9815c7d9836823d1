"""A large file, of which Pillow gets to read no more than it is worth."""

from typing import BinaryIO

READ_OF_LARGE = 1 << 20
"""Bytes that may be read of a large file to judge it, beside those of its pixels."""
PIXEL_BYTES = 8


class Spent(Exception):  # noqa: N818 it says what was found
    """More of a file was asked for than may be read."""


class Sparing:
    """A file of which no more than so many bytes are read. It has no descriptor, by which libtiff would get round it.

    A damaged header may ask for gigabytes, or send Pillow through the file byte by byte.
    """

    def __init__(self, file: BinaryIO, left: int) -> None:
        self._file, self._left = file, left
        self.seek, self.tell = file.seek, file.tell

    def read(self, size: int = -1) -> bytes:
        """As of any file.

        Raises:
            Spent: more was asked for than may be read.
        """
        wanted = self._left + 1 if size < 0 else min(size, self._left + 1)
        data = self._file.read(wanted)
        if len(data) > self._left:
            raise Spent
        self._left -= len(data)
        return data
