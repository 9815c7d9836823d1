"""What becomes of the images of one identity: one row a file, as it comes to be known."""

import hashlib
import os
from dataclasses import dataclass, field
from typing import NamedTuple

from include.faceset import names
from include.faceset.declared.dataset import Dataset
from include.faceset.declared.pictures import Pictures
from include.faceset.declared.resolve import Decided
from include.faceset.exports.opening import Read, is_unchanged
from include.faceset.exports.rows import Row
from include.faceset.images import held_out, judge, large, pictures
from include.faceset.images.large import Large
from include.faceset.images.pictures import Picture
from include.faceset.ledger import Outcome
from include.faceset.run.run import Run

OF_THE_BYTES = {
    Outcome.CORRUPT,
    Outcome.DAMAGED,
    Outcome.EMPTY_FILE,
    Outcome.NOT_8_BIT,
    Outcome.NOT_AN_IMAGE,
    Outcome.OTHER_FORMAT,
    Outcome.TRANSPARENT,
    Outcome.WRONG_SIZE,
}
"""Outcomes that follow from a file's bytes alone."""


class Judged(NamedTuple):
    """A file's row with what its bytes tell; `rejected` says why it is not kept, `content` is to be put in place."""

    row: Row
    rejected: Outcome | None
    content: bytes | Large | None
    picture: Picture | None = None


@dataclass
class Verdicts:
    """The ledger rows of an identity as they come to be known, and what people decided about it."""

    decided: Decided = field(default_factory=Decided)
    rows: list[Row] = field(default_factory=list)
    hashes: set[bytes] = field(default_factory=set)
    names: dict[str, int] = field(default_factory=dict)
    """File name in the merged dataset -> index of its row."""
    pictures: dict[int, Picture] = field(default_factory=dict)
    """Index of a row -> its picture, which is yet to be measured."""
    opened: list[int] = field(default_factory=list)
    """Sizes in bytes of the files that were read."""

    def reject(self, row: Row, outcome: Outcome) -> None:
        """Add the row of a file that is not kept."""
        self.rows.append(row._replace(outcome=outcome.value, key=None, staged_mtime_ns=None))

    def keep(self, row: Row, name: str, staged_mtime_ns: int | None) -> None:
        """Add the row of an image that is kept under a name."""
        if row.sha256 is not None:
            self.hashes.add(row.sha256)
        self.names[name] = len(self.rows)
        key = f"{row.identity}/{name}"
        self.rows.append(row._replace(outcome=Outcome.KEPT.value, key=key, staged_mtime_ns=staged_mtime_ns))

    def give_up(self, outcome: Outcome = Outcome.TOO_FEW_IMAGES) -> list[str]:
        """Keep none after all, since they are too few, or held out; the names that they had."""
        names = list(self.names)
        for index in self.names.values():
            row = self.rows[index]
            self.rows[index] = row._replace(outcome=outcome.value, key=None, staged_mtime_ns=None)
        self.names.clear()
        return names

    def judge_together(self, dataset: Dataset, identity: str, min_images: int) -> list[str]:
        """Give up images for how they look, an identity that has too few, or is held out; the names that they had."""
        gone = self._judge_pictures(dataset.pictures) if dataset.pictures.rules else []
        if len(self.names) < min_images:
            return [*gone, *self.give_up()]
        return [*gone, *self.give_up(Outcome.HELD_OUT)] if held_out.holds(dataset, identity) else gone

    def _judge_pictures(self, rules: Pictures) -> list[str]:
        """Give up what thresholds leave out; the names that it had."""
        for index, look in zip(self.pictures, pictures.measure(list(self.pictures.values())), strict=True):
            self.rows[index] = self.rows[index]._replace(**look._asdict())
        self.pictures.clear()
        gone = [name for name, index in list(self.names.items()) if self._is_given_up(name, index, rules)]
        if rules.near_duplicate is None:
            return gone
        known = [(name, index) for name, index in self.names.items() if self.rows[index].dhash is not None]
        best_first = sorted(known, key=lambda one: -(self.rows[one[1]].sharpness or 0))
        hashes = [self.rows[index].dhash or b"" for _, index in best_first]
        for near in pictures.near_duplicates(hashes, rules.near_duplicate):
            name, index = best_first[near]
            if not self._is_to_stay(index):
                gone.append(self._give_up_one(name, index, Outcome.NEAR_DUPLICATE))
        return gone

    def _is_given_up(self, name: str, index: int, rules: Pictures) -> bool:
        row = self.rows[index]
        if row.brightness is None or row.contrast is None or self._is_to_stay(index):
            return False
        outcome = pictures.outcome_of(rules, row.brightness, row.contrast, row.sharpness)
        return outcome is not None and bool(self._give_up_one(name, index, outcome))

    def _is_to_stay(self, index: int) -> bool:
        """Whether somebody decided that an image is kept although its looks advise against it."""
        return self.rows[index].sha256 in self.decided.kept

    def _give_up_one(self, name: str, index: int, outcome: Outcome) -> str:
        del self.names[name]
        self.rows[index] = self.rows[index]._replace(outcome=outcome.value, key=None, staged_mtime_ns=None)
        return name

    def free_name(self, row: Row) -> str:
        """The file's name, or with its export in front where an earlier file of the identity has that name."""
        name = row.merged_name
        while name in self.names:
            name = f"{row.export}__{name}"
        return name

    def outcome(self, judged: Judged) -> Outcome | None:
        """Why an image that was judged is not kept, among the others of its identity; None if it is."""
        if judged.rejected is not None:
            return judged.rejected
        if self.decided.drops(judged.row.identity, judged.row.sha256):
            return Outcome.DROPPED_BY_DECISION
        if judged.row.sha256 in self.hashes:
            return Outcome.DUPLICATE_CONTENT
        if len(self.free_name(judged.row).encode()) > names.MAX_NAME_BYTES:
            return Outcome.UNSAFE_NAME
        return None


def judge_file(run: Run, row: Row, read: Read) -> Judged:
    """Hash and judge what was read. A large file is hashed only if its header is good, and is to be the same after it.

    Raises:
        OSError: as of `opening.reading`.
    """
    size, decode = run.dataset.image_size, run.params.decode
    if isinstance(read.content, bytes):
        seen = judge.inspect(read.content, size, decode, closely=run.dataset.pictures.need_sharpness)
        digest = hashlib.sha256(read.content).digest()
        row = row._replace(sha256=digest, format=seen.format, colour=seen.colour)
        return Judged(row, seen.rejected, read.content, seen.picture)
    seen = judge.inspect_large(read.content, size, decode)
    if seen.rejected is not None:
        return Judged(row._replace(format=seen.format, colour=seen.colour), seen.rejected, None)
    digest = large.sha256(read.content)
    if read.original is not None and not is_unchanged(os.fstat(read.original.descriptor), row):
        return Judged(row, Outcome.CHANGED_DURING_RUN, None)
    row = row._replace(sha256=digest, format=seen.format, colour=seen.colour)
    return Judged(row, None, Large(read.content, digest))
