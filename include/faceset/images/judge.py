"""What an image file is, seen as the trainer's loader sees it (torchvision: Pillow, then `convert("RGB")`).

What comes out of that loader is judged, not only whether it raises. Kept, since a whole picture of 8 bits comes out,
and counted by colour: greyscale, two colours, palettes, CMYK, YCbCr and Lab (Pillow converts them, and takes the CMYK
of any JPEG for inverted, as Adobe writes it); images with alpha of which anything can be seen (the colours underneath
are used); the first picture of several (APNG, animated WebP, MPO, pages of a TIFF); JPEG, PNG and WebP that EXIF says
to turn (the loader does not turn them; TIFF it does); ICC profiles and gamma (not applied). A picture of one colour is
a picture. Not kept are, by a reason each:

========================================  ===================================================
more than 8 bits a channel, or signed     cut off, wrapped or halved in silence
nothing but transparency                  becomes what colour the pixels have underneath
JPEG whose coded data breaks off or is    grey or shifted from there on; libjpeg only warns
wrong in a way that libjpeg notices
PNG with a wrong check sum                black or shifted from there on; Pillow does not look
GIF, AVIF, JPEG 2000 …                    Pillow's build decides; cv2, DALI and mxnet differ
========================================  ===================================================

That bytes of other formats are wrong cannot be told where the format has no check sums.
"""

import io
import re
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO, NamedTuple

import simplejpeg
from PIL import ExifTags, Image, TiffImagePlugin, UnidentifiedImageError

from include.faceset.declared.params import Decode
from include.faceset.ledger import Outcome

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "PPM")
"""Pillow's names of the formats that torchvision's ImageFolder lists by suffix."""
_JPEG, _PNG = b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n"
_SIGNATURES = (_JPEG, _PNG, b"II*\0", b"MM\0*")
"""How files of these formats begin, where nothing else begins so."""

# JFIF, then quantisation tables of 8 bits, then a frame of one or three components with its height and width.
_PLAIN_JPEG = re.compile(
    rb"\xff\xd8\xff\xe0\x00\x10JFIF\x00.{9}(?:\xff\xdb\x00\x43[\x00-\x03].{64}){1,4}"
    rb"\xff[\xc0\xc2]\x00(?:\x11\x08(?P<RGB>.{4})\x03.{9}|\x0b\x08(?P<L>.{4})\x01.{3})(?=\xff[\xc4\xda\xdd])",
    re.DOTALL,
)
_NOT_PLAIN = re.compile(rb"\xff[^\x00\xc4\xda\xdd]")
_SCAN = b"\xff\xda"
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
"""Markers of a JPEG's frame header, whose first byte says how many bits a sample has (ITU T.81, B.1.1.3)."""
# libjpeg's jerror.h: the warnings after which it goes on with pixels of its own making.
_MADE_UP = re.compile("premature end|bad Huffman code|bad arithmetic code|instead of RST", re.IGNORECASE)

_READ_OF_LARGE = 1 << 20
"""Bytes that may be read of a large file to judge it, beside those of its pixels."""
_PIXEL_BYTES = 8


class Inspection(NamedTuple):
    """What the bytes are: `rejected` is None for a good image; format and colour where known.

    The colour is Pillow's mode, and behind a comma what the loader passes over.
    """

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
    if mode and (_jpeg_warning(data) is None if decode == "full" else _has_whole_header(data)):
        return Inspection(None, "JPEG", mode)
    return _opened(io.BytesIO(data), data, size, decode)


def inspect_large(file: BinaryIO, size: tuple[int, int], decode: Decode) -> Inspection:
    """Judge a file that is too large for memory: as `inspect` does, but no check sums are looked at.

    Args:
        file: the file, which can be moved about in; only about a MB of it is read.
        size: as for `inspect`.
        decode: as for `inspect`.
    """
    if decode == "off":
        return Inspection(None)
    width, height = size
    try:
        return _opened(_Sparing(file, _READ_OF_LARGE + _PIXEL_BYTES * width * height), None, size, decode)
    except _Spent:
        return Inspection(Outcome.TOO_LARGE)


