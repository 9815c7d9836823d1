"""In which order a release's images stand in its records: shuffled, and the same for the same release.

Readers shuffle within a window only (DALI: 32,768 records), so the file itself is shuffled: by a hash of the release's
id and the key, which needs no generator of random numbers that may change between versions.
"""

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from include.faceset.ground import sharded, sorted_merge
from include.faceset.ledger import kept
from include.faceset.release import release
from include.faceset.release.classes import CLASSES
from include.faceset.release.release import Release

_LABELS = pa.schema([CLASSES.field("identity"), CLASSES.field("label")])
IMAGE = ["key", "label", "size", "sha256", "export", "path", "etag"]


def shuffled(release_folder: Path, sealed: Release, shards: int, scratch: Path) -> Iterator[pa.Table]:
    """The images of a release (columns IMAGE) in the order of its records; a shard of them is in memory at a time.

    Args:
        release_folder: the release.
        sealed: what it is.
        shards: into how many it is split.
        scratch: a folder for files that are removed with it.
    """
    labels = _labels_by_shard(release_folder, shards, scratch)
    sorted_files = []
    for shard in range(shards):
        images = kept(sharded.read(release_folder / release.LEDGER_FILE, shard, shards))
        numbered = images.join(sharded.read(labels, shard, shards), keys="identity", join_type="inner")
        path = scratch / f"order-{shard:03d}.arrow"
        sorted_files.append(sorted_merge.write_sorted(_with_order(numbered, sealed.release_id), "order", path))
    return sorted_merge.in_order(sorted_files, "order")


def digest_labels(release_folder: Path) -> str:
    """SHA-256 of who has which label in a release."""
    digest = hashlib.sha256()
    for batch in pq.ParquetFile(release_folder / release.CLASSES_FILE).iter_batches(columns=_LABELS.names):
        pairs = zip(batch["identity"].to_pylist(), batch["label"].to_pylist(), strict=True)
        digest.update("".join(f"{identity}\0{label}\n" for identity, label in pairs).encode())
    return digest.hexdigest()


def _labels_by_shard(release_folder: Path, shards: int, scratch: Path) -> Path:
    path = scratch / "labels.parquet"
    with sharded.writing(path, _LABELS, shards, within=scratch, gathered=sharded.GATHERED_BYTES) as add:
        for batch in pq.ParquetFile(release_folder / release.CLASSES_FILE).iter_batches(columns=_LABELS.names):
            for shard, rows in sharded.split(pa.Table.from_batches([batch]).select(_LABELS.names), shards):
                add(shard, rows)
    return path


def _with_order(images: pa.Table, release_id: str) -> pa.Table:
    places = [_place(release_id, key) for key in images["key"].to_pylist()]
    return pa.table({**{name: images[name] for name in IMAGE}, "order": pa.array(places, pa.string())})


def _place(release_id: str, key: str) -> str:
    return hashlib.blake2b(f"{release_id}\0{key}".encode(), digest_size=10).hexdigest()
