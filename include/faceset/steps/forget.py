"""forget: the people to erase go out of all that earlier runs left, so that no step after this one meets them."""

from include.faceset.erasure import rewrite
from include.faceset.run.attempt import trying
from include.faceset.run.run import Run


def forget(run: Run) -> int:
    """Erase the people on the list from all that lies beside the output; how many there are on it.

    A dry run changes nothing.

    Raises:
        SupersededError: a later try of this step, or a later run, has begun.
        SuppressedError: the list of people to erase is wrong.
        WriteError: the disk is full.
    """
    if run.params.dry_run:
        return 0
    with trying(run, "forget") as attempt:
        return len(rewrite.begin_erasure(attempt))