class _Spent(Exception):  # noqa: N818 it says what was found
    """More of a file was asked for than may be read."""


class _Sparing:
    """A file of which no more than so many bytes are read. It has no descriptor, by which libtiff would get round it.

    A damaged header may ask for gigabytes, or send Pillow through the file byte by byte.
    """

    def __init__(self, file: BinaryIO, left: int) -> None:
        self._file, self._left = file, left
        self.seek, self.tell = file.seek, file.tell

    def read(self, size: int = -1) -> bytes:
        wanted = self._left + 1 if size < 0 else min(size, self._left + 1)
        data = self._file.read(wanted)
        if len(data) > self._left:
            raise _Spent
        self._left -= len(data)
        return data


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


def _opened(file: io.BytesIO | _Sparing, data: bytes | None, size: tuple[int, int], decode: Decode) -> Inspection:
    """Judge a file by Pillow; `data` is all of it, None if it is large."""
    try:
        image = Image.open(file, formats=FORMATS)  # type: ignore[arg-type]  # all that Pillow asks of a file
    except UnidentifiedImageError:
        return Inspection(_unidentified(file))
    except Image.DecompressionBombError:
        return Inspection(Outcome.WRONG_SIZE)
    except _Spent:
        raise
    # Pillow's format plug-ins raise many kinds of exception on damaged headers; each means the same to the trainer.
    except Exception:  # noqa: BLE001
        return Inspection(Outcome.CORRUPT)
    with image:
        rejected = None
        kind, mode = image.format, image.mode
        if image.size != size:
            rejected = Outcome.WRONG_SIZE
        elif not _is_8_bit(image):
            rejected = Outcome.NOT_8_BIT
        elif decode == "full":
            rejected = _rejected_by_pixels(image, data, size)
        return Inspection(rejected, kind, mode if rejected else f"{mode}{_passed_over(image)}")


def _unidentified(file: io.BytesIO | _Sparing) -> Outcome:
    """What a file is that is none of FORMATS to Pillow."""
    file.seek(0)
    start = file.read(1 << 16)
    if _jpeg_bits(start) not in {None, 8}:
        return Outcome.NOT_8_BIT
    if start.startswith(_SIGNATURES):
        return Outcome.CORRUPT
    file.seek(0)
    try:
        with Image.open(file):  # type: ignore[arg-type]  # as above
            return Outcome.OTHER_FORMAT
    except UnidentifiedImageError:
        return Outcome.NOT_AN_IMAGE
    except Image.DecompressionBombError:
        return Outcome.OTHER_FORMAT
    except _Spent:
        raise
    # As above: a plug-in that takes the file for its own, and fails.
    except Exception:  # noqa: BLE001
        return Outcome.NOT_AN_IMAGE


def _jpeg_bits(start: bytes) -> int | None:
    """How many bits a JPEG's samples have, from its first bytes; None if they do not say, or it is no JPEG."""
    if not start.startswith(_JPEG):
        return None
    at = 2
    while start[at : at + 1] == b"\xff" and at + 4 < len(start):
        if start[at + 1] in _FRAMES:
            return start[at + 4]
        at += 2 + int.from_bytes(start[at + 2 : at + 4], "big")
    return None


def _is_8_bit(image: Image.Image) -> bool:
    """Whether an image, of which only the header was read, has 8 bits a channel or fewer, and no signed ones.

    Of several channels Pillow takes the upper 8 bits in silence, so its mode says nothing; and signed ones it reads as
    if they were not.
    """
    if image.mode in {"I", "F"} or image.mode.startswith("I;"):
        return False
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        tags = image.tag_v2
        formats = tags.get(TiffImagePlugin.SAMPLEFORMAT, (1,))
        return max(tags.get(TiffImagePlugin.BITSPERSAMPLE, (1,))) <= 8 and set(formats) <= {1, 4}
    how = image.tile[0].args if image.tile else None  # type: ignore[attr-defined]  # of every ImageFile
    if image.format == "PNG":  # (16, 2): "RGB;16B"
        return not str(how).endswith("16B")
    if image.format == "PPM" and isinstance(how, tuple):  # raw mode and greatest value
        return int(how[1]) <= 255
    return True


