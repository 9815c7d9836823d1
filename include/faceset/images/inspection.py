"""What the bytes of a file are, as far as they were looked at."""

from typing import NamedTuple

from include.faceset.images.pictures import Picture
from include.faceset.ledger import Outcome


class Inspection(NamedTuple):
    """What the bytes are: `rejected` is None for a good image; format and colour where known.

    The colour is Pillow's mode, and behind a comma what the loader passes over. `picture` is that of a good
    image that was decoded in full.
    """

    rejected: Outcome | None
    format: str | None = None
    colour: str | None = None
    picture: Picture | None = None
