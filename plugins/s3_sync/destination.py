"""A destination as those who publish to it use it: the synced prefix, and what describes it beside it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from s3_sync import lease
from s3_sync.bucket.connection import connect
from s3_sync.bucket.target import S3Target
from s3_sync.erasure import erase
from s3_sync.listing.contents import list_prefix
from s3_sync.preflight import check_destination
from s3_sync.proof import publish, records
from s3_sync.proof.verify import verify
from s3_sync.sync import record as uploads
from s3_sync.sync.delete import delete_prefix

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    import pyarrow as pa

    from s3_sync.bucket.prefix import S3Prefix


@dataclass(frozen=True)
class Versions:
    """Versions and delete markers (schema `versions.VERSION`) under a prefix."""

    prefix: S3Prefix
    table: pa.Table

    @property
    def counts(self) -> dict[str, int]:
        return erase.counts(self.table)

    @property
    def folders(self) -> list[str]:
        return erase.tops(self.table)


@dataclass(frozen=True)
class S3Destination:
    """``prefix``, for one who is called ``holder`` in words; ``sole_writer`` as of `lease.hold`.

    Its methods raise what the functions raise that they call.
    """

    prefix: S3Prefix
    holder: str
    sole_writer: bool = False

    @classmethod
    def reach(
        cls, uri: str, *, holder: str, aws_conn_id: str | None = "aws_default", sole_writer: bool = False
    ) -> S3Destination:
        """Return the destination ``s3://bucket/prefix/``; no request is sent. Raises InvalidTarget, as `connect`."""
        target = S3Target.parse(uri)
        return cls(connect(target.bucket, aws_conn_id=aws_conn_id).at(target), holder, sole_writer)

    @property
    def uri(self) -> str:
        return self.prefix.uri

    @property
    def releases_uri(self) -> str:
        return self.prefix.releases.uri

    def check(self, *, may_erase: Sequence[str] = ()) -> None:
        """Check that a sync can work (`check_destination`), and that versions in some folders may be listed."""
        check_destination(self.prefix, sole_writer=self.sole_writer)
        for folder in may_erase:
            erase.list_all(self.prefix, f"{folder}/")

    def hold(self, owner: str) -> AbstractContextManager[Callable[[], None]]:
        return lease.hold(self.prefix, owner=owner, holder=self.holder, give_back=True, sole_writer=self.sole_writer)

    def listing(self) -> pa.Table:
        return list_prefix(self.prefix)

    def prove(self, expected: pa.Table, record: Path) -> pa.Table:
        return verify(self.prefix, expected, uploads.read(record, self.prefix)).objects

    def pointer(self) -> dict[str, Any]:
        return publish.read_pointer(self.prefix.releases)

    def publish(
        self, folder: Path, names: Sequence[str], pointer: Mapping[str, Any], check: Callable[[], None]
    ) -> None:
        publish.publish(self.prefix.releases, folder, names, pointer, check=check)

    @property
    def records_uri(self) -> str:
        return self.prefix.records.uri

    def records_pointer(self) -> dict[str, Any]:
        return publish.read_pointer(self.prefix.records)

    def publish_records(self, bundle: records.Bundle, keep: Sequence[str], check: Callable[[], None]) -> None:
        records.publish(self.prefix.records, bundle, keep, check=check)

    def erase_records(self, keep: Sequence[str], check: Callable[[], None]) -> dict[str, int]:
        return erase.counts(erase.all_but(self.prefix.records, keep, check=check))

    def put(self, path: Path, key: str, check: Callable[[], None]) -> None:
        check()
        publish.put_file(self.prefix.releases, path, key)

    def delete_release(self, release_id: str, check: Callable[[], None]) -> None:
        delete_prefix(self.prefix.releases.below(release_id), check=check)

    def versions_of(self, folders: Sequence[str]) -> Versions:
        return Versions(self.prefix, erase.of_folders(self.prefix, folders))

    def releases(self, pattern: str) -> list[str]:
        return erase.folders(erase.list_all(self.prefix.releases), pattern)

    def fetch(self, folder: Path, names: Iterable[str]) -> None:
        erase.fetch(self.prefix.releases, folder, names)

    def renew(
        self, folders: Iterable[tuple[str, Path | None]], pattern: str, check: Callable[[], None]
    ) -> tuple[int, Versions]:
        replaced, before = erase.renew(self.prefix.releases, folders, pattern, check=check)
        return replaced, Versions(self.prefix.releases, before)

    def erase(self, found: Versions, check: Callable[[], None]) -> None:
        erase.delete_versions(found.prefix, found.table, check=check)
