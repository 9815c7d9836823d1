"""The bytes that stand for an image in a record: from them every reader makes the pixels that ImageFolder makes.

The image folder is read by Pillow, records by OpenCV (in MXNet) or by DALI. They agree on a JPEG of 8 bits in YCbCr or
grey and on a PNG of 8 bits, without orientation; so these go in as they are. All else goes in as a PNG of what Pillow
makes of it. OpenCV and DALI turn images by EXIF, and Pillow does not; MXNet's build of OpenCV reads no WebP; CMYK and
RGB JPEGs, transparency, and palettes with it are seen by each in its own way.
"""

import io
import struct

from PIL import Image

from include.faceset.images.judge import without_warnings

_JPEG, _PNG = b"\xff\xd8", b"\x89PNG\r\n\x1a\n"
_FRAMES = {0xC0, 0xC1, 0xC2}
"""Baseline, extended and progressive, coded by Huffman (ITU T.81, table B.1)."""
_SCAN, _APP1, _APP14 = 0xDA, 0xE1, 0xEE
_GREY, _RGB, _PALETTE = 0, 2, 3
_SEEN_DIFFERENTLY = {b"tRNS", b"eXIf", b"acTL", b"gAMA", b"cHRM", b"iCCP", b"sRGB", b"sBIT", b"bKGD"}
"""Chunks of a PNG by which some decoder may change pixels."""


def for_all_readers(data: bytes) -> bytes:
    """The image's own bytes where all readers agree on them, else a PNG."""
    return data if _is_plain_jpeg(data) or _is_plain_png(data) else as_png(data)


def as_png(data: bytes) -> bytes:
    """What the image folder's loader makes of an image (torchvision: Pillow, then `convert("RGB")`), as a PNG."""
    written = io.BytesIO()
    with without_warnings(), Image.open(io.BytesIO(data)) as image:
        picture = image.convert("RGB")
    picture.info.clear()  # a transparent colour, gamma and profile would be written too, and be applied by some
    picture.save(written, "PNG")
    return written.getvalue()


def _is_plain_jpeg(data: bytes) -> bool:
    """Whether a JPEG has 8 bits, one component or three in YCbCr, and no EXIF."""
    if not data.startswith(_JPEG):
        return False
    at = 2
    frame = False
    while data[at : at + 1] == b"\xff" and at + 4 <= len(data):
        kind, length = data[at + 1], int.from_bytes(data[at + 2 : at + 4], "big")
        if kind == _SCAN:
            return frame
        if kind == _APP1 and data[at + 4 : at + 8] == b"Exif":
            return False
        if kind == _APP14:  # Adobe's marker says of what colour space the components are
            return False
        if 0xC0 <= kind <= 0xCF and kind not in {0xC4, 0xC8, 0xCC}:
            frame = kind in _FRAMES and _is_plain_frame(data[at + 4 : at + 2 + length])
            if not frame:
                return False
        at += 2 + length
    return False


def _is_plain_frame(frame: bytes) -> bool:
    bits, components = frame[0], frame[5]
    # libjpeg takes components that are called R, G and B for RGB.
    return bits == 8 and (components == 1 or (components == 3 and frame[6:15:3] == b"\x01\x02\x03"))


def _is_plain_png(data: bytes) -> bool:
    """Whether a PNG has 8 bits, in grey, RGB or a palette without transparency, and nothing that may change it."""
    if not data.startswith(_PNG) or data[12:16] != b"IHDR" or data[24] != 8 or data[25] not in {_GREY, _RGB, _PALETTE}:
        return False
    at = len(_PNG)
    while at + 8 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        if kind == b"IDAT":
            return True
        if kind in _SEEN_DIFFERENTLY:
            return False
        at += 12 + length
    return False
