"""A dataset as a prefix of many millions of images would be listed, without the images.

What is drawn is what the steps before `seal` would have found: names, sizes, and a SHA-256 each.
"""

import os
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from include.faceset.declared import params
from include.faceset.declared.dataset import Dataset
from include.faceset.exports.in_s3 import OBJECT
from include.faceset.ground import tables
from include.faceset.ledger import LEDGER, Outcome
from include.faceset.run.run import Run

EXPORT = "all"
AN_IDENTITY = 4
SHARDS = 256
_PAGE = 10_000


class Prefix:
    """An export in S3 of so many images, as `Source` has it; only its listing is there."""

    def __init__(self, images: int) -> None:
        self.images = images

    def listing(self, below: str) -> Iterator[pa.RecordBatch]:
        for first in range(0, self.images, _PAGE):
            number = pa.array(range(first, min(first + _PAGE, self.images)), pa.int64())
            identity = pc.utf8_lpad(pc.divide(number, AN_IDENTITY).cast(pa.string()), 9, "0")
            key = pc.binary_join_element_wise(
                identity, pc.binary_join_element_wise(number.cast(pa.string()), ".jpg", ""), "/"
            )
            etag = pc.utf8_lpad(number.cast(pa.string()), 32, "0")
            size = pc.add(pc.bit_wise_and(number, 0xFFF), 4_500)
            yield pa.record_batch([pc.binary_join_element_wise(below, key, ""), size, number, etag], schema=OBJECT)

    def folders(self, below: str) -> list[str]:
        raise NotImplementedError(below)

    def holds(self, below: str) -> bool:
        return not below

    def read(self, key: str, etag: str) -> bytes | None:
        raise NotImplementedError(key, etag)

    def open(self, key: str, etag: str, size: int) -> None:
        raise NotImplementedError(key, etag, size)


def make_run(images: int, releases: str) -> Run:
    """A run over the prefix, without an output."""
    export = {"name": EXPORT, "layout": "image_folder", "root": "s3://bench/export/"}
    declared: dict[str, Any] = {"name": "many", "destination": "s3://bench/set/", "exports": [export]}
    dataset = Dataset.model_validate({**declared, "releases": releases, "shards": SHARDS})
    return Run(dataset, params.check({}, dataset), "bench", sources={EXPORT: Prefix(images)})


def judge(run: Run) -> None:
    """What `copy_shard` would have written of every selected image, all of them good."""
    for shard in range(run.params.shards):
        selected = tables.read(run.selected(shard))
        rows = selected.num_rows
        drawn = pa.Array.from_buffers(pa.binary(32), rows, [None, pa.py_buffer(os.urandom(32 * rows))])
        columns = {name: selected[name] for name in selected.column_names} | {
            "outcome": pa.repeat(Outcome.KEPT.value, rows),
            "key": selected["path"],
            "sha256": drawn,
            "format": pa.repeat("JPEG", rows),
            "colour": pa.repeat("RGB", rows),
        }
        tables.write(tables.filled(columns, LEDGER, rows), run.copied(shard))
