"""A bucket in memory, as the steps ask for one (ports.Bucket): two folders of versions, and a lease."""

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from include.faceset.ports import Bundle


class NotHeldError(Exception):
    """The bucket was changed by somebody who does not hold its lease."""


@dataclass(frozen=True)
class Version:
    """What was put under a key, or None: a delete marker."""

    place: str
    key: str
    content: bytes | None


@dataclass(frozen=True)
class Found:
    versions: list[Version]
    latest: list[bool]

    @property
    def counts(self) -> dict[str, int]:
        markers = sum(one.content is None for one in self.versions)
        older = sum(not last and one.content is not None for one, last in zip(self.versions, self.latest, strict=True))
        return {"objects": len(self.versions) - markers - older, "versions": older, "markers": markers}

    @property
    def folders(self) -> list[str]:
        return sorted({one.key.partition("/")[0] for one in self.versions})


@dataclass
class MemoryBucket:
    """The prefix `set/`, and `set.releases/` beside it. `kept` are all versions, the oldest first."""

    versioned: bool = False
    kept: list[Version] = field(default_factory=list)
    held_by: str | None = None
    changes: list[str] = field(default_factory=list)
    uri: str = "s3://memory/set/"
    releases_uri: str = "s3://memory/set.releases/"
    records_uri: str = "s3://memory/set.records/"

    @contextmanager
    def hold(self, owner: str) -> Iterator[Callable[[], None]]:
        assert self.held_by is None, f"{self.held_by} holds it"
        self.held_by = owner
        try:
            yield self._check
        finally:
            self.held_by = None

    def _check(self) -> None:
        if self.held_by is None:
            raise NotHeldError

    def write(self, place: str, key: str, content: bytes | None) -> None:
        self._check()
        self.changes.append(f"{'put' if content is not None else 'delete'} {place}{key}")
        if not self.versioned:
            self.kept = [one for one in self.kept if (one.place, one.key) != (place, key)]
        if content is not None or self.versioned:
            self.kept.append(Version(place, key, content))

    def there(self, place: str) -> dict[str, bytes]:
        """The objects that can be read, by key."""
        last = {one.key: one.content for one in self.kept if one.place == place}
        return {key: content for key, content in last.items() if content is not None}

    def bring(self, source: Path) -> None:
        """What a sync does: make the prefix hold exactly the files below a folder."""
        wanted = {str(path.relative_to(source)): path.read_bytes() for path in source.rglob("*") if path.is_file()}
        with self.hold("sync"):
            for key in self.there("set/").keys() - wanted.keys():
                self.write("set/", key, None)
            for key, content in wanted.items():
                if self.there("set/").get(key) != content:
                    self.write("set/", key, content)

    def listing(self) -> pa.Table:
        rows = [{"key": key, "size": len(content), "etag": "e"} for key, content in self.there("set/").items()]
        return pa.Table.from_pylist(
            rows, pa.schema([("key", pa.string()), ("size", pa.int64()), ("etag", pa.string())])
        )

    def prove(self, expected: pa.Table, record: Path) -> pa.Table:  # noqa: ARG002
        there = {key: hashlib.sha256(content).digest() for key, content in self.there("set/").items()}
        wanted = dict(zip(expected["key"].to_pylist(), expected["sha256"].to_pylist(), strict=True))
        assert there == wanted
        etags = pa.array([digest.hex()[:32] for digest in expected["sha256"].to_pylist()], pa.string())
        return expected.append_column("etag", etags)

    def pointer(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.there("set.releases/").get("latest.json", b"{}"))
        return found

    def publish(
        self, folder: Path, names: Sequence[str], pointer: Mapping[str, Any], check: Callable[[], None]
    ) -> None:
        for name in names:
            self.put(folder / name, f"{folder.name}/{name}", check)
        self.write("set.releases/", "latest.json", json.dumps(pointer).encode())

    def records_pointer(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.there("set.records/").get("latest.json", b"{}"))
        return found

    def publish_records(self, bundle: Bundle, keep: Sequence[str], check: Callable[[], None]) -> None:
        check()
        place, name = "set.records/", bundle.folder.name
        for key, sha256 in zip(bundle.objects["key"].to_pylist(), bundle.objects["sha256"].to_pylist(), strict=True):
            content = self.there(place).get(f"{name}/{key}")
            if content is None or hashlib.sha256(content).digest() != sha256:
                content = (bundle.folder / key).read_bytes()
                assert hashlib.sha256(content).digest() == sha256
                self.write(place, f"{name}/{key}", content)
        if self.records_pointer() != dict(bundle.pointer):
            self.write(place, "latest.json", json.dumps(dict(bundle.pointer)).encode())
        for key in list(self.there(place)):
            if "/" in key and key.partition("/")[0] not in keep:
                self.write(place, key, None)

    def erase_records(self, keep: Sequence[str], check: Callable[[], None]) -> dict[str, int]:
        found = self._found("set.records/", lambda _: True)
        named = str(self.records_pointer().get("records", "")).rstrip("/").rpartition("/")[2]
        stays = {*keep, "latest.json"} if named in keep else {*keep}
        doomed = [
            (one, latest)
            for one, latest in zip(found.versions, found.latest, strict=True)
            if not (latest and one.content is not None and one.key.partition("/")[0] in stays)
        ]
        gone = Found([one for one, _ in doomed], [latest for _, latest in doomed])
        self.erase(gone, check)
        return gone.counts

    def put(self, path: Path, key: str, check: Callable[[], None]) -> None:
        check()
        self.write("set.releases/", key, path.read_bytes())

    def delete_release(self, release_id: str, check: Callable[[], None]) -> None:
        for key in list(self.there("set.releases/")):
            if key.startswith(f"{release_id}/"):
                check()
                self.write("set.releases/", key, None)

    def _found(self, place: str, wanted: Callable[[str], bool]) -> Found:
        last = {one.key: number for number, one in enumerate(self.kept) if one.place == place}
        chosen = [
            (one, last[one.key] == number)
            for number, one in enumerate(self.kept)
            if one.place == place and wanted(one.key)
        ]
        return Found([one for one, _ in chosen], [latest for _, latest in chosen])

    def versions_of(self, folders: Sequence[str]) -> Found:
        return self._found("set/", lambda key: key.partition("/")[0] in folders)

    def releases(self, pattern: str) -> list[str]:
        folders = {key.partition("/")[0] for key in self.there("set.releases/") if "/" in key}
        return sorted(name for name in folders if re.fullmatch(pattern, name))

    def fetch(self, folder: Path, names: Iterable[str]) -> None:
        for name in names:
            if (content := self.there("set.releases/").get(f"{folder.name}/{name}")) is not None:
                (folder / name).write_bytes(content)

    def renew(
        self, folders: Iterable[tuple[str, Path | None]], pattern: str, check: Callable[[], None]
    ) -> tuple[int, Found]:
        replaced, gone = 0, []
        for name, folder in folders:
            for path in sorted(folder.iterdir()) if folder else ():
                key = f"{folder.name if folder else ''}/{path.name}"
                if self.there("set.releases/").get(key) != path.read_bytes():
                    self.put(path, key, check)
                    replaced += 1
            if folder is None or folder.name != name:
                gone.append(name)
        of_releases = self._found("set.releases/", lambda key: re.match(f"({pattern})/", key) is not None)
        pairs = [
            (one, latest)
            for one, latest in zip(of_releases.versions, of_releases.latest, strict=True)
            if not latest or one.content is None or one.key.partition("/")[0] in gone
        ]
        return replaced, Found([one for one, _ in pairs], [latest for _, latest in pairs])

    def erase(self, found: Found, check: Callable[[], None]) -> None:
        check()
        for one in found.versions:
            self.changes.append(f"erase {one.place}{one.key}")
            self.kept.remove(one)
