"""What the filter of a run hands to the steps after it: for each shard its rows, and counts of all."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass

import pyarrow as pa

from include.faceset.errors import Final
from include.faceset.ground import files, tables
from include.faceset.run.attempt import Attempt
from include.faceset.run.run import Run

COUNTS_FILE = "filtered.json"


class FilterError(Final):
    """No identity has enough images, or nothing was filtered at all."""


@dataclass(frozen=True)
class Filtered:
    """Counts of the filter; `shards` are those with something to copy, `size` is what may be kept of them in bytes,
    `large` how much of that is in files above `max_file_size`."""

    shards: list[int]
    identities: int
    images: int
    identities_out: int
    images_out: int
    size: int
    large: int = 0


def read_counts(run: Run) -> Filtered:
    """What the filter counted in this run.

    Raises:
        FilterError: it has not run, or its work is gone.
    """
    with _explained(run):
        return Filtered(**json.loads((run.work / COUNTS_FILE).read_text(encoding="utf-8")))


def read_selected(run: Run, shard: int) -> pa.Table:
    """What the filter selected of a shard.

    Raises:
        FilterError: it has not run, or its work is gone.
    """
    with _explained(run):
        return tables.read(run.selected(shard))


@contextmanager
def _explained(run: Run) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        raise FilterError(
            f"what filter_manifest writes is not in {run.work}: it has not run in this run (was it marked as success?),"
            " or a later run has cleared it. Clear this run from `scan` on, or trigger again"
        ) from error


def keep_counts(attempt: Attempt, counts: Filtered) -> Filtered:
    """Keep the counts for the steps after the filter; the counts."""
    files.write_text(attempt.run.work / COUNTS_FILE, json.dumps(asdict(counts)), within=attempt.folder)
    return counts
