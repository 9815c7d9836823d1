"""How the facts of a run, and of a dry run, are found."""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from include.faceset.erasure import look, met
from include.faceset.exports import parts
from include.faceset.ground import sharded, tables
from include.faceset.ledger import by_count, count_outcomes
from include.faceset.records import packed
from include.faceset.release import history, memory, release
from include.faceset.release.release import Release
from include.faceset.report import changes, what_if
from include.faceset.report.counts import Counted, count, histogram
from include.faceset.report.effects import effects
from include.faceset.report.facts import Facts, Foreseen
from include.faceset.report.took import Step
from include.faceset.run.run import Run
from include.faceset.run.selected import read_counts
from include.faceset.training import arcface_torch_record, schedule, verification
from include.faceset.training.counts import Counts
from include.faceset.training.trainers import wanted


def gather(
    run: Run, sealed: Release, took: list[Step], sync: Mapping[str, Any] | None, erased: Mapping[str, Any] | None
) -> Facts:
    """The facts of a release; arguments as of `summarise`. One shard of its ledger is in memory at a time."""
    folder = run.release(sealed.release_id)
    counted = count(run, folder)
    settings = run.dataset.training
    config = wanted(run)[0].values(run, Counts.of(sealed))
    planned = schedule.plan(settings, sealed.identities, sealed.images)
    before = memory.baseline(run)
    facts = Facts(
        dataset=run.dataset.name,
        release_id=sealed.release_id,
        run_id=run.run_id,
        identities=sealed.identities,
        images=sealed.images,
        bytes=sealed.size,
        avg_images_per_identity=round(sealed.images / sealed.identities, 3),
        scanned_files=sum(export["files"] for export in counted.exports),
        kept_files=sum(export["kept_images"] for export in counted.exports),
        exports=counted.exports,
        rejected=by_count(sum((Counter(export["rejected"]) for export in counted.exports), Counter())),
        parts=known_parts(run, folder if run.params.release else None),
        before=before.name if before else None,
        changes=differences(run, before, _states(run, folder), training_values(run, config)) if before else None,
        rolled_back=run.params.release is not None,
        images_per_identity=_spread(tables.read(folder / release.CLASSES_FILE, ["images"])["images"]),
        formats=counted.formats,
        colours=counted.colours,
        image_size=list(sealed.image_size),
        decode=sealed.decode,
        min_images=sealed.min_images,
        config=config,
        training=planned,
        training_refusals=list(schedule.refusals(settings, planned)),
        training_mismatch=schedule.mismatch(planned),
        training_on_one_gpu=schedule.plan(settings, sealed.identities, sealed.images, gpus=1),
        expected=run.dataset.expected.model_dump(mode="json") if run.dataset.expected else None,
        sync=dict(sync) if sync is not None else None,
        erased=dict(erased) if erased else None,
        unmet=met.unmet(run),
        forms=list(run.dataset.forms),
        pairs_file=verification.file_name(sealed.dataset) if verification.is_there(folder, sealed.dataset) else None,
        records=_records(run, folder, sealed),
        durations_s={step.task: step.seconds for step in took},
        steps=took,
        explanation=[],
        **_looked_into(run, sealed, counted),
    )
    return replace(facts, explanation=what_if.explanation(asdict(facts)))


def _looked_into(run: Run, sealed: Release, counted: Counted) -> dict[str, Any]:
    """What a person asks next: what if, who lacks an image, how the pictures look."""
    return {
        "labels": sealed.labels,
        "vacant_labels": max(0, sealed.labels - sealed.identities),
        "decisions": effects(run, run.release(sealed.release_id)),
        "identities_by_images": {str(images): count for images, count in counted.by_images.items()},
        "lacking_one": what_if.lacking_one(counted.by_images, sealed.min_images),
        "what_if": what_if.what_if(counted.by_images, run.dataset.training),
        "merged_files": counted.merged,
        "pictures": counted.pictures,
        "near_copies": counted.near_copies,
    }


def _spread(an_identity: pa.ChunkedArray) -> dict[str, Any]:
    """How many images identities have."""
    return {
        "min": pc.min(an_identity).as_py(),
        "median": pc.quantile(an_identity, 0.5)[0].as_py(),
        "max": pc.max(an_identity).as_py(),
        "histogram": histogram(an_identity),
    }


def _records(run: Run, folder: Path, sealed: Release) -> dict[str, Any] | None:
    """What was packed of a release, and its config; None if the dataset does not have that form."""
    made = packed.read(folder)
    if made is None or not arcface_torch_record.is_wanted(run, folder):
        return None
    return {
        **asdict(made),
        "bytes": sum(file.size for file in made.files.values()),
        "config": arcface_torch_record.values(run, Counts.of(sealed)),
        "config_file": arcface_torch_record.file_name(run.dataset.name),
    }


