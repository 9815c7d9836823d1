"""Erase for good: keys with all their versions, and what files beside a prefix said before they were replaced.

A deletion in a bucket with versioning only puts a marker on top; what lies under it must be deleted version by version.
Without versioning a key has one version, called ``null``. Every call here is safe to make again.
"""

from __future__ import annotations

import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc
from botocore.exceptions import ClientError

from s3_sync.bucket.target import POINTER
from s3_sync.errors import Final, NoAnswer, cause
from s3_sync.listing.versions import VERSION, list_versions
from s3_sync.proof.publish import put_file, read_pointer
from s3_sync.proof.records import folder_named
from s3_sync.proof.vouch import has, is_checked
from s3_sync.sync.delete import BATCH, Way, remove

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    from s3_sync.bucket.prefix import S3Prefix

NULL = "null"
FOLDERS_ONE_BY_ONE = 200
CHUNK = 1 << 20
_REMEDY = (
    "Are they under an Object Lock, or may the credentials not delete versions (s3:DeleteObjectVersion)? Put that right"
    " and run again"
)


class EraseFailed(Final):
    """Not all could be erased. The message names no key: it may be of somebody who is to be forgotten."""


def list_all(prefix: S3Prefix, below: str = "") -> pa.Table:
    """Return what `versions.list_versions` does. Raises EraseFailed if the credentials may not list versions."""
    try:
        return list_versions(prefix, below)
    except ClientError as error:
        raise EraseFailed(
            f"the versions under {prefix.uri} cannot be listed ({cause(error)}): let the connection's credentials list"
            " and delete them (s3:ListBucketVersions, s3:DeleteObjectVersion)"
        ) from error


def of_folders(prefix: S3Prefix, folders: Sequence[str]) -> pa.Table:
    """Return every version and delete marker of the keys in top-level ``folders`` of ``target``."""
    if len(folders) > FOLDERS_ONE_BY_ONE:
        found = list_all(prefix)
        return found.filter(in_folders(found, folders))
    with ThreadPoolExecutor(16) as pool:
        parts = pool.map(lambda folder: list_all(prefix, f"{folder}/"), folders)
        return pa.concat_tables([VERSION.empty_table(), *parts])


def in_folders(found: pa.Table, folders: Iterable[str]) -> pa.Array:
    """Return of each row of `list_all` whether its key lies in one of the top-level ``folders``."""
    wanted = pa.array(sorted(folders), pa.string())
    return pc.is_in(pc.replace_substring_regex(found["key"], "(?s)/.*", ""), value_set=wanted)


def folders(found: pa.Table, pattern: str) -> list[str]:
    """Return the top-level folders, of names that match ``pattern`` in full, in which something is there."""
    there = found.filter(pc.and_not(found["latest"], found["marker"]))
    names = pc.unique(pc.replace_substring_regex(there["key"], "(?s)/.*", ""))
    return sorted(names.filter(pc.match_substring_regex(names, f"^({pattern})$")).to_pylist())


def tops(found: pa.Table) -> list[str]:
    """Return the top-level folders that versions and markers lie in."""
    return sorted(set(pc.replace_substring_regex(found["key"], "(?s)/.*", "").to_pylist()))


def counts(found: pa.Table) -> dict[str, int]:
    """Return the number of ``objects`` that are there, of their older ``versions``, and of delete ``markers``."""
    markers = pc.sum(found["marker"]).as_py() or 0
    older = pc.sum(pc.and_not(pc.invert(found["latest"]), found["marker"])).as_py() or 0
    return {"objects": found.num_rows - markers - older, "versions": older, "markers": markers}


def all_but(prefix: S3Prefix, keep: Sequence[str], *, check: Callable[[], None] = lambda: None) -> pa.Table:
    """Delete every version and marker under ``prefix`` but what is there now in the folders ``keep``.

    The pointer stays, as it is now, if it names one of them. Returns what was deleted (of `list_all`).
    """
    named = folder_named(read_pointer(prefix))
    found = list_all(prefix)
    there = pc.and_not(found["latest"], found["marker"])
    wanted = in_folders(found, [*keep, POINTER] if named in keep else keep)
    doomed = found.filter(pc.invert(pc.and_(there, wanted)))
    delete_versions(prefix, doomed, check=check)
    return doomed


