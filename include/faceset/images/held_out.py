"""Whose images are held out, among rows of the ledger."""

import pyarrow as pa
import pyarrow.compute as pc

from include.faceset.declared.dataset import Dataset
from include.faceset.ledger import Outcome

GOOD = pa.array([Outcome.KEPT.value, Outcome.HELD_OUT.value])
"""Outcomes of images with which nothing is wrong."""


def holds(dataset: Dataset, identity: str) -> bool:
    """Whether a dataset holds an identity out of the training set."""
    return dataset.holdout is not None and dataset.holdout.holds(identity)


def of_rows(dataset: Dataset, rows: pa.Table) -> pa.Array:
    """Whether the identity of each row is held out."""
    if dataset.holdout is None:
        return pa.repeat(pa.scalar(False), rows.num_rows)
    names = pc.unique(rows["identity"])
    held = [name for name in names.to_pylist() if name is not None and dataset.holdout.holds(name)]
    return pc.is_in(rows["identity"], value_set=pa.array(held, pa.string())).combine_chunks()


def good(rows: pa.Table) -> pa.Table:
    """The rows of images with which nothing is wrong: kept ones, and those held out."""
    return rows.filter(pc.is_in(rows["outcome"], value_set=GOOD))


def as_ruled(dataset: Dataset, rows: pa.Table) -> pa.Array:
    """Whether each row, if its image is good, has the outcome that the dataset's rule gives it now."""
    held = pc.equal(rows["outcome"], Outcome.HELD_OUT.value)
    is_good = pc.is_in(rows["outcome"], value_set=GOOD)
    return pc.or_(pc.invert(is_good), pc.equal(held, of_rows(dataset, rows)))
