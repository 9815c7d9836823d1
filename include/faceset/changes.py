"""What differs between two states: the release before, and the one after or the one that a run would make."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from include.faceset import tables
from include.faceset.ledger import Outcome, kept
from include.faceset.run import Run
from include.faceset.unchanged import with_known

IMAGE = pa.schema([("identity", pa.string()), ("key", pa.string()), ("size", pa.int64()), ("sha256", pa.binary(32))])


@dataclass(frozen=True)
class State:
    """One side of a comparison.

    `images` (schema IMAGE) are kept, with a null SHA-256 where it is not known yet; `too_few` are the identities that
    have files, but not enough; `values` is what the training config says, with the steps that follow from it.
    """

    images: pa.Table
    too_few: pa.Array
    values: Mapping[str, Any]


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


def compare(before: State, after: State) -> Changes:
    """What became different."""
    was, now = _classes(before), _classes(after)
    moved = was.join(now, keys="identity", join_type="inner", right_suffix="_now")
    shared = before.images.join(after.images, keys="key", join_type="inner", right_suffix="_now")
    other_bytes = pc.coalesce(
        pc.not_equal(shared["sha256"], shared["sha256_now"]), pc.not_equal(shared["size"], shared["size_now"])
    )
    names = [name for name in {**before.values, **after.values} if before.values.get(name) != after.values.get(name)]
    return Changes(
        identities_added=now.num_rows - moved.num_rows,
        identities_removed=was.num_rows - moved.num_rows,
        images_added=after.images.num_rows - shared.num_rows,
        images_removed=before.images.num_rows - shared.num_rows,
        images_changed=pc.sum(other_bytes).as_py() or 0,
        grew_into=pc.sum(pc.is_in(now["identity"], value_set=before.too_few)).as_py() or 0,
        fell_under=pc.sum(pc.is_in(was["identity"], value_set=after.too_few)).as_py() or 0,
        classes_moved=pc.sum(pc.not_equal(moved["index"], moved["index_now"])).as_py() or 0,
        values={name: (before.values.get(name), after.values.get(name)) for name in names},
    )


def of_ledger(ledger: pa.Table, values: Mapping[str, Any]) -> State:
    """The state that a ledger (at least identity, key, size, sha256, outcome) tells of."""
    images = kept(ledger).select(IMAGE.names)
    few = pc.unique(ledger.filter(pc.equal(ledger["outcome"], Outcome.TOO_FEW_IMAGES.value))["identity"])
    return State(images, few.filter(pc.invert(pc.is_in(few, value_set=pc.unique(images["identity"])))), values)


def foreseen(run: Run, shard: int, known: pa.Table) -> State:
    """The state that a run would make of a shard, as far as names, sizes and what the last release knows tell."""
    rows = with_known(tables.read(run.selected(shard)), known)
    bad = [outcome.value for outcome in Outcome if outcome not in {Outcome.KEPT, Outcome.TOO_FEW_IMAGES}]
    rows = rows.filter(pc.invert(pc.fill_null(pc.is_in(rows["outcome"], value_set=pa.array(bad)), False)))
    counted = rows.group_by("identity").aggregate([([], "count_all")])
    enough = counted.filter(pc.greater_equal(counted["count_all"], run.params.min_images))["identity"].combine_chunks()
    name = pc.replace_substring_regex(rows["path"], "^.*/", "")
    with_part = pc.coalesce(pc.binary_join_element_wise(rows["partition"], name, "__"), name)
    key = pc.coalesce(rows["key"], pc.binary_join_element_wise(rows["identity"], with_part, "/"))
    has_enough = pc.is_in(rows["identity"], value_set=enough)
    images = pa.table([rows["identity"], key, rows["size"], rows["sha256"]], schema=IMAGE).filter(has_enough)
    filtered = tables.read(run.filtered(shard), ["identity"])["identity"]
    dropped = rows.filter(pc.invert(has_enough))["identity"]
    return State(images, pc.unique(pa.chunked_array([*filtered.chunks, *dropped.chunks], pa.string())), {})


def together(states: list[State], values: Mapping[str, Any]) -> State:
    """The state of all shards."""
    too_few = pa.chunked_array([state.too_few for state in states], pa.string()).combine_chunks()
    return State(pa.concat_tables([state.images for state in states]), too_few, values)


def _classes(state: State) -> pa.Table:
    identities = pc.unique(state.images["identity"]).sort()
    return pa.table({"identity": identities, "index": pa.array(range(len(identities)), pa.int64())})
