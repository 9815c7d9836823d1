"""Row of many rows: scan, filter and seal of manifests of a million to fifty million images, which are not there."""

import math
import shutil
from collections.abc import Callable
from pathlib import Path

from bench.disk import ours
from bench.growth import FILES, of_million, table
from bench.measure import Row, Target, Usage, run

SIZES = (1_000_000, 10_000_000, 50_000_000)
"""Images; times the scale that was asked for."""
TASKS = ("scan-many", "filter-many", "seal-many")
PEAK_MB = 1024**3 / 1e6


class Scale:
    """The sizes, and what each task took at each of them."""

    def __init__(self, scratch: Path, scale: float) -> None:
        self.scratch = scratch
        self.sizes = [round(size * scale) for size in SIZES]
        self.took: dict[str, dict[str, list[Usage]]] = {_name(size): {} for size in self.sizes}

    def row(self) -> Row:
        """Sides that tell what a million images cost: at the largest size what they cost at the smallest."""
        least, *_, most = self.sizes
        sides = {"ours": self._side(most)} | {_name(size): self._side(size) for size in reversed(self.sizes[:-1])}
        against = (_name(least),)
        return Row(
            "scale",
            f"a million rows, scan, filter and seal; ours: of {_name(most)}, others: of less,",
            FILES,
            sides,
            [Target("wall_s", 1.15, against), Target("cpu_s", 1.15, against), Target("peak_mb", PEAK_MB)],
            once=tuple(sides),
        )

    def table(self) -> list[str]:
        """Every task at every size, and with which power of the number of rows its time grows."""
        lines = table(self.took, {_name(size): size for size in self.sizes})
        slopes = ", ".join(f"{task} {self._slope(task):.2f}" for task in TASKS)
        return [*lines, "", f"Time grows with the number of rows to the power of: {slopes}. 256 shards."]

    def _slope(self, task: str) -> float:
        least, *_, most = self.sizes
        wall = [min(usage.wall_s for usage in self.took[_name(size)][task]) for size in (least, most)]
        return math.log(wall[1] / wall[0]) / math.log(most / least)

    def _side(self, size: int) -> Callable[[int], Usage]:
        return lambda _: self._run(size)

    def _run(self, size: int) -> Usage:
        folder = self.scratch / f"many-{size}"
        used = []
        for task in ("scan-many", "filter-many", "judge-many", "seal-many"):
            usage = run(ours(task, images=size, releases=str(folder / "releases")), folder / f"{task}.said")
            if task in TASKS:
                self.took[_name(size)].setdefault(task, []).append(usage)
                used.append(usage)
        shutil.rmtree(folder)
        return of_million(used, size)


def _name(size: int) -> str:
    return f"{size / 1e6:g} million"
