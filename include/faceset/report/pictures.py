"""How many images would be left out for how they look, at which threshold."""

import zlib
from collections import Counter
from collections.abc import Iterator
from itertools import groupby
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from include.faceset.images import looks, pictures

STEPS: dict[str, tuple[float, ...]] = {
    "too_dark": (10, 20, 30, 40, 50, 60),
    "too_bright": (195, 205, 215, 225, 235, 245),
    "placeholder": (2, 4, 6, 8, 12, 16),
    "blurred": (2, 4, 6, 8, 10, 15),
    "near_duplicate": (0, 1, 2, 4, 6, 8),
}
"""Thresholds of each check that are told; the dataset file takes any other as well."""
_MEASURE = {"too_dark": "brightness", "too_bright": "brightness", "placeholder": "contrast", "blurred": "sharpness"}


class Tally:
    """Counts of what each threshold would leave out, shard by shard."""

    def __init__(self) -> None:
        self._gone = {name: Counter[float]() for name in STEPS}
        self._measured = self._sharp = 0
        self._compared: list[pa.Table] = []

    def add(self, images: pa.Table) -> None:
        """Take in the kept rows of a shard."""
        if "dhash" not in images.column_names:  # of a release of old
            return
        images = images.filter(pc.is_valid(images["dhash"]))
        self._measured += images.num_rows
        self._compared.append(_codes(images))
        self._sharp += images.num_rows - images["sharpness"].null_count
        for name, measure in _MEASURE.items():
            beyond = pc.greater if name == "too_bright" else pc.less
            for step in STEPS[name]:
                self._gone[name][step] += pc.sum(beyond(images[measure], step)).as_py() or 0
        for step, count in _near(images):
            self._gone["near_duplicate"][step] += count

    def near_copies(self) -> int:
        """How many groups of images of several identities look alike."""
        return len(looks.alike(pa.concat_tables(self._compared))) if self._compared else 0

    def told(self) -> dict[str, list[dict[str, Any]]]:
        """Of each check the thresholds, and how many images each would leave out; empty if nothing was measured.

        Where the sharpness was measured of a sample, what is `blurred` is reckoned from it.
        """
        if not self._measured:
            return {}
        of_all = self._measured / self._sharp if self._sharp else 0
        return {
            name: [
                {"threshold": step, "images": round(self._gone[name][step] * (of_all if name == "blurred" else 1))}
                for step in steps
            ]
            for name, steps in STEPS.items()
        }


def _codes(images: pa.Table) -> pa.Table:
    """What `looks.alike` needs of kept rows, with a number in the place of each identity: 8 bytes instead of a name."""
    names = images["identity"].combine_chunks().dictionary_encode()
    crcs = pa.array([zlib.crc32(name.encode()) for name in names.dictionary.to_pylist()], pa.int64())
    return images.select(["outcome", *looks.COMPARED]).append_column("identity", crcs.take(names.indices))


def _near(images: pa.Table) -> Iterator[tuple[float, int]]:
    """How many images each distance would leave out; only identities with any close pair are looked at one by one."""
    steps = STEPS["near_duplicate"]
    images = images.select(["identity", "sharpness", "dhash"]).sort_by(
        [("identity", "ascending"), ("sharpness", "descending")]
    )
    for _, rows in groupby(_close(images, int(steps[-1])).to_pylist(), key=lambda row: row["identity"]):
        hashes = [row["dhash"] for row in rows]
        for step in steps:
            yield step, len(pictures.near_duplicates(hashes, int(step)))


def _close(images: pa.Table, most: int) -> pa.Table:
    """The images, sorted by identity, of identities of which any two differ in at most `most` bits."""
    hashes = np.frombuffer(b"".join(images["dhash"].to_pylist()), dtype=">u8")
    identity = images["identity"].combine_chunks().dictionary_encode().indices.to_numpy(zero_copy_only=False)
    found = np.zeros(len(hashes), dtype=bool)
    for apart in range(1, len(hashes)):
        same = identity[apart:] == identity[:-apart]
        if not same.any():
            break
        found[apart:] |= same & (np.bitwise_count(hashes[apart:] ^ hashes[:-apart]) <= most)
    wanted = np.isin(identity, identity[found])
    return images.filter(pa.array(wanted))
