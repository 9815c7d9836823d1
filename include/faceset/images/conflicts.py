"""The same bytes under two identities: both labels are in doubt, so none of them is kept."""

import pyarrow as pa
import pyarrow.compute as pc

from include.faceset.images import held_out
from include.faceset.ledger import LEDGER, Outcome


def settle(ledger: pa.Table, shared: pa.Array, min_images: int, held: held_out.Seen | None = None) -> pa.Table:
    """Take out the images of a shard whose bytes are `shared`, then the identities left with too few.

    Before that, images that look nearly like one that is `held` out go too.

    Images that are held out count like those that are kept: what verifies a model must not have trained it.
    """
    is_good = pc.is_in(ledger["outcome"], value_set=held_out.GOOD)
    in_conflict = pc.and_(is_good, pc.is_in(ledger["sha256"], value_set=shared))
    ledger = _with_outcome(ledger, in_conflict, Outcome.IDENTITY_CONFLICT)
    if held is not None:
        near = pc.and_(pc.equal(ledger["outcome"], Outcome.KEPT.value), held.are_near(ledger))
        ledger = _with_outcome(ledger, near, Outcome.NEAR_HELD_OUT)
    left = held_out.good(ledger).group_by("identity").aggregate([([], "count_all")])
    enough = left["identity"].filter(pc.greater_equal(left["count_all"], min_images)).combine_chunks()
    still_good = pc.is_in(ledger["outcome"], value_set=held_out.GOOD)
    too_few = pc.and_(still_good, pc.invert(pc.is_in(ledger["identity"], value_set=enough)))
    return _with_outcome(ledger, too_few, Outcome.TOO_FEW_IMAGES)


def _with_outcome(ledger: pa.Table, rows: pa.ChunkedArray, outcome: Outcome) -> pa.Table:
    changed = {
        "outcome": pc.if_else(rows, outcome.value, ledger["outcome"]),
        "key": pc.if_else(rows, pa.scalar(None, pa.string()), ledger["key"]),
        "staged_mtime_ns": pc.if_else(rows, pa.scalar(None, pa.int64()), ledger["staged_mtime_ns"]),
    }
    return pa.table([changed.get(name, ledger[name]) for name in LEDGER.names], schema=LEDGER)
