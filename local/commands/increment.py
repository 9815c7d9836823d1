"""`make increment [SCALE=1]`: what a new part costs, measured under the real scheduler and S3 server.

Three runs of one dataset: the reference run, the same with a new part of 1 % of its images, and once more with
nothing new. A third of the new part are second images of identities that had one and were skipped, the rest are
further images of identities that were kept. Figures come from the tasks' own results and Airflow's records.
"""

import json
import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.random import default_rng

from local.airflow import api, deployment, settings
from local.commands.run import command
from local.s3 import seaweed
from local.sample import faces
from local.sample.entries import FLAT, FOLDERS
from local.sample.sample import EXPORTS, make_reference

BUCKET = "increment"
NAME = "increment"
PARTS = ("2026-01-02", "2026-01-09")
NEW = 0.01


@dataclass(frozen=True)
class Cost:
    """What one run took: seconds by the clock and of tasks, images and bytes opened, keys uploaded, images released."""

    run: str
    wall: float
    work: dict[str, float]
    opened: int
    opened_bytes: int
    uploaded: int
    images: int
    image_bytes: int

    @property
    def seconds(self) -> float:
        return sum(self.work.values())


def draw_part(reference: Path, part: Path) -> None:
    """Draw the new part: an ImageFolder of 1 % of the reference's images; and a first part of one image."""
    if part.exists():
        return
    rng = default_rng(1)
    kept = sorted(path.name for path in (reference / FOLDERS).iterdir())
    single = sorted(path.name.removesuffix("_face.png") for path in (reference / FLAT).iterdir())
    images = sum(1 for path in kept for _ in (reference / FOLDERS / path).iterdir())
    count = round(NEW * images)
    building = part.with_name(f"{part.name}.partial")
    shutil.rmtree(building, ignore_errors=True)
    for number, name in enumerate([*single[: count // 3], *kept[: count - count // 3]]):
        (building / name).mkdir(parents=True)
        (building / name / f"new{number}.jpg").write_bytes(faces.jpeg(faces.portrait(faces.person(rng), rng)))
    building.rename(part)


def declared(folder: Path, reference: Path) -> dict[str, Any]:
    """The dataset: the reference's two exports, and one that comes in parts."""
    return {
        "local_source": str(folder),
        "output": str(folder / "merged"),
        "destination": f"s3://{BUCKET}/set/",
        "exports": [
            *({**export, "root": str(reference / export["name"])} for export in EXPORTS),
            {"name": "weekly", "layout": "image_folder", "root": "weekly/{partition}"},
        ],
    }


def measure(airflow: api.Stack, name: str, conf: dict[str, Any]) -> Cost:
    """Run once."""
    run, wall = deployment.timed_run(airflow, NAME, conf)
    work: dict[str, float] = {}
    shards = []
    for one in airflow.task_instances(run):
        work[one.task_id] = work.get(one.task_id, 0.0) + (one.duration or 0.0)
        if one.task_id == "copy_shard":
            shards.append(airflow.xcom(run, "copy_shard", map_index=one.map_index))
    summary = Path(airflow.xcom(run, "summary")["summary"]).with_name("summary.json")
    facts = json.loads(summary.read_text())
    return Cost(
        name,
        wall,
        work,
        opened=sum(shard["read"] for shard in shards),
        opened_bytes=sum(shard["bytes_read"] for shard in shards),
        uploaded=facts["sync"]["uploaded"],
        images=facts["images"],
        image_bytes=facts["bytes"],
    )


def table(costs: list[Cost]) -> str:
    """The runs side by side, in Markdown."""
    full = costs[0]
    lines = [
        "| run | wall s | tasks s | of the full run | images opened | of the bytes | keys uploaded | of the keys |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    lines += [
        f"| {cost.run} | {cost.wall:.1f} | {cost.seconds:.1f} | {cost.wall / full.wall:.1%} | {cost.opened:,} | "
        f"{cost.opened_bytes / cost.image_bytes:.2%} | {cost.uploaded:,} | {cost.uploaded / cost.images:.2%} |"
        for cost in costs
    ]
    tasks = list(full.work)
    lines += ["", f"| seconds of | {' | '.join(tasks)} |", f"| --- | {' | '.join('---:' for _ in tasks)} |"]
    lines += [f"| {cost.run} | {' | '.join(f'{cost.work.get(task, 0):.1f}' for task in tasks)} |" for cost in costs]
    return "\n".join(lines)


def main() -> int:
    """Draw what is missing, run three times, print the table."""
    scale = float(os.environ.get("SCALE") or 0.05)
    state = settings.state_folder() / f"increment-{scale:g}"
    reference = Path(os.environ.get("SOURCE") or settings.state_folder() / f"sample-scale-{scale:g}")
    make_reference(reference, scale)
    draw_part(reference, state / "weekly" / PARTS[1])
    for name in ("merged", "merged.releases", "airflow", "s3"):
        shutil.rmtree(state / name, ignore_errors=True)
    first = state / "weekly" / PARTS[0] / "zoe"
    first.mkdir(parents=True, exist_ok=True)
    (first / "1.jpg").write_bytes(faces.jpeg(faces.portrait(faces.person(default_rng(2)), default_rng(2))))
    deployment.copy_project(state, {NAME: declared(state, reference)})
    with seaweed.running(state / "s3", [BUCKET]) as server, deployment.running(state, server) as airflow:
        costs = []
        for name, partition in (("full", PARTS[0]), ("a new part of 1 %", PARTS[1]), ("nothing new", PARTS[1])):
            costs.append(measure(airflow, name, {"partition": partition}))
            print(f"{name}: {costs[-1].wall:.1f} s", file=sys.stderr, flush=True)
    print(table(costs))
    return 0


if __name__ == "__main__":
    command(main)
