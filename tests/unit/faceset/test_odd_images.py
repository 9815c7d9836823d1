"""What comes out of the trainer's loader, for everything that Pillow opens: each kind of image has its verdict."""

import io
import struct
import zlib
from collections.abc import Callable, Iterator
from functools import partial

import pytest
from PIL import Image

from include.faceset.images import judge
from include.faceset.ledger import EXPLANATIONS, Outcome
from tests.unit.faceset.pipeline import face

pytestmark = pytest.mark.long

SIZE = (112, 112)
PIXELS = SIZE[0] * SIZE[1]
NOISE = Image.open(io.BytesIO(face(1, "PNG")))
NOISE.load()


def saved(image: Image.Image, kind: str, **options: object) -> bytes:
    written = io.BytesIO()
    image.save(written, kind, **options)
    return written.getvalue()


def converted(mode: str, kind: str, **options: object) -> bytes:
    return saved(NOISE.convert(mode), kind, **options)


def with_alpha(mode: str, alpha: int, kind: str = "PNG", **options: object) -> bytes:
    image = NOISE.convert(mode)
    image.putalpha(alpha)
    return saved(image, kind, **options)


def several(kind: str, **options: object) -> bytes:
    return saved(NOISE, kind, save_all=True, append_images=[NOISE.rotate(90), NOISE.rotate(180)], **options)


def turned(kind: str) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    return saved(NOISE, kind, exif=exif)


def png(depth: int, colour: int, channels: int) -> bytes:
    """A PNG of zeros and ones, which Pillow would not write so."""
    row = b"\0" + b"\1\2\3\4" * (SIZE[0] * depth * channels // 32)
    header = struct.pack(">IIBBBBB", *SIZE, depth, colour, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(row * SIZE[1])), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )


