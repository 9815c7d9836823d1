"""The ledger: one row for every file that the scan met, with exactly one outcome.

Every Parquet file between scan and release has these columns; a step fills in what it has learned.
"""

from collections.abc import Mapping
from enum import StrEnum

import pyarrow as pa
import pyarrow.compute as pc

from include.faceset.errors import Final
from include.faceset.ground import tables


class Outcome(StrEnum):
    """What became of a file. Stable strings: add, never rename."""

    KEPT = "kept"
    TOO_FEW_IMAGES = "too_few_images"
    DUPLICATE_CONTENT = "duplicate_content"
    IDENTITY_CONFLICT = "identity_conflict"
    NOT_AN_IMAGE = "not_an_image"
    CORRUPT = "corrupt"
    WRONG_SIZE = "wrong_size"
    EMPTY_FILE = "empty_file"
    UNMATCHED_NAME = "unmatched_name"
    UNSAFE_NAME = "unsafe_name"
    NOT_REGULAR_FILE = "not_regular_file"
    CHANGED_DURING_RUN = "changed_during_run"
    SUPPRESSED = "suppressed"
    OTHER_FORMAT = "other_format"
    NOT_8_BIT = "not_8_bit"
    DAMAGED = "damaged"
    TRANSPARENT = "transparent"
    TOO_LARGE = "too_large"
    ARCHIVED = "archived"
    HELD_OUT = "held_out"
    DROPPED_BY_DECISION = "dropped_by_decision"
    TOO_DARK = "too_dark"
    TOO_BRIGHT = "too_bright"
    BLURRED = "blurred"
    PLACEHOLDER = "placeholder"
    NEAR_DUPLICATE = "near_duplicate"
    NEAR_HELD_OUT = "near_held_out"


RULES = 2
"""Goes up whenever the same bytes may have another outcome than before: then a release's outcomes are found anew."""

EXPLANATIONS = {
    Outcome.TOO_FEW_IMAGES: "its identity has fewer images than min_images",
    Outcome.DUPLICATE_CONTENT: "the same bytes are already kept for this identity",
    Outcome.IDENTITY_CONFLICT: "the same bytes lie under two identities, so both labels are in doubt",
    Outcome.NOT_AN_IMAGE: "the bytes are no image that Pillow opens, and the trainer's loader is Pillow",
    Outcome.OTHER_FORMAT: "an image, such as GIF, AVIF, JPEG 2000, ICO, TGA or PSD, that Pillow opens here; but taken "
    "are only JPEG, PNG, WebP, BMP, TIFF and PPM, since it depends on a tool and its build whether it reads others",
    Outcome.NOT_8_BIT: "its channels are no whole numbers from 0 to 255; the trainer's loader would cut them to that, "
    "and what comes out is white, black, or another picture",
    Outcome.CORRUPT: "the image cannot be decoded to its end; the trainer would hang on it",
    Outcome.DAMAGED: "the trainer's loader takes it, but bytes in it are wrong or missing, and pixels are made up",
    Outcome.TRANSPARENT: "nothing of it can be seen; the trainer's loader takes no notice of that, and shows the "
    "colours underneath",
    Outcome.WRONG_SIZE: "width and height are not those of the dataset; the trainer resizes nothing",
    Outcome.EMPTY_FILE: "0 bytes",
    Outcome.UNMATCHED_NAME: "the name is not of the export's declared layout",
    Outcome.UNSAFE_NAME: "the name cannot be carried safely to S3 and back (see include/faceset/names.py)",
    Outcome.NOT_REGULAR_FILE: "a link, a special file, or a folder where a file is expected",
    Outcome.CHANGED_DURING_RUN: "it changed, grew or vanished between scan and copy; the next run takes it",
    Outcome.SUPPRESSED: "its identity is on the list of people to erase",
    Outcome.TOO_LARGE: "larger than max_file_size, and not to be judged without reading most of it into memory",
    Outcome.HELD_OUT: "good, but its identity is held out of the training set, to verify models by (holdout)",
    Outcome.DROPPED_BY_DECISION: "somebody decided that it is not kept (the dataset's table of decisions)",
    Outcome.TOO_DARK: "its mean brightness is below the dataset's threshold (pictures)",
    Outcome.TOO_BRIGHT: "its mean brightness is above the dataset's threshold (pictures)",
    Outcome.BLURRED: "its sharpness is below the dataset's threshold (pictures)",
    Outcome.PLACEHOLDER: "nearly one colour: its contrast is below the dataset's threshold (pictures)",
    Outcome.NEAR_DUPLICATE: "nearly the same picture as a sharper one of the identity, which is kept (pictures)",
    Outcome.NEAR_HELD_OUT: "nearly the same picture as one that is held out, so it must not train what that verifies",
    Outcome.ARCHIVED: "an object that S3 has archived: restore it, and the next run takes it",
}

