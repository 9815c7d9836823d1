"""What a prefix is expected to hold: the keys, sizes and checksums of files."""

from __future__ import annotations

import hashlib
import os
import stat
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from s3_sync.errors import InvalidObjects

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from s3_sync.bucket.target import S3Target

SCHEMA = pa.schema([("key", pa.string()), ("size", pa.int64()), ("sha256", pa.binary(32))])
# An empty, '.' or '..' segment, or a control character: no safe local path, and S3 clients differ about them.
UNSAFE_KEY = r"(?s)^$|(^|/)\.{0,2}(/|$)|[\x00-\x1f\x7f]"
# https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-keys.html
MAX_KEY_BYTES = 1024
CHUNK = 1 << 20
THREADS = 8
BATCH = 10_000


class Item(NamedTuple):
    """One file to send; ``etag`` is what the destination lists if that may be the MD5 of the same bytes.

    With origins, ``path`` is where it lies in one of them, and ``origin_etag`` what it is known by there, if in S3.
    """

    key: str
    size: int
    sha256: bytes
    etag: str | None
    origin: str | None = None
    path: str | None = None
    origin_etag: str | None = None

    @property
    def file(self) -> str:
        return self.path or self.key


def load(objects: pa.Table | Path | str | None, source: Path, target: S3Target) -> pa.Table:
    """Return the expected ``key, size, sha256`` in that order of columns, checked.

    ``objects`` is a table, or the path of a Parquet file, with at least these columns (sha256 as 32 bytes);
    without it ``source`` is walked and hashed.

    Raises InvalidObjects for missing columns, nulls, keys that occur twice, that would leave ``source`` or that
    are too long for S3; see `walk` for the rest.
    """
    if objects is None:
        table = walk(source)
    elif isinstance(objects, pa.Table):
        table = objects
    else:
        table = pq.read_table(objects, columns=SCHEMA.names)
    missing = [name for name in SCHEMA.names if name not in table.column_names]
    if missing:
        raise InvalidObjects(f"the table of objects has no column {', '.join(missing)}: needed are {SCHEMA.names}")
    try:
        table = table.select(SCHEMA.names).cast(SCHEMA)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise InvalidObjects(f"the table of objects has columns of another type ({error}): {SCHEMA}") from error
    _check(table, target)
    return table


def _check(table: pa.Table, target: S3Target) -> None:
    if any(table[name].null_count for name in SCHEMA.names):
        raise InvalidObjects("the table of objects has empty cells: key, size and sha256 are needed in each row")
    keys = table["key"]
    too_long = pc.greater(pc.binary_length(keys), MAX_KEY_BYTES - len(target.prefix.encode()))
    for rule, broken in (
        ("has an empty, '.' or '..' segment or a control character", pc.match_substring_regex(keys, UNSAFE_KEY)),
        (f"is longer than S3's {MAX_KEY_BYTES} bytes with the prefix", too_long),
    ):
        if examples := keys.filter(broken).slice(0, 1).to_pylist():
            raise InvalidObjects(f"key {examples[0]!a} {rule}: rename the file")
    if pc.count_distinct(keys).as_py() < len(keys):
        counts = keys.value_counts()
        twice = counts.field("values").filter(pc.greater(counts.field("counts"), 1))
        raise InvalidObjects(f"key {twice[0].as_py()!a} occurs more than once in the table of objects")


def walk(source: Path) -> pa.Table:
    """Return every file under ``source`` with its size and SHA-256.

    Raises InvalidObjects for a link, a special file or a name that is not UTF-8, OSError for an unreadable folder
    or file: leaving one out would delete its key.
    """
    keys = sorted(_files(source, ""))
    batches = []
    with root(source) as top, ThreadPoolExecutor(THREADS) as pool:
        for start in range(0, len(keys), BATCH):
            batch = keys[start : start + BATCH]
            sizes, digests = zip(*pool.map(lambda key: _size_and_sha256(top, key), batch), strict=True)
            batches.append(pa.record_batch([batch, sizes, digests], schema=SCHEMA))
    return pa.Table.from_batches(batches, schema=SCHEMA)


def _files(folder: Path, prefix: str) -> Iterator[str]:
    with os.scandir(folder) as entries:
        for entry in entries:
            key = prefix + entry.name
            if not _is_utf8(entry.name):
                raise InvalidObjects(f"{key!a} is not UTF-8 and so cannot be a key: rename the file")
            if entry.is_dir(follow_symlinks=False):
                yield from _files(Path(entry.path), f"{key}/")
            elif entry.is_file(follow_symlinks=False):
                yield key
            else:
                raise InvalidObjects(f"{key!a} is a link or a special file: only regular files can be synced")


def _is_utf8(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:  # a lone surrogate stands for a byte that is not UTF-8 (PEP 383)
        return False
    return True


def _size_and_sha256(root: int, key: str) -> tuple[int, bytes]:
    digest = hashlib.sha256()
    with open_key(root, key) as file:
        while block := file.read(CHUNK):
            digest.update(block)
        return file.tell(), digest.digest()


def checked(parts: Iterable[bytes], sha256: bytes, otherwise: type[InvalidObjects]) -> Iterator[bytes]:
    """Yield the parts of an object; raise ``otherwise`` behind the last one if they do not have this SHA-256.

    An error raised here, also there, makes obstore abort the upload in parts.
    """
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
        yield part
    if digest.digest() != sha256:
        raise otherwise


@contextmanager
def root(source: Path) -> Iterator[int]:
    """Give a descriptor of the folder ``source`` itself, which may be a link."""
    descriptor = os.open(source, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextmanager
def open_key(root: int, key: str) -> Iterator[IO[bytes]]:
    """Open the regular file behind ``key``; no link below ``root`` is followed, so nothing outside is read."""
    with os.fdopen(_open(root, key), "rb", buffering=0) as file:
        yield file


def read_key(root: int, key: str, size: int) -> bytes:
    """Return the bytes of the regular file behind ``key``, of which ``size`` are expected; one more if it has grown.

    The same as `open_key` with fewer system calls.
    """
    handle = _open(root, key)
    try:
        content = os.read(handle, size + 1)
        while 0 < len(content) < size and (more := os.read(handle, size + 1 - len(content))):
            content += more
        return content
    finally:
        os.close(handle)


def _open(root: int, key: str) -> int:
    *folders, name = key.split("/")
    parent, opened = root, []
    try:
        for folder in folders:
            parent = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=parent)
            opened.append(parent)
        # O_NONBLOCK: opening a FIFO must not wait for its writer.
        handle = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=parent)
    finally:
        for descriptor in opened:
            os.close(descriptor)
    if stat.S_ISREG(os.fstat(handle).st_mode):
        return handle
    os.close(handle)
    raise InvalidObjects(f"{key!a} is not a regular file")
