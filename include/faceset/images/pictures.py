"""How pictures look: brightness, contrast, sharpness and a difference hash, of many at a time.

- **brightness**: mean of the grey picture, 0 to 255;
- **contrast**: its standard deviation; a placeholder of one colour has next to none;
- **dhash**: whether each of 8 × 8 fields is brighter than the one to its left, as 64 bits (Krawetz, "Kind of Like
  That", 2013): the same picture, saved again or scaled, differs in a few bits only.
- **sharpness**: root mean square of the Laplacian (4 times a pixel less its neighbours), low where it is blurred.

The first three are taken from the picture at an eighth of its size, which decoding a JPEG to its end gives away.
Sharpness needs it at half size, which costs a fifth more, so it is measured of all images only where a threshold asks
for it, and otherwise of about one in 16: enough to tell how many a threshold would leave out.
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
"""A grey picture: height, width."""
AT_ONCE = 64
"""Pictures that are measured together: so many that numpy's calls cost little, so few that they stay in the cache."""
ONE_IN = 16
HASH_ROWS, HASH_COLUMNS = 8, 9
COLUMNS = ("brightness", "contrast", "sharpness", "dhash")


class Picture(NamedTuple):
    """A grey picture at an eighth of its size and, if its sharpness is to be measured, at half size."""

    small: Grey
    half: Grey | None = None


class Look(NamedTuple):
    """How a picture looks."""

    brightness: float
    contrast: float
    sharpness: float | None
    dhash: bytes


def is_sampled(data: bytes) -> bool:
    """Whether the sharpness of an image is measured though nobody asks: about one in `ONE_IN`, by its bytes."""
    return bool(data) and data[len(data) // 2] % ONE_IN == 0


def of_half(half: Grey) -> Picture:
    """The picture of one at half size."""
    rows, columns, counts = _fourths(*half.shape)
    sums = np.add.reduceat(np.add.reduceat(half, rows, axis=0, dtype=np.uint32), columns, axis=1)
    small: Grey = ((sums + counts // 2) // counts).astype(np.uint8)
    return Picture(small, half)


@lru_cache
def _fourths(height: int, width: int) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.uint32]]:
    """Where each fourth row and column begins, and how many pixels lie in each field between them."""
    rows, columns = np.arange(0, height, 4), np.arange(0, width, 4)
    counts = np.outer(np.diff([*rows, height]), np.diff([*columns, width]))
    return rows, columns, counts.astype(np.uint32)


def of_image(image: Image.Image, *, closely: bool) -> Picture:
    """The picture of an image that Pillow has decoded; `closely`: with what its sharpness is measured on."""
    grey = image.convert("RGB").convert("L")
    found = of_half(np.asarray(grey.reduce(2) if min(grey.size) > 1 else grey))
    return found if closely else found._replace(half=None)


def measure(seen: Sequence[Picture]) -> list[Look]:
    """How pictures of one size look."""
    if not seen:
        return []
    small = np.stack([one.small for one in seen])
    count, height, width = small.shape
    flat = small.reshape(count, -1).astype(np.float32)
    mean = flat.mean(axis=1)
    contrast = np.sqrt(np.maximum(np.einsum("ij,ij->i", flat, flat) / flat.shape[1] - mean * mean, 0))
    left, right = _fields(height, width)
    fields = left @ flat.reshape(count, height, width) @ right
    bits = np.packbits((fields[:, :, 1:] > fields[:, :, :-1]).reshape(count, 64), axis=1)
    halves = [one.half for one in seen if one.half is not None]
    sharp = iter(_sharpness(np.stack(halves)).tolist() if halves else ())
    sharpness = [None if one.half is None else next(sharp) for one in seen]
    columns = (mean.tolist(), contrast.tolist(), sharpness, map(bytes, bits))
    return [Look(*look) for look in zip(*columns, strict=True)]


def _sharpness(pictures: Grey) -> NDArray[np.float32]:
    """Root mean square of the Laplacian of pictures at half size, without the edges; on flat rows, which is quick."""
    count, height, width = pictures.shape
    if height < 3 or width < 3:
        return np.zeros(count, np.float32)
    flat = pictures.reshape(count, -1).astype(np.float32)
    inner = flat[:, width:-width] * 4
    inner -= flat[:, : -2 * width]
    inner -= flat[:, 2 * width :]
    inner -= flat[:, width - 1 : -width - 1]
    inner -= flat[:, width + 1 : flat.shape[1] - width + 1]
    inside = inner.reshape(count, height - 2, width)[:, :, 1:-1]
    squares: NDArray[np.float32] = np.einsum("ijk,ijk->i", inside, inside)
    sharpness: NDArray[np.float32] = np.sqrt(squares / np.float32((height - 2) * (width - 2)))
    return sharpness


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


def outcome_of(rules: Pictures, brightness: float, contrast: float, sharpness: float | None) -> Outcome | None:
    """Why a picture is left out for how it looks by itself; None if it is not."""
    if rules.too_dark is not None and brightness < rules.too_dark:
        return Outcome.TOO_DARK
    if rules.too_bright is not None and brightness > rules.too_bright:
        return Outcome.TOO_BRIGHT
    if rules.placeholder is not None and contrast < rules.placeholder:
        return Outcome.PLACEHOLDER
    if rules.blurred is not None and sharpness is not None and sharpness < rules.blurred:
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
        self._waiting: list[Picture] = []
        self._looks: list[Look] = []

    def add(self, row: int, picture: Picture) -> None:
        """Take in the picture of a row, by its number."""
        if self._waiting and self._waiting[0].small.shape != picture.small.shape:
            self._measure()
        self._rows.append(row)
        self._waiting.append(picture)
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
