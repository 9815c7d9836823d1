"""Makes face exports to merge: a small sample with every kind of bad input, or one as large as the reference run.

Both hold the two exports of ``include/datasets/reidnet_v3.yaml``: flat PNG files, one of each identity, and an
image folder of JPEGs. Nobody in them is real, and the same call draws the same bytes wherever the lock is
the same. Faces are drawn into ``<folder>.partial``, which becomes ``<folder>`` in one step: a folder that is
there is complete.
"""

import argparse
import json
import os
import shutil
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from ctypes import CDLL
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

from include.faceset.ledger import Outcome
from local.sample.entries import (
    FLAT,
    FOLDERS,
    MARKER,
    SPARSE_BYTES,
    Entry,
    flat_entries,
    folder_entries,
    images_per_identity,
    sample_entries,
)

EXPORTS = [
    {"name": FLAT, "layout": "flat", "pattern": "{identity}_face.png"},
    {"name": FOLDERS, "layout": "image_folder"},
]
"""The two, as a dataset file declares them."""

REFERENCE_FLAT, REFERENCE_IDENTITIES, REFERENCE_IMAGES = 390_856, 102_491, 430_143

_RECIPE = 2  # raise it when the same call begins to draw other bytes
_PR_SET_PDEATHSIG = 1  # prctl(2)


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
    parser = argparse.ArgumentParser("python -m local.sample.sample", description="Draw face exports to merge.")
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
    out = asked.out or Path(__file__).parents[2] / ".local" / name
    try:
        counts = make_sample(out) if asked.scale is None else make_reference(out, asked.scale, asked.workers)
    except (FileExistsError, ValueError) as error:
        parser.error(str(error))
    print(f"{out}\n{counts.table()}")


if __name__ == "__main__":
    main()
