"""The screen of `make run`: what it shows is what the tasks say."""

import io
from datetime import UTC, datetime, timedelta
from typing import Any

from rich.console import Console

from local.airflow import screen
from local.airflow.answers import TaskInstance

START = datetime(2026, 12, 1, tzinfo=UTC)


def task(name: str, state: str | None, number: int = -1, began: int | None = 0, seconds: float = 2.0) -> TaskInstance:
    start = None if began is None else START + timedelta(seconds=began)
    end = start + timedelta(seconds=seconds) if start and state in {"success", "failed"} else None
    return TaskInstance(name, number, str(number), state, 1, seconds if end else None, start, end)


def shown(*instances: TaskInstance, files: screen.Files | None = None) -> str:
    console = Console(file=io.StringIO(), width=100)
    console.print(screen.render("A run", 75, screen.tasks_of(instances), files, "copy_shard: 5 of 9 images"))
    written: Any = console.file
    return str(written.getvalue())


def test_tasks_stand_in_the_order_in_which_they_began_with_their_shards_counted() -> None:
    text = shown(
        task("sync", None, began=None),
        task("copy_shard", "running", 1, began=5),
        task("copy_shard", "success", 0, began=5),
        task("preflight", "success"),
    )
    lines = [line.split() for line in text.splitlines()]
    assert lines[0][-1] == "1:15"
    assert [line[0] for line in lines[1:4]] == ["preflight", "copy_shard", "sync"]
    assert lines[2][1:5] == ["running", "1/2", "2.0", "s"]


def test_a_failure_among_many_is_what_is_shown_of_them() -> None:
    found = screen.tasks_of(
        [task("copy_shard", state, at) for at, state in enumerate(("success", "failed", "running"))]
    )
    assert (found[0].state, found[0].ended, found[0].total) == ("failed", 2, 3)


def test_outcomes_add_up_and_the_time_left_follows_from_the_shards_done() -> None:
    shards = [{"images": 90, "rejected": 10, "outcomes": {"corrupt": 4, "too_few_images": 6}}, {"images": 100}]
    files = screen.files_of(shards, 8, 10.0)
    assert files.outcomes == {"kept": 190, "too_few_images": 6, "corrupt": 4}
    assert (files.a_second, files.left_s) == (20.0, 30.0)
    text = shown(task("copy_shard", "running"), files=files)
    assert "200 files, 20 a second, 0:30 left to copy" in text
    assert "kept 190   too_few_images 6   corrupt 4" in text


def test_nothing_is_reckoned_of_nothing() -> None:
    files = screen.files_of([], 8, 0.0)
    assert (files.outcomes.total(), files.a_second, files.left_s) == (0, 0.0, None)
    assert "left to copy" not in shown(task("copy_shard", "running"), files=files)


def test_shards_that_never_began_have_no_pace() -> None:
    shown = screen.Screen("A run", lambda *_: {}, lambda _: "")
    waiting = [task("copy_shard", state, at, began=None) for at, state in enumerate(("upstream_failed", "skipped"))]
    assert shown._files(waiting) is None
