"""``<dataset>_holdout.bin``: the pairs that arcface_torch verifies a model by, while it trains and after.

Source: InsightFace recognition/arcface_torch ``eval/verification.py``, `load_bin`: a pickle of two lists, the encoded
images (those of pair i at 2i and 2i + 1) and whether each pair is of one person; ten folds of neighbouring pairs.
"""

import hashlib
import pickle
from pathlib import Path
from typing import NamedTuple

import pyarrow.compute as pc

from include.faceset.exports.opening import open_now
from include.faceset.ground import files, sharded
from include.faceset.ledger import Outcome
from include.faceset.records.pixels import for_all_readers
from include.faceset.release import release
from include.faceset.run.attempt import Attempt
from include.faceset.run.run import Run
from include.faceset.training import pairs
from include.faceset.training.pairs import HoldoutError, Pair

PICKLE_PROTOCOL = 4
_COLUMNS = ["identity", "export", "path", "size", "sha256", "etag", "outcome"]


class Place(NamedTuple):
    """Where an image lies among the exports, as `opening.open_now` takes it."""

    export: str
    path: str
    size: int
    etag: str | None


def file_name(dataset: str) -> str:
    """What the file is called; without its suffix it is a name for `val_targets`."""
    return f"{dataset}_holdout.bin"


def is_there(folder: Path, dataset: str) -> bool:
    """Whether a release has its pairs."""
    return (folder / file_name(dataset)).exists()


def check(run: Run, ledger: Path) -> None:
    """Check that what a ledger holds out is enough for the pairs that the dataset file asks for.

    Raises:
        HoldoutError: it is not.
    """
    if run.dataset.holdout is not None:
        pairs.check([len(places) for places in _held_out(ledger).values()], run.dataset.holdout.pairs)


def write(attempt: Attempt, folder: Path) -> None:
    """Draw the pairs of a release and write them into its folder, unless these are the ones that it has.

    Raises:
        HoldoutError: too little is held out, or an image is no longer what was sealed.
    """
    run, held = attempt.run, attempt.run.dataset.holdout
    if held is None:
        return
    people = _held_out(folder / release.LEDGER_FILE)
    drawn = pairs.draw({name: list(places) for name, places in people.items()}, held.pairs)
    path = folder / file_name(run.dataset.name)
    if path.exists() and _hashes(path) == [sha256 for pair in drawn for sha256 in pair[:2]]:
        return
    places = {sha256: place for of_one in people.values() for sha256, place in of_one.items()}
    wanted = dict.fromkeys(sha256 for pair in drawn for sha256 in pair[:2])
    content = {sha256: for_all_readers(_read(run, sha256, places[sha256])) for sha256 in wanted}
    _write(path, drawn, content, within=attempt.folder)


def _hashes(path: Path) -> list[bytes]:
    """SHA-256 of the images of pairs that were written; one that went in as a PNG is none that was drawn."""
    images, _ = pickle.loads(path.read_bytes())  # noqa: S301 this project wrote it
    return [hashlib.sha256(image).digest() for image in images]


def rewrite(path: Path, target: Path, ledger: Path, *, within: Path) -> None:
    """Write the pairs anew without those of people whom the ledger no longer holds out, as many of each kind."""
    left = {sha256 for places in _held_out(ledger).values() for sha256 in places}
    images, same = pickle.loads(path.read_bytes())  # noqa: S301 this project wrote it
    kept: dict[bool, list[tuple[bytes, bytes]]] = {True: [], False: []}
    for one, other, is_same in zip(images[::2], images[1::2], same, strict=True):
        if {hashlib.sha256(image).digest() for image in (one, other)} <= left:
            kept[is_same].append((one, other))
    content: dict[bytes, bytes] = {}
    drawn = []
    for pairs_of_each in zip(kept[True], kept[False], strict=False):
        for is_same, both in zip((True, False), pairs_of_each, strict=True):
            content.update((hashlib.sha256(image).digest(), image) for image in both)
            one, other = (hashlib.sha256(image).digest() for image in both)
            drawn.append(Pair(one, other, is_same))
    _write(target, drawn, content, within=within)


def _write(path: Path, drawn: list[Pair], content: dict[bytes, bytes], *, within: Path) -> None:
    images = [content[sha256] for pair in drawn for sha256 in pair[:2]]
    with files.replacing(path, within) as temporary:
        temporary.write_bytes(pickle.dumps((images, [pair.same for pair in drawn]), PICKLE_PROTOCOL))


def _held_out(ledger: Path) -> dict[str, dict[bytes, Place]]:
    """Where the images of each person who is held out lie, by SHA-256."""
    found: dict[str, dict[bytes, Place]] = {}
    for _, rows in sharded.groups(ledger, _COLUMNS):
        for row in rows.filter(pc.equal(rows["outcome"], Outcome.HELD_OUT.value)).to_pylist():
            place = Place(row["export"], row["path"], row["size"], row["etag"])
            found.setdefault(row["identity"], {})[row["sha256"]] = place
    return found


def _read(run: Run, sha256: bytes, place: Place) -> bytes:
    with open_now(run, *place) as file:
        data = file.read() if file is not None else b""
    if hashlib.sha256(data).digest() != sha256:
        raise HoldoutError(
            f"{place.path.rpartition('/')[2]} (of export {place.export}), which is held out, is no longer what was "
            "sealed: start another run"
        )
    return data
