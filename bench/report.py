"""Measured rows as JSON, which is kept, and as Markdown, which is made from it."""

import json
import os
import platform
import subprocess
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench.measure import Measured, Quantity, Target
from local.airflow.settings import ROOT

UNITS: dict[Quantity, str] = {"wall_s": "wall", "cpu_s": "CPU", "peak_mb": "peak memory"}


def as_dict(
    measured: Measured, scale: float, rounds: int, versions: dict[str, str], below: Sequence[str] = ()
) -> dict[str, Any]:
    """A row's figures with all that a reader needs to judge them; `below` are lines of Markdown to go with them."""
    row = measured.row
    return {
        "row": row.name if scale == 1 else f"{row.name}-{scale:g}",
        "title": row.title,
        "files": row.files,
        "note": row.note,
        "command": f"make bench SCALE={scale:g} ROWS={row.name.removesuffix('-unchanged')} ROUNDS={rounds}",
        "commit": _commit(),
        "date": datetime.now(UTC).date().isoformat(),
        "versions": versions,
        "sides": {side: [asdict(usage) for usage in usages] for side, usages in measured.usages.items()},
        "medians": {
            side: {quantity: measured.median(side, quantity) for quantity in UNITS} for side in measured.usages
        },
        "targets": [{**asdict(target), "reached": _reached(measured, target)} for target in row.targets],
        "below": list(below),
    }


def _reached(measured: Measured, target: Target) -> float | None:
    ours = measured.median("ours", target.quantity)
    others = [measured.median(side, target.quantity) for side in target.against]
    least = min((one for one in others if one is not None), default=1.0)
    return None if ours is None else ours / least


def keep(found: dict[str, Any], folder: Path) -> None:
    """Put a row into `benchmarks.json` in place of an older one, and write `benchmarks.md` anew."""
    path = folder / "benchmarks.json"
    folder.mkdir(parents=True, exist_ok=True)
    rows = json.loads(path.read_text())["rows"] if path.exists() else {}
    rows[found["row"]] = found
    path.write_text(json.dumps({"machine": machine(), "rows": rows}, indent=1) + "\n")
    (folder / "benchmarks.md").write_text(markdown({"machine": machine(), "rows": rows}))


def machine() -> str:
    """The machine, in a line."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    cores = len(os.sched_getaffinity(0))
    return f"{cores} cores, {memory:.0f} GiB, Linux {platform.release()}, Python {platform.python_version()}"


def markdown(kept: dict[str, Any]) -> str:
    """All rows for a reader."""
    rows = kept["rows"].values()
    lines = [
        "# Benchmarks",
        "",
        "Made by `make bench`; every figure is the median of runs in turn, on one machine, with a warm cache. Ratios",
        f"are what counts: the machine ({kept['machine']}) also ran the S3 server (SeaweedFS).",
        "CPU is that of the client with its child processes; peak memory is of the largest process.",
        "",
        "| | measured | against | aim | reached | |",
        "| --- | --- | --- | ---: | ---: | --- |",
    ]
    for row in rows:
        for target in row["targets"]:
            unit = "MB" if target["quantity"] == "peak_mb" else "s"
            sign = "×" if target["against"] else unit
            against = " / ".join(target["against"]) or "–"
            reached = target["reached"]
            mark = "✓" if reached and reached <= target["limit"] else "**missed**"
            cells = [
                f"[{row['row']}](#{row['row']})",
                UNITS[target["quantity"]],
                against,
                f"≤ {target['limit']:.3g} {sign}",
                f"{_figure(reached, '.3g')} {sign}",
                mark,
            ]
            lines.append(f"| {' | '.join(cells)} |")
    for row in rows:
        lines += ["", f"## {row['row']}", "", f"{row['title']}: {row['files']:,} files. {row['note']}".rstrip(), ""]
        lines += _sides(row)
        versions = ", ".join(f"{name} {_short(said)}" for name, said in row["versions"].items())
        lines += ["", f"`{row['command']}`, {row['date']}, commit {row['commit']}. {versions}".rstrip(". ") + "."]
        lines += row["below"]
    return "\n".join(lines) + "\n"


def _sides(row: dict[str, Any]) -> list[str]:
    lines = [
        "| side | rounds | wall s (least to most) | CPU s | files/s | peak MB | ours / this: wall | CPU |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    ours = row["medians"]["ours"]
    for side, median in row["medians"].items():
        walls = [usage["wall_s"] for usage in row["sides"][side]]
        shares = [_figure(_ratio(ours[quantity], median[quantity]), ".2f") for quantity in ("wall_s", "cpu_s")]
        lines.append(
            f"| {side} | {len(walls)} | {median['wall_s']:.2f} ({min(walls):.2f} to {max(walls):.2f}) | "
            f"{_figure(median['cpu_s'], '.2f')} | {row['files'] / median['wall_s']:,.0f} | "
            f"{_figure(median['peak_mb'], '.0f')} | {' | '.join(shares)} |"
        )
    return lines


def _ratio(one: float | None, other: float | None) -> float | None:
    return one / other if one is not None and other else None


def _figure(value: float | None, form: str) -> str:
    return "–" if value is None else format(value, form)


def _short(said: str) -> str:
    return next((word.strip("(),") for word in said.split() if any(c.isdigit() for c in word) and "." in word), said)


def _commit() -> str:
    command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip() or "unknown"
