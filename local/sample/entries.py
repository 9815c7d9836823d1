"""The files that a sample is drawn of, each with the outcome that a run makes of it."""

import itertools
import os
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import PurePosixPath
from typing import Literal

from numpy.random import Generator, default_rng
from PIL import Image

from include.faceset.ledger import Outcome
from local.sample import faces

SAMPLE_FLAT, SAMPLE_IDENTITIES, SAMPLE_SHARED = 2_950, 795, 40
SEED = 1
MARKER = "sample.json"  # beside the exports, never in one
FLAT = "faces_only"


FOLDERS = "reidnet_v2_training_data"


SPARSE_BYTES = 64_100_000  # just above a dataset's max_file_size


@dataclass(frozen=True)
class Entry:
    """One thing in an export, and what a run with the dataset's own settings should make of it.

    `path` is relative to the exports' parent, with surrogate escapes where it is no UTF-8; `content` is
    the bytes of a file, those that a sparse one begins with, or the target of a link.
    """

    path: str
    content: bytes = b""
    outcome: Outcome = Outcome.KEPT
    kind: Literal["file", "sparse", "link", "fifo", "folder"] = "file"


def images_per_identity(identities: int, images: int) -> list[int]:
    """`images` dealt out to `identities`, each getting two or more: many get few, few get many."""
    popularity = default_rng([SEED, 0]).gamma(3.0, size=identities)
    extra = default_rng([SEED, 1]).multinomial(images - 2 * identities, popularity / popularity.sum())
    return [2 + int(more) for more in extra]


def flat_entries(start: int, stop: int) -> Iterator[Entry]:
    """Flat files, each of an identity that occurs nowhere else."""
    rng = default_rng([SEED, 2, start])
    for _ in range(start, stop):
        yield _flat(str(uuid.UUID(bytes=rng.bytes(16), version=4)), rng, Outcome.TOO_FEW_IMAGES)


def folder_entries(start: int, images: Sequence[int]) -> Iterator[Entry]:
    """The images of `len(images)` identities, numbered from `start`."""
    rng = default_rng([SEED, 3, start])
    for number, count in enumerate(images, start):
        who = faces.person(rng)
        for image in range(1, count + 1):
            yield Entry(f"{_identity(number)}/{image}.jpg", faces.jpeg(faces.portrait(who, rng)))


def sample_entries() -> Iterator[Entry]:
    """The small sample: plain identities, some of them in both exports, and every kind of trouble."""
    rng = default_rng([SEED, 4])
    spread = images_per_identity(SAMPLE_IDENTITIES, round(SAMPLE_IDENTITIES * 4.197))
    yield from flat_entries(0, SAMPLE_FLAT)
    yield from folder_entries(0, [min(count, 12) for count in spread])
    for number in range(SAMPLE_SHARED):
        yield _flat(_name(number), rng)
    # Trouble comes to identities that have enough images without it, each time to another one.
    anybody = map(_identity, itertools.count(SAMPLE_SHARED))
    for trouble in (_unreadable, _unnamed, _irregular, _copied, _too_few, _unusual, _something_else):
        yield from trouble(anybody, rng)


