"""Whom of the people to erase the ledgers and manifests name, and how often; nothing is changed."""

from dataclasses import dataclass
from pathlib import Path

import pyarrow.compute as pc

from include.faceset import people
from include.faceset.ground import sharded
from include.faceset.ledger import Outcome, kept
from include.faceset.people import People
from include.faceset.release import history, labels, pointer, release
from include.faceset.run.run import Run

NAMING = ["identity", "export", "path"]
_OF_PEOPLE = [*NAMING, "outcome", "sha256"]


@dataclass(frozen=True)
class Found:
    """What a release says of the people to erase: rows, images that it kept, people, and SHA-256 in dispute.

    `names` are these people, and those whom only a file that was skipped for its name names.
    """

    rows: int
    images: int
    people: int
    disputed: frozenset[bytes]
    names: People


def is_needed(run: Run) -> bool:
    """Whether anything beside the output names somebody on the list."""
    return any(count for what, count in count_named(run).items() if what != "listed")


def count_named(run: Run) -> dict[str, int]:
    """Counts of what a run would erase; nothing is changed.

    `listed` people; of the last release `people`, `images` and those `disputed`; over all of them `releases` and their
    `rows`; `parts`; and how many have class `numbers`.
    """
    listed = people.to_erase(run)
    names = ("people", "images", "disputed", "releases", "rows", "parts", "numbers")
    counts = dict.fromkeys(names, 0) | {"listed": len(listed)}
    if not listed:
        return counts
    last = pointer.last(run)
    for folder in history.folders(run):
        found = look(listed, folder / release.LEDGER_FILE)
        counts["releases"] += found.rows > 0
        counts["rows"] += found.rows
        if folder == last:
            counts |= {"people": found.people, "images": found.images, "disputed": len(found.disputed)}
    counts["numbers"] = len(labels.whose(run.labels, listed)) if run.labels.exists() else 0
    counts["parts"] = sum(rows(listed, path)[0] > 0 for path in find_manifests(run, parts_only=True))
    return counts


def find_named(run: Run) -> People:
    """Whom of the people on the list a kept release or a known part names; nothing is changed."""
    listed = people.to_erase(run)
    in_releases = (look(listed, folder / release.LEDGER_FILE).names for folder in history.folders(run))
    in_parts = (rows(listed, path)[1] for path in find_manifests(run, parts_only=True))
    return frozenset[str]().union(*in_releases, *in_parts) if listed else listed


def look(listed: People, ledger: Path) -> Found:
    """What a ledger says of people; one shard of it is in memory at a time."""
    rows = images = 0
    identities: set[str] = set()
    names: set[str] = set()
    disputed: set[bytes] = set()
    for _, group in sharded.groups(ledger, _OF_PEOPLE):
        of_people = people.separate(listed, group)[0]
        rows += of_people.num_rows
        images += kept(of_people).num_rows
        identities.update(pc.unique(of_people["identity"].drop_null()).to_pylist())
        names |= people.named_by(listed, of_people)
        in_dispute = pc.equal(of_people["outcome"], Outcome.IDENTITY_CONFLICT.value)
        disputed.update(of_people.filter(in_dispute)["sha256"].drop_null().to_pylist())
    return Found(rows, images, len(identities), frozenset(disputed), frozenset(names))


def find_manifests(run: Run, *, parts_only: bool = False) -> list[Path]:
    known = sorted(run.releases.glob("parts/*/*.parquet"))
    return known if parts_only else [*known, *sorted(run.work.glob("manifest/**/*.parquet"))]


def rows(listed: People, manifest: Path) -> tuple[int, People]:
    """How many rows of a manifest name people, and whom."""
    count, names = 0, set[str]()
    for _, rows in sharded.groups(manifest, NAMING):
        of_people = people.separate(listed, rows)[0]
        count += of_people.num_rows
        names |= people.named_by(listed, of_people)
    return count, frozenset(names)
