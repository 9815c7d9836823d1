"""The class of each identity: its index, as torchvision's ImageFolder counts, and its label, a number that stays."""

from collections.abc import Iterable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from include.faceset.ground import sorted_merge
from include.faceset.run.attempt import Attempt

CLASSES = pa.schema([("index", pa.int64()), ("identity", pa.string()), ("images", pa.int64()), ("label", pa.int64())])


def count_classes(attempt: Attempt, images: Path, labels: pa.Table) -> Path:
    """A shard's identities with their number of images and the label that they have already, in order, in a file.

    Args:
        attempt: the try of `seal`.
        images: the shard's kept rows.
        labels: label and identity, of this shard's identities that were ever given one.
    """
    counted = sorted_merge.read_sorted(images, ["identity"]).group_by("identity").aggregate([([], "count_all")])
    counted = counted.rename_columns(["identity", "images"]).join(labels, keys="identity", join_type="left outer")
    counted = counted.select(["identity", "images", "label"])
    return sorted_merge.write_sorted(counted, "identity", attempt.folder / images.name.replace("images", "classes"))


def number(classes: Iterable[pa.Table], given: int) -> Iterator[pa.Table]:
    """Classes (schema CLASSES), with a label for each that had none: the next ones after those that were `given`.

    Args:
        classes: identity, images (their number) and label, in the order of identities.
        given: how many labels were ever given.
    """
    for some in index(classes):
        without = pc.is_null(some["label"])
        new = iter(range(given, given := given + pc.sum(without).as_py()))
        labels = [next(new) if label is None else label for label in some["label"].to_pylist()]
        yield some.set_column(CLASSES.get_field_index("label"), CLASSES.field("label"), [pa.array(labels, pa.int64())])


def index(classes: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """Classes (schema CLASSES) as torchvision's ImageFolder will number them: folder names sorted by code point.

    Args:
        classes: identity, images and, but for releases of old, label; in the order of identities.
    """
    first = 0
    for some in classes:
        count = some.num_rows
        columns = [pa.array(range(first, first + count), pa.int64()), some["identity"], some["images"]]
        label = some["label"] if "label" in some.column_names else pa.nulls(count, pa.int64())
        first += count
        yield pa.table([*columns, label], schema=CLASSES)
