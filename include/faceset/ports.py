"""What the steps ask of an export that lies in S3, and of the bucket that they publish to.

Nothing here knows S3: whoever starts a step hands the places over.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path
    from typing import Any, BinaryIO

    import pyarrow as pa

ARCHIVED: Final = "archived"
"""In the place of bytes: they are there, but nobody can read them before they are restored."""


class Source(Protocol):
    """A prefix that holds an export. Keys are relative to it; `below` is empty, or the key of a folder and a slash.

    What cannot be listed or read raises an error that names the remedy.
    """

    def listing(self, below: str) -> Iterator[pa.RecordBatch]:
        """Every object (schema `in_s3.OBJECT`) whose key begins with `below`, and that key without it.

        One that is archived has no ETag.
        """

    def folders(self, below: str) -> list[str]:
        """Names of what would be folders on a disk, directly below."""

    def holds(self, below: str) -> bool:
        """Whether there is any object below."""

    def read(self, key: str, etag: str) -> bytes | Literal["archived"] | None:
        """The bytes of an object; None if it is gone or has changed, so that its ETag is another."""

    def open(self, key: str, etag: str, size: int) -> BinaryIO | Literal["archived"] | None:
        """An object of `size` bytes, to be read in parts; None as above.

        Reading raises FileNotFoundError once the object is gone or has changed.
        """


class Versions(Protocol):
    """What a bucket holds under some keys: objects, their older versions, and delete markers."""

    @property
    def counts(self) -> dict[str, int]:
        """How many `objects` are there, `versions` under them, and delete `markers`."""

    @property
    def folders(self) -> list[str]:
        """The top-level folders that they lie in."""


@dataclass(frozen=True)
class Bundle:
    """A few files to be published together: a folder, with the name that it has in the bucket too.

    `objects` (key, size, sha256) is what it holds; where it is not on this disk, they must lie in the bucket already.
    `record` is as of `Bucket.prove`, and `pointer` what says in the bucket that they are there.
    """

    folder: Path
    objects: pa.Table
    record: Path
    pointer: Mapping[str, Any]


class Bucket(Protocol):
    """The prefix that a run publishes to, and the folder of releases beside it.

    Everything that changes either of them is done while `hold` is held, and calls its `check` before each request.
    What cannot be done raises an error that names the remedy.
    """

    uri: str
    releases_uri: str
    records_uri: str

    def hold(self, owner: str) -> AbstractContextManager[Callable[[], None]]:
        """Hold the lease, which is given back at the end of the block; gives `check`, which raises once it is lost.

        `owner` is the same for all tasks of a run and of no other run anywhere.
        """

    def listing(self) -> pa.Table:
        """What the prefix holds: key (relative to it), size (bytes) and etag."""

    def prove(self, expected: pa.Table, record: Path) -> pa.Table:
        """Compare what the prefix holds, listed afresh, with key, size and sha256; return key, sha256 and etag.

        `record` is a Parquet file of what the uploads returned.
        """

    def pointer(self) -> dict[str, Any]:
        """What `latest.json` says; nothing where there is none."""

    def publish(
        self, folder: Path, names: Sequence[str], pointer: Mapping[str, Any], check: Callable[[], None]
    ) -> None:
        """Put files of a release's folder beside the prefix and, last of all, the pointer."""

    def records_pointer(self) -> dict[str, Any]:
        """What the `latest.json` of the records says; nothing where there is none."""

    def publish_records(self, bundle: Bundle, keep: Sequence[str], check: Callable[[], None]) -> None:
        """Bring the records of a release, prove them, and put their pointer; then delete those not among `keep`."""

    def erase_records(self, keep: Sequence[str], check: Callable[[], None]) -> dict[str, int]:
        """Delete all records with all versions, for good, but the newest of some releases; counts as of `Versions`."""

    def put(self, path: Path, key: str, check: Callable[[], None]) -> None:
        """Put a file, whose key is relative to the folder of releases."""

    def delete_release(self, release_id: str, check: Callable[[], None]) -> None:
        """Delete a release; in a bucket with versioning its versions stay."""

    def versions_of(self, folders: Sequence[str]) -> Versions:
        """Everything that is or was in top-level folders of the prefix."""

    def releases(self, pattern: str) -> list[str]:
        """Names of the releases' folders that hold anything and match a pattern in full."""

    def fetch(self, folder: Path, names: Iterable[str]) -> None:
        """Download those files of a release that are there, into a folder with the release's name."""

    def renew(
        self, folders: Iterable[tuple[str, Path | None]], pattern: str, check: Callable[[], None]
    ) -> tuple[int, Versions]:
        """Put releases as they are now: of each its name there, and its folder here, or None if it is to go.

        Returns how many files were put, and what is to be erased so that nothing is left of what was there before.
        """

    def erase(self, found: Versions, check: Callable[[], None]) -> None:
        """Delete exactly these versions and markers, for good."""