def _rejected_by_pixels(image: Image.Image, data: bytes | None, size: tuple[int, int]) -> Outcome | None:
    """Decode an image as the loader does; None if a picture comes out."""
    warned = None
    if data is not None and image.format in {"JPEG", "MPO"} and image.mode in {"RGB", "L", "CMYK"}:
        warned = _jpeg_warning(data, "CMYK" if image.mode == "CMYK" else "GRAY")
        if warned is None and image.mode != "CMYK":
            return None
    try:
        rejected = _rejected_when_loaded(image, size)
    except _Spent:
        raise
    # As above: whatever is raised here would kill the trainer's loader.
    except Exception:  # noqa: BLE001
        return Outcome.CORRUPT
    made_up = warned is not None and _MADE_UP.search(warned)
    if rejected is None and (made_up or (data is not None and not _has_right_check_sums(data))):
        return Outcome.DAMAGED
    return rejected


def _rejected_when_loaded(image: Image.Image, size: tuple[int, int]) -> Outcome | None:
    image.load()
    if image.mode not in {"RGB", "L"}:
        image.convert("RGB")
    if image.size != size:
        return Outcome.WRONG_SIZE
    if image.has_transparency_data and image.convert("RGBA").getchannel("A").getextrema() == (0, 0):
        return Outcome.TRANSPARENT
    return None


def _has_whole_header(data: bytes) -> bool:
    """Whether libjpeg reads a JPEG's header to its end."""
    try:
        simplejpeg.decode_jpeg_header(data)
    except ValueError:
        return False
    return True


def _jpeg_warning(data: bytes, colorspace: str = "GRAY") -> str | None:
    """What libjpeg first warns of while it decodes a JPEG to its end; None for a whole one.

    Every coded byte is decoded, as Pillow would, but only an eighth of the pixels are made from it, in grey.
    """
    try:
        simplejpeg.decode_jpeg(data, colorspace=colorspace, min_height=1, min_width=1, min_factor=8, strict=True)
    except ValueError as error:
        return str(error)
    return None


def _has_right_check_sums(data: bytes) -> bool:
    """Whether the chunks of a PNG that hold its pixels are as they were written (PNG 5.3: length, type, data, CRC).

    Those before them Pillow checks itself, and other formats have none.
    """
    if not data.startswith(_PNG):
        return True
    at = len(_PNG)
    while (kind := data[at + 4 : at + 8]) != b"IEND":
        end = at + 8 + int.from_bytes(data[at : at + 4], "big")
        if end + 4 > len(data):
            return False
        if kind == b"IDAT" and zlib.crc32(data[at + 4 : end]) != int.from_bytes(data[end : end + 4], "big"):
            return False
        at = end + 4
    return True


def _passed_over(image: Image.Image) -> str:
    """What an image says of itself that the loader takes no notice of, to be counted with its colour."""
    if getattr(image, "is_animated", False):
        return ", first of several"
    # Of a PNG the EXIF comes to be known only with its pixels; a TIFF is turned by Pillow.
    if image.format in {"JPEG", "WEBP", "PNG"} and _exif_turn(image) not in {None, 1}:
        return ", not turned"
    return ""


def _exif_turn(image: Image.Image) -> object:
    known = image.info.get("exif") or image.info.get("Raw profile type exif")
    try:
        return image.getexif().get(ExifTags.Base.Orientation) if known else None
    # Damaged EXIF, of which the loader takes no notice.
    except Exception:  # noqa: BLE001
        return None
