"""summary: what happened to every file, for a person (``SUMMARY.md``) and for a program (``summary.json``)."""

import json
import logging
import re
import shlex
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from jinja2 import Environment, PackageLoader, StrictUndefined

from include.faceset import people
from include.faceset.erasure import met, rewrite
from include.faceset.errors import Final
from include.faceset.exports import parts
from include.faceset.ground import files, sharded, tables
from include.faceset.ledger import EXPLANATIONS, by_count, count_outcomes, kept
from include.faceset.ports import Bucket
from include.faceset.release import release
from include.faceset.release.release import Release
from include.faceset.report import changes
from include.faceset.run import owner
from include.faceset.run.attempt import attempt
from include.faceset.run.run import Run
from include.faceset.run.selected import read_counts
from include.faceset.steps import render
from include.faceset.training import schedule

log = logging.getLogger(__name__)


class NotProvenError(Final):
    """The bucket does not say that it holds the run's release."""


HISTOGRAM = ((1, 1), (2, 2), (3, 3), (4, 4), (5, 9), (10, 19), (20, 49), (50, None))
"""Images an identity: lowest and highest of each bar."""


@dataclass(frozen=True)
class Step:
    """Time of one task of the DAG in seconds; of a mapped one the number of its tasks, their sum and the longest."""

    task: str
    state: str
    tasks: int
    seconds: float
    longest: float


def steps(breadcrumbs: Sequence[Mapping[str, Any]], order: Sequence[str]) -> list[Step]:
    """Airflow's records of a run's ended tasks (task_id, map_index, state, duration), gathered by task, in `order`."""
    by_task: dict[str, list[Mapping[str, Any]]] = {}
    for crumb in sorted(breadcrumbs, key=lambda crumb: order.index(crumb["task_id"])):
        by_task.setdefault(crumb["task_id"], []).append(crumb)
    gathered = []
    for task, crumbs in by_task.items():
        seconds = [crumb.get("duration") or 0.0 for crumb in crumbs]
        states = sorted({str(crumb["state"]) for crumb in crumbs})
        gathered.append(Step(task, ", ".join(states), len(crumbs), round(sum(seconds), 1), round(max(seconds), 1)))
    return gathered