def _unreadable(anybody: Iterator[str], rng: Generator) -> Iterator[Entry]:
    jpeg, png = _jpeg(rng), faces.png(_portrait(rng))
    yield Entry(f"{next(anybody)}/empty.jpg", b"", Outcome.EMPTY_FILE)
    yield Entry(f"{next(anybody)}/truncated.jpg", jpeg[: len(jpeg) // 2], Outcome.CORRUPT)
    yield Entry(f"{next(anybody)}/truncated.png", png[: len(png) // 2], Outcome.CORRUPT)
    yield Entry(f"{next(anybody)}/error_page.jpg", b"<html>404 Not Found</html>\n", Outcome.NOT_AN_IMAGE)
    yield Entry(f"{next(anybody)}/zeros.jpg", bytes(4096), Outcome.NOT_AN_IMAGE)
    yield Entry(f"{next(anybody)}/half.jpg", faces.jpeg(_portrait(rng)[:56]), Outcome.WRONG_SIZE)
    enlarged = Image.fromarray(_portrait(rng)).resize((224, 224))
    yield Entry(f"{next(anybody)}/large.jpg", faces.encoded(enlarged, "JPEG"), Outcome.WRONG_SIZE)


def _unnamed(anybody: Iterator[str], rng: Generator) -> Iterator[Entry]:
    yield Entry(f"{FLAT}/README.txt", b"One face of each identity.\n", Outcome.UNMATCHED_NAME)
    yield Entry(f"{FLAT}/contact_sheet.png", faces.png(_portrait(rng)), Outcome.UNMATCHED_NAME)
    yield Entry(f"{FOLDERS}/labels.csv", b"identity,split\n", Outcome.UNMATCHED_NAME)
    yield Entry(f"{next(anybody)}/notes.txt", b"left-handed\n", Outcome.UNMATCHED_NAME)
    for name in ("line\nbreak.jpg", "back\\slash.jpg", os.fsdecode(b"caf\xe9.jpg"), ".hidden.jpg"):
        yield Entry(f"{next(anybody)}/{name}", _jpeg(rng), Outcome.UNSAFE_NAME)


def _irregular(anybody: Iterator[str], _: Generator) -> Iterator[Entry]:
    refused = partial(Entry, outcome=Outcome.NOT_REGULAR_FILE)
    yield refused(f"{next(anybody)}/inside.jpg", b"1.jpg", kind="link")
    yield refused(f"{next(anybody)}/outside.jpg", f"../../{MARKER}".encode(), kind="link")
    yield refused(f"{next(anybody)}/loop.jpg", b"loop.jpg", kind="link")
    yield refused(f"{next(anybody)}/fifo.jpg", kind="fifo")
    yield refused(f"{next(anybody)}/folder.jpg", kind="folder")
    yield refused(f"{FOLDERS}/linked_identity", PurePosixPath(next(anybody)).name.encode(), kind="link")
    yield refused(f"{FLAT}/linked_face.png", f"{_name(0)}_face.png".encode(), kind="link")


def _copied(anybody: Iterator[str], rng: Generator) -> Iterator[Entry]:
    twice, folder = _jpeg(rng), next(anybody)
    yield Entry(f"{folder}/original.jpg", twice)
    yield Entry(f"{folder}/original_copy.jpg", twice, Outcome.DUPLICATE_CONTENT)
    in_both, folder = faces.png(_portrait(rng)), next(anybody)
    name = f"{PurePosixPath(folder).name}_face.png"
    yield Entry(f"{FLAT}/{name}", in_both)
    yield Entry(f"{folder}/{name}", in_both, Outcome.DUPLICATE_CONTENT)
    disputed = _jpeg(rng)
    yield Entry(f"{next(anybody)}/disputed.jpg", disputed, Outcome.IDENTITY_CONFLICT)
    yield Entry(f"{next(anybody)}/disputed.jpg", disputed, Outcome.IDENTITY_CONFLICT)


def _too_few(anybody: Iterator[str], rng: Generator) -> Iterator[Entry]:
    lonely = map(_identity, itertools.count(SAMPLE_IDENTITIES))
    yield Entry(f"{next(lonely)}/only.jpg", _jpeg(rng), Outcome.TOO_FEW_IMAGES)
    jpeg, folder = _jpeg(rng), next(lonely)
    yield Entry(f"{folder}/good.jpg", jpeg, Outcome.TOO_FEW_IMAGES)
    yield Entry(f"{folder}/good_copy.jpg", jpeg, Outcome.DUPLICATE_CONTENT)
    folder = next(lonely)
    yield Entry(f"{folder}/good.jpg", _jpeg(rng), Outcome.TOO_FEW_IMAGES)
    yield Entry(f"{folder}/empty.jpg", b"", Outcome.EMPTY_FILE)
    disputed, folder = _jpeg(rng), next(lonely)
    yield Entry(f"{folder}/good.jpg", _jpeg(rng), Outcome.TOO_FEW_IMAGES)
    yield Entry(f"{folder}/disputed.jpg", disputed, Outcome.IDENTITY_CONFLICT)
    yield Entry(f"{next(anybody)}/disputed.jpg", disputed, Outcome.IDENTITY_CONFLICT)


def _unusual(anybody: Iterator[str], rng: Generator) -> Iterator[Entry]:
    """Not bad at all: other colours than RGB, a wrong suffix, one name in both exports, two halves of a pair."""
    for form, mode in (("JPEG", "L"), ("JPEG", "CMYK"), ("PNG", "RGBA"), ("PNG", "LA")):
        image = Image.fromarray(_portrait(rng)).convert(mode)
        yield Entry(f"{next(anybody)}/{mode.lower()}.{form.lower()}", faces.encoded(image, form))
    yield Entry(f"{next(anybody)}/really_a_jpeg.png", _jpeg(rng))
    yield Entry(f"{next(anybody)}/with space & 'quotes' é.jpg", _jpeg(rng))
    number = SAMPLE_IDENTITIES - 1
    yield _flat(_name(number), rng)
    yield Entry(f"{_identity(number)}/{_name(number)}_face.png", faces.png(_portrait(rng)))
    number = SAMPLE_IDENTITIES + 4
    yield _flat(_name(number), rng)
    yield Entry(f"{_identity(number)}/1.jpg", _jpeg(rng))


def _something_else(anybody: Iterator[str], rng: Generator) -> Iterator[Entry]:
    """What the trainer's loader would take, and see nothing in it or something else."""
    image = Image.fromarray(_portrait(rng))
    jpeg, png = _jpeg(rng), faces.png(_portrait(rng))
    in_16_bits = Image.fromarray(_portrait(rng)[..., 0].astype("uint16") * 257)
    yield Entry(f"{next(anybody)}/16_bits.png", faces.encoded(in_16_bits, "PNG"), Outcome.NOT_8_BIT)
    yield Entry(f"{next(anybody)}/closed.jpg", jpeg[: len(jpeg) // 2] + b"\xff\xd9", Outcome.DAMAGED)
    image.putalpha(0)
    yield Entry(f"{next(anybody)}/unseen.png", faces.encoded(image, "PNG"), Outcome.TRANSPARENT)
    yield Entry(f"{next(anybody)}/really_a_gif.jpg", faces.encoded(image.convert("P"), "GIF"), Outcome.OTHER_FORMAT)
    chunk_of_2_gb = png[:33] + b"\x7f\xff\xff\xfftEXt"
    yield Entry(f"{next(anybody)}/sparse.png", chunk_of_2_gb, Outcome.TOO_LARGE, kind="sparse")


def _name(number: int) -> str:
    return f"id_{number:07d}"


def _identity(number: int) -> str:
    return f"{FOLDERS}/{_name(number)}"


def _flat(name: str, rng: Generator, outcome: Outcome = Outcome.KEPT) -> Entry:
    return Entry(f"{FLAT}/{name}_face.png", faces.png(faces.portrait(faces.person(rng), rng, flat=True)), outcome)


def _portrait(rng: Generator) -> faces.Pixels:
    return faces.portrait(faces.person(rng), rng)


def _jpeg(rng: Generator) -> bytes:
    return faces.jpeg(_portrait(rng))
