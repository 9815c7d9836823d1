"""What a run need not look at again: identities whose files are exactly those that the last release knew.

What the bytes of a file are is known as long as export, path, size and mtime are the same. What becomes of
an identity follows from its files alone, but for one thing: bytes that lie under two identities. So a
*dispute* is taken over only if every identity in it is unchanged.
"""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from include.faceset.exports.on_disk import open_folder
from include.faceset.ground import tables, times
from include.faceset.images import held_out
from include.faceset.ledger import LEDGER, Outcome, kept
from include.faceset.names import as_text
from include.faceset.run.attempt import Attempt
from include.faceset.run.run import Run

FILE = ["identity", "export", "path", "size", "mtime_ns", "etag"]
"""What tells that a file is the one that was read."""
DISPUTES = pa.schema([("sha256", pa.binary(32))])
PRESENT = pa.schema(
    [
        ("identity", pa.string()),
        ("key", pa.string()),
        ("size", pa.int64()),
        ("mtime_ns", pa.int64()),
        ("links", pa.int64()),
    ]
)


def with_known(selected: pa.Table, known: pa.Table) -> pa.Table:
    """Selected rows (schema MANIFEST) with what `known` (schema LEDGER) says of the same files: LEDGER, sorted.

    A file on a disk is the same only if its time of modification is exact (`times.are_exact`).
    """
    known = known.filter(pc.or_(pc.is_valid(known["etag"]), times.are_exact(known["mtime_ns"])))
    # A join finds no null equal to another, and files on a disk have no ETag.
    selected, known = (_with_etag(rows, pc.fill_null(rows["etag"], "")) for rows in (selected, known))
    joined = selected.join(known.drop_columns(["partition", "scanned_as"]), keys=FILE, join_type="left outer")
    joined = _with_etag(joined, pc.if_else(pc.equal(joined["etag"], ""), None, joined["etag"]))
    order = [("identity", "ascending"), ("export", "ascending"), ("path", "ascending")]
    return joined.select(LEDGER.names).cast(LEDGER).sort_by(order)


def _with_etag(rows: pa.Table, etag: pa.ChunkedArray) -> pa.Table:
    return rows.set_column(rows.schema.get_field_index("etag"), "etag", etag)


def identities(rows: pa.Table, known: pa.Table) -> pa.Array:
    """Identities all of whose `rows` (of `with_known`) are known, and of whose `known` rows none is gone."""
    now = rows.group_by("identity").aggregate([([], "count_all"), ("sha256", "count")])
    before = known.group_by("identity").aggregate([([], "count_all")])
    joined = now.join(before, keys="identity", join_type="inner", right_suffix="_before")
    as_before = pc.and_(
        pc.equal(joined["count_all"], joined["sha256_count"]), pc.equal(joined["count_all"], joined["count_all_before"])
    )
    return joined["identity"].filter(as_before).combine_chunks()


def disputes(selected: pa.Table, known: pa.Table) -> Iterator[tuple[bytes, bool]]:
    """SHA-256 of each image of a shard that was in dispute, and whether its identity is unchanged."""
    disputed = known.filter(pc.equal(known["outcome"], Outcome.IDENTITY_CONFLICT.value))
    if disputed.num_rows == 0:
        return
    concerned = pc.unique(disputed["identity"])
    selected, known = (tables.only(rows, "identity", concerned) for rows in (selected, known))
    same = pc.is_in(disputed["identity"], value_set=identities(with_known(selected, known), known))
    yield from zip(disputed["sha256"].to_pylist(), same.to_pylist(), strict=True)


def write_disputes(attempt: Attempt, hashes: list[bytes]) -> None:
    """Keep which disputes are taken over, for the copy tasks."""
    tables.write(
        pa.table([pa.array(hashes, pa.binary(32))], schema=DISPUTES), attempt.run.disputes, within=attempt.folder
    )


