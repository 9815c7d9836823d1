"""A few large files beside a synced prefix, brought, proven and pointed to, folder by folder."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Protocol

from s3_sync.bucket.target import POINTER
from s3_sync.listing.contents import list_prefix
from s3_sync.proof.publish import put_bytes, read_pointer
from s3_sync.proof.verify import verify
from s3_sync.proof.vouch import is_checked
from s3_sync.sync import record as uploads
from s3_sync.sync.delete import delete_prefix
from s3_sync.sync.request import SyncRequest
from s3_sync.sync.sync import sync

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    import pyarrow as pa

    from s3_sync.bucket.prefix import S3Prefix


class Bundle(Protocol):
    """What is published together.

    ``folder``, with the name that it gets in the bucket, holds ``objects`` (key, size, sha256); where it is not there
    they must lie in the bucket already. ``record`` is as of `sync`; ``pointer`` says in the bucket that they are there.
    """

    @property
    def folder(self) -> Path: ...

    @property
    def objects(self) -> pa.Table: ...

    @property
    def record(self) -> Path: ...

    @property
    def pointer(self) -> Mapping[str, Any]: ...


def publish(prefix: S3Prefix, bundle: Bundle, keep: Sequence[str], *, check: Callable[[], None] = lambda: None) -> None:
    """Make ``prefix``/<folder's name>/ hold exactly the objects of ``bundle``, and then point to it.

    ``latest.json`` under ``prefix`` holds the pointer as JSON; it is deleted first where it names this folder and other
    files. Then the folders that ``keep`` does not name are deleted. ``check`` is as of `sync`.

    Raises what `sync` and `verify` raise, UploadFailed and DeleteFailed.
    """
    place, pointer, said = prefix.below(bundle.folder.name), dict(bundle.pointer), read_pointer(prefix)
    if bundle.folder.is_dir():
        marker = prefix.key(POINTER) if said != pointer and folder_named(said) == bundle.folder.name else None
        sync(place, _request(bundle, marker), check=check)
    verify(place, bundle.objects, uploads.read(bundle.record, place))
    if said != pointer:
        check()
        put_bytes(prefix, json.dumps(pointer, indent=2).encode(), POINTER, checked=is_checked(prefix))
    for other in sorted(folders_of(prefix) - set(keep)):
        delete_prefix(prefix.below(other), check=check)


def _request(bundle: Bundle, marker: str | None) -> SyncRequest:
    return SyncRequest(
        source=bundle.folder,
        objects=bundle.objects,
        record_path=bundle.record,
        max_delete_fraction=1.0,
        marker=marker,
    )


def folders_of(prefix: S3Prefix) -> set[str]:
    """Return the names of the folders under ``prefix`` that hold anything."""
    keys = list_prefix(prefix)["key"].to_pylist()
    return {key.partition("/")[0] for key in keys if "/" in key}


def folder_named(said: Mapping[str, Any]) -> str:
    """Return the name of the folder that a pointer points to; empty where there is none."""
    return str(said.get("records", "")).rstrip("/").rpartition("/")[2]
