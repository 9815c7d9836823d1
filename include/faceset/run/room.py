"""Room on the output's disk for what a run selected."""

import os
import shutil

from include.faceset.errors import NotReadyError
from include.faceset.ground.files import existing_above
from include.faceset.run.run import Run

BLOCK = 4096
"""Bytes that a file may take beside its own."""


def check_room(run: Run, images: int, size: int, large: int = 0) -> None:
    """Check that a full copy of the selected images fits on the output's disk beside what is there.

    Args:
        run: the run; with `hardlink` nothing is needed.
        images: number of files.
        size: their bytes.
        large: those of `size` that are of files above `max_file_size`.

    Raises:
        NotReadyError: naming both numbers.
    """
    if not run.on_disk:
        return
    already = sum(1 for _ in os.scandir(run.output)) if run.output.exists() else 0
    if run.params.link_mode == "hardlink" or already:
        return
    needed = size + images * BLOCK
    free = shutil.disk_usage(existing_above(run.releases)).free
    if free < needed:
        of_large = f" ({large / 1e9:.1f} GB of it for files that are larger than max_file_size)" if large else ""
        raise NotReadyError(
            f"output: the copy needs up to {needed / 1e9:.1f} GB{of_large} on the disk of {run.output}, "
            f"which has {free / 1e9:.1f} GB free; make room, or choose another output"
        )
