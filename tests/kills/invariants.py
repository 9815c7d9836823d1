"""What must be true at every moment, also of what a kill leaves behind."""

from __future__ import annotations

import hashlib
import json
from io import BytesIO
from typing import TYPE_CHECKING

import pyarrow.parquet as pq

from tests.kills.deployment import PREFIX

if TYPE_CHECKING:
    from tests.kills.deployment import Deployment


def check_pointers(deployment: Deployment, where: str) -> None:
    """A `latest.json`, on disk or in the bucket, names a release that is there, with every file as it should be."""
    latest = deployment.folder / "merged.releases/latest.json"
    if latest.exists():
        manifest = latest.parent / json.loads(latest.read_text())["release_id"] / "manifest.parquet"
        output = deployment.folder / "merged"
        ledger = pq.read_table(manifest.with_name("ledger.parquet"), columns=["key", "size", "staged_mtime_ns"])
        for row in ledger.to_pylist():
            if row["key"]:
                status = (output / row["key"]).lstat()
                assert (status.st_size, status.st_mtime_ns) == (row["size"], row["staged_mtime_ns"]), where
        there = {str(path.relative_to(output)): path.read_bytes() for path in output.rglob("*") if path.is_file()}
        assert digests(there) == wanted(manifest.read_bytes()), where
    objects, releases = deployment.objects(), PREFIX.removesuffix("/") + ".releases/"
    if pointer := objects.get(f"{releases}latest.json"):
        sealed = objects[f"{releases}{json.loads(pointer)['release_id']}/manifest.parquet"]
        assert hashlib.sha256(sealed).hexdigest() == json.loads(pointer)["manifest_sha256"], where
        there = {key.removeprefix(PREFIX): content for key, content in objects.items() if key.startswith(PREFIX)}
        assert digests(there) == wanted(sealed), where
    records = PREFIX.removesuffix("/") + ".records/"
    if pointer := objects.get(f"{records}latest.json"):
        said = json.loads(pointer)
        for name, file in said["files"].items():
            content = objects[f"{records}{said['release_id']}/{name}"]
            assert (len(content), hashlib.sha256(content).hexdigest()) == (file["size"], file["sha256"]), where


def digests(files: dict[str, bytes]) -> dict[str, bytes]:
    return {name: hashlib.sha256(content).digest() for name, content in files.items()}


def wanted(manifest: bytes) -> dict[str, bytes]:
    rows = pq.read_table(BytesIO(manifest), columns=["key", "sha256"]).to_pylist()
    return {row["key"]: row["sha256"] for row in rows}
