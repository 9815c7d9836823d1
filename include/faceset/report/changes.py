"""What differs between two states: the release before, and the one after or the one that a run would make."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from include.faceset.exports.rows import Row, rows_of
from include.faceset.ground import tables
from include.faceset.images import held_out
from include.faceset.images.conflicts import settle
from include.faceset.images.unchanged import with_known
from include.faceset.images.verdicts import OF_THE_BYTES, Judged, Verdicts
from include.faceset.ledger import LEDGER, Outcome, kept
from include.faceset.release.memory import known_files
from include.faceset.run import decided
from include.faceset.run.run import Run

IMAGE = pa.schema([("identity", pa.string()), ("key", pa.string()), ("size", pa.int64()), ("sha256", pa.binary(32))])


@dataclass(frozen=True)
class State:
    """One side of a comparison, of one shard.

    `images` (schema IMAGE) are kept, with a null SHA-256 where it is not known yet; `too_few` are the identities that
    have files, but not enough.
    """

    images: pa.Table
    too_few: pa.Array

    @property
    def identities(self) -> pa.Array:
        return pc.unique(self.images["identity"])


@dataclass(frozen=True)
class Changes:
    """Counts of what differs.

    An image is *changed* if the same key has other bytes (of a foreseen one: as far as size and earlier knowledge
    tell). `grew_into` and `fell_under` are identities that crossed `min_images`; they are among those added and
    removed. `classes_moved` are identities in both whose class index differs. `values` has before and after.
    """

    identities_added: int
    identities_removed: int
    images_added: int
    images_removed: int
    images_changed: int
    grew_into: int
    fell_under: int
    classes_moved: int
    values: dict[str, tuple[Any, Any]]

    @property
    def none(self) -> bool:
        """Whether nothing differs."""
        return not (self.images_added or self.images_removed or self.images_changed or self.values)


def compare_states(
    shards: Iterable[tuple[State, State]], values_before: Mapping[str, Any], values_after: Mapping[str, Any]
) -> Changes:
    """What became different.

    Args:
        shards: what each shard was and is; two of them are in memory at a time.
        values_before: what the training config said, with the steps that follow from it.
        values_after: what it says.
    """
    counts = Counter[str]()
    identities: tuple[list[pa.Array], list[pa.Array]] = ([], [])
    for before, after in shards:
        counts.update(_differences(before, after))
        for side, state in zip(identities, (before, after), strict=True):
            side.append(state.identities)
    was, now = (_classes(side) for side in identities)
    moved = was.join(now, keys="identity", join_type="inner", right_suffix="_now")
    names = [name for name in {**values_before, **values_after} if values_before.get(name) != values_after.get(name)]
    return Changes(
        identities_added=now.num_rows - moved.num_rows,
        identities_removed=was.num_rows - moved.num_rows,
        classes_moved=pc.sum(pc.not_equal(moved["index"], moved["index_now"])).as_py() or 0,
        values={name: (values_before.get(name), values_after.get(name)) for name in names},
        images_added=counts["images_added"],
        images_removed=counts["images_removed"],
        images_changed=counts["images_changed"],
        grew_into=counts["grew_into"],
        fell_under=counts["fell_under"],
    )


def _differences(before: State, after: State) -> dict[str, int]:
    """What is counted within a shard."""
    shared = before.images.join(after.images, keys="key", join_type="inner", right_suffix="_now")
    other_bytes = pc.coalesce(
        pc.not_equal(shared["sha256"], shared["sha256_now"]), pc.not_equal(shared["size"], shared["size_now"])
    )
    return {
        "images_added": after.images.num_rows - shared.num_rows,
        "images_removed": before.images.num_rows - shared.num_rows,
        "images_changed": pc.sum(other_bytes).as_py() or 0,
        "grew_into": pc.sum(pc.is_in(after.identities, value_set=before.too_few)).as_py() or 0,
        "fell_under": pc.sum(pc.is_in(before.identities, value_set=after.too_few)).as_py() or 0,
    }


def of_ledger(ledger: pa.Table) -> State:
    """The state that a shard's ledger rows (at least identity, key, size, sha256, outcome) tell of."""
    images = kept(ledger).select(IMAGE.names)
    few = pc.unique(ledger.filter(pc.equal(ledger["outcome"], Outcome.TOO_FEW_IMAGES.value))["identity"])
    return State(images, few.filter(pc.invert(pc.is_in(few, value_set=pc.unique(images["identity"])))))


def foreseen(run: Run) -> list[State]:
    """The state that a run would make of each shard, as far as names, sizes and what the last release knows tell.

    A file whose bytes are not known is taken for a good image unlike all others.
    """
    shards = range(run.params.shards)
    if run.params.release is not None:  # nothing is judged again
        return [State(tables.read(run.selected(one)).select(IMAGE.names), pa.array([], pa.string())) for one in shards]
    ledgers = [_judged(run, one) for one in shards]
    hashes = pa.chunked_array(
        [chunk for one in ledgers for chunk in held_out.good(one)["sha256"].chunks], pa.binary(32)
    )
    counted = pc.value_counts(hashes.drop_null())
    shared = counted.field("values").filter(pc.greater(counted.field("counts"), 1))
    held = held_out.seen(run.dataset, ledgers)
    settled = [settle(one, shared, run.params.min_images, held) for one in ledgers]
    return [of_ledger(pa.concat_tables([one, tables.read(run.filtered(at))])) for at, one in enumerate(settled)]


def _judged(run: Run, shard: int) -> pa.Table:
    """Ledger rows of what was selected of a shard, as the copying would leave them."""
    rows: list[Row] = []
    decisions = decided.of(run)
    selected = with_known(tables.read(run.selected(shard)), known_files(run, shard))
    for identity, group in groupby(rows_of(selected), key=lambda row: row.identity):
        verdicts = Verdicts(decisions)
        for row in group:
            rejected = Outcome(row.outcome) if row.outcome in OF_THE_BYTES else None
            if (rejected := verdicts.outcome(Judged(row, rejected, None))) is not None:
                verdicts.reject(row, rejected)
            else:
                verdicts.keep(row, verdicts.free_name(row), None)
        verdicts.judge_together(run.dataset, identity, run.params.min_images)
        rows.extend(verdicts.rows)
    return tables.of_rows(rows, LEDGER)


def _classes(identities: list[pa.Array]) -> pa.Table:
    ordered = pa.chunked_array(identities, pa.string()).combine_chunks().sort()
    return pa.table({"identity": ordered, "index": pa.array(range(len(ordered)), pa.int64())})
