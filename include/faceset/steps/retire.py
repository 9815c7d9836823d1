"""retire: releases beyond those to keep go, in the bucket and here, and what earlier runs left."""

from include.faceset.output import set_aside
from include.faceset.ports import Bucket
from include.faceset.release import history
from include.faceset.run import owner
from include.faceset.run.attempt import trying
from include.faceset.run.run import Run


def retire(run: Run, bucket: Bucket | None) -> list[str]:
    """Remove the oldest releases and what killed writers left; the ids of the releases.

    The run's own work stays, so that its tasks can be cleared.
    """
    outdated = history.outdated(run)
    if bucket is not None and outdated:
        # Before they are removed here, which is what tells that they are outdated.
        with bucket.hold(owner.token(run)) as check:
            for release_id in outdated:
                bucket.delete_release(release_id, check)
    with trying(run, "clean-up") as attempt:
        pruned = history.prune(attempt)
        set_aside.forget_unused(attempt)  # also when nothing was pruned: a try that was killed may have pruned before
        history.clear_leftovers(attempt)
    return pruned