def foresee(
    run: Run,
    listing: pa.Table | None,
    took: list[Step],
    in_bucket: Mapping[str, int] | None,
    named_in_bucket: Iterable[str],
) -> Foreseen:
    """The facts of a dry run; arguments as of `summarise.dry_run`."""
    counts = read_counts(run)
    states = changes.foreseen(run)
    images = pa.concat_tables([state.images for state in states])
    identities = sum(len(state.identities) for state in states)
    values = training_values(run, wanted(run)[0].values(run, Counts("", identities, images.num_rows)))
    planned = schedule.plan(run.dataset.training, identities, images.num_rows)
    before = memory.baseline(run)
    return Foreseen(
        dataset=run.dataset.name,
        identities_in=counts.identities + counts.identities_out,
        images_in=counts.images + counts.images_out,
        identities=identities,
        images=images.num_rows,
        to_read=images["sha256"].null_count,
        before=before.name if before else None,
        changes=differences(run, before, states, values) if before else None,
        parts=known_parts(run, history.to_restore(run) if run.params.release else None),
        scan_rejected={} if run.params.release else count_outcomes(parts.read_rejected(run)),
        too_few_images=counts.images_out,
        training=planned,
        training_refusals=list(schedule.refusals(run.dataset.training, planned)),
        training_mismatch=schedule.mismatch(planned),
        sync=None if listing is None else foresee_sync(images, listing),
        erase=look.count_named(run),
        unmet=met.unmet(run, [*look.find_named(run), *named_in_bucket]),
        erase_in_bucket=dict(in_bucket) if in_bucket is not None else None,
        durations_s={step.task: step.seconds for step in took},
        steps=took,
    )


def foresee_sync(images: pa.Table, listing: pa.Table) -> dict[str, int]:
    """What a sync would do, as far as keys and sizes tell (the bytes are not read in a dry run).

    What is archived (without an ETag) is uploaded anew.
    """
    there = pc.is_in(images["key"], value_set=listing["key"].combine_chunks())
    joined = images.select(["key", "size"]).join(listing, keys="key", join_type="inner", right_suffix="_there")
    changed = pc.not_equal(joined["size"], joined["size_there"])
    if "etag" in joined.column_names:
        changed = pc.or_(changed, pc.is_null(joined["etag"]))
    stay = pc.is_in(listing["key"], value_set=images["key"].combine_chunks())
    return {
        "upload_new": images.num_rows - (pc.sum(there).as_py() or 0),
        "upload_changed": pc.sum(changed).as_py() or 0,
        "delete": listing.num_rows - (pc.sum(stay).as_py() or 0),
        "there_now": listing.num_rows,
    }


def differences(run: Run, before: Path, after: Iterable[changes.State], values: Mapping[str, Any]) -> dict[str, Any]:
    """What differs from an earlier release, as one JSON-able dict; `after` has the state of each shard."""
    try:
        facts = json.loads((before / release.SUMMARY_JSON_FILE).read_text(encoding="utf-8"))
        values_before = training_values(run, facts["config"], facts["training"])
    except FileNotFoundError:  # its run broke off before its summary
        values_before = dict(values)
    found = changes.compare_states(zip(_states(run, before), after, strict=True), values_before, values)
    return {**asdict(found), "none": found.none}


def _states(run: Run, folder: Path) -> Iterator[changes.State]:
    """What a release was made of, shard by shard."""
    for shard in range(run.params.shards):
        yield changes.of_ledger(sharded.read(folder / release.LEDGER_FILE, shard, run.params.shards))


def training_values(run: Run, config: Mapping[str, Any], plan: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """What the training goes by: the config's values, but where it writes, and the steps that follow from them."""
    if plan is None:
        plan = asdict(schedule.plan(run.dataset.training, config["num_classes"], config["num_image"]))
    values = {name: value for name, value in config.items() if name != "output"}
    return {**values, **{name: plan[name] for name in ("gpus", "steps_per_epoch", "total_steps", "warmup_steps")}}


def known_parts(run: Run, rolled_back: Path | None = None) -> list[dict[str, Any]]:
    """Of each export that arrives in parts: how many are known, and which are there but were never scanned.

    Of a release that is `rolled_back` to, the parts that it was built from.
    """
    if rolled_back is not None:
        of_release = release.read(rolled_back).parts
        return [_parts_of(name, sorted(known), scanned=0, there=[]) for name, known in of_release.items()]
    dated = [export for export in run.dataset.exports if export.dated]
    return [
        _parts_of(
            one.name,
            list(parts.known_manifests(run, one)),
            scanned=len(parts.to_scan(run, one)),
            there=parts.find_parts(run, one),
        )
        for one in dated
    ]


def _parts_of(export: str, known: list[str], *, scanned: int, there: list[str]) -> dict[str, Any]:
    return {
        "export": export,
        "known": len(known),
        "first": known[0] if known else None,
        "last": known[-1] if known else None,
        "scanned_now": scanned,
        "unscanned": [partition for partition in there if partition not in set(known)],
    }
