"""Whose images are held out, among rows of the ledger."""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

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


class Seen(NamedTuple):
    """How the images look that are held out (difference hashes), and how few bits are nearly the same picture."""

    hashes: NDArray[np.uint64]
    most: int

    def are_near(self, rows: pa.Table) -> pa.Array:
        """Whether each row is of a picture that is nearly one of them; one that was not measured is not."""
        found = np.zeros(rows.num_rows, dtype=bool)
        measured = np.flatnonzero(pc.is_valid(rows["dhash"]).to_numpy())
        asked = _numbers(rows["dhash"].drop_null())
        for one in self.hashes if len(asked) else ():
            found[measured] |= np.bitwise_count(asked ^ one) <= self.most
        return pa.array(found)


def seen(dataset: Dataset, shards: Iterable[pa.Table]) -> Seen | None:
    """How the images look that are held out; None where nothing asks for it (`near_duplicate`).

    Args:
        dataset: says who is held out.
        shards: ledger rows, at least outcome and dhash.
    """
    if dataset.holdout is None or dataset.pictures.near_duplicate is None:
        return None
    held = (rows.filter(pc.equal(rows["outcome"], Outcome.HELD_OUT.value))["dhash"].drop_null() for rows in shards)
    hashes = [_numbers(one) for one in held]
    every = np.unique(np.concatenate(hashes)) if hashes else np.zeros(0, np.uint64)
    return Seen(every, dataset.pictures.near_duplicate)


def _numbers(hashes: pa.ChunkedArray) -> NDArray[np.uint64]:
    return np.frombuffer(b"".join(hashes.to_pylist()), dtype=">u8").astype(np.uint64)


def as_ruled(dataset: Dataset, rows: pa.Table) -> pa.Array:
    """Whether each row, if its image is good, has the outcome that the dataset's rule gives it now."""
    held = pc.equal(rows["outcome"], Outcome.HELD_OUT.value)
    is_good = pc.is_in(rows["outcome"], value_set=GOOD)
    return pc.or_(pc.invert(is_good), pc.equal(held, of_rows(dataset, rows)))
