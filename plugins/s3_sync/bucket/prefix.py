"""A prefix of a bucket together with the clients that reach it: what almost everything here is about."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from obstore.store import S3Store

    from s3_sync.bucket.connection import S3Connection
    from s3_sync.bucket.target import S3Target


@dataclass(frozen=True)
class S3Prefix:
    """The place ``target``, reached by ``connection``."""

    connection: S3Connection
    target: S3Target

    @property
    def client(self) -> Any:
        return self.connection.client

    @property
    def store(self) -> S3Store:
        return self.connection.store

    @property
    def endpoint(self) -> str:
        return self.connection.endpoint

    @property
    def uri(self) -> str:
        return self.target.uri

    @property
    def bucket(self) -> str:
        return self.target.bucket

    def key(self, relative: str) -> str:
        """Return the full key of ``relative``, a key relative to the prefix."""
        return self.target.key(relative)

    def below(self, relative: str) -> S3Prefix:
        """Return the prefix ``relative`` (``name`` or ``name/other``) under this one."""
        return S3Prefix(self.connection, self.target.below(relative))

    @property
    def records(self) -> S3Prefix:
        """The prefix beside this one that has the same in the form of few large files."""
        return S3Prefix(self.connection, self.target.records)

    @property
    def releases(self) -> S3Prefix:
        """The prefix beside this one that says what it holds, and who changes it."""
        return S3Prefix(self.connection, self.target.releases)
