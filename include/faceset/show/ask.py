"""Ask: where an identity, a file or some bytes went, in every kept release, and what would change it."""

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from include.faceset import people
from include.faceset.declared import deciding
from include.faceset.declared.dataset import Dataset
from include.faceset.ledger import EXPLANATIONS, Outcome
from include.faceset.run.run import Run
from include.faceset.show.releases import Shown, find
from include.faceset.show.rows import Ledger

MOST = 500
"""Rows of a release that are told."""
ASKED_AT_ONCE = 4
"""Releases."""

REMEDIES = {
    Outcome.KEPT: "nothing: it is in the training set",
    Outcome.TOO_FEW_IMAGES: "bring more images of the identity, lower min_images, or decide that it is the same person "
    "as another (same_person)",
    Outcome.DUPLICATE_CONTENT: "nothing is lost: the same bytes are kept under the name beside it",
    Outcome.IDENTITY_CONFLICT: "decide whose it is (keep_under), that both are one person (same_person), or correct "
    "the export",
    Outcome.NOT_AN_IMAGE: "replace the file by an image in the export",
    Outcome.OTHER_FORMAT: "save it as JPEG or PNG in the export",
    Outcome.NOT_8_BIT: "save it with 8 bits a channel in the export",
    Outcome.CORRUPT: "bring the whole file again: it breaks off, or its bytes are wrong",
    Outcome.DAMAGED: "bring the whole file again: it breaks off, or its bytes are wrong",
    Outcome.TRANSPARENT: "save it without transparency",
    Outcome.WRONG_SIZE: "align and scale it to image_size before it is exported",
    Outcome.EMPTY_FILE: "bring the file again: it holds nothing",
    Outcome.UNMATCHED_NAME: "name it as the export's layout says, or correct the layout in the dataset file",
    Outcome.UNSAFE_NAME: "rename it in the export",
    Outcome.NOT_REGULAR_FILE: "put the file itself in the place of the link or folder",
    Outcome.CHANGED_DURING_RUN: "run again: it was being written while the run read it",
    Outcome.SUPPRESSED: "nothing: its person is erased",
    Outcome.TOO_LARGE: "raise max_file_size, or save it smaller",
    Outcome.ARCHIVED: "restore the object in S3, and run again",
    Outcome.HELD_OUT: "nothing: it verifies models; `holdout`, in the dataset file, says who is held out",
    Outcome.TOO_DARK: "lower the threshold (pictures), or decide to keep it (keep_image)",
    Outcome.TOO_BRIGHT: "raise the threshold (pictures), or decide to keep it (keep_image)",
    Outcome.BLURRED: "lower the threshold (pictures), or decide to keep it (keep_image)",
    Outcome.PLACEHOLDER: "lower the threshold (pictures), or decide to keep it (keep_image)",
    Outcome.NEAR_DUPLICATE: "lower the threshold (pictures), or decide to keep it (keep_image)",
    Outcome.NEAR_HELD_OUT: "lower near_duplicate (pictures); or say that both are one person (same_person)",
    Outcome.DROPPED_BY_DECISION: "take the decision back",
}
"""What would change an outcome."""


@dataclass(frozen=True)
class Answer:
    """What a release knows of what was asked: rows, each with `meaning` and `remedy` beside the ledger's columns."""

    release_id: str
    sealed_at: str
    in_place: bool
    rows: list[dict[str, Any]]
    total: int


def ask(run: Run, question: str) -> Iterator[Answer]:
    """What every kept release, the newest first, knows of an identity, a path, a file's name or a SHA-256.

    People to erase are as if they had never been there.
    """
    question = question.strip()
    listed = people.to_erase(run)
    merged = deciding.decided(run.dataset).merged

    def answer(shown: Shown) -> Answer:
        rows, total = _rows(run.dataset, Ledger(shown.folder, listed), question, merged)
        rows = rows.sort_by([("identity", "ascending"), ("export", "ascending"), ("path", "ascending")])
        return _answer(shown, rows, total)

    with ThreadPoolExecutor(ASKED_AT_ONCE) as pool:  # Arrow reads and compares without Python's lock
        yield from pool.map(answer, find(run) if question else ())


def _rows(dataset: Dataset, ledger: Ledger, question: str, merged: dict[str, str]) -> tuple[pa.Table, int]:
    """Rows that answer a question, at least `MOST` if there are so many, and how many there are in all."""
    if re.fullmatch("[0-9a-fA-F]{64}", question):
        rows = ledger.where("sha256", bytes.fromhex(question))
        return rows, rows.num_rows
    names = {question, merged.get(question, question)}
    # Of whoever counts as another the other's images are no answer.
    found = ledger.of_identities(names)
    found = found.filter(pc.or_kleene(pc.equal(found["identity"], question), pc.equal(found["scanned_as"], question)))
    if found.num_rows:
        return found, found.num_rows
    # A path that says whose it is lies in that identity's shard; and so does a key of the merged dataset.
    folder, _, name = question.rpartition("/")
    guesses = {folder.rpartition("/")[2]}
    for export in dataset.exports:
        guesses |= {export.label(one) for one in export.identities([folder.rpartition("/")[2]], [name]) if one}
    guesses |= {merged[one] for one in guesses & merged.keys()}
    rows = ledger.of_identities(guesses - {""})
    keep = [
        question in (row["path"], row["key"]) or str(row["path"]).endswith(f"/{question}")
        for row in rows.select(["path", "key"]).to_pylist()
    ]
    rows = rows.filter(pa.array(keep, pa.bool_()))
    return (rows, rows.num_rows) if rows.num_rows else ledger.of_path(question, MOST)


def _answer(shown: Shown, rows: pa.Table, total: int) -> Answer:
    told = rows.slice(0, MOST).to_pylist()
    kept = {(row["identity"], row["sha256"]): row["key"] for row in told if row["key"]}
    for row in told:
        outcome = Outcome(row["outcome"])
        row["sha256"] = row["sha256"] and row["sha256"].hex()
        row["meaning"] = EXPLANATIONS.get(outcome, "in the training set")
        row["remedy"] = REMEDIES[outcome]
        same = kept.get((row["identity"], bytes.fromhex(row["sha256"]))) if row["sha256"] else None
        row["kept_as"] = row["key"] or (same if outcome == Outcome.DUPLICATE_CONTENT else None)
    return Answer(shown.sealed.release_id, shown.sealed.sealed_at, shown.in_place, told, total)
