"""What a release's ledger holds, counted."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from include.faceset.ground import sharded, tables
from include.faceset.ledger import by_count, count_outcomes, kept
from include.faceset.release import release
from include.faceset.report import what_if
from include.faceset.report.pictures import Tally
from include.faceset.run.run import Run

HISTOGRAM = ((1, 1), (2, 2), (3, 3), (4, 4), (5, 9), (10, 19), (20, 49), (50, None))
"""Images an identity: lowest and highest of each bar."""

NOT_DECLARED = "not declared any more"


def histogram(an_identity: pa.ChunkedArray) -> dict[str, int]:
    """Number of identities by their number of images."""
    bars = {}
    for lowest, highest in HISTOGRAM:
        label = f"{lowest}+" if highest is None else str(lowest) if lowest == highest else f"{lowest}-{highest}"
        inside = pc.greater_equal(an_identity, lowest)
        if highest is not None:
            inside = pc.and_(inside, pc.less_equal(an_identity, highest))
        bars[label] = pc.sum(inside).as_py() or 0
    return bars


def sample_identity(run: Run, folder: Path) -> dict[str, Any]:
    """The identity in the middle of a release's class list, with the names and sizes of its files."""
    identities = tables.read(folder / release.CLASSES_FILE, ["identity"])["identity"]
    identity = identities[len(identities) // 2].as_py()
    shard = sharded.shard_of(identity, run.params.shards)
    images = kept(sharded.read(folder / release.LEDGER_FILE, shard, run.params.shards))
    rows = images.filter(pc.equal(images["identity"], identity)).sort_by("key")
    return {
        "identity": identity,
        "files": [
            {"name": key.rpartition("/")[2], "bytes": size, "format": kind, "colour": colour}
            for key, size, kind, colour in zip(
                *(rows[name].to_pylist() for name in ("key", "size", "format", "colour")), strict=True
            )
        ],
    }


@dataclass(frozen=True)
class Counted:
    """What a release's ledger holds: counts of each export, and of formats and colours of all kept images.

    `by_images` is as of `what_if.count_identities`, `merged` how many files were decided to be another identity's,
    `pictures` and `near_copies` as of `pictures.Tally`.
    """

    exports: list[dict[str, Any]]
    formats: dict[str, int]
    colours: dict[str, int]
    by_images: dict[int, int]
    merged: int
    pictures: dict[str, list[dict[str, Any]]]
    near_copies: int


def count(run: Run, folder: Path) -> Counted:
    """Count a release's ledger, by the exports that it was made of; an identity lies in one shard, so shards add up."""
    layouts = {export.name: export.layout for export in run.dataset.exports}
    scanned = release.read(folder).scanned
    names = [*(name for name in layouts if name in scanned), *sorted(scanned.keys() - layouts.keys())]
    totals = {name: Counter[str]() for name in names}
    rejected = {name: Counter[str]() for name in names}
    formats, colours, by_images, merged = Counter[str](), Counter[str](), Counter[int](), 0
    looks = Tally()
    for shard in (*range(run.params.shards), sharded.NO_SHARD):
        ledger = sharded.read(folder / release.LEDGER_FILE, shard, run.params.shards)
        images = kept(ledger)
        formats.update(_counts(images["format"]))
        colours.update(_counts(images["colour"]))
        looks.add(images)
        by_images.update(what_if.count_identities(ledger))
        if "scanned_as" in ledger.column_names:
            merged += ledger.num_rows - ledger["scanned_as"].null_count
        for name, total in totals.items():
            rows, rows_kept = (table.filter(pc.equal(table["export"], name)) for table in (ledger, images))
            rejected[name].update(count_outcomes(rows))
            total["files"] += rows.num_rows
            total["identities"] += pc.count_distinct(rows["identity"]).as_py()
            total["kept_images"] += rows_kept.num_rows
            total["kept_identities"] += pc.count_distinct(rows_kept["identity"]).as_py()
    exports = [
        {"name": one, "layout": layouts.get(one, NOT_DECLARED), **totals[one], "rejected": by_count(rejected[one])}
        for one in names
    ]
    return Counted(
        exports,
        by_count(formats),
        by_count(colours),
        dict(sorted(by_images.items())),
        merged,
        looks.told(),
        looks.near_copies(),
    )


def _counts(column: pa.ChunkedArray) -> dict[str, int]:
    return {pair["values"] or "not looked at": pair["counts"] for pair in pc.value_counts(column).to_pylist()}
