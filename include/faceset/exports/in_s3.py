"""What the keys of an export in S3 mean: the files that there would be on a disk, by column."""

from collections.abc import Iterator

import pyarrow as pa

from include.faceset.exports.on_disk import Listing
from include.faceset.ledger import Outcome
from include.faceset.ports import Source

OBJECT = pa.schema([("key", pa.string()), ("size", pa.int64()), ("mtime_ns", pa.int64()), ("etag", pa.string())])
"""An object as it is listed: its key, its size in bytes, when it was written, and what changes when its bytes do; that
is null of one that is archived."""
HADOOP_FOLDER = "_$folder$"


def list_files(source: Source, below: str, folders: int, rows: int) -> Iterator[Listing]:
    """What lies in an export, or in a part of it, about `rows` objects at a time.

    Args:
        source: the export.
        below: as for `Source`.
        folders: how many folders an image lies in: 0 in a flat export, 1 in an image folder.
        rows: objects in memory.
    """
    listing = Listing()
    for page in source.listing(below):
        columns = (page[name].to_pylist() for name in OBJECT.names)
        for key, size, mtime_ns, etag in zip(*columns, strict=True):
            _take(listing, key, folders, (size, mtime_ns, etag))
        if len(listing) >= rows:
            yield listing
            listing = Listing()
    yield listing


def _take(listing: Listing, key: str, folders: int, facts: tuple[int, int, str | None]) -> None:
    size, mtime_ns, etag = facts
    *above, name = (f"{key[: -len(HADOOP_FOLDER)]}/" if size == 0 and key.endswith(HADOOP_FOLDER) else key).split("/")
    if name == "" and size == 0:
        # What consoles, mounts and Hadoop make for a folder. One that holds images is no entry of its own on a disk.
        if len(above) > folders:
            listing.odd.append((key, Outcome.NOT_REGULAR_FILE))
    elif len(above) > folders or "" in (*above, name):
        listing.odd.append((key, Outcome.UNMATCHED_NAME))
    elif etag is None:
        listing.odd.append((key, Outcome.ARCHIVED))
    else:
        listing.folders.append("/".join(above))
        listing.names.append(name)
        listing.sizes.append(size)
        listing.mtimes_ns.append(mtime_ns)
        listing.etags.append(etag)
