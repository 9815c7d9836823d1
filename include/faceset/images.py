"""What an image file is, seen as the trainer's loader sees it (torchvision: Pillow, then `convert("RGB")`)."""

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import simplejpeg
from PIL import Image, UnidentifiedImageError

from include.faceset.ledger import Outcome
from include.faceset.params import Decode

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "PPM")
"""Pillow's names of the formats that torchvision's ImageFolder lists by suffix."""


class Inspection(NamedTuple):
    """What the bytes are: `rejected` is None for a good image; format and colour (Pillow's mode) where known."""

    rejected: Outcome | None
    format: str | None = None
    colour: str | None = None


@contextmanager
def without_warnings() -> Iterator[None]:
    """Pillow warns of images that a verdict says more about; set once for many, since it costs as much as a header."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def inspect(data: bytes, size: tuple[int, int], decode: Decode) -> Inspection:
    """Judge the bytes of one file.

    Args:
        data: the whole file.
        size: width and height in pixels that the trainer takes.
        decode: `full` decodes every pixel, `header` reads the header only, `off` looks at nothing but emptiness.
    """
    if not data:
        return Inspection(Outcome.EMPTY_FILE)
    if decode == "off":
        return Inspection(None)
    return _opened(data, size, decode)


def _opened(data: bytes, size: tuple[int, int], decode: Decode) -> Inspection:
    try:
        image = Image.open(io.BytesIO(data), formats=FORMATS)
    except UnidentifiedImageError:
        return Inspection(Outcome.NOT_AN_IMAGE)
    except Image.DecompressionBombError:
        return Inspection(Outcome.WRONG_SIZE)
    # Pillow's format plug-ins raise many kinds of exception on damaged headers; each means the same to the trainer.
    except Exception:  # noqa: BLE001
        return Inspection(Outcome.CORRUPT)
    with image:
        if image.size != size:
            return Inspection(Outcome.WRONG_SIZE, image.format, image.mode)
        if decode == "full" and not (_is_whole_jpeg(image, data) or _decodes(image)):
            return Inspection(Outcome.CORRUPT, image.format, image.mode)
        return Inspection(None, image.format, image.mode)


def _is_whole_jpeg(image: Image.Image, data: bytes) -> bool:
    """Whether a JPEG decodes to its end and libjpeg warns of nothing; else ask Pillow, which forgives more.

    Every coded byte is decoded, as Pillow would, but only an eighth of the pixels are made from it, in grey.
    """
    if image.format != "JPEG" or image.mode not in {"RGB", "L"}:
        return False
    try:
        simplejpeg.decode_jpeg(data, colorspace="GRAY", min_height=1, min_width=1, min_factor=8, strict=True)
    except ValueError:
        return False
    return True


def _decodes(image: Image.Image) -> bool:
    try:
        image.load()
        if image.mode not in {"RGB", "L"}:
            image.convert("RGB")
    # As above: whatever is raised here would kill the trainer's loader.
    except Exception:  # noqa: BLE001
        return False
    return True
