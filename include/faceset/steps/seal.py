"""seal: the shards' rows -> one ledger that balances, the release folder, and an output that holds exactly the release.

Where the run has no output, the manifest alone says what is to lie at the destination, and where its bytes are.
Here the one decision across shards falls: the same bytes under two identities are taken out, and
identities that this leaves with too few images go with them.
"""

import hashlib
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from include.faceset.erasure import receipt
from include.faceset.exports import parts
from include.faceset.ground import sharded, sorted_merge, tables
from include.faceset.images import held_out
from include.faceset.images.conflicts import settle
from include.faceset.ledger import LEDGER, RULES, balance, count_rows, kept
from include.faceset.output.tidy import SealError, bring_to
from include.faceset.release import history, labels, pointer, release
from include.faceset.release.classes import CLASSES, count_classes, number
from include.faceset.release.release import Release
from include.faceset.run import decided, owner, turns
from include.faceset.run.attempt import Attempt, trying
from include.faceset.run.run import Run
from include.faceset.training import verification

_MANIFEST_COLUMNS = ["identity", "key", "sha256", "size", "mtime_ns", "export", "path", "format", "colour", "etag"]
RELEASE_MANIFEST = pa.schema([LEDGER.field(name) for name in _MANIFEST_COLUMNS])


@dataclass(frozen=True)
class HandedOver:
    """What `seal` tells the tasks after it; every path is absolute.

    `manifest` and `history` (None: never published) are Parquet files for the sync, `sync_record` where it keeps what
    its uploads return, `lease` by what name it holds the bucket, `origins` where it finds the bytes of each export
    (None: in the output); `erased` how many of the deletions are of people to erase.
    """

    release_id: str
    identities: int
    images: int
    folder: str
    manifest: str
    sync_record: str
    history: str | None
    lease: str
    erased: int
    origins: dict[str, dict[str, str]] | None


def hand_over(run: Run, sealed: Release) -> HandedOver:
    """What a run that was sealed tells the tasks after it."""
    folder = run.release(sealed.release_id)
    proof = folder / release.OBJECTS_FILE  # there if this release was published before
    return HandedOver(
        release_id=sealed.release_id,
        identities=sealed.identities,
        images=sealed.images,
        folder=str(folder),
        manifest=str(folder / release.MANIFEST_FILE),
        sync_record=str(run.sync_record()),
        history=str(proof) if proof.exists() else None,
        lease=owner.token(run),
        erased=receipt.images_to_delete(run),
        origins=None if run.on_disk else _origins(run),
    )


def _origins(run: Run) -> dict[str, dict[str, str]]:
    return {
        export.name: {
            "root": export.prefix if export.in_s3 else str(run.folder(export)),
            "aws_conn_id": export.aws_conn_id or run.dataset.aws_conn_id,
        }
        for export in run.dataset.exports
    }


def seal(run: Run) -> Release:
    """Seal a run: settle, balance, tidy the output, prove it, write the release folder and ``latest.json``.

    A run that rolls back proves the output against the release that it restored, whose folder stays as it is.

    Raises:
        HoldoutError: too little is held out for the pairs that are asked for.
        LedgerError: the ledger does not balance.
        SealError: no image is left, or a file of the release is not on disk as it was written.
    """
    with trying(run, "seal") as attempt:
        turns.set_out(run)
        sealed = _seal(attempt) if run.params.release is None else _seal_again(attempt)
        turns.note_sealed(run, sealed.release_id)
        return sealed


def _seal_again(attempt: Attempt) -> Release:
    run = attempt.run
    restored = release.read(history.to_restore(run))
    if run.on_disk:
        bring_to(attempt, lambda shard: kept(_copied(run, shard)))
    pointer.close_change(attempt, restored)
    return restored


