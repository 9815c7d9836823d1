"""What an image file is, seen as the trainer's loader sees it (torchvision: Pillow, then `convert("RGB")`)."""

import io
import re
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

# JFIF, then quantisation tables of 8 bits, then a frame of one or three components with its height and width.
_PLAIN_JPEG = re.compile(
    rb"\xff\xd8\xff\xe0\x00\x10JFIF\x00.{9}(?:\xff\xdb\x00\x43[\x00-\x03].{64}){1,4}"
    rb"\xff[\xc0\xc2]\x00(?:\x11\x08(?P<RGB>.{4})\x03.{9}|\x0b\x08(?P<L>.{4})\x01.{3})(?=\xff[\xc4\xda\xdd])",
    re.DOTALL,
)
_NOT_PLAIN = re.compile(rb"\xff[^\x00\xc4\xda\xdd]")
_SCAN = b"\xff\xda"


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
    mode = _plain_jpeg(data, size)
    if mode and (_is_whole_jpeg(data) if decode == "full" else _has_whole_header(data)):
        return Inspection(None, "JPEG", mode)
    return _opened(data, size, decode)


def _plain_jpeg(data: bytes, size: tuple[int, int]) -> str | None:
    """Pillow's mode of a JPEG of the right size, with nothing in its header that Pillow might refuse; else None.

    Nearly all are plain, and to read their header costs a tenth of what it costs Pillow.
    """
    header = _PLAIN_JPEG.match(data)
    if header is None or _NOT_PLAIN.search(data, header.end(), data.find(_SCAN, header.end())):
        return None
    width, height = size
    is_right = header[header.lastgroup or ""] == height.to_bytes(2, "big") + width.to_bytes(2, "big")
    return header.lastgroup if is_right else None


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
        is_jpeg = image.format == "JPEG" and image.mode in {"RGB", "L"}
        if decode == "full" and not ((is_jpeg and _is_whole_jpeg(data)) or _decodes(image)):
            return Inspection(Outcome.CORRUPT, image.format, image.mode)
        return Inspection(None, image.format, image.mode)


def _has_whole_header(data: bytes) -> bool:
    """Whether libjpeg reads a JPEG's header to its end."""
    try:
        simplejpeg.decode_jpeg_header(data)
    except ValueError:
        return False
    return True


def _is_whole_jpeg(data: bytes) -> bool:
    """Whether a JPEG in grey or RGB decodes to its end without a warning of libjpeg's; if not, Pillow may forgive more.

    Every coded byte is decoded, as Pillow would, but only an eighth of the pixels are made from it, in grey.
    """
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