MANIFEST = pa.schema(
    [
        pa.field("identity", pa.string()),
        pa.field("path", pa.string()),
        pa.field("export", pa.string()),
        pa.field("partition", pa.string()),
        pa.field("size", pa.int64()),
        pa.field("mtime_ns", pa.int64()),
        pa.field("etag", pa.string()),
        pa.field("scanned_as", pa.string()),
    ]
)
"""What the scan knows of a file. `path` is relative to the export's root (of an export in parts: to where
its parts begin) and /-separated; `partition` is null for an export that does not arrive in parts, `etag` for
one on a disk. Of an object in S3 `mtime_ns` is when it was written. `scanned_as` is the identity that layout
and name give, where somebody decided that it is another's; else null."""

SCANNED = pa.schema([*MANIFEST, pa.field("outcome", pa.string())])
"""A manifest as the scan writes it; `outcome` is null for an image of the declared layout."""

LEDGER = pa.schema(
    [
        *MANIFEST,
        pa.field("outcome", pa.string()),
        pa.field("key", pa.string()),
        pa.field("sha256", pa.binary(32)),
        pa.field("format", pa.string()),
        pa.field("colour", pa.string()),
        pa.field("staged_mtime_ns", pa.int64()),
        pa.field("brightness", pa.float32()),
        pa.field("contrast", pa.float32()),
        pa.field("sharpness", pa.float32()),
        pa.field("dhash", pa.binary(8)),
    ]
)
"""What a run knows of a file in the end; null where it never came to be known. `key` is
`<identity>/<file>` in the merged dataset, `colour` Pillow's mode and, behind a comma, what the trainer's
loader passes over, `staged_mtime_ns` the mtime of that file on disk; from `brightness` on is how an image looks that
was decoded in full (images/pictures.py)."""


class LedgerError(Final):
    """The ledger does not account for every file exactly once."""


def reject(manifest: pa.Table, outcome: Outcome) -> pa.Table:
    """Ledger rows for manifest rows that all end with the same outcome."""
    columns = {name: manifest[name] for name in MANIFEST.names}
    outcomes = pa.repeat(outcome.value, manifest.num_rows)
    return tables.filled({**columns, "outcome": outcomes}, LEDGER, manifest.num_rows)


def kept(ledger: pa.Table) -> pa.Table:
    """The rows of the files that the merged dataset holds."""
    return ledger.filter(pc.equal(ledger["outcome"], Outcome.KEPT.value))


def count_outcomes(ledger: pa.Table) -> dict[str, int]:
    """Number of rows by outcome, most frequent first, `kept` left out."""
    counted = ledger.group_by("outcome").aggregate([([], "count_all")])
    counts = dict(zip(counted["outcome"].to_pylist(), counted["count_all"].to_pylist(), strict=True))
    counts.pop(Outcome.KEPT.value, None)
    return by_count(counts)


def by_count(counts: Mapping[str, int]) -> dict[str, int]:
    """The same counts, the most frequent first."""
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def count_rows(rows: pa.Table) -> dict[str, int]:
    """Number of rows by export, of a shard: all the rows that its files have.

    Raises:
        LedgerError: a file has two rows, or a row no known outcome.
    """
    if rows["outcome"].null_count or set(pc.unique(rows["outcome"]).to_pylist()) - set(Outcome):
        raise LedgerError(
            "the ledger holds rows without a known outcome; this is a fault of the program, please report it"
        )
    # A suppressed row does not say of which file it is.
    named = rows.filter(pc.not_equal(rows["outcome"], Outcome.SUPPRESSED.value))
    files = named.group_by(["export", "path"]).aggregate([])
    if files.num_rows != named.num_rows:
        raise LedgerError(
            f"{named.num_rows - files.num_rows:,} files have more than one row in the ledger; nothing is published"
        )
    counted = rows.group_by("export").aggregate([([], "count_all")])
    return dict(zip(counted["export"].to_pylist(), counted["count_all"].to_pylist(), strict=True))


def balance(rows: Mapping[str, int], scanned: Mapping[str, int]) -> None:
    """Check that for every export: files scanned = kept + the sum of the reasons.

    Args:
        rows: number of rows of the ledger, by export.
        scanned: number of files that the scan met, by export.

    Raises:
        LedgerError: with the export and both numbers.
    """
    for export in scanned.keys() | rows.keys():
        if scanned.get(export, 0) != rows.get(export, 0):
            raise LedgerError(
                f"export {export}: the scan met {scanned.get(export, 0):,} files but the ledger has "
                f"{rows.get(export, 0):,} rows; nothing is published. Clear the run's tasks from `scan` on"
            )