def _seal(attempt: Attempt) -> Release:
    run, building = attempt.run, attempt.new
    parts.check_noted(run)
    images = _settled(attempt, building / release.LEDGER_FILE)
    verification.check(run, building / release.LEDGER_FILE)
    if run.on_disk:
        bring_to(attempt, lambda shard: sorted_merge.read_sorted(images[shard]))
    digest = release.Digest()
    manifest = map(digest.add, sorted_merge.in_order(images, "key", RELEASE_MANIFEST.names))
    tables.write_all(manifest, RELEASE_MANIFEST, building / release.MANIFEST_FILE, within=attempt.folder)
    given = labels.find(attempt)
    counted = [
        count_classes(attempt, path, given.of_shard(shard, run.params.shards)) for shard, path in enumerate(images)
    ]
    classes = number(sorted_merge.in_order(counted, "identity"), given.count)
    tables.write_all(classes, CLASSES, building / release.CLASSES_FILE, within=attempt.folder)
    with (building / release.MANIFEST_FILE).open("rb") as written:
        manifest_sha256 = hashlib.file_digest(written, "sha256").hexdigest()
    sealed = Release(
        release_id=digest.release_id,
        dataset=run.dataset.name,
        identities=pq.read_metadata(building / release.CLASSES_FILE).num_rows,
        images=digest.images,
        size=digest.size,
        scanned=parts.count_files(run),
        manifest_sha256=manifest_sha256,
        min_images=run.params.min_images,
        decode=run.params.decode,
        image_size=run.dataset.image_size,
        sealed_at=pointer.moment(run),
        parts=parts.digest_parts(run),
        formerly=history.formerly(run, digest.release_id),
        rules=RULES,
        labels=labels.keep(attempt, given, building / release.CLASSES_FILE),
        decisions=decided.of(run).digest,
        pictures=run.dataset.pictures.rules,
    )
    release.write(sealed, building, within=attempt.folder)
    history.move_in(attempt, building, sealed.release_id)
    pointer.close_change(attempt, sealed)
    return sealed


def _settled(attempt: Attempt, path: Path) -> list[Path]:
    """Write the ledger, one shard in memory at a time, and check that it balances.

    Returns:
        For each shard a file of the kept rows (schema LEDGER), in the order of their keys.

    Raises:
        LedgerError: the ledger does not balance.
        SealError: no image is left, or a shard's rows are gone.
    """
    run = attempt.run
    shared = _shared_bytes(attempt)
    held = held_out.seen(run.dataset, (_copied(run, shard, ["outcome", "dhash"]) for shard in range(run.params.shards)))
    images = []
    in_ledger = Counter[str]()
    found = 0
    with sharded.writing(path, LEDGER, run.params.shards, within=attempt.folder) as add:
        for shard in range(run.params.shards):
            rows = settle(_copied(run, shard), shared, run.params.min_images, held)
            add(shard, rows)
            in_ledger.update(count_rows(rows))
            rows = kept(rows)
            found += rows.num_rows
            images.append(sorted_merge.write_sorted(rows, "key", attempt.folder / f"images-{shard:03d}.arrow"))
        rejected = parts.read_rejected(run)
        add(sharded.NO_SHARD, rejected)
        in_ledger.update(count_rows(rejected))
    balance(in_ledger, parts.count_files(run))
    if not found:
        raise SealError(
            f"no image is left of {in_ledger.total():,} files; nothing is published, the output is as it was copied. "
            f"The reasons are in {run.work}; is local_source right, and min_images={run.params.min_images}?"
        )
    return images


def _shared_bytes(attempt: Attempt) -> pa.Array:
    """SHA-256 of good images that are there twice; since no identity keeps bytes twice, under two identities."""
    run = attempt.run
    with _explained():
        total = sum(pq.read_metadata(run.selected(shard)).num_rows for shard in range(run.params.shards))
    hashes = (held_out.good(_copied(run, shard, ["outcome", "sha256"]))["sha256"] for shard in range(run.params.shards))
    return sorted_merge.repeated(hashes, total, attempt.folder / "hashes.parquet")


def _copied(run: Run, shard: int, columns: list[str] | None = None) -> pa.Table:
    """Ledger rows of a shard as the copying left them, with those that the filter settled."""
    with _explained():
        # What an earlier filter of this run selected may have been copied too: it does not count.
        of_copy = [run.copied(shard)] if pq.read_metadata(run.selected(shard)).num_rows else []
        return tables.read_all([run.filtered(shard), *of_copy], LEDGER, columns)


@contextmanager
def _explained() -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        raise SealError(
            f"{error.filename or error} is not in the run's work folder; clear from `filter_manifest` on"
        ) from error