def summarise(
    run: Run,
    sealed: Release,
    took: list[Step],
    sync: Mapping[str, Any] | None,
    erased: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Write ``summary.json`` and ``SUMMARY.md`` into the release folder.

    Args:
        run: the run.
        sealed: its release.
        took: the time of its steps so far.
        sync: result of the sync (uploaded, skipped, deleted, bytes); None if the run skipped the upload.
        erased: what the run erased of people (`receipt.told`); None if nothing.

    Returns:
        What ``summary.json`` holds.
    """
    folder = run.release(sealed.release_id)
    with attempt(run, "summary") as mine:
        facts = gather(run, sealed, took, sync) | {"erased": dict(erased) if erased else None, "unmet": met.unmet(run)}
        files.write_text(folder / release.SUMMARY_JSON_FILE, json.dumps(facts, indent=2) + "\n", mine.folder)
        files.write_text(folder / release.SUMMARY_FILE, report(run, facts, sample_identity(run, folder)), mine.folder)
    log.info("%s", report(run, facts, sample=None))
    _warn(facts)
    return facts


def tell(
    run: Run,
    release_id: str,
    took: list[Step],
    sync: Mapping[str, Any] | None,
    erased: Mapping[str, Any] | None,
    *,
    bucket: Bucket | None,
) -> dict[str, Any]:
    """Write the summary of a run, here and beside the bucket's prefix; the few facts that Airflow shows.

    Args:
        run: the run.
        release_id: what it sealed.
        took: the time of its steps so far.
        sync: as of `summarise`.
        erased: as of `summarise`.
        bucket: where it was published; None if the run skipped the upload.

    Raises:
        NotProvenError: the bucket does not say that it holds the release.
    """
    if bucket is not None:
        check_published(release_id, bucket)
    sealed = release.read(run.release(release_id))
    summarise(run, sealed, took, sync, erased)
    if bucket is not None:
        publish_summary(run, release_id, bucket)
    return {
        "summary": str(run.release(release_id) / release.SUMMARY_FILE),
        "release_id": release_id,
        "identities": sealed.identities,
        "images": sealed.images,
    }


def foretell(run: Run, took: list[Step], bucket: Bucket | None) -> dict[str, Any]:
    """Write what a run would do, of which this is the dry run; the few facts that Airflow shows.

    Args:
        run: the run.
        took: the time of its steps so far.
        bucket: where it would publish; None if it would skip the upload.
    """
    if bucket is None:
        return {"summary": str(dry_run(run, None, took))}
    listing, found = bucket.listing(), bucket.versions_of(sorted(people.to_erase(run)))
    return {"summary": str(dry_run(run, listing, took, found.counts, found.folders))}


def publish_summary(run: Run, release_id: str, bucket: Bucket) -> None:
    """Put the config and the summary of a release beside the bucket's prefix."""
    with bucket.hold(owner.token(run)) as check:
        for name in (render.file_name(run.dataset.name), release.SUMMARY_FILE, release.SUMMARY_JSON_FILE):
            bucket.put(run.release(release_id) / name, f"{release_id}/{name}", check)


def check_published(release_id: str, bucket: Bucket) -> None:
    """Check that the bucket says that it holds a release: what a summary says of it would not be true.

    Raises:
        NotProvenError: it does not.
    """
    found = bucket.pointer().get("release_id")
    if found != release_id:
        raise NotProvenError(
            f"the latest.json of {bucket.releases_uri} names {found or 'nothing'}, so release {release_id} is not"
            " proven there: verify has not run since (was it marked as success?). Clear sync, with the tasks that"
            " follow it"
        )


def _warn(facts: Mapping[str, Any]) -> None:
    """Log what a person is to look at though the run is green."""
    for one in facts["unmet"]:
        log.warning("people to erase: nobody is matched by %s", met.in_words(one))
    if facts["training_lack"]:
        log.warning("%s", facts["training_lack"])


def gather(run: Run, sealed: Release, took: list[Step], sync: Mapping[str, Any] | None) -> dict[str, Any]:
    """The facts of a release as one JSON-able dict; one shard of its ledger is in memory at a time."""
    folder = run.release(sealed.release_id)
    counted = count(run, folder)
    an_identity = tables.read(folder / release.CLASSES_FILE, ["images"])["images"]
    settings = run.dataset.training
    config = render.values(run, sealed.identities, sealed.images)
    before = release.baseline(run)
    return {
        "dataset": run.dataset.name,
        "release_id": sealed.release_id,
        "run_id": run.run_id,
        "identities": sealed.identities,
        "images": sealed.images,
        "bytes": sealed.size,
        "avg_images_per_identity": round(sealed.images / sealed.identities, 3),
        "scanned_files": sum(export["files"] for export in counted.exports),
        "kept_files": sum(export["kept_images"] for export in counted.exports),
        "exports": counted.exports,
        "rejected": by_count(sum((Counter(export["rejected"]) for export in counted.exports), Counter())),
        "parts": _parts(run),
        "before": before.name if before else None,
        "changes": _changes(run, before, _states(run, folder), _values(run, config)) if before else None,
        "rolled_back": run.params.release is not None,
        "images_per_identity": {
            "min": pc.min(an_identity).as_py(),
            "median": pc.quantile(an_identity, 0.5)[0].as_py(),
            "max": pc.max(an_identity).as_py(),
            "histogram": histogram(an_identity),
        },
        "formats": counted.formats,
        "colours": counted.colours,
        "image_size": list(sealed.image_size),
        "decode": sealed.decode,
        "min_images": sealed.min_images,
        "config": config,
        "training": asdict(schedule.plan(settings, sealed.identities, sealed.images)),
        "training_lack": schedule.lack(schedule.plan(settings, sealed.identities, sealed.images)),
        "training_on_one_gpu": asdict(schedule.plan(settings, sealed.identities, sealed.images, gpus=1)),
        "expected": run.dataset.expected.model_dump(mode="json") if run.dataset.expected else None,
        "sync": dict(sync) if sync is not None else None,
        "durations_s": {step.task: step.seconds for step in took},
        "steps": [asdict(step) for step in took],
    }


def histogram(an_identity: pa.ChunkedArray) -> dict[str, int]:
    """Number of identities by their number of images."""
    bars = {}
    for lowest, highest in HISTOGRAM:
        label = f"{lowest}+" if highest is None else str(lowest) if lowest == highest else f"{lowest}-{highest}"
        inside = pc.greater_equal(an_identity, lowest)
        if highest is not None:
            inside = pc.and_(inside, pc.less_equal(an_identity, highest))
        bars[label] = pc.sum(inside).as_py() or 0
    return bars


def sample_identity(run: Run, folder: Path) -> dict[str, Any]:
    """The identity in the middle of a release's class list, with the names and sizes of its files."""
    identities = tables.read(folder / release.CLASSES_FILE, ["identity"])["identity"]
    identity = identities[len(identities) // 2].as_py()
    shard = sharded.shard_of(identity, run.params.shards)
    images = kept(sharded.read(folder / release.LEDGER_FILE, shard, run.params.shards))
    rows = images.filter(pc.equal(images["identity"], identity)).sort_by("key")
    return {
        "identity": identity,
        "files": [
            {"name": key.rpartition("/")[2], "bytes": size, "format": kind, "colour": colour}
            for key, size, kind, colour in zip(
                *(rows[name].to_pylist() for name in ("key", "size", "format", "colour")), strict=True
            )
        ],
    }


def report(run: Run, facts: dict[str, Any], sample: dict[str, Any] | None) -> str:
    """SUMMARY.md; without a `sample` it names no identity and may go to a log."""
    return (
        _environment()
        .get_template("SUMMARY.md.j2")
        .render(
            facts=facts,
            sample=sample,
            params=run.params,
            dataset=run.dataset,
            explanations={outcome.value: text for outcome, text in EXPLANATIONS.items()},
            config=facts["config"],
            config_file=render.file_name(run.dataset.name),
            release_folder=run.release(facts["release_id"]),
        )
    )


def dry_run(
    run: Run,
    listing: pa.Table | None,
    took: list[Step],
    in_bucket: Mapping[str, int] | None = None,
    named_in_bucket: Iterable[str] = (),
) -> Path:
    """Write what a run would do into the run's work folder, and log it.

    Args:
        run: the run.
        listing: columns key, size (bytes) and etag of the destination now; None if the run would skip the upload.
        took: the time of its steps so far.
        in_bucket: what would be erased of people in the bucket, in counts; None if the run would skip the upload.
        named_in_bucket: of the people to erase those of whom the bucket holds anything.

    Returns:
        Path of the ``SUMMARY.md``.
    """
    counts = read_counts(run)
    shards = range(run.params.shards)
    states = [changes.foreseen(run, one, release.known_files(run, one)) for one in shards]
    images = pa.concat_tables([state.images for state in states])
    identities = sum(len(state.identities) for state in states)
    values = _values(run, render.values(run, identities, images.num_rows))
    planned = schedule.plan(run.dataset.training, identities, images.num_rows)
    before = release.baseline(run)
    facts = {
        "dry_run": True,
        "dataset": run.dataset.name,
        "identities_in": counts.identities + counts.identities_out,
        "images_in": counts.images + counts.images_out,
        "identities": identities,
        "images": images.num_rows,
        "to_read": images["sha256"].null_count,
        "before": before.name if before else None,
        "changes": _changes(run, before, states, values) if before else None,
        "parts": _parts(run),
        "scan_rejected": {} if run.params.release else count_outcomes(parts.rejected(run)),
        "too_few_images": counts.images_out,
        "training": asdict(planned),
        "training_lack": schedule.lack(planned),
        "sync": None if listing is None else foresee_sync(images, listing),
        "erase": rewrite.foresee(run),
        "unmet": met.unmet(run, [*rewrite.named(run), *named_in_bucket]),
        "erase_in_bucket": dict(in_bucket) if in_bucket is not None else None,
        "durations_s": {step.task: step.seconds for step in took},
        "steps": [asdict(step) for step in took],
    }
    files.write_text(run.work / release.SUMMARY_JSON_FILE, json.dumps(facts, indent=2) + "\n")
    text = _environment().get_template("DRY_RUN.md.j2").render(facts=facts, params=run.params, dataset=run.dataset)
    path = run.work / release.SUMMARY_FILE
    files.write_text(path, text)
    log.info("%s", text)
    _warn(facts)
    return path


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


def _changes(run: Run, before: Path, after: Iterable[changes.State], values: Mapping[str, Any]) -> dict[str, Any]:
    """What differs from an earlier release, as one JSON-able dict; `after` has the state of each shard."""
    try:
        facts = json.loads((before / release.SUMMARY_JSON_FILE).read_text(encoding="utf-8"))
        values_before = _values(run, facts["config"], facts["training"])
    except FileNotFoundError:  # its run broke off before its summary
        values_before = dict(values)
    found = changes.compare(zip(_states(run, before), after, strict=True), values_before, values)
    return {**asdict(found), "none": found.none}


def _states(run: Run, folder: Path) -> Iterator[changes.State]:
    """What a release was made of, shard by shard."""
    for shard in range(run.params.shards):
        yield changes.of_ledger(sharded.read(folder / release.LEDGER_FILE, shard, run.params.shards))


def _values(run: Run, config: Mapping[str, Any], plan: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """What the training goes by: the config's values and the steps that follow from them."""
    if plan is None:
        plan = asdict(schedule.plan(run.dataset.training, config["num_classes"], config["num_image"]))
    return {**config, **{name: plan[name] for name in ("gpus", "steps_per_epoch", "total_steps", "warmup_steps")}}


def _parts(run: Run) -> list[dict[str, Any]]:
    """Of each export that arrives in parts: how many are known, and which are there but were never scanned."""
    found = []
    for export in run.dataset.exports:
        if export.dated:
            known = list(parts.known(run, export))
            there = [] if run.params.release else parts.there(run, export)
            scanned = [] if run.params.release else parts.to_scan(run, export)
            found.append(
                {
                    "export": export.name,
                    "known": len(known),
                    "first": known[0] if known else None,
                    "last": known[-1] if known else None,
                    "scanned_now": len(scanned),
                    "unscanned": [partition for partition in there if partition not in set(known)],
                }
            )
    return found


@dataclass(frozen=True)
class Counted:
    """What a release's ledger holds: counts of each export, and of formats and colours of all kept images."""

    exports: list[dict[str, Any]]
    formats: dict[str, int]
    colours: dict[str, int]


def count(run: Run, folder: Path) -> Counted:
    """Count a release's ledger; an identity lies in one shard, so that shards add up."""
    totals = {export.name: Counter[str]() for export in run.dataset.exports}
    rejected = {export.name: Counter[str]() for export in run.dataset.exports}
    formats, colours = Counter[str](), Counter[str]()
    for shard in (*range(run.params.shards), sharded.NO_SHARD):
        ledger = sharded.read(folder / release.LEDGER_FILE, shard, run.params.shards)
        images = kept(ledger)
        formats.update(_counts(images["format"]))
        colours.update(_counts(images["colour"]))
        for name, total in totals.items():
            rows, rows_kept = (table.filter(pc.equal(table["export"], name)) for table in (ledger, images))
            rejected[name].update(count_outcomes(rows))
            total["files"] += rows.num_rows
            total["identities"] += pc.count_distinct(rows["identity"]).as_py()
            total["kept_images"] += rows_kept.num_rows
            total["kept_identities"] += pc.count_distinct(rows_kept["identity"]).as_py()
    exports = [
        {"name": one.name, "layout": one.layout, **totals[one.name], "rejected": by_count(rejected[one.name])}
        for one in run.dataset.exports
    ]
    return Counted(exports, by_count(formats), by_count(colours))


def _counts(column: pa.ChunkedArray) -> dict[str, int]:
    return {pair["values"] or "not looked at": pair["counts"] for pair in pc.value_counts(column).to_pylist()}


def _environment() -> Environment:
    # Markdown read as text: HTML escapes would show. Names, the one foreign thing in it, stand in code spans.
    environment = Environment(  # noqa: S701
        loader=PackageLoader("include.faceset.report"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {
        "thousands": lambda number: f"{number:,}",
        "percent": lambda part, whole: f"{100 * part / whole:.1f} %" if whole else "-",
        "megabytes": lambda size: f"{size / 1e6:,.1f} MB",
        "code": code_span,
        "lines": met.in_words,
        "quote": shlex.quote,
    }
    return environment


def code_span(name: str) -> str:
    """A name as a Markdown code span that nothing in it can end."""
    longest = max((len(ticks) for ticks in re.findall("`+", name)), default=0)
    fence = "`" * (longest + 1)
    return f"{fence} {name} {fence}" if longest else f"`{name}`"
