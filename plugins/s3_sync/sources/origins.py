"""Objects whose bytes lie elsewhere than in one local folder: in several folders, and under prefixes in S3.

An object in S3 is copied inside S3 where both sides have the same endpoint, else streamed; none of it touches a disk.
Either way it must still have the ETag under which it was read: so what is copied is what was hashed.
"""

from __future__ import annotations

import base64
import hashlib
import json
import logging
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlencode

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from botocore.exceptions import BotoCoreError, ClientError

from s3_sync.bucket.capabilities import conditional_copy
from s3_sync.bucket.probe import Probe
from s3_sync.bucket.retry import ask
from s3_sync.errors import InvalidObjects, InvalidOption
from s3_sync.listing import archived
from s3_sync.listing.archived import ObjectArchived
from s3_sync.sources.reading import read_object
from s3_sync.sources.source import S3Source
from s3_sync.sync import expected

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from s3_sync.bucket.options import ObjectOptions
    from s3_sync.bucket.prefix import S3Prefix
    from s3_sync.sync.expected import Item

log = logging.getLogger(__name__)

IN_S3 = "s3://"


class ObjectChanged(InvalidObjects):
    """An object that was to be copied is gone, or is another than the one that was read."""

    def __init__(self) -> None:
        super().__init__(
            "the object it is copied from has changed since it was read, or is gone; make the list of objects anew"
        )


@dataclass(frozen=True)
class Origin:
    """Where objects come from: ``root`` is a local folder, or ``s3://bucket/prefix/`` with its Airflow connection."""

    root: str
    aws_conn_id: str | None = "aws_default"


class Place(NamedTuple):
    """An origin that is in use: a folder's descriptor, or a prefix and whether S3 copies from it by itself."""

    folder: int = -1
    source: S3Source | None = None
    inside: bool = False


def parse(value: str | Mapping[str, Mapping[str, Any]] | None) -> dict[str, Origin]:
    """Return origins by name, from a mapping or its JSON such as ``{"a": {"root": "s3://bucket/prefix/"}}``.

    Raises InvalidOption.
    """
    try:
        named = json.loads(value) if isinstance(value, str) else value
        return {name: Origin(**one) for name, one in (named or {}).items()}
    except (ValueError, TypeError, AttributeError) as error:
        raise InvalidOption(
            f"origins is {value!r:.200}: it must map names to root (a folder or s3://…/) and aws_conn_id"
        ) from error


def check(origins: Mapping[str, Origin], rows: pa.Table) -> None:
    """Raise InvalidObjects if ``rows`` (of `attach`) come from elsewhere than the origins."""
    if unknown := sorted({str(name) for name in pc.unique(rows["origin"]).to_pylist()} - set(origins)):
        raise InvalidObjects(f"objects come from {unknown[0]!r}, which is none of the origins: {', '.join(origins)}")


def attach(rows: pa.Table, listed: pa.Table | Path | str) -> pa.Table:
    """Return ``rows`` (with a key) with ``origin``, ``path`` and ``origin_etag``, as the table of objects has them.

    There they are called ``export``, ``path`` and ``etag`` (null, or no such column: of a local file).
    """
    if not isinstance(listed, pa.Table):
        names = ["key", "export", "path", "etag"]
        listed = pq.read_table(listed, columns=[name for name in pq.read_schema(listed).names if name in names])
    if missing := {"export", "path"} - set(listed.column_names):
        raise InvalidObjects(f"the table of objects has no column {min(missing)}: with origins, it must say where from")
    at = pc.index_in(rows["key"], value_set=listed["key"])
    etag = listed["etag"].take(at) if "etag" in listed.column_names else pa.nulls(len(at), pa.string())
    for name, column in (
        ("origin", listed["export"].take(at)),
        ("path", listed["path"].take(at)),
        ("origin_etag", etag),
    ):
        rows = rows.append_column(name, column)
    unsafe = pc.match_substring_regex(rows["path"], expected.UNSAFE_KEY)
    if examples := rows["path"].filter(unsafe).slice(0, 1).to_pylist():
        raise InvalidObjects(f"path {examples[0]!a} has an empty, '.' or '..' segment or a control character")
    return rows


