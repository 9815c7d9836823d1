"""Checks of good images beside those that every trainer needs. A new one is one file here, and its function in CHECKS.

Each gets the bytes of a file that is kept so far, and what is known of it, and says why it is not to be kept, or None.
Files above `max_file_size` are never in memory, so no check sees them. A reason of its own has its code in ledger.py;
RULES there goes up by one with every change here, so that images which are known are looked at again.
"""

from collections.abc import Callable

from include.faceset.images.inspection import Inspection
from include.faceset.ledger import Outcome

Check = Callable[[bytes, Inspection], Outcome | None]
CHECKS: tuple[Check, ...] = ()
