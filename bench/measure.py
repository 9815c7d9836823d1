"""One command timed, and two or more sides of a row timed in turn."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Literal

LAUNCHER = Path(__file__).with_name("launch.py")

Quantity = Literal["wall_s", "cpu_s", "peak_mb"]


class BenchError(RuntimeError):
    """A side of a row failed, so there is nothing to compare."""


@dataclass(frozen=True)
class Usage:
    """Seconds by the clock, seconds of CPU with all child processes, and MB (10⁶ bytes) of the largest process.

    The last two are not known of what others start, as Airflow its tasks.
    """

    wall_s: float
    cpu_s: float | None = None
    peak_mb: float | None = None


@dataclass(frozen=True)
class Target:
    """What is aimed at: our `quantity` at most `limit` times the least `against`, or `limit` itself."""

    quantity: Quantity
    limit: float
    against: tuple[str, ...] = ()


@dataclass(frozen=True)
class Row:
    """Sides that do the same work; `ours` is the first. Each is called with the number of its round, from 0."""

    name: str
    title: str
    files: int
    sides: Mapping[str, Callable[[int], Usage]]
    targets: Sequence[Target]
    once: Sequence[str] = ()
    """Sides too slow for more than one round."""
    note: str = ""


@dataclass(frozen=True)
class Measured:
    """A row's figures: for each side what each of its rounds took."""

    row: Row
    usages: dict[str, list[Usage]] = field(default_factory=dict)

    def median(self, side: str, quantity: Quantity) -> float | None:
        """The median of a side's rounds; None where it is not known."""
        known = [value for usage in self.usages[side] if (value := getattr(usage, quantity)) is not None]
        return median(known) if known else None


def run(command: Sequence[str | Path], output: Path, *, environment: Mapping[str, str] | None = None) -> Usage:
    """Run a command to its end and say what it took; what it prints goes to `output` and `<output>.err`.

    Raises:
        BenchError: it failed; with the end of what it said.
    """
    output.parent.mkdir(parents=True, exist_ok=True)
    launched = subprocess.run(
        [sys.executable, "-IS", LAUNCHER, output, *command],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        env={**os.environ, **(environment or {})},
        check=True,
    )
    took = json.loads(launched.stdout)
    if took.pop("status"):
        said = output.with_name(f"{output.name}.err").read_text(errors="replace")[-2000:]
        raise BenchError(f"{' '.join(map(str, command))} failed: {said}")
    return Usage(**took)


def measure(row: Row, rounds: int) -> Measured:
    """All sides of a row in turn, `rounds` times; the order of the sides turns from round to round."""
    measured = Measured(row, {side: [] for side in row.sides})
    sides = list(row.sides)
    for number in range(rounds):
        for side in sides[number % len(sides) :] + sides[: number % len(sides)]:
            if number and side in row.once:
                continue
            os.sync()  # what the side before has written does not slow down this one
            usage = row.sides[side](number)
            measured.usages[side].append(usage)
            print(f"{row.name}, round {number + 1}, {side}: {usage}", file=sys.stderr, flush=True)
    return measured
