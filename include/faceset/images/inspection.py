"""What the bytes of a file are, as far as they were looked at."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from include.faceset.ledger import Outcome


class Inspection(NamedTuple):
    """What the bytes are: `rejected` is None for a good image; format and colour where known.

    The colour is Pillow's mode, and behind a comma what the loader passes over. `grey` is the picture of a good image
    that was decoded in full, in grey at half size.
    """

    rejected: Outcome | None
    format: str | None = None
    colour: str | None = None
    grey: NDArray[np.uint8] | None = None
