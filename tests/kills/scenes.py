"""What a run is killed in: the first one, one that changes a release of every kind of change, one that rolls back."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tests.kills.deployment import TASKS, Deployment, Outcome, Progress
from tests.unit.faceset.pipeline import face, put

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@dataclass(frozen=True)
class Moment:
    """A task about to begin: what there was (`saved`, `objects`), how it went, and what there was then."""

    run: Progress
    task: str
    arguments: list[Any]
    saved: Path
    objects: dict[str, bytes]
    outcome: Outcome
    seen: dict[str, Any]


@dataclass
class Scene:
    """A run that was never killed: where it began, each task of it, and where it ended."""

    deployment: Deployment
    saved: Path
    objects: dict[str, bytes]
    params: dict[str, Any]
    moments: list[Moment] = field(default_factory=list)

    def walk(self, *, save: bool) -> None:
        """Do the run, keeping the state before each task if it is to be gone back to."""
        run = Progress("manual__last", self.params)
        for task in TASKS:
            results = []
            for number, arguments in enumerate(run.instances(task)):
                saved = self.saved.with_name(f"{self.saved.name}-{task}-{number}")
                objects = self.deployment.save(saved) if save else {}
                now = Progress(run.run_id, run.params, dict(run.handed_over))
                outcome = self.deployment.do(now, task, arguments)
                assert not outcome.status, outcome
                results.append(outcome.result)
                seen = self.deployment.seen()
                self.moments.append(Moment(now, task, arguments, saved, objects, outcome, seen))
            run.done(task, results)

    def of(self, task: str) -> Iterator[Moment]:
        return (moment for moment in self.moments if moment.task == task)


def write_exports(folder: Path, version: int) -> None:
    """The exports as they were at first (0), then, and now (2): files come, go and change; labels come into doubt."""
    shutil.rmtree(folder, ignore_errors=True)
    flat, tree = folder / "faces_only", folder / "training_data"
    put(flat / "README.txt", b"no image")
    for number in range(6):
        put(flat / f"id{number}_face.png", face(number, "PNG"))
        put(tree / f"id{number}/a.jpg", face(10 + number))
    put(tree / "id0/empty.jpg", b"")
    put(tree / "id0/again.jpg", face(10))
    put(tree / "alone/a.jpg", face(30))
    if version >= 1:
        put(tree / "id1/b.jpg", face(21))
        put(tree / "id1/a.jpg", face(22))
        (flat / "id5_face.png").unlink()
        for number in range(2):
            put(tree / f"new/{number}.jpg", face(40 + number))
    if version >= 2:
        (flat / "id0_face.png").unlink()
        put(tree / "id2/a.jpg", face(23))
        put(tree / "id2/b.jpg", face(24))
        put(tree / "id2/c.jpg", face(25)[:-100])
        for number in (3, 4):
            put(tree / f"id{number}/shared.jpg", face(50))
        (tree / "new/1.jpg").unlink()
        for number in range(2):
            put(tree / f"newer/{number}.jpg", face(60 + number))


def first(deployment: Deployment, saved: Path) -> Scene:
    """Nothing is there yet."""
    deployment.restore(saved, {})
    write_exports(deployment.folder / "exports", 2)
    return Scene(deployment, saved, {}, {})


def following(deployment: Deployment, saved: Path) -> Scene:
    """Two releases are there, of which the older is one too many."""
    first_release(deployment)
    write_exports(deployment.folder / "exports", 2)
    return Scene(deployment, saved, deployment.save(saved), {})


def back(deployment: Deployment, saved: Path) -> Scene:
    """Two releases are there; the run rolls back to the older."""
    release = first_release(deployment)
    return Scene(deployment, saved, deployment.save(saved), {"release": release})


def first_release(deployment: Deployment) -> str:
    """Do two runs from nothing; the id of the first one's release."""
    deployment.restore(deployment.folder / "nothing", {})
    releases = []
    for version in range(2):
        write_exports(deployment.folder / "exports", version)
        run = Progress(f"manual__{version}")
        deployment.work(run)
        releases.append(run.handed_over["seal"]["release_id"])
    return str(releases[0])


SCENES = {"first": first, "following": following, "back": back}
