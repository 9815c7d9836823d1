"""How pictures look: brightness, contrast, sharpness and a difference hash, of many at a time.

They are measured on the grey picture at half size, which decoding to its end makes anyway:

- **brightness**: mean, 0 to 255;
- **contrast**: standard deviation; a placeholder of one colour has next to none;
- **sharpness**: root mean square of the Laplacian (4 times a pixel less its neighbours), low where it is blurred;
- **dhash**: whether each of 8 × 8 fields is brighter than the one to its left, as 64 bits (Krawetz, "Kind of Like
  That", 2013): the same picture, saved again or scaled, differs in a few bits only.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from PIL import Image

from include.faceset.declared.pictures import Pictures
from include.faceset.ledger import LEDGER, Outcome

Grey = NDArray[np.uint8]
"""A grey picture at half size: height, width."""
AT_ONCE = 32
"""Pictures that are measured together: so many that numpy's calls cost little, so few that they stay in the cache."""
HASH_ROWS, HASH_COLUMNS = 8, 9
COLUMNS = ("brightness", "contrast", "sharpness", "dhash")


class Look(NamedTuple):
    """How a picture looks."""

    brightness: float
    contrast: float
    sharpness: float
    dhash: bytes


def grey_of(image: Image.Image) -> Grey:
    """The grey picture of an image at half size."""
    grey = image.convert("RGB").convert("L")
    return np.asarray(grey.reduce(2) if min(grey.size) > 1 else grey)


def measure(greys: Sequence[Grey]) -> list[Look]:
    """How pictures of one size look."""
    if not greys:
        return []
    pictures = np.stack(greys)
    count, height, width = pictures.shape
    flat = pictures.reshape(count, -1).astype(np.float32)
    mean = flat.mean(axis=1)
    contrast = np.sqrt(np.maximum(np.einsum("ij,ij->i", flat, flat) / flat.shape[1] - mean * mean, 0))
    left, right = _fields(height, width)
    fields = left @ flat.reshape(count, height, width) @ right
    bits = np.packbits((fields[:, :, 1:] > fields[:, :, :-1]).reshape(count, 64), axis=1)
    columns = (mean.tolist(), contrast.tolist(), _sharpness(flat, height, width).tolist(), map(bytes, bits))
    return [Look(*look) for look in zip(*columns, strict=True)]


def _sharpness(flat: NDArray[np.float32], height: int, width: int) -> NDArray[np.float32]:
    """Root mean square of the Laplacian; on flat rows, which is what makes it quick, and without the edges."""
    if height < 3 or width < 3:
        return np.zeros(len(flat), np.float32)
    inner = flat[:, width:-width] * 4
    inner -= flat[:, : -2 * width]
    inner -= flat[:, 2 * width :]
    inner -= flat[:, width - 1 : -width - 1]
    inner -= flat[:, width + 1 : flat.shape[1] - width + 1]
    inside = inner.reshape(len(flat), height - 2, width)[:, :, 1:-1]
    squares: NDArray[np.float32] = np.einsum("ijk,ijk->i", inside, inside)
    return np.sqrt(squares / ((height - 2) * (width - 2)))


@lru_cache
def _fields(height: int, width: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Matrices that make fields of means of a picture, from the left and from the right."""
    return _means(height, HASH_ROWS), _means(width, HASH_COLUMNS).T


def _means(size: int, parts: int) -> NDArray[np.float32]:
    edges = np.linspace(0, size, parts + 1)
    at = np.arange(size)
    covered = np.minimum(at + 1, edges[1:, None]) - np.maximum(at, edges[:-1, None])
    weights: NDArray[np.float32] = (np.maximum(covered, 0) * parts / size).astype(np.float32)
    return weights


def distance(one: bytes, other: bytes) -> int:
    """In how many bits two hashes differ."""
    return (int.from_bytes(one) ^ int.from_bytes(other)).bit_count()


def outcome_of(rules: Pictures, brightness: float, contrast: float, sharpness: float) -> Outcome | None:
    """Why a picture is left out for how it looks by itself; None if it is not."""
    if rules.placeholder is not None and contrast < rules.placeholder:
        return Outcome.PLACEHOLDER
    if rules.too_dark is not None and brightness < rules.too_dark:
        return Outcome.TOO_DARK
    if rules.too_bright is not None and brightness > rules.too_bright:
        return Outcome.TOO_BRIGHT
    if rules.blurred is not None and sharpness < rules.blurred:
        return Outcome.BLURRED
    return None


def near_duplicates(hashes: Sequence[bytes], most: int) -> list[int]:
    """Which of some pictures, the best first, differ in at most `most` bits from a better one that stays."""
    stay: list[bytes] = []
    gone = []
    for index, one in enumerate(hashes):
        if any(distance(one, other) <= most for other in stay):
            gone.append(index)
        else:
            stay.append(one)
    return gone


class Album:
    """Pictures of a shard's rows, measured a few at a time, whatever identities they are of."""

    def __init__(self) -> None:
        self._rows: list[int] = []
        self._waiting: list[Grey] = []
        self._looks: list[Look] = []

    def add(self, row: int, grey: Grey) -> None:
        """Take in the picture of a row, by its number."""
        if self._waiting and self._waiting[0].shape != grey.shape:
            self._measure()
        self._rows.append(row)
        self._waiting.append(grey)
        if len(self._waiting) >= AT_ONCE:
            self._measure()

    def _measure(self) -> None:
        self._looks += measure(self._waiting)
        self._waiting.clear()

    def filled(self, rows: pa.Table) -> pa.Table:
        """The rows (schema LEDGER) with what was measured."""
        self._measure()
        for at, name in enumerate(COLUMNS):
            values: list[Any] = rows[name].to_pylist()
            for row, look in zip(self._rows, self._looks, strict=True):
                values[row] = look[at]
            field = LEDGER.field(name)
            rows = rows.set_column(LEDGER.get_field_index(name), field, pa.array(values, field.type))
        return rows