def tiff(bits: int, photometric: int = 1, samples: int = 1, sample_format: int = 1, planar: int = 1) -> bytes:
    """A little-endian TIFF of one strip, or one a channel."""
    strips = samples if planar == 2 else 1
    size = PIXELS * samples * bits // 8
    fields: list[tuple[int, int, list[int]]] = [
        (256, 3, [SIZE[0]]),
        (257, 3, [SIZE[1]]),
        (258, 3, [bits] * samples),
        (259, 3, [1]),
        (262, 3, [photometric]),
        (273, 4, [8 + number * size // strips for number in range(strips)]),
        (277, 3, [samples]),
        (278, 3, [SIZE[1]]),
        (279, 4, [size // strips] * strips),
        (284, 3, [planar]),
        (339, 3, [sample_format] * samples),
    ]
    at = 8 + size
    rest_at = at + 2 + 12 * len(fields) + 4
    directory, rest = struct.pack("<H", len(fields)), b""
    for tag, kind, values in fields:
        packed = struct.pack(f"<{len(values)}{'H' if kind == 3 else 'I'}", *values)
        where = packed.ljust(4, b"\0") if len(packed) <= 4 else struct.pack("<I", rest_at + len(rest))
        rest += packed if len(packed) > 4 else b""
        directory += struct.pack("<HHI", tag, kind, len(values)) + where
    return b"II*\0" + struct.pack("<I", at) + b"\1\2\3\4" * (size // 4) + directory + bytes(4) + rest


def ppm(magic: bytes, greatest: int, channels: int) -> bytes:
    head = b"%s %d %d %d\n" % (magic, *SIZE, greatest)
    if magic in {b"P2", b"P3"}:
        return head + b"%d " % (greatest // 2) * (PIXELS * channels)
    return head + b"\1" * (PIXELS * channels * (2 if greatest > 255 else 1))


def jpeg_of_12_bits() -> bytes:
    whole = face(1)
    frame = whole.index(b"\xff\xc0")
    return whole[: frame + 4] + b"\x0c" + whole[frame + 5 :]


def zeroed(data: bytes) -> bytes:
    """A file whose second half never reached the disk."""
    half = len(data) // 2
    return data[:half] + bytes(len(data) - half)


def broken_off(data: bytes) -> bytes:
    """A JPEG that somebody has closed where it broke off."""
    return data[: len(data) // 2] + b"\xff\xd9"


def with_wrong_palette() -> bytes:
    data = bytearray(converted("P", "PNG"))
    data[data.index(b"PLTE") + 4] ^= 0xFF
    return bytes(data)


def jp2() -> bytes:
    return converted("RGB", "JPEG2000")


GREY_16 = NOISE.convert("L").convert("I").convert("I;16")

KEPT: dict[str, tuple[Callable[[], bytes], str]] = {
    "JPEG of two halves": (lambda: face(1), "RGB"),
    "JPEG, greyscale": (partial(converted, "L", "JPEG"), "L"),
    "JPEG, CMYK": (partial(converted, "CMYK", "JPEG"), "CMYK"),
    "JPEG that EXIF turns": (partial(turned, "JPEG"), "RGB, not turned"),
    "MPO": (partial(several, "MPO"), "RGB, first of several"),
    "PNG, two colours": (partial(converted, "1", "PNG"), "1"),
    "PNG of 2 bits": (partial(png, 2, 0, 1), "L"),
    "PNG, palette": (partial(converted, "P", "PNG"), "P"),
    "PNG, palette, partly transparent": (partial(converted, "P", "PNG", transparency=b"\0\1"), "P"),
    "PNG, alpha": (partial(with_alpha, "RGB", 1), "RGBA"),
    "PNG, greyscale with alpha": (partial(with_alpha, "L", 255), "LA"),
    "PNG, one colour transparent": (partial(converted, "RGB", "PNG", transparency=(1, 2, 3)), "RGB"),
    "PNG, animated": (partial(several, "PNG"), "RGB, first of several"),
    "PNG that EXIF turns": (partial(turned, "PNG"), "RGB, not turned"),
    "PNG of one colour": (lambda: saved(Image.new("RGB", SIZE, (9, 9, 9)), "PNG"), "RGB"),
    "WebP": (partial(converted, "RGB", "WEBP"), "RGB"),
    "WebP, alpha": (partial(with_alpha, "RGB", 128, "WEBP"), "RGBA"),
    "WebP, animated": (partial(several, "WEBP"), "RGB, first of several"),
    "WebP that EXIF turns": (partial(turned, "WEBP"), "RGB, not turned"),
    "BMP": (partial(converted, "RGB", "BMP"), "RGB"),
    "BMP, two colours": (partial(converted, "1", "BMP"), "1"),
    "TIFF": (partial(converted, "RGB", "TIFF"), "RGB"),
    "TIFF, CMYK": (partial(converted, "CMYK", "TIFF"), "CMYK"),
    "TIFF, Lab": (partial(converted, "LAB", "TIFF"), "LAB"),
    "TIFF, YCbCr": (partial(converted, "YCbCr", "TIFF"), "YCbCr"),
    "TIFF, JPEG inside": (partial(converted, "RGB", "TIFF", compression="jpeg"), "RGB"),
    "TIFF of pages": (partial(several, "TIFF"), "RGB, first of several"),
    "TIFF that is turned": (partial(turned, "TIFF"), "RGB"),
    "TIFF, channel by channel": (partial(tiff, 8, 2, 3, planar=2), "RGB"),
    "PPM": (partial(ppm, b"P6", 255, 3), "RGB"),
    "PPM up to 100": (partial(ppm, b"P6", 100, 3), "RGB"),
    "PGM in words": (partial(ppm, b"P2", 255, 1), "L"),
    "PBM": (partial(converted, "1", "PPM"), "1"),
}

REJECTED: dict[str, tuple[Callable[[], bytes], Outcome]] = {
    "JPEG of 12 bits": (jpeg_of_12_bits, Outcome.NOT_8_BIT),
    "PNG of 16 bits": (lambda: saved(GREY_16, "PNG"), Outcome.NOT_8_BIT),
    "PNG of 16 bits, colour": (partial(png, 16, 2, 3), Outcome.NOT_8_BIT),
    "PNG of 16 bits, grey with alpha": (partial(png, 16, 4, 2), Outcome.NOT_8_BIT),
    "PNG of 16 bits, colour with alpha": (partial(png, 16, 6, 4), Outcome.NOT_8_BIT),
    "TIFF of 16 bits": (lambda: saved(GREY_16, "TIFF"), Outcome.NOT_8_BIT),
    "TIFF of 16 bits, colour": (partial(tiff, 16, 2, 3), Outcome.NOT_8_BIT),
    "TIFF of 16 bits, CMYK": (partial(tiff, 16, 5, 4), Outcome.NOT_8_BIT),
    "TIFF of 16 bits, channel by channel": (partial(tiff, 16, 2, 3, planar=2), Outcome.NOT_8_BIT),
    "TIFF of 12 bits": (partial(tiff, 12), Outcome.NOT_8_BIT),
    "TIFF of 32 bits": (partial(converted, "I", "TIFF"), Outcome.NOT_8_BIT),
    "TIFF, floating point": (partial(converted, "F", "TIFF"), Outcome.NOT_8_BIT),
    "TIFF of 8 bits with a sign": (partial(tiff, 8, sample_format=2), Outcome.NOT_8_BIT),
    "TIFF of 16 bits with a sign": (partial(tiff, 16, sample_format=2), Outcome.NOT_8_BIT),
    "PGM up to 65535": (partial(ppm, b"P5", 65535, 1), Outcome.NOT_8_BIT),
    "PGM up to 1000 in words": (partial(ppm, b"P2", 1000, 1), Outcome.NOT_8_BIT),
    "PPM up to 65535": (partial(ppm, b"P6", 65535, 3), Outcome.NOT_8_BIT),
    "PPM up to 1023": (partial(ppm, b"P6", 1023, 3), Outcome.NOT_8_BIT),
    "PPM up to 1023 in words": (partial(ppm, b"P3", 1023, 3), Outcome.NOT_8_BIT),
    "PFM": (partial(converted, "F", "PPM"), Outcome.NOT_8_BIT),
    "PNG, nothing to be seen": (partial(with_alpha, "RGB", 0), Outcome.TRANSPARENT),
    "PNG, grey, nothing to be seen": (partial(with_alpha, "L", 0), Outcome.TRANSPARENT),
    "PNG, palette, nothing to be seen": (partial(converted, "P", "PNG", transparency=bytes(256)), Outcome.TRANSPARENT),
    "WebP, nothing to be seen": (partial(with_alpha, "RGB", 0, "WEBP", lossless=True, exact=True), Outcome.TRANSPARENT),
    "TIFF, nothing to be seen": (partial(with_alpha, "RGB", 0, "TIFF"), Outcome.TRANSPARENT),
    "JPEG, broken off": (lambda: broken_off(face(1)), Outcome.DAMAGED),
    "JPEG, grey, broken off": (lambda: broken_off(face(1, mode="L")), Outcome.DAMAGED),
    "JPEG, CMYK, broken off": (lambda: broken_off(face(1, mode="CMYK")), Outcome.DAMAGED),
    "JPEG that EXIF turns, broken off": (lambda: broken_off(turned("JPEG")), Outcome.DAMAGED),
    "PNG, half of it zeros": (lambda: zeroed(face(1, "PNG")), Outcome.DAMAGED),
    "PNG with another palette": (with_wrong_palette, Outcome.CORRUPT),
    "GIF": (partial(converted, "P", "GIF"), Outcome.OTHER_FORMAT),
    "AVIF": (partial(converted, "RGB", "AVIF"), Outcome.OTHER_FORMAT),
    "JPEG 2000": (jp2, Outcome.OTHER_FORMAT),
    "ICO": (partial(converted, "RGB", "ICO", sizes=[(64, 64)]), Outcome.OTHER_FORMAT),
    "TGA": (partial(converted, "RGB", "TGA"), Outcome.OTHER_FORMAT),
    "PCX": (partial(converted, "RGB", "PCX"), Outcome.OTHER_FORMAT),
    "PSD": (lambda: b"8BPS\0\1" + bytes(6) + struct.pack(">HIIHH", 3, *SIZE, 8, 3) + bytes(14), Outcome.OTHER_FORMAT),
    "SVG": (lambda: b'<svg xmlns="http://www.w3.org/2000/svg"/>', Outcome.NOT_AN_IMAGE),
    "HEIC": (lambda: b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(500), Outcome.NOT_AN_IMAGE),
    "zeros": (partial(bytes, 4096), Outcome.NOT_AN_IMAGE),
    "JPEG of which only the beginning is there": (lambda: face(1)[:30], Outcome.CORRUPT),
    "PNG whose header is wrong": (lambda: face(1, "PNG").replace(b"IHDR", b"IHDX"), Outcome.CORRUPT),
}


@pytest.fixture(autouse=True)
def as_a_shard_is_copied() -> Iterator[None]:
    with judge.without_warnings():
        yield


@pytest.mark.parametrize("name", KEPT)
def test_a_whole_picture_of_8_bits_is_kept_and_told_by_colour(name: str) -> None:
    make, colour = KEPT[name]
    data = make()
    for seen in (judge.inspect(data, SIZE, "full"), judge.inspect_large(io.BytesIO(data), SIZE, "full")):
        assert (seen.rejected, seen.colour) == (None, colour)
    with Image.open(io.BytesIO(data)) as image:
        assert image.convert("RGB").size == SIZE
    assert judge.inspect(data, SIZE, "header").rejected is None
    assert judge.inspect(data, SIZE, "off") == (None, None, None, None)


@pytest.mark.parametrize("name", REJECTED)
def test_what_becomes_nothing_or_something_else_is_a_reason_of_its_own(name: str) -> None:
    make, outcome = REJECTED[name]
    data = make()
    assert judge.inspect(data, SIZE, "full").rejected is outcome
    assert outcome in EXPLANATIONS
    of_the_pixels = {Outcome.TRANSPARENT, Outcome.DAMAGED}
    assert judge.inspect(data, SIZE, "header").rejected is (None if outcome in of_the_pixels else outcome)
    assert judge.inspect(data, SIZE, "off").rejected is None


def test_a_tiff_that_turning_makes_the_wrong_size_is_the_wrong_size() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    data = saved(NOISE.resize((112, 96)), "TIFF", exif=exif)
    with Image.open(io.BytesIO(data)) as image:
        assert image.convert("RGB").size == (96, 112)
    assert judge.inspect(data, (112, 96), "full").rejected is Outcome.WRONG_SIZE
    assert judge.inspect(data, (96, 112), "full").rejected is None


@pytest.mark.parametrize(
    "start", [b"P6\n#", b"\x89PNG\r\n\x1a\n", b"RIFF\xff\xff\xff\x7fWEBPVP8L", b"BM", face(1)[:30]]
)
def test_a_large_file_is_never_read_far(start: bytes) -> None:
    class Endless(io.BytesIO):
        """Zeros without end behind the start."""

        given = 0

        def read(self, size: int | None = -1) -> bytes:
            assert size is not None
            assert size >= 0
            self.given += size
            return super().read(size).ljust(size, b"\0")

    file = Endless(start)
    assert judge.inspect_large(file, SIZE, "full").rejected in {
        Outcome.TOO_LARGE,
        Outcome.CORRUPT,
        Outcome.NOT_AN_IMAGE,
    }
    assert file.given < 16 << 20
