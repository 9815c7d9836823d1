"""filter_manifest: per shard, identities with enough images in all exports go on, the rest goes to the ledger.

Images are only counted here, not opened: the cheap half of the filter. ``copy_shard`` counts again
what is left once the bytes are known.
"""

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from include.faceset import people
from include.faceset.erasure import rewrite
from include.faceset.exports import parts
from include.faceset.ground import sharded, tables
from include.faceset.images import large, unchanged
from include.faceset.ledger import LEDGER, Outcome, kept, reject
from include.faceset.release import history, memory, release
from include.faceset.run import decided
from include.faceset.run.attempt import Attempt, trying
from include.faceset.run.room import check_room
from include.faceset.run.run import Run
from include.faceset.run.selected import Filtered, FilterError, keep_counts

SHARDS_IN_MEMORY = 2
"""Arrow sorts and writes one while it reads the other."""


class ShardCounts(NamedTuple):
    """Counts of one shard, as in `Filtered`."""

    identities: int
    images: int
    identities_out: int
    images_out: int
    size: int
    large: int


def filter_manifest(run: Run) -> Filtered:
    """Filter every shard of a run; two shards are in memory at a time. A run that rolls back selects its release.

    Nothing here meets people on the list: `forget` has erased them from all that earlier runs left.

    Raises:
        FilterError: no identity has enough images, or `forget` has not run.
        NotReadyError: what was selected does not fit on the output's disk.
        PartsError: a known part was scanned under another declaration of its export.
        ReleaseError: the release to roll back to is not kept.
        SupersededError: a later try of this filter has begun.
        SuppressedError: the list of people to erase is wrong.
        DecisionError: the table of decisions is wrong.
    """
    with trying(run, "filter") as attempt:
        if not run.params.dry_run and not rewrite.has_begun(run):
            raise FilterError(
                f"what forget writes is not in {run.work}: people are to be erased, and it has not run in this run (was"
                " it marked as success?). Clear forget, with the tasks that follow it"
            )
        memory.note_baseline(attempt)
        return _filter(attempt) if run.params.release is None else _select_release(attempt)


def _filter(attempt: Attempt) -> Filtered:
    run = attempt.run
    parts.note_scanned(attempt)
    decided.note(attempt)
    with ThreadPoolExecutor(SHARDS_IN_MEMORY) as pool:
        filtered = list(pool.map(lambda shard: _filter_shard(attempt, shard), range(run.params.shards)))
    as_before: dict[bytes, bool] = {}
    for _, disputes in filtered:
        for sha256, same in disputes:
            as_before[sha256] = as_before.get(sha256, True) and same
    shards = [shard for shard, (counts, _) in enumerate(filtered) if counts.images]
    total = ShardCounts(*map(sum, zip(*(counts for counts, _ in filtered), strict=True)))
    if not shards and not run.params.dry_run:
        listed = len(people.to_erase(run))
        erased = f"; {listed:,} people are on the list of people to erase, and do not count here" if listed else ""
        raise FilterError(
            f"none of {total.identities_out:,} identities has {run.params.min_images} images "
            f"({total.images_out:,} images in all); check the exports, their declared layouts, and min_images{erased}"
        )
    unchanged.write_disputes(attempt, [sha256 for sha256, same in as_before.items() if same])
    check_room(run, total.images, total.size, total.large)
    return keep_counts(attempt, Filtered(shards, **total._asdict()))


def _filter_shard(attempt: Attempt, shard: int) -> tuple[ShardCounts, list[tuple[bytes, bool]]]:
    """Write what a shard selects and what it rejects; its counts, and its disputes as `unchanged.disputes` has them."""
    run = attempt.run
    images, gone = parts.read_images(run, shard), pa.array(decided.of(run).dropped_identities, pa.string())
    enough, few = split_by_count(tables.without(images, "identity", gone), run.params.min_images)
    dropped = reject(tables.only(images, "identity", gone), Outcome.DROPPED_BY_DECISION)
    tables.write(enough, run.selected(shard), within=attempt.folder)
    settled = pa.concat_tables([reject(few, Outcome.TOO_FEW_IMAGES), dropped])
    tables.write(settled, run.filtered(shard), within=attempt.folder)
    of_large = large.size_to_keep(run, enough)
    counts = ShardCounts(
        identities=pc.count_distinct(enough["identity"]).as_py(),
        images=enough.num_rows,
        identities_out=pc.count_distinct(few["identity"]).as_py(),
        images_out=few.num_rows,
        size=large.size_of_small(run, enough) + of_large,
        large=of_large,
    )
    return counts, list(unchanged.disputes(enough, memory.known_files(run, shard)))


def _select_release(attempt: Attempt) -> Filtered:
    run = attempt.run
    folder, listed = history.to_restore(run), people.to_erase(run)
    counts = Counter[str]()
    shards = []
    for shard in range(run.params.shards):
        rows = kept(sharded.read(folder / release.LEDGER_FILE, shard, run.params.shards))
        rows = people.separate(listed, tables.conformed(rows, LEDGER))[1]
        if run.on_disk:  # a release that was made without an output says of no file when it was written
            written = pc.coalesce(rows["staged_mtime_ns"], rows["mtime_ns"])
            rows = rows.set_column(LEDGER.get_field_index("staged_mtime_ns"), "staged_mtime_ns", written)
        tables.write(rows, run.selected(shard), within=attempt.folder)
        tables.write(LEDGER.empty_table(), run.filtered(shard), within=attempt.folder)
        shards += [shard] if rows.num_rows else []
        counts.update(
            identities=pc.count_distinct(rows["identity"]).as_py(),
            images=rows.num_rows,
            size=sum(rows["size"].to_pylist()),
        )
    selected = Filtered(
        shards, counts["identities"], counts["images"], identities_out=0, images_out=0, size=counts["size"]
    )
    return keep_counts(attempt, selected)


def split_by_count(manifest: pa.Table, min_images: int) -> tuple[pa.Table, pa.Table]:
    """Rows of identities with at least `min_images` rows, and the others; both sorted by identity, export, path."""
    ordered = manifest.sort_by([("identity", "ascending"), ("export", "ascending"), ("path", "ascending")])
    counted = ordered.group_by("identity").aggregate([([], "count_all")])
    enough = counted["identity"].filter(pc.greater_equal(counted["count_all"], min_images))
    has_enough = pc.is_in(ordered["identity"], value_set=enough.combine_chunks())
    return ordered.filter(has_enough), ordered.filter(pc.invert(has_enough))
