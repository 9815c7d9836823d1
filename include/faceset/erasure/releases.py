"""A release without the people to erase: its tables, its id, its config and its summary."""

import hashlib
import json
from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from include.faceset import people
from include.faceset.erasure import receipt
from include.faceset.erasure.look import Found
from include.faceset.figures import html
from include.faceset.ground import files, sharded, tables
from include.faceset.ledger import LEDGER, Outcome, by_count
from include.faceset.people import People
from include.faceset.release import classes, release
from include.faceset.release.release import Release
from include.faceset.run.run import Run
from include.faceset.training import schedule, verification
from include.faceset.training.counts import Counts
from include.faceset.training.trainers import wanted

_OF_SHARDS = {"shards", "groups"}
_WITH_IMAGES = {release.MANIFEST_FILE: "key", release.OBJECTS_FILE: "key", release.CLASSES_FILE: "identity"}
"""Files that have a row for an image or a class, and the column that tells whose."""


Hashes = Collection[bytes]


def write_blanked(
    listed: People, path: Path, target: Path, schema: pa.Schema, *, within: Path, forget: Hashes = ()
) -> None:
    """Write a sharded file anew, with blank rows for people; `forget` are SHA-256 of disputes that are over."""
    blank = [schema.empty_table()]
    said: dict[str, Any] = {name: value for name, value in sharded.note(path).items() if name not in _OF_SHARDS}
    with sharded.writing(target, schema, sharded.note(path)["shards"], said, within) as add:
        for shard, rows in sharded.groups(path):
            of_people, others = people.separate(listed, tables.conformed(rows, schema))
            blank.append(people.blank(of_people))
            add(shard, _without_disputes(others, forget) if forget else others)
        add(sharded.NO_SHARD, pa.concat_tables(blank))


def _without_disputes(rows: pa.Table, hashes: Hashes) -> pa.Table:
    """Ledger rows that forget their bytes where these were in dispute and are among `hashes`."""
    disputed = pc.equal(rows["outcome"], Outcome.IDENTITY_CONFLICT.value)
    over = pc.and_(disputed, pc.is_in(rows["sha256"], value_set=pa.array(sorted(hashes), pa.binary(32))))
    open_again = rows.filter(over)
    forgotten = open_again.set_column(
        LEDGER.get_field_index("sha256"), LEDGER.field("sha256"), pa.nulls(open_again.num_rows, pa.binary(32))
    )
    return pa.concat_tables([rows.filter(pc.invert(over)), forgotten])


def make_anew(run: Run, listed: People, folder: Path, building: Path, found: Found) -> Release:
    """Write what changes of a release, without the people, into another folder; what it is then."""
    before = release.read(folder)
    old, new = (place / release.LEDGER_FILE for place in (folder, building))
    write_blanked(listed, old, new, LEDGER, within=building, forget=found.disputed)
    anew = before
    if found.images:
        for name, key in _WITH_IMAGES.items():
            if (folder / name).exists():
                _write_others(listed, folder / name, building / name, key)
        anew = _sealed(before, building)
        release.write(anew, building, within=building)
    pairs = verification.file_name(before.dataset)
    if (folder / pairs).exists():
        verification.rewrite(folder / pairs, building / pairs, new, within=building)
    _tell(run, folder, building, anew)
    return anew


def _write_others(listed: People, path: Path, target: Path, column: str) -> None:
    """Write a Parquet file anew without the rows of people, whom the column tells; classes get their new index."""
    file = pq.ParquetFile(path)
    named = people.of_keys if column == "key" else people.of_identities
    parts = (pa.Table.from_batches([batch]) for batch in file.iter_batches())
    others: Iterable[pa.Table] = (part.filter(pc.invert(named(listed, part[column]))) for part in parts)
    if target.name == release.CLASSES_FILE:
        others = classes.index(others)
    schema = classes.CLASSES if target.name == release.CLASSES_FILE else file.schema_arrow
    tables.write_all(others, schema, target, within=target.parent)


def _sealed(before: Release, building: Path) -> Release:
    """The release that the files in a folder make, which was another before."""
    manifest, digest = building / release.MANIFEST_FILE, release.Digest()
    for batch in pq.ParquetFile(manifest).iter_batches(columns=["key", "size", "sha256"]):
        digest.add(pa.Table.from_batches([batch]))
    with manifest.open("rb") as written:
        manifest_sha256 = hashlib.file_digest(written, "sha256").hexdigest()
    return replace(
        before,
        release_id=digest.release_id,
        identities=pq.read_metadata(building / release.CLASSES_FILE).num_rows,
        images=digest.images,
        size=digest.size,
        manifest_sha256=manifest_sha256,
        formerly=[*before.formerly, before.release_id],
    )


def _tell(run: Run, folder: Path, building: Path, anew: Release) -> None:
    """Write the config and the summary of a release that was made anew, as far as it had them."""
    try:
        before = json.loads((folder / release.SUMMARY_JSON_FILE).read_text(encoding="utf-8"))
    except FileNotFoundError:  # its run broke off before
        return
    config = before["config"] | {"num_classes": anew.identities, "num_image": anew.images}
    if anew.formerly and config["output"]:
        config["output"] = config["output"].replace(anew.formerly[-1], anew.release_id)
    said = {name: config[name] for name in ("batch_size", "num_epoch", "warmup_epoch", "verbose") if name in config}
    settings = run.dataset.training.model_copy(update=said | {"gpus": before["training"]["gpus"]})
    planned = schedule.plan(settings, anew.identities, anew.images)
    config |= {"verbose": planned.verbose} if "verbose" in config else {}
    counts = Counter[str]()
    for _, rows in sharded.groups(building / release.LEDGER_FILE, ["outcome"]):
        counts.update(rows["outcome"].to_pylist())
    kept_files = counts.pop(Outcome.KEPT.value, 0)
    facts = {
        **{name: before[name] for name in ("dataset", "min_images", "decode", "image_size") if name in before},
        "release_id": anew.release_id,
        "formerly": anew.formerly,
        "identities": anew.identities,
        "images": anew.images,
        "bytes": anew.size,
        "scanned_files": kept_files + counts.total(),
        "kept_files": kept_files,
        "rejected": by_count(counts),
        "config": config,
        "training": asdict(planned),
    }
    files.write_text(building / release.SUMMARY_JSON_FILE, json.dumps(facts, indent=2) + "\n", within=building)
    files.write_text(building / release.SUMMARY_FILE, receipt.of_release(facts), within=building)
    files.write_text(building / release.REPORT_FILE, html.render(facts), within=building)
    of_classes = building if (building / release.CLASSES_FILE).exists() else folder
    # The records of a release that was made anew are yet to be packed, and their config comes with them.
    for number, trainer in enumerate(wanted(run, building)):
        if (folder / trainer.file_name(anew.dataset)).exists():
            values = config if number == 0 else trainer.values(run, Counts.of(anew))
            text = trainer.render(anew, of_classes, values)
            files.write_text(building / trainer.file_name(anew.dataset), text, within=building)
