"""JPEG, looked at without Pillow: nearly all faces are plain ones, and to judge these so costs a tenth."""

import re

import simplejpeg

from include.faceset.images.pictures import Picture, of_half

JPEG, PNG = b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n"

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
MADE_UP = re.compile("premature end|bad Huffman code|bad arithmetic code|instead of RST", re.IGNORECASE)


def plain_jpeg(data: bytes, size: tuple[int, int]) -> str | None:
    """Pillow's mode of a JPEG of the right size, with nothing in its header that Pillow might refuse; else None.

    Nearly all are plain, and to read their header costs a tenth of what it costs Pillow.
    """
    header = _PLAIN_JPEG.match(data)
    if header is None or _NOT_PLAIN.search(data, header.end(), data.find(_SCAN, header.end())):
        return None
    width, height = size
    is_right = header[header.lastgroup or ""] == height.to_bytes(2, "big") + width.to_bytes(2, "big")
    return header.lastgroup if is_right else None


def jpeg_bits(start: bytes) -> int | None:
    """How many bits a JPEG's samples have, from its first bytes; None if they do not say, or it is no JPEG."""
    if not start.startswith(JPEG):
        return None
    at = 2
    while start[at : at + 1] == b"\xff" and at + 4 < len(start):
        if start[at + 1] in _FRAMES:
            return start[at + 4]
        at += 2 + int.from_bytes(start[at + 2 : at + 4], "big")
    return None


def has_whole_header(data: bytes) -> bool:
    """Whether libjpeg reads a JPEG's header to its end."""
    try:
        simplejpeg.decode_jpeg_header(data)
    except ValueError:
        return False
    return True


def decode_jpeg(
    data: bytes, size: tuple[int, int], colorspace: str = "GRAY", *, closely: bool = False
) -> tuple[str | None, Picture | None]:
    """What libjpeg first warns of while it decodes a JPEG to its end, None for a whole one; and the picture, else None.

    Every coded byte is decoded, as Pillow would, but only an eighth of the pixels is made from it, or half (`closely`).
    """
    part = 2 if closely else 8
    height, width = (-(-side // part) for side in reversed(size))
    try:
        pixels = simplejpeg.decode_jpeg(
            data, colorspace=colorspace, min_height=height, min_width=width, min_factor=part, strict=True
        )
    except ValueError as error:
        return str(error), None
    grey = pixels[:, :, 0]
    return None, of_half(grey) if closely else Picture(grey)
