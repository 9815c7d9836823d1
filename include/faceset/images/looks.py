"""Images of several identities that look alike, though their bytes differ: the labels of some are in doubt."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from include.faceset.ledger import Outcome

COMPARED = ("dhash", "brightness", "contrast")
CLOSE = 3.0
"""How far brightness and contrast may be apart, of pictures with the same difference hash."""


def alike(rows: pa.Table) -> list[list[int]]:
    """Groups of kept images that look alike and are of two identities or more: the numbers of their rows.

    The same difference hash, and nearly the same brightness and contrast: what was saved again, or scaled, and little
    else. A hash of nothing but zeros is of a picture of one colour, which looks like any other.

    Args:
        rows: outcome, identity and `COMPARED`.
    """
    is_asked = pc.and_(pc.equal(rows["outcome"], Outcome.KEPT.value), pc.is_valid(rows["dhash"]))
    numbers = pc.indices_nonzero(is_asked).to_numpy()
    rows = rows.take(pa.array(numbers))
    hashes = np.frombuffer(b"".join(rows["dhash"].to_pylist()), dtype=">u8").astype(np.uint64)
    order = np.argsort(hashes, kind="stable")
    same = np.flatnonzero((hashes[order][1:] == hashes[order][:-1]) & (hashes[order][1:] != 0))
    found = []
    for run in np.split(same, np.flatnonzero(np.diff(same) > 1) + 1) if len(same) else ():
        members = order[run[0] : run[-1] + 2]
        found += _close(rows.take(pa.array(members)), numbers[members])
    return found


def _close(rows: pa.Table, numbers: np.ndarray) -> list[list[int]]:
    """Of images with one hash, in the order of their brightness, those that are close to their neighbour."""
    rows = rows.append_column("number", pa.array(numbers)).sort_by("brightness")
    groups: list[list[dict[str, object]]] = []
    for row in rows.to_pylist():
        last = groups[-1][-1] if groups else None
        if last is not None and all(abs(row[name] - last[name]) <= CLOSE for name in ("brightness", "contrast")):
            groups[-1].append(row)
        else:
            groups.append([row])
    several = (group for group in groups if len({row["identity"] for row in group}) > 1)
    return [[int(str(row["number"])) for row in group] for group in several]
