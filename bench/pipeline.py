"""Rows of the whole DAG, under the real scheduler and S3 server, and the picture of a run as a timeline."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from bench import measure
from bench.measure import Measured, Row, Target, Usage
from bench.peers import of_machine
from bench.s3 import BUCKET, Bucket, bucket
from local.airflow import answers, api, deployment
from local.s3 import seaweed
from local.sample.entries import FOLDERS
from local.sample.sample import EXPORTS

NAME = "benchmark"


@dataclass
class Deployment:
    """Airflow with one dataset, its S3 server, and what the runs so far left in its records."""

    airflow: api.Stack
    s3: Bucket
    corpus: Path
    timelines: list[list[answers.TaskInstance]] = field(default_factory=list)

    def run(self, _: int) -> Usage:
        """Trigger a run and wait for its end, by the clock of whoever pressed the button."""
        run, wall = deployment.timed_run(self.airflow, NAME, {})
        self.timelines.append(self.airflow.task_instances(run))
        return Usage(wall)

    def shell(self, number: int) -> Usage:
        """What the DAG replaces: a copy, then a sync of it."""
        merged = self.s3.scratch / f"merged-{number}"
        uri = f"s3://{BUCKET}/shell-{number}/"
        copied = measure.run([of_machine("cp"), "-r", str(self.corpus / FOLDERS), str(merged)], self.s3.scratch / "cp")
        sent = self.s3.tool("aws", "s3", "sync", "--quiet", f"{merged}/", uri)
        return Usage(copied.wall_s + sent.wall_s)

    def sync_alone(self, _: int) -> Usage:
        """A sync of what the DAG has published, with nothing to do."""
        return self.s3.tool("aws", "s3", "sync", "--quiet", f"{self.corpus / FOLDERS}/", f"s3://{BUCKET}/set/")


@contextmanager
def deployed(corpus: Path, scratch: Path, tools: Path) -> Iterator[Deployment]:
    """Airflow and S3 with a copy of the project whose only dataset is the corpus."""
    declared = {
        "local_source": str(corpus),
        "output": str(scratch / "merged"),
        "destination": f"s3://{BUCKET}/set/",
        "exports": EXPORTS,
    }
    deployment.copy_project(scratch, {NAME: declared})
    with seaweed.running(scratch / "s3", [BUCKET]) as server, deployment.running(scratch, server) as airflow:
        yield Deployment(airflow, bucket(server.endpoint, server.user, tools, scratch / "clients"), corpus)


def full_row(deployed: Deployment, files: int, *, shell: bool) -> Row:
    """From nothing to a proven bucket; beside a copy and a sync by hand where these are asked for."""
    sides: dict[str, Callable[[int], Usage]] = {"ours": deployed.run}
    targets = []
    if shell:
        sides["cp -r, aws s3 sync"] = deployed.shell
        targets = [Target("wall_s", 0.5, ("cp -r, aws s3 sync",))]
    title = "the whole DAG from an empty bucket, under the real scheduler"
    return Row("dag-shell" if shell else "dag", title, files, sides, targets, once=tuple(sides))


def unchanged_row(deployed: Deployment, files: int) -> Row:
    """The whole DAG once more, after a full run."""
    sides: dict[str, Callable[[int], Usage]] = {"ours": deployed.run, "aws s3 sync": deployed.sync_alone}
    targets = [Target("wall_s", 1.0, ("aws s3 sync",))]
    return Row("dag-unchanged", "the whole DAG, nothing changed, beside a sync alone", files, sides, targets)


def idle(timeline: list[answers.TaskInstance], wall_s: float) -> float:
    """Seconds of a run in which no task was at work: what Airflow adds, but for the start of each task's process."""
    spans = sorted((one.start, one.end) for one in timeline if one.start and one.end)
    busy, until = 0.0, spans[0][0]
    for start, end in spans:
        busy += max(0.0, (end - max(start, until)).total_seconds())
        until = max(until, end)
    return wall_s - busy


def picture(deployed: Deployment, measured: Measured) -> list[str]:
    """What Airflow's records say of the last run: where its time went, and a timeline."""
    timeline = deployed.timelines[-1]
    wall = measured.usages["ours"][-1].wall_s
    return [
        "",
        f"In {idle(timeline, wall):.1f} of {wall:.1f} s no task ran. Airflow adds these and, in each task, its start.",
        "",
        *seconds_by_task(timeline),
        "",
        "```mermaid",
        *gantt(timeline),
        "```",
    ]


def gantt(timeline: list[answers.TaskInstance]) -> list[str]:
    """A run as a Mermaid diagram: a bar for each task instance."""
    spans = sorted((one.start, one.end, one) for one in timeline if one.start and one.end)
    first = spans[0][0]
    lines = ["gantt", "    dateFormat x", "    axisFormat %M:%S"]
    section = ""
    for start, end, one in spans:
        if one.task_id != section:
            section = one.task_id
            lines.append(f"    section {section}")
        label = one.label if one.map_index >= 0 else one.task_id
        begin, finish = (round((moment - first).total_seconds() * 1000) for moment in (start, end))
        lines.append(f"    {label} : {begin}, {finish}")
    return lines


def seconds_by_task(timeline: list[answers.TaskInstance]) -> list[str]:
    """A table: of each task, its instances, the sum of their seconds, the longest, and the time from first to last."""
    lines = [
        "| task | instances | seconds in all | longest | from first to last |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    names = {one.task_id: None for one in sorted(timeline, key=lambda one: str(one.start))}
    for name in names:
        spans = [(one.start, one.end) for one in timeline if one.task_id == name and one.start and one.end]
        if spans:
            took = [(end - start).total_seconds() for start, end in spans]
            whole = (max(end for _, end in spans) - min(start for start, _ in spans)).total_seconds()
            lines.append(f"| {name} | {len(took)} | {sum(took):.1f} | {max(took):.1f} | {whole:.1f} |")
    return lines
