"""Exports on a real disk and the steps from scan to seal, as the DAG calls them."""

import io
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
from PIL import Image

from include.faceset.declared import params
from include.faceset.declared.dataset import Dataset
from include.faceset.ground import tables
from include.faceset.ledger import Outcome
from include.faceset.release import release
from include.faceset.release.release import Release
from include.faceset.run.run import Run
from include.faceset.steps import copy, forget, preflight, restore, scan, seal, select

FLAT = {"name": "faces_only", "layout": "flat", "pattern": "{identity}_face.png"}
TREE = {"name": "training_data", "layout": "image_folder"}
SMALL = {"batch_size": 1, "gpus": 1}
"""A training that a handful of images is enough for; with the reference's numbers render_config refuses them."""

ASKED_FOR = {
    Outcome.DROPPED_BY_DECISION,
    Outcome.TOO_DARK,
    Outcome.TOO_BRIGHT,
    Outcome.BLURRED,
    Outcome.PLACEHOLDER,
    Outcome.NEAR_DUPLICATE,
    Outcome.NEAR_HELD_OUT,
}
"""Outcomes that only a decision or a threshold of the dataset file gives."""


def face(seed: int, kind: str = "JPEG", mode: str = "RGB", size: tuple[int, int] = (112, 112)) -> bytes:
    """A valid image; another seed gives other pixels."""
    noise = random.Random(seed)
    image = Image.frombytes("RGB", (8, 8), noise.randbytes(192)).resize(size).convert(mode)
    written = io.BytesIO()
    image.save(written, kind)
    return written.getvalue()


def put(path: Path, data: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def make_dataset(folder: Path, exports: list[dict[str, Any]] | None = None, **changes: Any) -> Dataset:
    return Dataset.model_validate(
        {
            "name": "faces",
            "local_source": str(folder / "exports"),
            "output": str(folder / "merged"),
            "destination": "s3://faces/set/",
            "exports": [FLAT, TREE] if exports is None else exports,
            "shards": 4,
            "training": SMALL,
            **changes,
        }
    )


def make_run(
    dataset: Dataset, run_id: str = "manual__1", partitions: tuple[str, ...] | None = None, **changes: Any
) -> Run:
    return Run(dataset, params.check(changes, dataset), run_id, partitions)


@dataclass(frozen=True)
class Result:
    """What a run left behind, as a user finds it."""

    sealed: Release
    run: Run
    read: int

    @property
    def ledger(self) -> pa.Table:
        return tables.read(self.run.release(self.sealed.release_id) / release.LEDGER_FILE)

    @property
    def outcomes(self) -> dict[str, str]:
        """Outcome by `<export>/<path>`."""
        rows = self.ledger.select(["export", "path", "outcome"]).to_pylist()
        assert len({(row["export"], row["path"]) for row in rows}) == len(rows)
        return {f"{row['export']}/{row['path']}": row["outcome"] for row in rows}

    @property
    def output(self) -> dict[str, bytes]:
        """Bytes by key of everything that lies in the output."""
        root = self.run.output
        return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if not path.is_dir()}


def run_to_seal(run: Run) -> Result:
    """preflight, scan, filter_manifest, copy_shard and seal, one after the other."""
    preflight.preflight(run)
    for export in run.dataset.exports:
        scan.scan(run, export.name)
    take = copy.copy_shard if run.params.release is None else restore.restore_shard
    forget.forget(run)
    read = sum(take(run, shard).read for shard in select.filter_manifest(run).shards)
    return Result(seal.seal(run), run, read)
