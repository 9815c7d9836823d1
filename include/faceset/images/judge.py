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
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO

from PIL import ExifTags, Image, TiffImagePlugin, UnidentifiedImageError

from include.faceset.declared.params import Decode
from include.faceset.images.checks import CHECKS
from include.faceset.images.inspection import Inspection
from include.faceset.images.jpeg import JPEG, MADE_UP, PNG, decode_jpeg, has_whole_header, jpeg_bits, plain_jpeg
from include.faceset.images.pictures import Picture, is_sampled, of_image
from include.faceset.images.sparing import PIXEL_BYTES, READ_OF_LARGE, Sparing, Spent
from include.faceset.ledger import Outcome

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "PPM")
"""Pillow's names of the formats that torchvision's ImageFolder lists by suffix."""
_SIGNATURES = (JPEG, PNG, b"II*\0", b"MM\0*")
"""How files of these formats begin, where nothing else begins so."""


@contextmanager
def without_warnings() -> Iterator[None]:
    """Pillow warns of images that a verdict says more about; set once for many, since it costs as much as a header."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def inspect(data: bytes, size: tuple[int, int], decode: Decode, *, closely: bool = False) -> Inspection:
    """Judge the bytes of one file.

    Args:
        data: the whole file.
        size: width and height in pixels that the trainer takes.
        decode: `full` decodes every pixel, `header` reads the header only, `off` looks at nothing but emptiness.
        closely: whether the sharpness is to be measured of this image, whatever the sample says.
    """
    if not data:
        return Inspection(Outcome.EMPTY_FILE)
    if decode == "off":
        return Inspection(None)
    seen = _inspect(data, size, decode, closely=closely or is_sampled(data))
    for check in CHECKS if seen.rejected is None else ():
        if (rejected := check(data, seen)) is not None:
            return seen._replace(rejected=rejected)
    return seen


def _inspect(data: bytes, size: tuple[int, int], decode: Decode, *, closely: bool) -> Inspection:
    mode = plain_jpeg(data, size)
    if mode and decode == "full":
        warning, picture = decode_jpeg(data, size, closely=closely)
        if warning is None:
            return Inspection(None, "JPEG", mode, picture)
    elif mode and has_whole_header(data):
        return Inspection(None, "JPEG", mode)
    return _inspect_by_pillow(io.BytesIO(data), data, size, decode, closely=closely)


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
        return _inspect_by_pillow(Sparing(file, READ_OF_LARGE + PIXEL_BYTES * width * height), None, size, decode)
    except Spent:
        return Inspection(Outcome.TOO_LARGE)


def _inspect_by_pillow(
    file: io.BytesIO | Sparing,
    data: bytes | None,
    size: tuple[int, int],
    decode: Decode,
    *,
    closely: bool = False,
) -> Inspection:
    """Judge a file by Pillow; `data` is all of it, None if it is large."""
    try:
        image = Image.open(file, formats=FORMATS)  # type: ignore[arg-type]  # all that Pillow asks of a file
    except UnidentifiedImageError:
        return Inspection(_unidentified(file))
    except Image.DecompressionBombError:
        return Inspection(Outcome.WRONG_SIZE)
    except Spent:
        raise
    # Pillow's format plug-ins raise many kinds of exception on damaged headers; each means the same to the trainer.
    except Exception:  # noqa: BLE001
        return Inspection(Outcome.CORRUPT)
    with image:
        rejected, picture = None, None
        kind, mode = image.format, image.mode
        if image.size != size:
            rejected = Outcome.WRONG_SIZE
        elif not _is_8_bit(image):
            rejected = Outcome.NOT_8_BIT
        elif decode == "full":
            rejected, picture = _judged_by_pixels(image, data, size, closely=closely)
        return Inspection(rejected, kind, mode if rejected else f"{mode}{_passed_over(image)}", picture)


def _unidentified(file: io.BytesIO | Sparing) -> Outcome:
    """What a file is that is none of FORMATS to Pillow."""
    file.seek(0)
    start = file.read(1 << 16)
    if jpeg_bits(start) not in {None, 8}:
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
    except Spent:
        raise
    # As above: a plug-in that takes the file for its own, and fails.
    except Exception:  # noqa: BLE001
        return Outcome.NOT_AN_IMAGE


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


def _judged_by_pixels(
    image: Image.Image, data: bytes | None, size: tuple[int, int], *, closely: bool
) -> tuple[Outcome | None, Picture | None]:
    """Decode an image as the loader does: why no picture comes out, or the picture; no picture of a large file."""
    warned = None
    if data is not None and image.format in {"JPEG", "MPO"} and image.mode in {"RGB", "L", "CMYK"}:
        colorspace = "CMYK" if image.mode == "CMYK" else "GRAY"
        warned, picture = decode_jpeg(data, size, colorspace, closely=closely and image.mode != "CMYK")
        if warned is None and image.mode != "CMYK":
            return None, picture
    try:
        rejected = _rejected_when_loaded(image, size)
    except Spent:
        raise
    # As above: whatever is raised here would kill the trainer's loader.
    except Exception:  # noqa: BLE001
        return Outcome.CORRUPT, None
    made_up = warned is not None and MADE_UP.search(warned)
    if rejected is None and (made_up or (data is not None and not _has_right_check_sums(data))):
        return Outcome.DAMAGED, None
    return rejected, of_image(image, closely=closely) if rejected is None and data is not None else None


def _rejected_when_loaded(image: Image.Image, size: tuple[int, int]) -> Outcome | None:
    image.load()
    if image.mode not in {"RGB", "L"}:
        image.convert("RGB")
    if image.size != size:
        return Outcome.WRONG_SIZE
    if image.has_transparency_data and image.convert("RGBA").getchannel("A").getextrema() == (0, 0):
        return Outcome.TRANSPARENT
    return None


def _has_right_check_sums(data: bytes) -> bool:
    """Whether the chunks of a PNG that hold its pixels are as they were written (PNG 5.3: length, type, data, CRC).

    Those before them Pillow checks itself, and other formats have none.
    """
    if not data.startswith(PNG):
        return True
    at = len(PNG)
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
