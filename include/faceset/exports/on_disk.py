"""What lies in an export: regular files by column, and what else is there. No file is opened, no link followed."""

import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from include.faceset.ledger import Outcome
from include.faceset.names import as_text

_OPEN_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


@dataclass(frozen=True)
class Listing:
    """Some files of an export. The lists of `folders` to `mtimes_ns` have one item a file; `folders` holds the
    folder's name below the walked one, or an empty text. `odd` has the path of each entry that is no regular file.
    `etags` has one item a file of an export in S3, none of one on a disk. Times may be out of an int64's range."""

    folders: list[str] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    mtimes_ns: list[int] = field(default_factory=list)
    etags: list[str] = field(default_factory=list)
    odd: list[tuple[str, Outcome]] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.names) + len(self.odd)

    def take(self, folder: str, entries: Iterable[os.DirEntry[str]]) -> int:
        """Add what lies in a folder; how many entries that were."""
        named, seen = len(self.names), len(self)
        for entry in entries:
            try:
                status = entry.stat(follow_symlinks=False)
            except FileNotFoundError:
                self.odd.append((_path(folder, entry.name), Outcome.CHANGED_DURING_RUN))
                continue
            if not stat.S_ISREG(status.st_mode):
                self.odd.append((_path(folder, entry.name), Outcome.NOT_REGULAR_FILE))
                continue
            self.names.append(entry.name)
            self.sizes.append(status.st_size)
            self.mtimes_ns.append(status.st_mtime_ns)
        self.folders.extend([folder] * (len(self.names) - named))
        return len(self) - seen

    def path(self, index: int) -> str:
        """Where a file lies below the walked folder."""
        return _path(self.folders[index], self.names[index])


def _path(folder: str, name: str) -> str:
    return f"{folder}/{name}" if folder else name


def list_files(root: Path, depth: int, rows: int, *, follow: bool) -> Iterator[Listing]:
    """Every entry of the folders that images lie in, and what else lies on the way to them, about `rows` at a time.

    Args:
        root: the export, or a part of it.
        depth: how many folders an image lies in: 0 in a flat export, 1 in an image folder.
        rows: files in memory.
        follow: whether the folder itself may be a link.
    """
    with open_folder(root, follow=follow) as top:
        listing = Listing()
        for folder, entries in _folders(top, "", depth):
            while some := list(islice(entries, rows)):
                listing.take(folder, some)
                if len(listing) >= rows:
                    yield listing
                    listing = Listing()
    yield listing


def _folders(at: int, path: str, depth: int) -> Iterator[tuple[str, Iterator[os.DirEntry[str]]]]:
    """The folders at the depth where images lie with what is in them; above it, what is no folder."""
    with os.scandir(at) as entries:
        if depth == 0:
            yield path, entries
            return
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                with open_folder(entry.name, at) as inside:
                    yield from _folders(inside, _path(path, entry.name), depth - 1)
            else:
                yield path, iter([entry])


@contextmanager
def open_folder(path: str | Path, parent: int | None = None, *, follow: bool = False) -> Iterator[int]:
    """A folder's descriptor; a link in its place is refused unless `follow`, so a walk never leaves its export."""
    try:
        descriptor = os.open(path, _OPEN_FOLDER | (0 if follow else os.O_NOFOLLOW), dir_fd=parent)
    except OSError as error:
        error.filename = as_text(str(path))
        raise
    try:
        yield descriptor
    finally:
        os.close(descriptor)
