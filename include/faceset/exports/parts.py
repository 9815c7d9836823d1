"""Exports that arrive in parts: which parts there are, which are known, and the manifests that a release is built from.

A part's manifest stays in ``<output>.releases/parts/`` once it was scanned, so a release is built from
all parts known so far, and a part that is scanned again replaces only its own rows.
"""

import hashlib
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from include.faceset import people
from include.faceset.declared.export import PARTITION, Export
from include.faceset.errors import Final
from include.faceset.ground import files, sharded, tables
from include.faceset.ledger import LEDGER, MANIFEST, SCANNED
from include.faceset.run import decided
from include.faceset.run.attempt import Attempt
from include.faceset.run.run import Run

NOTED_FILE = "scanned.json"
_FILE = re.compile(r"partition=(?P<partition>.+)\.parquet")


class PartsError(Final):
    """The known parts do not fit the dataset file, or an export was not scanned."""


def to_scan(run: Run, export: Export) -> list[str]:
    """The parts of an export that this run scans: those it names, or all that are there."""
    come = find_parts(run, export)
    return come if run.partitions is None else sorted(set(run.partitions) & set(come))


def find_parts(run: Run, export: Export) -> list[str]:
    """The parts that have come, in order.

    Raises:
        OSError: the folder that the parts lie in is missing or cannot be read.
    """
    first, _, rest = export.part(PARTITION).partition("/")
    before, after = first.split(PARTITION)
    found = []
    for name in _folders(run, export):
        partition = name[len(before) : len(name) - len(after)]
        named = name == f"{before}{partition}{after}" and run.dataset.is_partition(partition)
        if named and (not rest or _is_there(run, export, partition)):
            found.append(partition)
    return sorted(found)


def _folders(run: Run, export: Export) -> list[str]:
    """Names of what lies where the parts begin."""
    if export.in_s3:
        return run.sources[export.name].folders("")
    with os.scandir(run.folder(export)) as entries:
        return [entry.name for entry in entries]


def _is_there(run: Run, export: Export, partition: str) -> bool:
    if export.in_s3:
        return run.sources[export.name].holds(f"{export.part(partition)}/")
    return os.path.lexists(run.folder(export) / export.part(partition))


def known_manifests(run: Run, export: Export) -> dict[str, Path]:
    """Manifest of each part of an export that was ever scanned, this run's scans over earlier ones; in order."""
    manifests = {}
    for folder in (run.parts(export.name), run.manifest(export.name).with_suffix("")):
        for path in sorted(folder.iterdir()) if folder.is_dir() else ():
            if named := _FILE.fullmatch(path.name):
                manifests[named["partition"]] = path
    return dict(sorted(manifests.items()))


def manifests(run: Run) -> Iterator[tuple[Export, Path]]:
    """All manifests that the release is built from.

    Raises:
        PartsError: an export was not scanned.
    """
    for export in run.dataset.exports:
        if export.dated:
            yield from ((export, path) for path in known_manifests(run, export).values())
            continue
        path = run.manifest(export.name)
        if not path.exists():
            raise PartsError(
                f"export {export.name}: {path} is missing: scan has not run in this run (was it marked as success?), "
                "or a later run has cleared it. Clear this run from `scan` on, or trigger again"
            )
        yield export, path


def read_images(run: Run, shard: int) -> pa.Table:
    """Rows (schema MANIFEST) of one shard, from all manifests; whoever was decided to be another is that one.

    Raises:
        PartsError: a part was scanned under another declaration of its export.
    """
    merged = decided.of(run).merged
    found = [tables.without(_images(run, shard), "identity", pa.array(merged, pa.string()))]
    sources: dict[int, list[str]] = {}
    for name, identity in merged.items():
        if sharded.shard_of(identity, run.params.shards) == shard:
            sources.setdefault(sharded.shard_of(name, run.params.shards), []).append(name)
    for source, named in sources.items():
        rows = tables.only(_images(run, source), "identity", pa.array(named, pa.string()))
        now = pa.array([merged[name] for name in rows["identity"].to_pylist()], pa.string())
        found.append(
            tables.filled({**_columns(rows), "identity": now, "scanned_as": rows["identity"]}, MANIFEST, len(now))
        )
    return pa.concat_tables(found)


def _images(run: Run, shard: int) -> pa.Table:
    """Rows (schema MANIFEST) of one shard as the scans wrote them, without people to erase."""
    return people.separate(people.to_erase(run), _union(run, shard))[1].select(MANIFEST.names)


def _columns(rows: pa.Table) -> dict[str, pa.ChunkedArray]:
    return dict(zip(rows.column_names, rows.columns, strict=True))


def read_rejected(run: Run) -> pa.Table:
    """Ledger rows (schema LEDGER) of the files that the scans settled, and of those of people to erase."""
    listed = people.to_erase(run)
    found = people.blanked(listed, _union(run, sharded.NO_SHARD))
    if listed:  # of whom a part may tell that was scanned before they were listed
        of_people = (people.separate(listed, _union(run, shard))[0] for shard in range(run.params.shards))
        found = pa.concat_tables([found, *map(people.blank, of_people)])
    return tables.conformed(found, LEDGER)


def count_files(run: Run) -> dict[str, int]:
    """Number of files that the scans met, by export."""
    found = dict.fromkeys((export.name for export in run.dataset.exports), 0)
    for export, path in manifests(run):
        found[export.name] += sharded.note(path)["files"]
    return found


def digest_parts(run: Run) -> dict[str, dict[str, str]]:
    """Digest of the manifest of each known part, by export and partition: what tells one state from another."""
    return {
        export.name: {name: _digest(path) for name, path in parts.items()}
        for export in run.dataset.exports
        if export.dated and (parts := known_manifests(run, export))
    }


def note_scanned(attempt: Attempt) -> None:
    """Keep in mind which manifests this run goes by, before it reads them."""
    files.write_text(attempt.run.work / NOTED_FILE, json.dumps(_digests(attempt.run)), within=attempt.folder)


def check_noted(run: Run) -> None:
    """Check that the manifests are still those that the run goes by.

    Raises:
        PartsError: an export was scanned again since, or nothing was filtered.
    """
    try:
        noted = json.loads((run.work / NOTED_FILE).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise PartsError(
            f"{run.work / NOTED_FILE} is missing: clear the run's tasks from `filter_manifest` on"
        ) from None
    if changed := [path for path, digest in _digests(run).items() if noted.get(path) != digest]:
        raise PartsError(
            f"{changed[0]} was written again since it was filtered; clear the run's tasks from `filter_manifest` on"
        )


def _digests(run: Run) -> dict[str, str]:
    return {str(path): _digest(path) for _, path in manifests(run)}


def declaration(export: Export) -> dict[str, Any]:
    """What of an export's declaration the rows of a manifest depend on."""
    return export.model_dump(exclude={"name", "aws_conn_id", "required"})


def _union(run: Run, shard: int) -> pa.Table:
    found = [SCANNED.empty_table()]
    for export, path in manifests(run):
        if sharded.note(path)["declared"] != declaration(export):
            raise PartsError(
                f"export {export.name}: {path.stem.replace('=', ' ')} was scanned when the dataset file declared the "
                "export otherwise; trigger a run without a partition, which scans all parts again (a part that is gone "
                f"from the disk is forgotten when you remove {path})"
            )
        found.append(tables.conformed(sharded.read(path, shard, run.params.shards), SCANNED))
    return pa.concat_tables(found)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]
