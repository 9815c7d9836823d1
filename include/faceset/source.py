"""Exports that lie in S3: what the steps ask of such a place, and what its keys mean.

Nothing here knows S3: whoever starts a step hands the places over.
"""

from collections.abc import Iterator
from typing import Protocol

import pyarrow as pa

from include.faceset.ledger import Outcome
from include.faceset.walk import Listed

OBJECT = pa.schema([("key", pa.string()), ("size", pa.int64()), ("mtime_ns", pa.int64()), ("etag", pa.string())])
"""An object as it is listed: its key, its size in bytes, when it was written, and what changes when its bytes do."""


class Source(Protocol):
    """A prefix that holds an export. Keys are relative to it; `below` is empty, or the key of a folder and a slash.

    What cannot be listed or read raises an error that names the remedy.
    """

    def listing(self, below: str) -> Iterator[pa.RecordBatch]:
        """Every object (schema OBJECT) whose key begins with `below`, which is left out of the keys; in no order."""

    def folders(self, below: str) -> list[str]:
        """Names of what would be folders on a disk, directly below."""

    def holds(self, below: str) -> bool:
        """Whether there is any object below."""

    def read(self, key: str, etag: str) -> bytes | None:
        """The bytes of an object; None if it is gone or has changed, so that its ETag is another."""


def objects(source: Source, below: str, folders: int, rows: int) -> Iterator[Listed]:
    """What lies in an export, or in a part of it, about `rows` objects at a time.

    Args:
        source: the export.
        below: as for `Source`.
        folders: how many folders an image lies in: 0 in a flat export, 1 in an image folder.
        rows: objects in memory.
    """
    listed = Listed()
    for page in source.listing(below):
        columns = (page[name].to_pylist() for name in OBJECT.names)
        for key, size, mtime_ns, etag in zip(*columns, strict=True):
            _take(listed, key, folders, (size, mtime_ns, etag))
        if len(listed) >= rows:
            yield listed
            listed = Listed()
    yield listed


def _take(listed: Listed, key: str, folders: int, facts: tuple[int, int, str]) -> None:
    *above, name = key.split("/")
    size, mtime_ns, etag = facts
    if name == "" and size == 0:
        # What consoles make for a folder. One that holds images is no entry of its own on a disk either.
        if len(above) > folders:
            listed.odd.append((key, Outcome.NOT_REGULAR_FILE))
    elif len(above) > folders or "" in (*above, name):
        listed.odd.append((key, Outcome.UNMATCHED_NAME))
    else:
        listed.folders.append("/".join(above))
        listed.names.append(name)
        listed.sizes.append(size)
        listed.mtimes_ns.append(mtime_ns)
        listed.etags.append(etag)