def take_over(run: Run, rows: pa.Table, known: pa.Table) -> pa.Table:
    """Return the ledger rows of the identities of a shard that need no work at all.

    Their files are unchanged, their disputes are taken over, and the output, if any, holds what it should. Images in
    dispute, and those that a dispute left too few, come back as good ones, without a key: as `seal` found them.

    Args:
        run: the run; its `min_images` is that of the last release.
        rows: of `with_known`.
        known: rows of the last release (schema LEDGER) with known bytes.
    """
    rows = tables.only(rows, "identity", identities(rows, known))
    # Which picture of whom they were near to is not known any more.
    near_held = rows.filter(pc.equal(rows["outcome"], Outcome.NEAR_HELD_OUT.value))["identity"]
    rows = tables.without(rows, "identity", near_held)
    disputed = pc.equal(rows["outcome"], Outcome.IDENTITY_CONFLICT.value)
    taken_over = tables.read(run.disputes)["sha256"].combine_chunks()
    open_again = rows.filter(pc.and_not(disputed, pc.is_in(rows["sha256"], value_set=taken_over)))["identity"]
    rows = tables.without(rows, "identity", open_again)
    ruled_anew = rows.filter(pc.invert(held_out.as_ruled(run.dataset, rows)))["identity"]
    rows = tables.without(rows, "identity", ruled_anew)
    if run.on_disk:
        rows = tables.only(rows, "identity", _in_place(run, rows))

    disputed = pc.equal(rows["outcome"], Outcome.IDENTITY_CONFLICT.value)
    in_dispute = pc.is_in(rows["identity"], value_set=rows.filter(disputed)["identity"].combine_chunks())
    left_too_few = pc.and_(in_dispute, pc.equal(rows["outcome"], Outcome.TOO_FEW_IMAGES.value))
    good = pc.if_else(held_out.of_rows(run.dataset, rows), Outcome.HELD_OUT.value, Outcome.KEPT.value)
    outcome = pc.if_else(pc.or_(disputed, left_too_few), good, rows["outcome"])
    return rows.set_column(LEDGER.get_field_index("outcome"), LEDGER.field("outcome"), outcome)


def _in_place(run: Run, rows: pa.Table) -> pa.Array:
    """Identities of which the output holds exactly the files that are kept, as they were put there."""
    names = pc.unique(rows["identity"])
    present = present_files(run.output, names.to_pylist())
    if run.params.link_mode != "hardlink":
        present = present.filter(pc.equal(present["links"], 1))
    wanted = kept(rows).select(["identity", "key", "size", "staged_mtime_ns"])
    as_put = ["key", "size", "staged_mtime_ns"]
    found = wanted.join(present.drop_columns("identity"), keys=as_put, right_keys=["key", "size", "mtime_ns"])
    missing = found.filter(pc.is_null(found["links"]))["identity"]
    stray = tables.without(present, "key", wanted["key"])["identity"]
    wrong = pa.chunked_array([*missing.chunks, *stray.chunks], pa.string()).combine_chunks()
    return names.filter(pc.invert(pc.is_in(names, value_set=wrong)))


def present_files(output: Path, names: list[str]) -> pa.Table:
    """What lies in the folders of identities (schema PRESENT); whatever is no plain file has the size -1."""
    found: list[tuple[str, str, int, int, int]] = []
    top = str(output)
    for name in names:
        try:
            with open_folder(f"{top}/{name}") as folder, os.scandir(folder) as entries:
                for entry in entries:
                    status = entry.stat(follow_symlinks=False)
                    size = status.st_size if stat.S_ISREG(status.st_mode) else -1
                    found.append((name, f"{name}/{as_text(entry.name)}", size, times.mtime_ns(status), status.st_nlink))
        except FileNotFoundError:
            continue
        except NotADirectoryError:  # also where a link lies in the folder's place
            found.append((name, name, -1, 0, 0))
    return tables.of_rows(found, PRESENT)
