"""A small release on its way into a bucket, as the DAG takes it there, and what must be true of the bucket then."""

from __future__ import annotations

import hashlib
import json
import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import obstore
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from s3_sync import lease
from s3_sync.bucket.target import LEASE, POINTER, S3Target
from s3_sync.proof import records
from s3_sync.proof.publish import publish
from s3_sync.proof.verify import verify
from s3_sync.sync import expected as expected_objects
from s3_sync.sync import record
from s3_sync.sync.request import SyncRequest
from s3_sync.sync.sync import sync

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from s3_sync.bucket.connection import S3Connection

FOLDERS = ("ann", "bob", "cleo", "dan", "eve")
LARGE = bytes(range(256)) * (5 << 12) + b"and a second part"
"""S3 takes no part that is smaller than 5 MB, but for the last."""

SAME = {f"{folder}/same.jpg": folder.encode() for folder in FOLDERS}
BACK = {f"{folder}/back.jpg": b"back " + folder.encode() for folder in FOLDERS[:3]}
NEW = {
    **SAME,
    **BACK,
    **{f"{folder}/changed.jpg": b"new " + folder.encode() for folder in FOLDERS},
    **{f"{folder}/new.jpg": folder.upper().encode() for folder in FOLDERS[2:]},
    "bob/weights.bin": LARGE,
}
OLD = {
    **SAME,
    **dict.fromkeys(BACK, b"other"),
    **{f"{folder}/changed.jpg": b"old " + folder.encode() for folder in FOLDERS},
    **{f"{folder}/gone.jpg": b"gone" for folder in FOLDERS[1:4]},
}
EXPORT = {
    f"{folder}/{name}": f"{folder} {name}".encode()
    for folder in FOLDERS
    for name in ("1.jpg", "2.jpg", "it's #3 é.png")
}
RELEASES = {"old": OLD, "new": NEW}
RECORDS = {
    "old": {"train.rec": b"old records", "train.idx": b"0\t0\n"},
    "new": {"train.rec": LARGE, "train.idx": b"0\t0\n1\t8\n"},
}
"""The same in two files, of which one goes in parts."""
FILES = {"manifest.txt": b"what is in it", "ledger.txt": b"what became of each file"}
# The record of their uploads is lost before the proof: some have a SHA-256 in S3, some must be read.
FORGOTTEN = [*list(SAME)[:3], *(key for key in NEW if key.endswith(("weights.bin", "new.jpg")))]


@dataclass(frozen=True)
class Bundle:
    """The two files of ``RECORDS["new"]``, and what is said of them."""

    folder: Path
    objects: pa.Table
    record: Path
    pointer: Mapping[str, Any]


@dataclass(frozen=True)
class Delivery:
    """The release ``new`` on a disk, to go where ``old`` lies."""

    source: Path
    objects: pa.Table
    history: Path
    release: Path

    @classmethod
    def drawn(cls, folder: Path) -> Delivery:
        """Write the files of the release below ``folder``."""
        source, release = folder / "source", folder / "new"
        for top, files in ((source, NEW), (release, FILES), (folder / "records/new", RECORDS["new"])):
            for key, content in files.items():
                (top / key).parent.mkdir(parents=True, exist_ok=True)
                (top / key).write_bytes(content)
        history = folder / "history.parquet"
        rows = [
            {"key": key, "sha256": hashlib.sha256(content).digest(), "etag": etag}
            for key, content in BACK.items()
            for md5 in [hashlib.md5(content, usedforsecurity=False).hexdigest()]
            for etag in (md5, md5[::-1])  # as it is, and as the proxy makes it no MD5
        ]
        pq.write_table(pa.Table.from_pylist(rows, schema=record.SCHEMA), history)
        return cls(source, expected_objects.walk(source), history, release)

    def bring_records(self, connection: S3Connection, target: S3Target, record_path: Path, *, run: str = "one") -> None:
        """Publish the new records; raises what the task would."""
        folder = self.source.with_name("records") / "new"
        bundle = Bundle(folder, expected_objects.walk(folder), record_path, pointer_of(target, "new"))
        with lease.hold(connection.at(target), owner=f"tests/{run}", holder=run, give_back=True) as check:
            records.publish(connection.at(target.records), bundle, ["new"], check=check)

    def run(self, connection: S3Connection, target: S3Target, record_path: Path, *, run: str = "one") -> None:
        """Sync, verify and publish; raises what the tasks would."""
        self.sync(connection, target, record_path, run)
        if record_path.exists():
            known = record.read(record_path, connection.at(target))
            kept = known.filter(pc.invert(pc.is_in(known["key"], value_set=pa.array(FORGOTTEN))))
            record.write(record_path, kept, connection.at(target))
        self.publish(connection, target, record_path, run)

    def sync(self, connection: S3Connection, target: S3Target, record_path: Path, run: str) -> None:
        owner, holder = f"tests/{run}", f"run {run}"
        with lease.hold(connection.at(target), owner=owner, holder=holder, give_back=False) as check:
            sync(
                connection.at(target),
                SyncRequest(
                    source=self.source,
                    objects=self.objects,
                    record_path=record_path,
                    history=self.history,
                    marker=target.releases.key(POINTER),
                    max_delete_fraction=1.0,
                    max_concurrency=4,
                ),
                check=check,
            )

    def publish(self, connection: S3Connection, target: S3Target, record_path: Path, run: str) -> None:
        owner, holder = f"tests/{run}", f"run {run}"
        with lease.hold(connection.at(target), owner=owner, holder=holder, give_back=True) as check:
            verify(
                connection.at(target), self.objects, record.read(record_path, connection.at(target)), max_concurrency=4
            )
            check()
            releases, pointer = target.releases, {"release": self.release.name}
            publish(connection.at(releases), self.release, list(FILES), pointer, check=check)


