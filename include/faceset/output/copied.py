"""What a copying task says of its shard."""

from dataclasses import dataclass, field

from include.faceset.errors import Again


class CopyError(Again):
    """A file that the scan found cannot be read, or not be written."""


@dataclass(frozen=True)
class Copied:
    """Counts of one shard; `read` images and `bytes_read` were opened, the rest was known from the last release.

    `outcomes` counts what was rejected, by reason; so far, since a conflict is found by `seal`.
    """

    shard: int
    identities: int
    images: int
    rejected: int
    read: int
    bytes_read: int
    outcomes: dict[str, int] = field(default_factory=dict)
