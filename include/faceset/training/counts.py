"""What of a release a config is about, or of one that a dry run foresees."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from include.faceset.release.release import Release


@dataclass(frozen=True)
class Counts:
    """Its id (empty if it is only foreseen), how much is in it, and how many class numbers there are."""

    release_id: str
    identities: int
    images: int
    labels: int = 0

    @classmethod
    def of(cls, release: Release) -> Counts:
        return cls(release.release_id, release.identities, release.images, release.labels)