def delete_versions(prefix: S3Prefix, found: pa.Table, *, check: Callable[[], None] = lambda: None) -> None:
    """Delete exactly these versions and markers (of `list_all`); ``check`` is called before each request.

    Markers go last: without its marker an older version would be there again.

    Raises EraseFailed with how many S3 refused to delete, and why.
    """
    refused: list[str] = []
    way = Way.BATCH
    for rows in (found.filter(pc.invert(found["marker"])), found.filter(found["marker"])):
        keys, versions = (rows[name].to_pylist() for name in ("key", "version"))
        doomed = [{"Key": prefix.key(key), "VersionId": one} for key, one in zip(keys, versions, strict=True)]
        for start in range(0, len(doomed), BATCH):
            try:
                errors, way = remove(prefix.connection, prefix.bucket, doomed[start : start + BATCH], way, check=check)
            except (ClientError, NoAnswer) as error:
                raise EraseFailed(
                    f"versions under {prefix.uri} cannot be deleted ({cause(error)}). {_REMEDY}"
                ) from error
            refused += [f"{error.get('Code')}: {error.get('Message')}" for error in errors]
        if refused:
            raise EraseFailed(
                f"{len(refused)} versions under {prefix.uri} could not be deleted, the first because of: {refused[0]}."
                f" {_REMEDY}"
            )
    for key in found.filter(pc.and_(found["marker"], pc.equal(found["version"], NULL)))["key"].to_pylist():
        check()
        _clear_null_marker(prefix, key)


def _clear_null_marker(prefix: S3Prefix, key: str) -> None:
    """See that a marker of a bucket with suspended versioning is gone: SeaweedFS keeps it, but not what replaces it."""
    left = list_all(prefix, key)
    if pc.any(pc.and_(pc.equal(left["key"], key), left["marker"])).as_py():
        where = {"Bucket": prefix.bucket, "Key": prefix.key(key)}
        put = prefix.client.put_object(**where, Body=b"", **prefix.connection.encryption)
        prefix.client.delete_object(**where, VersionId=put.get("VersionId", NULL))


def renew(
    prefix: S3Prefix,
    anew: Iterable[tuple[str, Path | None]],
    pattern: str,
    *,
    check: Callable[[], None] = lambda: None,
) -> tuple[int, pa.Table]:
    """Put folders under ``target`` as they are now; of what they were nothing is deleted yet.

    ``anew`` has the name of each folder that is there, and a local folder with its files as they should be, whose name
    may be another; or None, if it is to go.

    Returns how many files were put, and the versions to delete (of `list_all`) so that nothing is left of what was
    there before in any folder whose name matches ``pattern`` in full.
    """
    replaced = 0
    gone = []
    checked = is_checked(prefix)
    for name, folder in anew:
        if folder is not None:
            replaced += _replace_files(prefix, folder, check, checked=checked)
        if folder is None or folder.name != name:
            gone.append(name)
    found = list_all(prefix)
    found = found.filter(pc.match_substring_regex(found["key"], f"(?s)^({pattern})/"))
    older = pc.or_(pc.invert(found["latest"]), found["marker"])
    return replaced, found.filter(pc.or_(older, in_folders(found, gone)))


def _replace_files(prefix: S3Prefix, folder: Path, check: Callable[[], None], *, checked: bool) -> int:
    """Put every file of ``folder`` under ``target``/<folder's name>/ whose bytes are not there yet; return how many."""
    replaced = 0
    for path in sorted(folder.iterdir()):
        key = f"{folder.name}/{path.name}"
        with path.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").digest()
        if not has(prefix.connection, prefix.key(key), path.stat().st_size, sha256, checked=checked):
            check()
            put_file(prefix, path, key, checked=checked)
            replaced += 1
    return replaced


def fetch(prefix: S3Prefix, folder: Path, names: Iterable[str]) -> None:
    """Download those of the files ``names`` that are under ``target``/<folder's name>/ into ``folder``."""
    for name in names:
        try:
            answer = prefix.client.get_object(Bucket=prefix.bucket, Key=prefix.key(f"{folder.name}/{name}"))
        except ClientError as error:
            if error.response["ResponseMetadata"]["HTTPStatusCode"] != 404:
                raise
            continue
        handle = os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o640)
        with os.fdopen(handle, "wb") as file:
            for block in answer["Body"].iter_chunks(CHUNK):
                file.write(block)
