"""Draws faces: 112×112 RGB pictures of people who do not exist, quickly and by seed.

A drawing is a map of parts (hair, skin, eyes …); a person is a drawing and a colour for each part. A picture
of them is then a cut of the map, a table look-up and the addition of grain: a fifth of a millisecond.
"""

import io
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image

Pixels = NDArray[np.uint8]

EDGE = 112
DRAWINGS = 256
BACKGROUND, HAIR, CLOTHES, SKIN, SHADE, EYE, IRIS, MOUTH = range(8)

_DRIFT = 8  # a drawing is larger than a picture by this many pixels, so that a face is never twice in one place
_GRAIN = 24  # colours keep this far from 0 and 255: adding grain can then not overflow
_SHEET = 640  # pixels of grain along each side; a picture takes a random cut of it


@dataclass(frozen=True)
class Person:
    """Whom a picture shows: the number of a drawing, and (8, 3) colours of its parts."""

    drawing: int
    colours: NDArray[np.int16]


def person(rng: Generator) -> Person:
    """Somebody new."""
    colours = rng.integers(_GRAIN, 256 - _GRAIN, (8, 3), dtype=np.int16)
    skin = np.array((236, 196, 168)) * rng.uniform(0.35, 0.95) + rng.uniform(-10, 10, 3)
    colours[SKIN] = skin
    colours[SHADE] = skin * 0.8
    colours[HAIR] = np.array((190, 150, 110)) * rng.uniform(0.15, 1.0)
    colours[EYE] = 228
    colours[MOUTH] = rng.integers((140, 40, 50), (220, 100, 110))
    return Person(int(rng.integers(DRAWINGS)), colours)


def portrait(who: Person, rng: Generator, *, flat: bool = False) -> Pixels:
    """(112, 112, 3) RGB bytes: a new picture of `who`, with other light, background, position and grain.

    A flat one has grain in a few pixels only, so that it packs well without loss.
    """
    top, left = rng.integers(0, _DRIFT, 2)
    y, x = rng.integers(0, _SHEET - EDGE, 2)
    colours = who.colours + rng.integers(-16, 17, dtype=np.int16)
    colours[BACKGROUND] = rng.integers(0, 256, 3)
    palette = colours.clip(_GRAIN, 255 - _GRAIN).astype(np.uint8)
    parts = _drawings()[who.drawing, top : top + EDGE, left : left + EDGE]
    return palette.take(parts, axis=0) + _grain(sparse=flat)[y : y + EDGE, x : x + EDGE]


def encoded(image: Pixels | Image.Image, form: str, **options: Any) -> bytes:
    """The picture as the bytes of a file; `form` is Pillow's name of the format: JPEG, PNG."""
    buffer = io.BytesIO()
    picture = image if isinstance(image, Image.Image) else Image.fromarray(image)
    picture.save(buffer, form, **options)
    return buffer.getvalue()


def jpeg(pixels: Pixels) -> bytes:
    """A JPEG of about 6.5 KB."""
    return encoded(pixels, "JPEG", quality=94)


def png(pixels: Pixels) -> bytes:
    """A PNG; of about 4 KB when the portrait is a flat one."""
    return encoded(pixels, "PNG", compress_level=1)


@cache
def _drawings() -> Pixels:
    """(256, 120, 120) numbers of parts."""
    rng = np.random.default_rng(1)
    return np.stack([_drawing(rng) for _ in range(DRAWINGS)])


def _drawing(rng: Generator) -> Pixels:
    size = EDGE + _DRIFT
    rows, columns = np.ogrid[:size, :size]
    parts = np.full((size, size), BACKGROUND, np.uint8)

    def ellipse(part: int, y: float, x: float, height: float, width: float) -> None:
        parts[((rows - y) / height) ** 2 + ((columns - x) / width) ** 2 < 1] = part

    centre = size / 2
    face = rng.uniform(34, 42)
    width = face * rng.uniform(0.68, 0.85)
    apart = width * rng.uniform(0.38, 0.5)
    eyes = centre - rng.uniform(4, 10)
    ellipse(HAIR, centre - rng.uniform(2, 10), centre, face + rng.uniform(2, 12), width + rng.uniform(2, 12))
    ellipse(CLOTHES, size + 4, centre, rng.uniform(20, 28), rng.uniform(44, 60))
    ellipse(SKIN, centre + 4, centre, face, width)
    ellipse(SHADE, centre + rng.uniform(6, 12), centre, rng.uniform(5, 9), rng.uniform(3, 6))
    for x in (centre - apart, centre + apart):
        ellipse(HAIR, eyes - rng.uniform(7, 9), x, 1.8, 7)
        ellipse(EYE, eyes, x, rng.uniform(2.5, 4), 6)
        ellipse(IRIS, eyes, x + rng.uniform(-1, 1), 2.5, 2.5)
    ellipse(MOUTH, centre + face * 0.62, centre, rng.uniform(2, 5), rng.uniform(8, 14))
    return parts


@cache
def _grain(*, sparse: bool) -> Pixels:
    """(640, 640, 3) differences from -24 to 24, as bytes that wrap round."""
    rng = np.random.default_rng(2)
    grain = rng.normal(0, 5, (_SHEET, _SHEET, 3)).clip(-_GRAIN, _GRAIN)
    if sparse:
        grain[rng.random((_SHEET, _SHEET)) > 0.02] = 0
    return grain.astype(np.int8).view(np.uint8)
