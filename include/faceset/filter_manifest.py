"""filter_manifest: per shard, identities with enough images in all exports go on, the rest goes to the ledger.

Images are only counted here, not opened: the cheap half of the filter. ``copy_shard`` counts again
what is left once the bytes are known.
"""

import json
from collections import Counter
from dataclasses import asdict, dataclass

import pyarrow as pa
import pyarrow.compute as pc

from include.faceset import files, preflight, scan, tables
from include.faceset.ledger import MANIFEST, Outcome, rejected
from include.faceset.run import Run

COUNTS_FILE = "filtered.json"


class FilterError(RuntimeError):
    """No identity has enough images."""


@dataclass(frozen=True)
class Filtered:
    """Counts of the filter; `shards` are those with something to copy, `size` is the sum of their images in bytes."""

    shards: list[int]
    identities: int
    images: int
    identities_out: int
    images_out: int
    size: int


def filter_manifest(run: Run) -> Filtered:
    """Filter every shard of a run; one shard is in memory at a time.

    Raises:
        FilterError: no identity has enough images.
        NotReadyError: what was selected does not fit on the output's disk.
    """
    shards: list[int] = []
    size = 0
    counts = Counter[str]()
    for shard in range(run.params.shards):
        manifest = tables.read_all(scan.manifest_files(run, shard), MANIFEST)
        enough, few = split(manifest, run.params.min_images)
        tables.write(enough, run.selected(shard))
        tables.write(rejected(few, Outcome.TOO_FEW_IMAGES), run.filtered(shard))
        if enough.num_rows:
            shards.append(shard)
            size += pc.sum(enough["size"]).as_py()
        counts["identities"] += pc.count_distinct(enough["identity"]).as_py()
        counts["images"] += enough.num_rows
        counts["identities_out"] += pc.count_distinct(few["identity"]).as_py()
        counts["images_out"] += few.num_rows
    if not shards and not run.params.dry_run:
        msg = (
            f"none of {counts['identities_out']:,} identities has {run.params.min_images} images "
            f"({counts['images_out']:,} images in all); check the exports, their declared layouts, and min_images"
        )
        raise FilterError(msg)
    preflight.check_room(run, counts["images"], size)
    filtered = Filtered(
        shards,
        identities=counts["identities"],
        images=counts["images"],
        identities_out=counts["identities_out"],
        images_out=counts["images_out"],
        size=size,
    )
    files.write_text(run.work / COUNTS_FILE, json.dumps(asdict(filtered)))
    return filtered


def read_counts(run: Run) -> Filtered:
    """What the filter counted in this run."""
    return Filtered(**json.loads((run.work / COUNTS_FILE).read_text(encoding="utf-8")))


def split(manifest: pa.Table, min_images: int) -> tuple[pa.Table, pa.Table]:
    """Rows of identities with at least `min_images` rows, and the others; both sorted by identity, export, path."""
    ordered = manifest.sort_by([("identity", "ascending"), ("export", "ascending"), ("path", "ascending")])
    counted = ordered.group_by("identity").aggregate([([], "count_all")])
    enough = counted["identity"].filter(pc.greater_equal(counted["count_all"], min_images))
    has_enough = pc.is_in(ordered["identity"], value_set=enough.combine_chunks())
    return ordered.filter(has_enough), ordered.filter(pc.invert(has_enough))
