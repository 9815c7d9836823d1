"""Whether the workers of a run share its folders: what passes between two tasks lies there, whoever has them.

`preflight` notes the name of the output's folders as its worker sees them, and Airflow hands it on. Every later task
compares before it touches anything, so a worker without the shared volume changes nothing, here or there.
"""

import os
import re
from dataclasses import dataclass
from pathlib import Path

from include.faceset.errors import Final
from include.faceset.run import owner
from include.faceset.run.run import Run

LATE_S = 1
"""How much later than its writer a worker may see a change; the next task takes longer to start."""
_MOUNTS = Path("/proc/self/mountinfo")
_ESCAPED = re.compile(r"\\([0-7]{3})")
"""A blank, a tab, a line break or a backslash in a mount point; all else stands there as it is."""
_NFS_DEFAULT_S = 60


class NotSharedError(Final):
    """This worker sees other folders than the worker of preflight, or sees them too late."""


@dataclass(frozen=True)
class Seen:
    """What a worker, by its host name, sees: the name that was drawn for the output's folders."""

    worker: str
    folders: str


def seen(run: Run, worker: str) -> Seen:
    """Note what preflight's worker sees, once the run has the output."""
    return Seen(worker, owner.deployment(run))


def check_shared(run: Run, noted: Seen, worker: str) -> None:
    """Check that a worker sees the output's folders as preflight's worker did; changes nothing.

    Raises:
        NotSharedError: it does not, naming both workers, the folder and the remedy.
    """
    if owner.known_deployment(run) != noted.folders:
        raise NotSharedError(
            f"{worker} does not see the {run.releases} of {noted.worker}, where this run's preflight was: mount the "
            f"same volume there on every worker of the queue {run.dataset.queue!r}, or take {worker} off it. Nothing "
            "was changed; then clear this task"
        )
    if worker != noted.worker and (late := shown_late(run.releases, _MOUNTS.read_text(encoding="utf-8"))) > LATE_S:
        raise NotSharedError(
            f"{worker} may see what {noted.worker} writes to {run.releases} {late} s late: mount it with actimeo=1 on "
            "every worker. Nothing was changed; then clear this task"
        )


def shown_late(path: Path, mountinfo: str) -> int:
    """Seconds for which NFS may show a folder as it was before another machine changed it; 0 on any other file system.

    Args:
        path: a folder.
        mountinfo: as of proc(5).
    """
    place = os.path.realpath(path) + "/"
    kind, options = "", ""
    longest = 0
    for line in mountinfo.splitlines():
        mounted, _, rest = line.partition(" - ")
        point = _ESCAPED.sub(lambda octal: chr(int(octal[1], 8)), mounted.split(" ")[4]).rstrip("/") + "/"
        if place.startswith(point) and len(point) >= longest:
            longest = len(point)
            kind, _, options = rest.split(" ")[:3]
    if kind not in {"nfs", "nfs4"}:
        return 0
    set_to = dict(option.partition("=")[::2] for option in options.split(","))
    if "noac" in set_to:
        return 0
    return max(int(set_to.get(name, _NFS_DEFAULT_S)) for name in ("acregmax", "acdirmax"))
