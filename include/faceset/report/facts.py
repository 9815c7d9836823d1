"""What a summary tells: of a run, and of a dry run. As JSON they are ``summary.json``, as text ``SUMMARY.md``."""

from dataclasses import dataclass
from typing import Any

from include.faceset.report.took import Step
from include.faceset.report.what_if import WhatIf
from include.faceset.training.schedule import TrainingPlan


@dataclass(frozen=True)
class Told:
    """What both tell.

    `before` is the id of the release that is compared with, and `changes` what differs from it (None: there is none);
    `parts` is told of each export that arrives in parts, `unmet` of each list of people to erase some of whose lines
    match nobody. `training_refusals` are why a training would be for nothing, `training_mismatch` why its learning rate
    counts other steps than are made.
    """

    dataset: str
    identities: int
    images: int
    before: str | None
    changes: dict[str, Any] | None
    parts: list[dict[str, Any]]
    training: TrainingPlan
    training_refusals: list[str]
    training_mismatch: str | None
    unmet: list[dict[str, Any]]
    durations_s: dict[str, float]
    steps: list[Step]


@dataclass(frozen=True)
class Facts(Told):
    """What a run made of its exports.

    `bytes` is the size of all images; `labels` how many class numbers were given so far, `vacant_labels` how many of
    them are nobody's in this release. `exports` has counts by export, `rejected` by reason, `formats` and `colours` of
    the kept images. `sync` is what the sync did (None: it was skipped), `erased` what a receipt says (None: nobody
    was), `records` what was packed (None: nothing), `pairs_file` what the pairs to verify by are called (None: there
    are none). `identities_by_images` counts identities by their number of images, also those left out for too few,
    `lacking_one` those that lack one, `explanation` says in sentences what accounts for the counts. `decisions` are
    those that the run went by, which name nobody, and `merged_files` how many files are another identity's by them;
    `pictures` says how many images would be left out for how they look, by check and
    threshold, `near_copies` how many groups of images of several identities look alike.
    """

    release_id: str
    run_id: str
    bytes: int
    labels: int
    vacant_labels: int
    avg_images_per_identity: float
    scanned_files: int
    kept_files: int
    exports: list[dict[str, Any]]
    rejected: dict[str, int]
    rolled_back: bool
    images_per_identity: dict[str, Any]
    formats: dict[str, int]
    colours: dict[str, int]
    image_size: list[int]
    decode: str
    min_images: int
    config: dict[str, Any]
    training_on_one_gpu: TrainingPlan
    expected: dict[str, Any] | None
    sync: dict[str, Any] | None
    erased: dict[str, Any] | None
    forms: list[str]
    pairs_file: str | None
    records: dict[str, Any] | None
    identities_by_images: dict[str, int]
    lacking_one: int
    what_if: list[WhatIf]
    explanation: list[str]
    decisions: list[dict[str, Any]]
    merged_files: int
    pictures: dict[str, list[dict[str, Any]]]
    near_copies: int


@dataclass(frozen=True)
class Foreseen(Told):
    """What a run would do, as far as names, sizes and earlier releases tell.

    `identities_in` and `images_in` were found, `to_read` images are not known yet, `too_few_images` would be left out;
    `scan_rejected` has counts by reason. `sync` and `erase_in_bucket` are None where the run would skip the upload.
    """

    identities_in: int
    images_in: int
    to_read: int
    scan_rejected: dict[str, int]
    too_few_images: int
    sync: dict[str, int] | None
    erase: dict[str, int]
    erase_in_bucket: dict[str, int] | None
    dry_run: bool = True
