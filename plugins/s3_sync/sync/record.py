"""What earlier PUTs returned: for each key the SHA-256 that was sent and the ETag that came back.

An ETag is an opaque token. It is an MD5 in the simplest case only, not with SSE-KMS and not after a multipart
upload: https://docs.aws.amazon.com/AmazonS3/latest/API/API_Object.html. But as long as a key's ETag is still the
one that its PUT returned, the object still has the bytes that were sent.
"""

from __future__ import annotations

import glob
import logging
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pyarrow as pa
import pyarrow.parquet as pq

from s3_sync.errors import InvalidRecord, RecordNotWritten

if TYPE_CHECKING:
    from s3_sync.bucket.prefix import S3Prefix

log = logging.getLogger(__name__)

FILE_MODE = 0o640
FOLDER_MODE = 0o750
SCHEMA = pa.schema([("key", pa.string()), ("sha256", pa.binary(32)), ("etag", pa.string())])


def empty() -> pa.Table:
    return SCHEMA.empty_table()


def read(path: Path | None, prefix: S3Prefix) -> pa.Table:
    """Return the record at ``path``: empty if there is none, or if it tells of another destination.

    Raises InvalidRecord for a file that is no record.
    """
    if path is None or not path.exists():
        return empty()
    try:
        table = pq.read_table(path, memory_map=False)
        matches = table.schema.remove_metadata().equals(SCHEMA)
    except (OSError, pa.ArrowException) as error:
        raise InvalidRecord(f"{path} is no readable record of uploads ({error}). {_remedy()}") from error
    if not matches:
        raise InvalidRecord(f"{path} has other columns than a record of uploads. {_remedy()}")
    if not _binding(prefix).items() <= (table.schema.metadata or {}).items():
        log.warning("%s tells of another destination than %s: ignored", path, prefix.uri)
        return empty()
    return table.replace_schema_metadata(None)


def write(path: Path, table: pa.Table, prefix: S3Prefix) -> None:
    """Replace the record at ``path`` with ``table``, all or nothing; what a killed writer left goes too.

    Raises RecordNotWritten where the disk is full, or does not take it.
    """
    bound = table.select(SCHEMA.names).cast(SCHEMA).replace_schema_metadata(_binding(prefix))
    try:
        _write(path, bound)
    except OSError as error:
        raise RecordNotWritten(
            f"{path}, the record of uploads, cannot be written ({error.strerror or error}): make room on its disk and"
            " let this user write there, then run the sync again; what was uploaded meanwhile is compared, not sent"
        ) from error


def _write(path: Path, table: pa.Table) -> None:
    path.parent.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
    for left in path.parent.glob(f".{glob.escape(path.name)}.*"):
        left.unlink(missing_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            pq.write_table(table, file, compression="zstd")
            file.flush()
            os.fchmod(file.fileno(), FILE_MODE)
            os.fsync(file.fileno())
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _binding(prefix: S3Prefix) -> dict[bytes, bytes]:
    # Without the port: a server on this machine may get another one at every start.
    endpoint = urlsplit(prefix.endpoint).hostname or ""
    return {b"s3_sync.destination": prefix.uri.encode(), b"s3_sync.endpoint": endpoint.encode()}


def _remedy() -> str:
    return "Delete the file: the next sync will compare checksums instead"