def pointer_of(target: S3Target, name: str) -> dict[str, Any]:
    """What says that the records of a release are there."""
    return {"records": f"{target.records.uri}{name}/"}


@dataclass(frozen=True)
class Bucket:
    """What really lies in the bucket, asked without a proxy between."""

    direct: S3Connection
    admin: Any

    def with_pointer(self) -> S3Target:
        """Return a new destination with nothing but a ``latest.json`` beside it, which names the release ``old``."""
        target = S3Target.parse(f"s3://{self.direct.bucket}/{uuid.uuid4().hex}/set/")
        self._put(target.releases, {POINTER: json.dumps({"release": "old"}).encode()})
        return target

    def with_old(self) -> S3Target:
        """Return a new destination that holds the release ``old``, published.

        There are earlier versions of some keys too, and uploads in parts that a killed sync left.
        """
        target = self.with_pointer()
        self._put(target, BACK)
        self._put(target, OLD)
        for key in ("ann/left.bin", "bob/weights.bin", "eve/left.bin"):
            self.admin.create_multipart_upload(Bucket=target.bucket, Key=target.key(key))
        return target

    def with_old_records(self) -> S3Target:
        """Return a new destination beside which the old records lie, published."""
        target = self.with_pointer()
        self._put(target.records, {f"old/{name}": content for name, content in RECORDS["old"].items()})
        self._put(target.records, {POINTER: json.dumps(pointer_of(target, "old")).encode()})
        return target

    def wrongs_of_records(self, target: S3Target, *, ended_well: bool) -> list[str]:
        """Return what is wrong with the records: their pointer names whole ones, after a good end only the new ones."""
        there = self.holds(target.records)
        named = json.loads(there.pop(POINTER))["records"].rstrip("/").rpartition("/")[2] if POINTER in there else None
        wrong = []
        if named and {name: there.get(f"{named}/{name}") for name in RECORDS[named]} != RECORDS[named]:
            wrong.append(f"the pointer names the {named} records, which are not there whole")
        if ended_well and (named, there) != (
            "new",
            {f"new/{name}": content for name, content in RECORDS["new"].items()},
        ):
            wrong.append(f"it ended well, but {sorted(there)} are there, and the pointer names {named}")
        return wrong

    def with_export(self) -> S3Target:
        """Return a new prefix that holds an export."""
        export = S3Target.parse(f"s3://{self.direct.bucket}/{uuid.uuid4().hex}/export/")
        self._put(export, EXPORT)
        return export

    def _put(self, target: S3Target, files: Mapping[str, bytes]) -> None:
        def put(key: str) -> None:
            self.admin.put_object(Bucket=target.bucket, Key=target.key(key), Body=files[key])

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(put, files))

    def holds(self, target: S3Target) -> dict[str, bytes]:
        """Return the bytes of all that lies under ``target``."""
        start = len(target.prefix)
        found = [item["path"] for page in obstore.list(self.direct.store, target.prefix) for item in page]
        return {path[start:]: bytes(obstore.get(self.direct.store, path).bytes()) for path in found}

    def wrongs(self, target: S3Target, *, ended_well: bool, uploads_shown: bool = True) -> list[str]:
        """Return what is wrong at ``target``: for a run that ended well it must hold the release, and nothing else.

        Uploads in parts that a listing did not show to it (not ``uploads_shown``) may be left for the next one.
        """
        there, beside = self.holds(target), self.holds(target.releases)
        named = json.loads(beside[POINTER])["release"] if POINTER in beside else None
        wrong = []
        if named and there != RELEASES[named]:
            differing = {
                key for key in there.keys() | RELEASES[named].keys() if there.get(key) != RELEASES[named].get(key)
            }
            wrong.append(f"latest.json names {named}, but these differ: {sorted(differing)}")
        if named == "new" and {key: beside.get(f"new/{key}") for key in FILES} != FILES:
            wrong.append("latest.json names a release whose own files are not there")
        if not ended_well:
            return wrong
        if named != "new":
            wrong.append(f"it ended well, but latest.json names {named}")
        if not json.loads(beside[LEASE])["free"]:
            wrong.append("the lease was not given back")
        beside_it = target.prefix.removesuffix("set/")
        uploads = self.admin.list_multipart_uploads(Bucket=target.bucket, Prefix=beside_it).get("Uploads", ())
        if uploads_shown:
            wrong += [f"an unfinished upload is left: {upload['Key']}" for upload in uploads]
        return wrong
