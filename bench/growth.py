"""Row of how cost grows: every task at several sizes, per file."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from bench.disk import ours
from bench.measure import Row, Target, Usage, run
from bench.s3 import BUCKET, Bucket
from local.sample.sample import make_reference

SIZES = (0.1, 0.3, 1.0, 3.0)
"""Multiples of the scale that was asked for; the largest is not uploaded."""
OF_DISK = ("scan", "copy", "seal", "summary")
FILES = 1_000_000


class Growth:
    """The sizes, and what each task took at each of them."""

    def __init__(self, s3: Bucket, corpora: Path, scratch: Path, scale: float) -> None:
        self.s3, self.corpora, self.scratch, self.scale = s3, corpora, scratch, scale
        self.took: dict[float, dict[str, list[Usage]]] = {size: {} for size in SIZES}
        self.files: dict[float, int] = {}

    def row(self) -> Row:
        """Sides that tell what a million files scanned cost; those at 3 × must cost what those at 0.3 × do."""
        ours, *others = reversed(SIZES)
        sides = {"ours": self._side(ours)} | {_name(size): self._side(size) for size in others}
        against = (_name(0.3),)
        return Row(
            "growth",
            f"a million files, scan to summary without upload; ours: at {ours:g} × the size, others: at less,",
            FILES,
            sides,
            [Target("wall_s", 1.15, against), Target("cpu_s", 1.15, against), Target("peak_mb", 500)],
        )

    def table(self) -> list[str]:
        """Every task at every size."""
        return table(
            {_times(size): tasks for size, tasks in self.took.items()}, {_times(s): n for s, n in self.files.items()}
        )

    def _side(self, size: float) -> Callable[[int], Usage]:
        return lambda number: self._run(size, number)

    def _run(self, size: float, number: int) -> Usage:
        corpus = self.corpora / f"sample-scale-{size * self.scale:g}"
        counts = make_reference(corpus, size * self.scale)
        self.files[size] = counts.flat_files + counts.folder_files
        scratch = self.scratch / f"growth-{size:g}-{number}"
        merged = scratch / "merged"
        arguments = {"source": str(corpus), "output": str(merged)}
        used = [self._measured(size, work, ours(work, **arguments), scratch) for work in OF_DISK]
        if size != SIZES[-1] and not number:
            manifest = next(merged.with_name("merged.releases").glob("*/manifest.parquet"))
            there = {"destination": f"s3://{BUCKET}/growth-{size:g}/", "objects": str(manifest)}
            record = str(scratch / "record.parquet")
            self._measured(size, "sync", ours("sync", source=str(merged), record=record, **there), scratch)
            self._measured(size, "verify", ours("verify", record=record, **there), scratch)
        return of_million(used, self.files[size])

    def _measured(self, size: float, task: str, command: list[str], scratch: Path) -> Usage:
        usage = run(command, scratch / task, environment=self.s3.environment)
        self.took[size].setdefault(task, []).append(usage)
        return usage


def of_million(used: Sequence[Usage], files: int) -> Usage:
    """What tasks that were given `files` took, all in all, of a million files."""
    times = FILES / files
    return Usage(
        wall_s=times * sum(one.wall_s for one in used),
        cpu_s=times * sum(one.cpu_s or 0 for one in used),
        peak_mb=max(one.peak_mb or 0 for one in used),
    )


def table(took: Mapping[str, Mapping[str, Sequence[Usage]]], files: Mapping[str, int]) -> list[str]:
    """Tasks at several sizes as Markdown; medians do not matter here, so the round with the least wall time.

    Args:
        took: usages of each round, by size and task.
        files: number of files of each size.
    """
    lines = [
        "",
        "| size | files | task | wall s | CPU s | CPU µs a file | peak MB |",
        "| ---: | ---: | --- | ---: | ---: | ---: | ---: |",
    ]
    for size, tasks in took.items():
        for task, usages in tasks.items():
            least = min(usages, key=lambda usage: usage.wall_s)
            cpu, of_size = least.cpu_s or 0, files[size]
            peak = max(usage.peak_mb or 0 for usage in usages)
            figures = f"{least.wall_s:.1f} | {cpu:.1f} | {1e6 * cpu / of_size:.1f} | {peak:.0f}"
            lines.append(f"| {size} | {of_size:,} | {task} | {figures} |")
    return lines


def _times(size: float) -> str:
    return f"{size:g} ×"


def _name(size: float) -> str:
    return f"at {_times(size)}"
