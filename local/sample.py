"""Makes face exports to merge: a small sample with every kind of bad input, or one as large as the reference run.

Both hold the two exports of ``include/datasets/reidnet_v3.yaml``: flat PNG files, one of each identity, and an
image folder of JPEGs. Nobody in them is real, and the same call draws the same bytes wherever the lock is
the same. Faces are drawn into ``<folder>.partial``, which becomes ``<folder>`` in one step: a folder that is
there is complete.
"""

import argparse
import itertools
import json
import os
import shutil
import signal
import sys
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from ctypes import CDLL
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Literal

from numpy.random import Generator, default_rng
from PIL import Image

from include.faceset.ledger import Outcome
from local import faces

FLAT = "faces_only"
FOLDERS = "reidnet_v2_training_data"
EXPORTS = [
    {"name": FLAT, "layout": "flat", "pattern": "{identity}_face.png"},
    {"name": FOLDERS, "layout": "image_folder"},
]
"""The two, as a dataset file declares them."""
MARKER = "sample.json"  # beside the exports, never in one

REFERENCE_FLAT, REFERENCE_IDENTITIES, REFERENCE_IMAGES = 390_856, 102_491, 430_143
SAMPLE_FLAT, SAMPLE_IDENTITIES, SAMPLE_SHARED = 2_950, 795, 40
SPARSE_BYTES = 64_100_000  # just above a dataset's max_file_size

_SEED = 1
_RECIPE = 2  # raise it when the same call begins to draw other bytes
_PR_SET_PDEATHSIG = 1  # prctl(2)


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


@dataclass(frozen=True)
class Counts:
    """Entries in each export, identities of which images should be kept, and entries by expected outcome."""

    flat_files: int
    folder_files: int
    identities: int
    outcomes: dict[str, int]

    def table(self) -> str:
        """The counts, one a line, for a terminal."""
        rows = {FLAT: self.flat_files, FOLDERS: self.folder_files, "identities to be kept": self.identities}
        return "\n".join(f"{count:>9,}  {name}" for name, count in (rows | self.outcomes).items())


Draw = Callable[[], Iterable[Entry]]


def make_sample(folder: Path) -> Counts:
    """Draw about 3,000 flat files and 800 identities, with each outcome of a run among them; seconds.

    Raises FileExistsError when `folder` holds anything else.
    """
    return _make(folder, {"sample": "every outcome"}, [sample_entries], workers=1)


def make_reference(folder: Path, scale: float = 1.0, workers: int | None = None) -> Counts:
    """Draw `scale` times the reference run, every image valid and different from all others.

    At scale 1: 390,856 flat files of as many identities, and 430,143 images of 102,491 other identities; 6 GB.
    `workers` is the number of processes (default: one a core); it changes nothing in what is drawn.

    Raises FileExistsError when `folder` holds anything else, ValueError when `scale` leaves nothing to draw.
    """
    flat, identities, images = (
        round(whole * scale) for whole in (REFERENCE_FLAT, REFERENCE_IDENTITIES, REFERENCE_IMAGES)
    )
    if min(flat, identities) < 1:
        msg = f"scale {scale} leaves no image or no identity; say more than {1 / REFERENCE_IDENTITIES:.0e}"
        raise ValueError(msg)
    spread = images_per_identity(identities, images)
    draws: list[Draw] = [
        *(partial(flat_entries, start, min(start + 2_000, flat)) for start in range(0, flat, 2_000)),
        *(partial(folder_entries, start, spread[start : start + 500]) for start in range(0, identities, 500)),
    ]
    return _make(folder, {"reference": scale}, draws, workers or len(os.sched_getaffinity(0)))


def images_per_identity(identities: int, images: int) -> list[int]:
    """`images` dealt out to `identities`, each getting two or more: many get few, few get many."""
    popularity = default_rng([_SEED, 0]).gamma(3.0, size=identities)
    extra = default_rng([_SEED, 1]).multinomial(images - 2 * identities, popularity / popularity.sum())
    return [2 + int(more) for more in extra]


def flat_entries(start: int, stop: int) -> Iterator[Entry]:
    """Flat files, each of an identity that occurs nowhere else."""
    rng = default_rng([_SEED, 2, start])
    for _ in range(start, stop):
        yield _flat(str(uuid.UUID(bytes=rng.bytes(16), version=4)), rng, Outcome.TOO_FEW_IMAGES)


def folder_entries(start: int, images: Sequence[int]) -> Iterator[Entry]:
    """The images of `len(images)` identities, numbered from `start`."""
    rng = default_rng([_SEED, 3, start])
    for number, count in enumerate(images, start):
        who = faces.person(rng)
        for image in range(1, count + 1):
            yield Entry(f"{_identity(number)}/{image}.jpg", faces.jpeg(faces.portrait(who, rng)))


