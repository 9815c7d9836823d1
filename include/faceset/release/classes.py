"""The class of each identity, as torchvision's ImageFolder will number it."""

from collections.abc import Iterable, Iterator
from pathlib import Path

import pyarrow as pa

from include.faceset.ground import sorted_merge
from include.faceset.run.attempt import Attempt

CLASSES = pa.schema([("index", pa.int64()), ("identity", pa.string()), ("images", pa.int64())])


def count_classes(attempt: Attempt, images: Path) -> Path:
    """A shard's identities with their number of images, in order, in a file."""
    counted = sorted_merge.read_sorted(images, ["identity"]).group_by("identity").aggregate([([], "count_all")])
    counted = counted.rename_columns(["identity", "images"])
    return sorted_merge.write_sorted(counted, "identity", attempt.folder / images.name.replace("images", "classes"))


def class_index(classes: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """The class of each identity as torchvision's ImageFolder will number it: folder names sorted by code point.

    Args:
        classes: identity and images (their number), in the order of identities.
    """
    first = 0
    for some in classes:
        index = pa.array(range(first, first + some.num_rows), pa.int64())
        first += some.num_rows
        yield pa.table([index, some["identity"], some["images"]], schema=CLASSES)
