"""Runs of all kinds begin, break off, go on, have tasks cleared or marked as success: only the last to begin changes.

The order is drawn from a seed (SEED); STEPS is how many things happen. Whatever it is, disk and bucket stay as the run
that began last left them, or the bucket is brought to what the disk holds; every refusal is in words; and a run from
its beginning to its end gives what its exports, its list of people and its param `release` say.
"""

from __future__ import annotations

import json
import logging
import os
import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from tests.kills.deployment import PREFIX, TASKS, Deployment, Progress
from tests.kills.invariants import check_pointers
from tests.kills.scenes import write_exports
from tests.unit.faceset.pipeline import FLAT, TREE, make_dataset, make_run, put, run_to_seal

pytestmark = pytest.mark.long

if TYPE_CHECKING:
    from pathlib import Path

log = logging.getLogger(__name__)

STEPS = int(os.environ.get("STEPS", "30"))
SEED = int(os.environ.get("SEED", "1"))
IN_WORDS = {
    "AirflowFailException",
    "CopyError",
    "FilterError",
    "PartsError",
    "SealError",
    "VerifyFailed",
    "upstream_failed",
}
"""Errors that tell a person what to do."""
UPSTREAM_FAILED = "copy_shard: upstream_failed: "
SKIPPED = "AirflowSkipException"
KINDS = ("full", "full", "dry", "back", "local", "erasing")
NOT_DONE = {"dry": {"copy_shard", "seal", "approve_deletions", "sync", "verify", "erase", "render_config"}}
NOT_DONE["local"] = {"verify"}


@dataclass
class Begun(Progress):
    """A run, with what Airflow knows of it: which tasks ended well. `number` counts those that began, 0 is none."""

    kind: str = "full"
    number: int = 0
    ended: set[str] = field(default_factory=set)

    @property
    def tasks(self) -> list[str]:
        return [task for task in TASKS if task not in NOT_DONE.get(self.kind, ())]


@dataclass(frozen=True)
class Seen:
    """What disk and bucket hold, and what they say that they hold."""

    output: dict[str, bytes]
    release: str | None
    objects: dict[str, bytes]
    published: str | None


def see(deployment: Deployment) -> Seen:
    output, latest = deployment.folder / "merged", deployment.folder / "merged.releases/latest.json"
    objects, pointer = deployment.objects(), f"{PREFIX.removesuffix('/')}.releases/latest.json"
    return Seen(
        {str(path.relative_to(output)): path.read_bytes() for path in output.rglob("*") if path.is_file()},
        json.loads(latest.read_text())["release_id"] if latest.exists() else None,
        {key.removeprefix(PREFIX): data for key, data in objects.items() if key.startswith(PREFIX)},
        json.loads(objects[pointer])["release_id"] if pointer in objects else None,
    )


def work(deployment: Deployment, run: Begun, tasks: list[str]) -> str:
    """Do tasks of a run as Airflow does: what ended well before stays so, until one fails. Its error, or nothing."""
    run.ended -= set(tasks)
    for task in tasks:
        if task == "copy_shard" and not run.handed_over.get("filter_manifest"):
            return UPSTREAM_FAILED  # Airflow cannot map it over nothing
        run.handed_over.pop(task, None)
        outcomes = [deployment.do(run, task, arguments) for arguments in run.instances(task)]
        errors = [one.error for one in outcomes if one.status and not one.error.startswith(SKIPPED)]
        if errors:
            return f"{task}: {errors[0]}"
        results = [one.result for one in outcomes]
        if results != [None]:
            run.done(task, results)
        run.ended.add(task)
    return ""


def expected(folder: Path, version: int, listed: bytes) -> dict[str, bytes]:
    """What a run makes of a version of the exports where there was nothing before."""
    write_exports(folder / "exports", version)
    dataset = make_dataset(folder, [FLAT, TREE], shards=2)
    return run_to_seal(make_run(dataset, suppressed=str(put(folder / "people", listed)))).output


def check_older(before: Seen, now: Seen, where: str) -> None:
    """A run that is not the last left all as it was, or brought the bucket to what the disk holds."""
    assert (now.output, now.release) == (before.output, before.release), where
    assert (now.objects, now.published) == (before.objects, before.published) or now.objects == now.output, where


