"""What has to be done, decided from three tables without touching anything."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import pyarrow as pa
import pyarrow.compute as pc

from s3_sync.errors import DeletionRefused
from s3_sync.listing.contents import are_markers

MD5_ETAG = "^[0-9a-f]{32}$"


@dataclass(frozen=True)
class Plan:
    """Every expected key is in exactly one of ``skip``, ``compare`` and ``upload``.

    ``skip``, ``compare`` and ``upload`` have the columns key, size, sha256 and etag (as listed; null if the key is
    not there, or archived). ``delete`` has key, size and etag. ``listed`` is the number of keys there now. Marks of
    folders (`listing.are_markers`) are no data and count nowhere; ``markers``, as ``delete``, are those that go.
    """

    skip: pa.Table
    compare: pa.Table
    upload: pa.Table
    delete: pa.Table
    listed: int
    markers: pa.Table

    @property
    def changes(self) -> bool:
        """Whether data is sent, compared or deleted; marks of folders do not count."""
        return any(table.num_rows for table in (self.upload, self.compare, self.delete))


def plan(expected: pa.Table, listed: pa.Table, record: pa.Table) -> Plan:
    """Compare ``expected`` (key, size, sha256), ``listed`` (key, size, etag) and ``record`` (key, sha256, etag).

    - ``skip``: there with the expected size and the ETag that the PUT of the expected SHA-256 returned.
    - ``compare``: there with the expected size and an ETag that may be the MD5 of the expected bytes.
    - ``upload``: every other expected key.
    - ``delete``: there, but not expected.
    - ``markers``: of folders in which nothing is expected, and of the prefix itself, which would be one line too many
      of ``aws s3 ls``. Those of other folders stay.

    Keys are unique in each table.
    """
    there = pc.index_in(expected["key"], value_set=listed["key"])
    etag = listed["etag"].take(there)
    same_size = pc.equal(listed["size"].take(there), expected["size"])

    recorded = pc.index_in(expected["key"], value_set=record["key"])
    same_etag = pc.equal(record["etag"].take(recorded), etag)
    same_bytes = pc.equal(record["sha256"].take(recorded), expected["sha256"])

    # A null means that the key is not there, or not recorded: no proof.
    skip = pc.fill_null(pc.and_(same_size, pc.and_(same_etag, same_bytes)), False)
    # The ETag is the one that a PUT of *other* bytes returned: nothing to compare.
    outdated = pc.fill_null(pc.and_not(same_etag, same_bytes), False)
    may_be_md5 = pc.fill_null(pc.and_(same_size, pc.match_substring_regex(etag, MD5_ETAG)), False)
    compare = pc.and_not(may_be_md5, pc.or_(skip, outdated))
    upload = pc.invert(pc.or_(skip, compare))

    rows = expected.select(["key", "size", "sha256"]).append_column("etag", etag)
    stray = pc.invert(pc.is_in(listed["key"], value_set=expected["key"]))
    is_marker = pc.and_(stray, are_markers(listed))
    return Plan(
        skip=rows.filter(skip),
        compare=rows.filter(compare),
        upload=rows.filter(upload),
        delete=listed.filter(pc.and_not(stray, is_marker)),
        listed=listed.num_rows - (pc.sum(is_marker).as_py() or 0),
        markers=_of_other_folders(listed.filter(is_marker), expected["key"]),
    )


def _of_other_folders(markers: pa.Table, expected: pa.ChunkedArray) -> pa.Table:
    """Return the markers that are of no folder in which one of the expected keys lies."""
    if markers.num_rows == 0:
        return markers
    folders = set[str]()
    for folder in pc.unique(pc.replace_substring_regex(expected, "[^/]*$", "")).to_pylist():
        folders |= {folder[: slash + 1] for slash, character in enumerate(folder) if character == "/"}
    return markers.filter(pc.invert(pc.is_in(markers["key"], value_set=pa.array(sorted(folders), pa.string()))))


def may_delete(deletions: int, listed: int, max_delete_fraction: float, approved: int = 0) -> bool:
    """Whether so many of the ``listed`` keys may go: within the fraction, or within what a person has approved."""
    return deletions <= max(allowed(listed, max_delete_fraction), approved)


def allowed(listed: int, max_delete_fraction: float) -> int:
    """Return how many of the ``listed`` keys may go unasked: of 100 keys 29, if the fraction is written 0.29."""
    return int(listed * Fraction(str(max_delete_fraction)))


def guard(plan: Plan, max_delete_fraction: float, approved: int = 0) -> None:
    """Raise DeletionRefused when ``plan`` would empty the destination or delete more of it than `may_delete`."""
    expected = plan.skip.num_rows + plan.compare.num_rows + plan.upload.num_rows
    deletions = plan.delete.num_rows
    if expected == 0:
        raise DeletionRefused(
            f"nothing is expected at the destination, so all {plan.listed} keys there would be deleted. A sync"
            " never empties a prefix: check the source, or delete the prefix by hand if that is meant"
        )
    if not may_delete(deletions, plan.listed, max_delete_fraction, approved):
        also = f", and more than the {approved} that were approved" if approved else ""
        raise DeletionRefused(
            f"{deletions} of the {plan.listed} keys at the destination are not expected and would be deleted:"
            f" {deletions / plan.listed:.1%}, more than max_delete_fraction={max_delete_fraction:g} allows{also}."
            " Nothing was changed. Check the source; if the deletions are meant, run again with"
            f" max_delete_fraction={rounded_up(deletions, plan.listed):g}"
        )


def rounded_up(deletions: int, listed: int) -> float:
    """Return the next hundredth that is not below the part that the deletions are."""
    return -(-100 * deletions // listed) / 100