def sample_entries() -> Iterator[Entry]:
    """The small sample: plain identities, some of them in both exports, and every kind of trouble."""
    rng = default_rng([_SEED, 4])
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


def _make(folder: Path, what: dict[str, object], draws: Sequence[Draw], workers: int) -> Counts:
    """Write all that `draws` give into `folder`, unless it is there already."""
    folder = folder.resolve()
    what = {"recipe": _RECIPE, **what}
    if folder.exists() and (made := _made(folder, what)):
        return made
    building = folder.with_name(f"{folder.name}.partial")
    if building.exists():
        shutil.rmtree(building)
    building.mkdir(parents=True)
    counts = _sum(_written(building, draws, workers))
    (building / MARKER).write_text(json.dumps({"made": what, "counts": asdict(counts)}, indent=2) + "\n")
    building.rename(folder)
    return counts


def _made(folder: Path, what: dict[str, object]) -> Counts | None:
    """The counts of what `folder` holds; None when it is empty."""
    marker = folder / MARKER
    if marker.exists():
        note = json.loads(marker.read_text())
        if note["made"] == what:
            return Counts(**note["counts"])
    elif not any(folder.iterdir()):
        return None
    msg = f"{folder} holds something other than the sample asked for; remove it or name another folder"
    raise FileExistsError(msg)


def _written(root: Path, draws: Sequence[Draw], workers: int) -> Iterator[Counts]:
    write = partial(_write, root)
    if workers == 1:
        yield from map(write, draws)
        return
    with ProcessPoolExecutor(workers, initializer=_die_with_parent, initargs=(os.getpid(),)) as pool:
        yield from _with_progress(pool.map(write, draws), len(draws))


def _write(root: Path, draw: Draw) -> Counts:
    exports: Counter[str] = Counter()
    outcomes: Counter[str] = Counter()
    kept = set()
    for entry in draw():
        path = root / entry.path
        path.parent.mkdir(parents=True, exist_ok=True)
        match entry.kind:
            case "file":
                path.write_bytes(entry.content)
            case "sparse":
                path.write_bytes(entry.content)
                os.truncate(path, SPARSE_BYTES)
            case "link":
                path.symlink_to(os.fsdecode(entry.content))
            case "fifo":
                os.mkfifo(path)
            case "folder":
                path.mkdir()
        export, _, name = entry.path.partition("/")
        exports[export] += 1
        outcomes[entry.outcome.value] += 1
        if entry.outcome is Outcome.KEPT:
            kept.add(name.removesuffix("_face.png") if export == FLAT else name.partition("/")[0])
    return Counts(exports[FLAT], exports[FOLDERS], len(kept), dict(outcomes))


def _sum(parts: Iterable[Counts]) -> Counts:
    flat = folder = identities = 0
    outcomes: Counter[str] = Counter()
    for part in parts:
        flat += part.flat_files
        folder += part.folder_files
        identities += part.identities
        outcomes.update(part.outcomes)
    return Counts(flat, folder, identities, dict(sorted(outcomes.items())))


def _with_progress(parts: Iterable[Counts], total: int) -> Iterator[Counts]:
    started = told = time.monotonic()
    files = 0
    for done, part in enumerate(parts, 1):
        files += part.flat_files + part.folder_files
        if (now := time.monotonic()) - told > 5:
            told = now
            print(f"{files:,} files, {done / total:.0%}, {files / (now - started):,.0f} a second", flush=True)
        yield part


def _die_with_parent(parent: int) -> None:
    """Without this a worker whose parent was killed would go on drawing into a folder that is being made again."""
    CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        sys.exit(1)


def main(arguments: Sequence[str] | None = None) -> None:
    """The command behind `make sample`; SCALE and OUT may also come from the environment."""
    parser = argparse.ArgumentParser("python -m local.sample", description="Draw face exports to merge.")
    parser.add_argument(
        "--scale",
        type=float,
        default=os.environ.get("SCALE") or None,
        help="draw a multiple of the reference run (1: 390,856 flat files and 430,143 images; 6 GB), all valid, "
        "instead of the small sample with every kind of bad input",
    )
    parser.add_argument("--out", type=Path, default=os.environ.get("OUT") or None, help="default: below .local/")
    parser.add_argument("--workers", type=int, help="processes that draw (default: one a core)")
    asked = parser.parse_args(arguments)
    name = "sample" if asked.scale is None else f"sample-scale-{asked.scale:g}"
    out = asked.out or Path(__file__).parents[1] / ".local" / name
    try:
        counts = make_sample(out) if asked.scale is None else make_reference(out, asked.scale, asked.workers)
    except (FileExistsError, ValueError) as error:
        parser.error(str(error))
    print(f"{out}\n{counts.table()}")


if __name__ == "__main__":
    main()