@contextmanager
def opened(origins: Mapping[str, Origin], prefix: S3Prefix, rows: pa.Table) -> Iterator[dict[str | None, Place]]:
    """Give the places of the origins that ``rows`` (of `attach`) name, for objects that go to ``target``.

    Raises OSError for a folder that cannot be opened.
    """
    with ExitStack() as stack:
        places: dict[str | None, Place] = {}
        for name in pc.unique(rows["origin"]).to_pylist():
            origin = origins[name]
            if origin.root.startswith(IN_S3):
                source = S3Source(origin.root, origin.aws_conn_id)
                example = rows["path"].filter(pc.equal(rows["origin"], name))[0].as_py()
                places[name] = Place(source=source, inside=_copies_inside(prefix, source, example))
                log.info("%s: %s", origin.root, "copied inside S3" if places[name].inside else "streamed")
            else:
                places[name] = Place(folder=stack.enter_context(expected.root(Path(origin.root))))
        yield places


def _copies_inside(prefix: S3Prefix, source: S3Source, path: str) -> bool:
    """Whether S3 copies by itself, and only what was judged.

    That is: the destination's server has the origin too, its credentials may read it (asked of one object), and it
    copies no object that has another ETag by then.
    """
    if source.connection.endpoint != prefix.endpoint:
        return False
    try:
        prefix.client.head_object(Bucket=source.target.bucket, Key=source.target.key(path))
    except ClientError as error:
        if error.response["ResponseMetadata"]["HTTPStatusCode"] != 404:
            return False
    except BotoCoreError:
        return False
    if not conditional_copy(Probe.of(prefix.releases)):
        log.info("%s copies objects that have changed meanwhile: they are streamed instead", prefix.endpoint)
        return False
    return True


def fetch(source: S3Source, item: Item) -> bytes:
    """Return the bytes of one object, which are the expected ones.

    Other ones are read once more, since they may have been damaged on the way. Raises ObjectChanged, ObjectArchived,
    NoAnswer and obstore's errors.
    """
    for _ in range(2):
        content = ask(
            source.uri,
            lambda: read_object(source.connection, source.target.key(item.file), item.origin_etag),
            credentials=source.connection.credentials,
        )
        if content is not None and hashlib.sha256(content).digest() == item.sha256:
            return content
    raise ObjectChanged


def stream(source: S3Source, item: Item, part: int) -> Iterator[bytes]:
    """Return the bytes of one large object, in parts. An error is also raised behind the last part.

    Read with boto3, since obstore, which takes the parts, cannot be asked for others meanwhile. Raises ObjectChanged,
    ObjectArchived, and botocore's errors.
    """
    where = {"Bucket": source.target.bucket, "Key": source.target.key(item.file)}
    try:
        body = source.connection.client.get_object(**where, IfMatch=f'"{item.origin_etag}"')["Body"]
    except ClientError as error:
        _explain(error)
        raise
    return expected.checked(body.iter_chunks(part), item.sha256, ObjectChanged)


def copy(prefix: S3Prefix, source: S3Source, item: Item, options: ObjectOptions) -> str:
    """Copy one object inside S3, if it still has its ETag; return the ETag of the copy.

    The copy gets what an upload would give it, and nothing of the original's metadata and tags.

    Raises ObjectChanged, ObjectArchived, and botocore's ClientError for all else.
    """
    attributes = options.attributes(item.key)
    more = {"StorageClass": attributes["Storage-Class"]} if "Storage-Class" in attributes else {}
    try:
        answer = prefix.client.copy_object(
            Bucket=prefix.bucket,
            Key=prefix.key(item.key),
            CopySource={"Bucket": source.target.bucket, "Key": source.target.key(item.file)},
            CopySourceIfMatch=f'"{item.origin_etag}"',
            MetadataDirective="REPLACE",
            ContentType=attributes["Content-Type"],
            TaggingDirective="REPLACE",
            Tagging=urlencode(options.tags),
            ChecksumAlgorithm="SHA256",
            **more,
            **prefix.connection.encryption,
        )
    except ClientError as error:
        _explain(error)
        raise
    result = answer["CopyObjectResult"]
    if (kept := result.get("ChecksumSHA256")) and base64.b64decode(kept) != item.sha256:
        raise ObjectChanged
    etag: str = result["ETag"].strip('"')
    return etag


def _explain(error: ClientError) -> None:
    """Raise what is to be said of an object that cannot be read, if that is its own fault."""
    if error.response["ResponseMetadata"]["HTTPStatusCode"] in {404, 412} and _of_object(error):
        raise ObjectChanged from error
    if archived.is_refusal(error):
        raise ObjectArchived from error


def _of_object(error: ClientError) -> bool:
    return error.response["Error"].get("Code") in {"NoSuchKey", "NotFound", "PreconditionFailed", "404", "412"}
