"""What another `min_images` would give, and what accounts for the difference from what was expected."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from include.faceset.declared.training import Training
from include.faceset.ledger import Outcome
from include.faceset.training import schedule

ASKED = range(1, 11)
"""Values of `min_images` that the table has."""
_COUNTED = pa.array([Outcome.KEPT.value, Outcome.TOO_FEW_IMAGES.value])
FEW = 3
"""Below so many images an identity teaches a model little: one to compare with, and hardly another light or pose."""


@dataclass(frozen=True)
class WhatIf:
    """What a `min_images` gives; below the run's own as far as is known without opening the images left out."""

    min_images: int
    identities: int
    images: int
    steps_per_epoch: int


def count_identities(ledger: pa.Table) -> dict[int, int]:
    """Of a shard's ledger rows: number of identities by how many images they have, kept ones or too few."""
    rows = ledger.filter(pc.is_in(ledger["outcome"], value_set=_COUNTED))
    counted = rows.group_by("identity").aggregate([([], "count_all")])
    return {pair["values"]: pair["counts"] for pair in pc.value_counts(counted["count_all"]).to_pylist()}


def what_if(by_images: Mapping[int, int], training: Training) -> list[WhatIf]:
    """The table, for every value in `ASKED`; `by_images` as of `count_identities`."""
    found = []
    for fewest in ASKED:
        enough = {images: identities for images, identities in by_images.items() if images >= fewest}
        images = sum(images * identities for images, identities in enough.items())
        steps = schedule.scheduled_steps(images, training.batch_size, training.gpus)
        found.append(WhatIf(fewest, sum(enough.values()), images, steps))
    return found


def lacking_one(by_images: Mapping[int, int], min_images: int) -> int:
    """How many identities would come in with one more image."""
    return by_images.get(min_images - 1, 0)


def explanation(facts: Mapping[str, Any]) -> list[str]:
    """In sentences: what accounts for the difference from what was expected, whether it is healthy, what would help.

    Args:
        facts: what ``summary.json`` holds.
    """
    return [*_difference(facts), *_health(facts), *_help(facts), *_near_copies(facts)]


def _difference(facts: Mapping[str, Any]) -> Iterator[str]:
    expected = facts.get("expected")
    if not expected:
        return
    for what in ("identities", "images"):
        found, wanted = facts[what], expected[what]
        if found < wanted:
            yield f"There are {wanted - found:,} fewer {what} than expected ({found:,} of {wanted:,})."
        elif found > wanted:
            yield f"There are {found - wanted:,} more {what} than expected ({found:,} instead of {wanted:,})."
    singles = facts.get("identities_by_images", {}).get("1", 0)
    rejected = facts["rejected"]
    if facts["images"] < expected["images"] and rejected:
        reason, count = next(iter(rejected.items()))
        yield (
            f"{facts['scanned_files'] - facts['kept_files']:,} files were skipped, {count:,} of them as {reason}; with "
            f"all of them there would be {facts['scanned_files']:,} images."
        )
    if singles and facts["min_images"] > 1 and facts["identities"] < expected["identities"]:
        both = facts["identities"] + singles
        rest = expected["identities"] - both
        so = f"{rest:,} would still be missing" if rest > 0 else "that accounts for all that is missing"
        yield f"{singles:,} identities have one image each and were left out; with them there would be {both:,}: {so}."
    lowest, highest = expected["images_per_identity"]
    mean = facts["avg_images_per_identity"]
    if not lowest <= mean <= highest:
        yield f"An identity has {mean:g} images in the mean, {lowest:g} to {highest:g} were expected."


def _health(facts: Mapping[str, Any]) -> Iterator[str]:
    counts = {int(images): count for images, count in facts.get("identities_by_images", {}).items()}
    kept = {images: count for images, count in counts.items() if images >= facts["min_images"]}
    total = sum(kept.values())
    if not total:
        return
    few = sum(count for images, count in kept.items() if images < FEW)
    most = max(kept)
    share = few / total
    verdict = "healthy" if share <= 0.5 else "thin"
    yield (
        f"The distribution is {verdict}: {100 * share:.0f} % of the identities have fewer than {FEW} images, half have "
        f"at least {_median(kept):,}, the most have {most:,}."
    )
    if most > 50 * max(1, _median(kept)):
        yield f"An identity with {most:,} images stands out: are these all of one person?"


def _help(facts: Mapping[str, Any]) -> Iterator[str]:
    if lacking := facts.get("lacking_one", 0):
        yield (
            f"{lacking:,} identities lack a single image: one more of each would bring in {lacking:,} identities and "
            f"{lacking * facts['min_images']:,} images."
        )
    if facts["rejected"].get(Outcome.IDENTITY_CONFLICT.value):
        count = facts["rejected"][Outcome.IDENTITY_CONFLICT.value]
        yield (
            f"{count:,} files lie under two identities with the same bytes: decide whose they are, or that both are "
            "one person (docs/looking.md). Where such doubts are many, the trainer has `sample_rate: 0.3` and "
            "`interclass_filtering_threshold: 0.4` for it."
        )


def _near_copies(facts: Mapping[str, Any]) -> Iterator[str]:
    if count := facts.get("near_copies", 0):
        yield (
            f"{count:,} pictures lie nearly the same under two identities, saved again or scaled: look at them (the "
            "page of conflicts, in Airflow), since one of the labels may be wrong."
        )


def _median(counts: Mapping[int, int]) -> int:
    half, seen = sum(counts.values()) / 2, 0
    for images in sorted(counts):
        seen += counts[images]
        if seen >= half:
            return images
    return 0
