"""Who is held out of the training set, to verify models by."""

import hashlib
from typing import Annotated

from pydantic import Field

from include.faceset.declared.export import Declared

FEWEST_PAIRS = 20
"""The trainer splits the pairs into ten folds and needs two of each kind in turn: one of the same person, one not."""


class Holdout(Declared):
    """How many identities are held out, and how many pairs of their images are drawn."""

    fraction: Annotated[float, Field(gt=0, le=0.5)] = Field(
        description="Part of all identities, chosen by a hash of the name: who was held out once stays so."
    )
    pairs: Annotated[int, Field(ge=FEWEST_PAIRS, le=1_000_000, multiple_of=2)] = Field(
        6000, description="Pairs to verify by: half of them of one person, half of two."
    )

    def holds(self, identity: str) -> bool:
        """Whether an identity is held out."""
        drawn = hashlib.blake2b(identity.encode(), digest_size=8, person=b"holdout").digest()
        return int.from_bytes(drawn, "big") < int(self.fraction * 2**64)
