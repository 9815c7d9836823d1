"""erase: whoever is on the list of people to erase goes out of all that lies in ``<output>.releases``.

It runs before `filter_manifest` reads anything, so that every step after it works as if the person had never been
there: the output loses their images as it loses all that no export holds, and a release that comes back comes back
without them. It runs again once the bucket is proven, and finds nothing, or what the steps between left.

What happens to each thing (run.py has the layout):

- **a release** is made anew without them. An id is a digest of keys and bytes and may never name others, so where
  images go the release gets its true new id and folder, and keeps the old one in `formerly`, by which it can still be
  asked for. Where no image of theirs was kept, only the ledger changes, in its place.
- **its ledger** has a blank row in the place of each of theirs (`suppressed`, export and part, nothing else), so it
  balances as before. Who was in dispute with them over the same bytes is no longer known: looked at anew next time.
- **the manifest of a part** has blank rows too; **the record of a sync** loses their keys.
- **work** of other runs goes. **What was set aside** goes where no release holds it any more.

Each thing is replaced by one rename and says until then that it is to be done: killed, run again, it finishes.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from include.faceset import people
from include.faceset.erasure import met, receipt
from include.faceset.errors import Final
from include.faceset.ground import files, sharded, tables
from include.faceset.ledger import LEDGER, SCANNED, Outcome, by_count, kept
from include.faceset.output import set_aside
from include.faceset.people import People
from include.faceset.release import release
from include.faceset.release.release import Release
from include.faceset.run import turns
from include.faceset.run.attempt import Attempt, attempt
from include.faceset.run.run import Run
from include.faceset.steps import render, seal
from include.faceset.training import schedule

LIST_FILE = "people.json"
_NAMING = ["identity", "export", "path"]
_OF_PEOPLE = [*_NAMING, "outcome", "sha256"]
_OF_SHARDS = {"shards", "groups"}
_WITH_IMAGES = {release.MANIFEST_FILE: "key", release.OBJECTS_FILE: "key", release.CLASSES_FILE: "identity"}
"""Files that have a row for an image or a class, and the column that tells whose."""
Hashes = Collection[bytes]


class EraseError(Final):
    """Nobody may be erased as things are."""


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


def begin(mine: Attempt) -> People:
    """Erase, and keep in mind by which list: `finish` goes by the same one. Returns the people."""
    listed = people.to_erase(mine.run)
    met.remember(mine.run, listed, within=mine.folder)
    erase(mine, listed)
    said = json.dumps(receipt.digest(mine.run, listed))
    files.write_text(mine.run.work / LIST_FILE, said, within=mine.folder)
    return listed


def has_begun(run: Run) -> bool:
    """Whether `begin` has run in this run, or nobody is to be erased."""
    return (run.work / LIST_FILE).exists() or not people.to_erase(run)


def finish(run: Run) -> People:
    """Erase what the steps since `begin` left; the people.

    Raises:
        EraseError: the list is no longer the one that the run began with.
    """
    listed = people.to_erase(run)
    if not _is_as_begun(run, listed):
        msg = (
            "the list of people to erase was changed while this run was at work, and its release goes by the list as "
            "it was; trigger a new run, which goes by the list as it is"
        )
        raise EraseError(msg)
    with attempt(run, "erase") as mine:
        erase(mine, listed)
    return listed


def _is_as_begun(run: Run, listed: People) -> bool:
    """Whether the list is the one that the run began with or, where a later run cleared that, names nobody any more."""
    try:
        said = (run.work / LIST_FILE).read_text(encoding="utf-8")
    except FileNotFoundError:
        return not is_needed(run)
    return bool(json.loads(said) == receipt.digest(run, listed))


def erase(mine: Attempt, listed: People) -> None:
    """Erase people from all that lies beside the output; what is found of them is noted for the receipt."""
    if not listed:
        return
    run = mine.run
    turns.set_out(run)
    _clear_work(mine, listed)
    for path in _manifests(run):
        _erase_manifest(mine, listed, path)
    for path in _records(run):
        _erase_record(mine, listed, path)
    for folder in release.broken(run):
        mine.discard(folder)
    for folder in release.folders(run):
        _erase_release(mine, listed, folder)
    if unused := set_aside.unused(run):
        receipt.note(mine, "set aside", images=len(unused))
        set_aside.forget_unused(mine)


def in_bucket(
    run: Run, listed: People, ids: Iterable[str], fetch: Callable[[Path], None]
) -> Iterator[tuple[str, Path | None]]:
    """Of each release that the bucket holds: its id there, and a folder named by its true id with what it is now.

    No folder where nothing is left of it. What is kept here is right already; what is not (another machine made it, or
    the folder was lost) is made anew from a copy.

    Args:
        run: the run, after `finish`.
        listed: the people.
        ids: what the bucket holds.
        fetch: puts the files of a release, whose id is a folder's name, into that folder.
    """
    copies = run.work / "bucket"
    for release_id in ids:
        folder = release.kept_as(run, release_id)
        files.remove_tree(copies)
        try:
            if folder is None:
                copy = copies / release_id
                files.make_folder(copy)
                fetch(copy)
                folder = _copy_anew(run, listed, copy)
            yield release_id, folder
        finally:
            files.remove_tree(copies)


def _copy_anew(run: Run, listed: People, copy: Path) -> Path | None:
    """A copy of a release without the people: itself if it names none, nothing if nothing is left of it."""
    if not (copy / release.RELEASE_FILE).exists() or not (copy / release.LEDGER_FILE).exists():
        return None  # what a broken upload left, or a prune: nobody can use it
    found = look(listed, copy / release.LEDGER_FILE)
    if not found.rows:
        return copy
    met.remember(run, listed, found.names)
    receipt.note_bucket(run, {"rows": found.rows, "images": found.images}, f"release {copy.name}")
    building = copy.with_name("building")
    files.make_folder(building)
    anew = _make_anew(run, listed, copy, building, found)
    if not found.images:
        for path in building.iterdir():
            path.replace(copy / path.name)
        return copy
    return building.rename(copy.with_name(anew.release_id)) if anew.images else None


def published_files(run: Run) -> list[str]:
    """Names of the files that a release may have in the bucket."""
    return [
        *release.SEALED_FILES,
        render.file_name(run.dataset.name),
        release.SUMMARY_FILE,
        release.SUMMARY_JSON_FILE,
    ]


def is_needed(run: Run) -> bool:
    """Whether anything beside the output names somebody on the list."""
    return any(count for what, count in foresee(run).items() if what != "listed")


def foresee(run: Run) -> dict[str, int]:
    """Counts of what a run would erase; nothing is changed.

    `listed` people; of the last release `people`, `images` and those `disputed`; over all of them `releases` and their
    `rows`; and `parts`.
    """
    listed = people.to_erase(run)
    counts = dict.fromkeys(("people", "images", "disputed", "releases", "rows", "parts"), 0) | {"listed": len(listed)}
    if not listed:
        return counts
    last = release.last(run)
    for folder in release.folders(run):
        found = look(listed, folder / release.LEDGER_FILE)
        counts["releases"] += found.rows > 0
        counts["rows"] += found.rows
        if folder == last:
            counts |= {"people": found.people, "images": found.images, "disputed": len(found.disputed)}
    counts["parts"] = sum(_rows(listed, path)[0] > 0 for path in _manifests(run, parts_only=True))
    return counts


def named(run: Run) -> People:
    """Whom of the people on the list a kept release or a known part names; nothing is changed."""
    listed = people.to_erase(run)
    in_releases = (look(listed, folder / release.LEDGER_FILE).names for folder in release.folders(run))
    in_parts = (_rows(listed, path)[1] for path in _manifests(run, parts_only=True))
    return frozenset[str]().union(*in_releases, *in_parts) if listed else listed


def look(listed: People, ledger: Path) -> Found:
    """What a ledger says of people; one shard of it is in memory at a time."""
    rows = images = 0
    identities: set[str] = set()
    names: set[str] = set()
    disputed: set[bytes] = set()
    for _, group in sharded.groups(ledger, _OF_PEOPLE):
        of_people = people.split(listed, group)[0]
        rows += of_people.num_rows
        images += kept(of_people).num_rows
        identities.update(pc.unique(of_people["identity"].drop_null()).to_pylist())
        names |= people.named_by(listed, of_people)
        in_dispute = pc.equal(of_people["outcome"], Outcome.IDENTITY_CONFLICT.value)
        disputed.update(of_people.filter(in_dispute)["sha256"].drop_null().to_pylist())
    return Found(rows, images, len(identities), frozenset(disputed), frozenset(names))


def _manifests(run: Run, *, parts_only: bool = False) -> list[Path]:
    known = sorted(run.releases.glob("parts/*/*.parquet"))
    return known if parts_only else [*known, *sorted(run.work.glob("manifest/**/*.parquet"))]


def _records(run: Run) -> list[Path]:
    return sorted((run.releases / ".sync").glob("*.parquet"))


def _clear_work(mine: Attempt, listed: People) -> None:
    """Remove the work of other runs, what killed writers left, and of this run what an earlier try copied of people."""
    run = mine.run
    release.clear_leftovers(mine)
    for path in (run.releases / ".sync").glob(".*"):
        mine.discard(path)
    for path in run.work.glob("*/shard=*.parquet"):  # written anew: all that this try needs
        if people.split(listed, tables.read(path, _NAMING))[0].num_rows:
            mine.discard(path)


def _rows(listed: People, manifest: Path) -> tuple[int, People]:
    """How many rows of a manifest name people, and whom."""
    count, names = 0, set[str]()
    for _, rows in sharded.groups(manifest, _NAMING):
        of_people = people.split(listed, rows)[0]
        count += of_people.num_rows
        names |= people.named_by(listed, of_people)
    return count, frozenset(names)


def _erase_manifest(mine: Attempt, listed: People, path: Path) -> None:
    found, names = _rows(listed, path)
    if not found:
        return
    met.remember(mine.run, listed, names, within=mine.folder)
    receipt.note(mine, str(path.relative_to(mine.run.releases)), rows=found)
    _write_blanked(listed, path, path, SCANNED, within=mine.folder)


def _write_blanked(
    listed: People, path: Path, target: Path, schema: pa.Schema, *, within: Path, forget: Hashes = ()
) -> None:
    """Write a sharded file anew, with blank rows for people; `forget` are SHA-256 of disputes that are over."""
    blank = [schema.empty_table()]
    said: dict[str, Any] = {name: value for name, value in sharded.note(path).items() if name not in _OF_SHARDS}
    with sharded.writing(target, schema, sharded.note(path)["shards"], said, within) as add:
        for shard, rows in sharded.groups(path):
            of_people, others = people.split(listed, tables.conformed(rows, schema))
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


def _erase_record(mine: Attempt, listed: People, path: Path) -> None:
    record = tables.read(path)
    of_people = people.of_keys(listed, record["key"])
    if found := pc.sum(of_people).as_py():
        receipt.note(mine, str(path.relative_to(mine.run.releases)), rows=found)
        tables.write(record.filter(pc.invert(of_people)), path, within=mine.folder)


def _erase_release(mine: Attempt, listed: People, folder: Path) -> None:
    run = mine.run
    found = look(listed, folder / release.LEDGER_FILE)
    if not found.rows:
        return
    met.remember(run, listed, found.names, within=mine.folder)
    in_place = folder == release.last(run)
    building = mine.new / folder.name
    building.mkdir(mode=files.FOLDER_MODE)
    anew = _make_anew(run, listed, folder, building, found)
    counts = {"rows": found.rows, "images": found.images, "people": found.people, "disputed": len(found.disputed)}
    receipt.note(mine, f"release {folder.name}", now=anew.release_id if anew.images else None, **counts)
    if in_place:
        receipt.note(mine, "output", images=found.images)
    if not found.images:
        # Its ledger tells whether there is anything left to do, so it comes last.
        for path in sorted(building.iterdir(), key=lambda path: path.name == release.LEDGER_FILE):
            path.replace(folder / path.name)
        files.sync_folder(folder)
        return
    target = run.release(anew.release_id)
    if anew.images and (target / release.RELEASE_FILE).exists():
        same = release.read(target)
        known = dict.fromkeys([*same.formerly, *anew.formerly])
        release.write(replace(same, formerly=list(known)), target, within=mine.folder)
    elif anew.images:
        mine.discard(target)
        building.rename(target)
        files.sync_folder(target.parent)
    if in_place and anew.images:
        release.move_on(mine, anew)
    elif in_place:
        release.open_for_change(mine)
    mine.discard(folder)


def _make_anew(run: Run, listed: People, folder: Path, building: Path, found: Found) -> Release:
    """Write what changes of a release, without the people, into another folder; what it is then."""
    before = release.read(folder)
    old, new = (place / release.LEDGER_FILE for place in (folder, building))
    _write_blanked(listed, old, new, LEDGER, within=building, forget=found.disputed)
    anew = before
    if found.images:
        for name, key in _WITH_IMAGES.items():
            if (folder / name).exists():
                _write_others(listed, folder / name, building / name, key)
        anew = _sealed(before, building)
        release.write(anew, building, within=building)
    _tell(run, folder, building, anew)
    return anew


def _write_others(listed: People, path: Path, target: Path, column: str) -> None:
    """Write a Parquet file anew without the rows of people, whom the column tells; classes get their new index."""
    file = pq.ParquetFile(path)
    named = people.of_keys if column == "key" else people.of_identities
    parts = (pa.Table.from_batches([batch]) for batch in file.iter_batches())
    others: Iterable[pa.Table] = (part.filter(pc.invert(named(listed, part[column]))) for part in parts)
    if target.name == release.CLASSES_FILE:
        others = seal.class_index(others)
    tables.write_all(others, file.schema_arrow, target, within=target.parent)


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
    settings = run.dataset.training.model_copy(
        update={name: config[name] for name in ("batch_size", "num_epoch", "warmup_epoch")}
        | {"gpus": before["training"]["gpus"]}
    )
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
        "training": asdict(schedule.plan(settings, anew.identities, anew.images)),
    }
    files.write_text(building / release.SUMMARY_JSON_FILE, json.dumps(facts, indent=2) + "\n", within=building)
    files.write_text(building / release.SUMMARY_FILE, receipt.of_release(facts), within=building)
    name = render.file_name(anew.dataset)
    if (folder / name).exists():
        files.write_text(building / name, render.render(anew.dataset, anew.release_id, config), within=building)