def check_whole(
    run: Begun, now: Seen, wanted: dict[str, bytes], releases: dict[str, dict[str, bytes]], where: str
) -> None:
    """A run that was done from its scan to its end made what it should; what an erasure made anew is not known."""
    if run.kind == "back":
        wanted = releases.get(run.params["release"], now.output)
    assert now.output == wanted, where
    if run.kind != "local":
        assert now.objects == now.output, where
        assert now.published == now.release == run.handed_over["seal"]["release_id"], where


def test_runs_and_cleared_tasks_in_any_order(deployment: Deployment, tmp_path: Path) -> None:
    rng = random.Random(SEED)
    deployment.restore(deployment.folder / "nothing", {})
    nobody, listed = put(tmp_path / "nobody", b""), put(tmp_path / "people", b"id1\n")
    wanted = {
        (version, erasing): expected(tmp_path / f"{version}-{erasing}", version, b"id1\n" if erasing else b"")
        for version in range(3)
        for erasing in (False, True)
    }
    releases: dict[str, dict[str, bytes]] = {}
    runs: list[Begun] = []
    version = begun = last = 0
    happened: list[str] = []
    told: dict[str, int] = {}
    for _ in range(STEPS):
        write_exports(deployment.folder / "exports", version := rng.randrange(3))
        before = see(deployment)
        if not runs or rng.random() < 0.4:
            kept = sorted(path.parent.name for path in deployment.folder.glob("merged.releases/*/release.json"))
            kind = rng.choice([kind for kind in KINDS if kept or kind != "back"])
            params: dict[str, Any] = {"suppressed": str(listed if kind == "erasing" else nobody)}
            params |= {"dry": {"dry_run": True}, "local": {"skip_upload": True}}.get(kind, {})
            params |= {"release": rng.choice(kept)} if kind == "back" else {}
            run = Begun(f"manual__{len(runs)}", params, kind=kind)
            runs.append(run)
            tasks = run.tasks[: rng.choice([len(run.tasks), rng.randrange(1, len(run.tasks) + 1)])]
        else:
            run = rng.choice(runs[-4:])
            at = rng.choice([number for number in range(len(run.tasks)) if run.ended >= set(run.tasks[:number])])
            tasks = run.tasks[at:] if rng.random() < 0.5 else [run.tasks[at]]
            if at + 1 < len(run.tasks) and run.tasks[at] not in run.ended and rng.random() < 0.5:
                run.ended.add(run.tasks[at])  # marked as success
                tasks = run.tasks[at + 1 :]
        error = work(deployment, run, tasks)
        if "preflight" in tasks and "preflight" in run.ended:
            run.number = begun = begun + 1
        happened.append(f"{run.kind} {run.run_id} {run.number}: {tasks[0]}…{tasks[-1]} of version {version}: {error}")
        where = "\n".join(happened)
        now = see(deployment)

        told[error.partition("(")[0]] = told.get(error.partition("(")[0], 0) + 1
        check_pointers(deployment, where)
        assert not error or error.split(": ")[1] in IN_WORDS, where
        if run.kind == "dry" or "a later run" in error:
            assert now == before, where
        elif run.number < last:
            check_older(before, now, where)
        elif now != before:
            last = run.number
        if run.kind != "dry" and not error and tasks[-len(run.tasks) + 1 :] == run.tasks[1:]:
            check_whole(run, now, wanted[version, run.kind == "erasing"], releases, where)
        if now.release:
            releases[now.release] = now.output
    log.info("what was told: %s", told)
    log.info("%s", "\n".join(happened))


def test_a_summary_tells_of_the_bucket_only_what_is_proven(deployment: Deployment) -> None:
    deployment.restore(deployment.folder / "nothing", {})
    write_exports(deployment.folder / "exports", 0)
    run = Begun("manual__1")
    assert not work(deployment, run, run.tasks[: run.tasks.index("verify")])
    release = run.handed_over["seal"]["release_id"]
    error = work(deployment, run, ["summary"])  # as where verify was marked as success
    assert f"names nothing, so release {release} is not proven there" in error
    assert "Clear sync, with the tasks that follow it" in error
    assert not (deployment.folder / f"merged.releases/{release}/SUMMARY.md").exists()
    assert not work(deployment, run, run.tasks[run.tasks.index("sync") :])
