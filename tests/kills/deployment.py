"""A deployment without a scheduler: exports, output, bucket, and the tasks of a run, each in a process of its own."""

from __future__ import annotations

import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pyarrow.parquet as pq

from tests.unit.faceset.pipeline import FLAT, SMALL, TREE

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
BUCKET = "faces"
PREFIX = "sets/faces/"
TASKS = (
    *("preflight", "scan", "forget", "filter_manifest", "copy_shard", "seal"),
    *("approve_deletions", "sync", "verify", "pack", "erase", "render_config", "summary"),
)
CHANGED = ("merged", "merged.records", "merged.releases")
"""What a run can change on the disk."""
STOPPED = int(signal.SIGSTOP)
Like = Literal["task", "run", "other run"]
CLAIM = "claim.json"
OWN: dict[Like, set[str]] = {
    "task": {"sealed_at", "written"},
    "run": {"sealed_at", "written", "sync"},
    "other run": {"sealed_at", "written", "sync", "run_id", "owner", "holder", "before", "changes"},
}


@dataclass(frozen=True)
class Outcome:
    """How the process of a task ended; of a killed one only `status` (minus the signal's number) is known."""

    status: int
    result: Any = None
    error: str = ""
    points: list[str] = field(default_factory=list)


class Worker:
    """The other end of worker.py."""

    def __init__(self, process: subprocess.Popen[str], folder: Path) -> None:
        self.process, self.folder = process, folder

    def ask(self, request: dict[str, Any]) -> int:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        return int(self.process.stdout.readline())

    def start(self, request: dict[str, Any]) -> tuple[int, Path]:
        """Start a task; the id of its process, and where that will write what came of it."""
        descriptor, answer = tempfile.mkstemp(dir=self.folder)
        os.close(descriptor)
        return self.ask({**request, "answer": answer}), Path(answer)

    def await_end(self, pid: int) -> None:
        """Wait until a task's process has ended; its id stays its own until `wait`."""
        self.ask({"await": pid})

    def wait(self, pid: int, answer: Path) -> Outcome:
        """Wait until a task's process has ended, or was stopped."""
        status = self.ask({"wait": pid})
        if status == STOPPED:
            return Outcome(status)
        text = answer.read_text()
        answer.unlink()
        if not text:
            return Outcome(status)
        said = json.loads(text)
        return Outcome(status, said.get("result"), said.get("error", ""), said["points"])


@contextmanager
def worker(environment: dict[str, str]) -> Iterator[Worker]:
    """Run worker.py until the block ends."""
    paths = os.pathsep.join(str(ROOT / name) for name in ("", "plugins", "dags"))
    with (
        tempfile.TemporaryDirectory(prefix="worker-") as folder,
        (Path(folder) / "log").open("w") as log,
        subprocess.Popen(
            [sys.executable, "-m", "tests.kills.worker"],
            env={**os.environ, **environment, "PYTHONPATH": paths},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        ) as process,
    ):
        yield Worker(process, Path(folder))
        assert process.stdin is not None
        process.stdin.close()


@dataclass
class Deployment:
    """Exports and output in `folder`, a destination in a bucket of a real S3 server."""

    folder: Path
    s3: Any
    worker: Worker
    cache: dict[tuple[str, str], bytes] = field(default_factory=dict)

    @property
    def dataset(self) -> dict[str, Any]:
        return {
            "name": "faces",
            "local_source": str(self.folder / "exports"),
            "output": str(self.folder / "merged"),
            "destination": f"s3://{BUCKET}/{PREFIX}",
            "exports": [FLAT, TREE],
            "shards": 2,
            "training": SMALL,
            "forms": ["image_folder", "record"],
            "keep_releases": 2,
            "max_delete_fraction": 1.0,
        }

    def request(self, run: Progress, task: str, arguments: list[Any], **more: Any) -> dict[str, Any]:
        return {
            "dataset": self.dataset,
            "run_id": run.run_id,
            "params": run.params,
            "task": task,
            "arguments": arguments,
            "handed_over": run.handed_over,
            **more,
        }

    def do(self, run: Progress, task: str, arguments: list[Any], **more: Any) -> Outcome:
        """Run one task in a process of its own."""
        return self.worker.wait(*self.worker.start(self.request(run, task, arguments, **more)))

    def work(self, run: Progress, until: str | None = None) -> None:
        """Run the tasks of a run that have not ended well yet, one after the other, to the end or before `until`."""
        for task in TASKS:
            if task == until:
                return
            if task not in run.handed_over:
                outcomes = [self.do(run, task, arguments) for arguments in run.instances(task)]
                assert not any(one.status for one in outcomes), outcomes
                run.done(task, [one.result for one in outcomes])

    def work_until_killed(self, run: Progress, seconds: float) -> bool:
        """Do the tasks of a run, those of a mapped task at once, and kill all processes when the time has come.

        False: the run was over before.
        """
        running: list[int] = []
        lock, over = threading.Lock(), threading.Event()

        def kill() -> None:
            with lock:
                over.set()
                for pid in running:
                    os.kill(pid, signal.SIGKILL)

        timer = threading.Timer(seconds, kill)
        timer.start()
        try:
            for task in TASKS:
                with lock:
                    if over.is_set():
                        return True
                    started = [self.worker.start(self.request(run, task, one)) for one in run.instances(task)]
                    running += [pid for pid, _ in started]
                outcomes = []
                for pid, answer in started:
                    self.worker.await_end(pid)
                    with lock:
                        outcomes.append(self.worker.wait(pid, answer))
                        running.remove(pid)
                if any(one.status == -signal.SIGKILL for one in outcomes):
                    return True
                assert not any(one.status for one in outcomes), outcomes
                run.done(task, [one.result for one in outcomes])
            return False
        finally:
            timer.cancel()
            timer.join()

    # What it holds.

    def save(self, folder: Path) -> dict[str, bytes]:
        """Copy what a run can change on disk into `folder`; the objects."""
        for name in CHANGED:
            if (self.folder / name).exists():
                shutil.copytree(self.folder / name, folder / name, symlinks=True)
        return self.objects()

    def restore(self, folder: Path, objects: dict[str, bytes]) -> None:
        for name in CHANGED:
            shutil.rmtree(self.folder / name, ignore_errors=True)
            if (folder / name).exists():
                shutil.copytree(folder / name, self.folder / name, symlinks=True)
        now = self.objects()
        for key in now.keys() - objects.keys():
            self.s3.delete_object(Bucket=BUCKET, Key=key)
        for key, content in objects.items():
            if now.get(key) != content:
                self.s3.put_object(Bucket=BUCKET, Key=key, Body=content)

    def objects(self) -> dict[str, bytes]:
        """The bytes of every object of the bucket, by key; what did not change is not fetched again."""
        pages = self.s3.get_paginator("list_objects_v2").paginate(Bucket=BUCKET)
        listed = [(item["Key"], item["ETag"]) for page in pages for item in page.get("Contents", ())]
        for one in listed:
            if one not in self.cache:
                self.cache[one] = self.s3.get_object(Bucket=BUCKET, Key=one[0])["Body"].read()
        return {key: self.cache[key, etag] for key, etag in listed}

    def uploads(self) -> list[Any]:
        """Multipart uploads that nobody has ended."""
        found: list[Any] = self.s3.list_multipart_uploads(Bucket=BUCKET).get("Uploads", [])
        return found

    def seen(self, like: Like = "task") -> dict[str, Any]:
        """Everything there is, but for what every run has of its own (`essence`)."""
        found: dict[str, Any] = {}
        for top in ("exports", *CHANGED):
            for path in sorted((self.folder / top).rglob("*")):
                status = path.lstat()
                name = str(path.relative_to(self.folder))
                if like == "other run" and "/.work/" in name and "/staging/" not in name:
                    continue
                content = path.read_bytes() if stat.S_ISREG(status.st_mode) else b""
                if path.parent.name == ".owner":  # the claim's number counts runs
                    name = str(Path(name).with_name(CLAIM))
                found[name] = (oct(status.st_mode), essence(Path(name).name, content, like))
        for key, content in self.objects().items():
            found[f"s3:{key}"] = essence(key.rpartition("/")[2], content, like)
        return found


@lru_cache(maxsize=10_000)
def essence(name: str, content: bytes, like: Like) -> Any:
    """What a file says, without what is never twice the same, even of the same input.

    Of the same task, these are: the name that a deployment draws once (`.deployment`), when the copied files were
    written (`staged_mtime_ns` of the ledger), when the release was sealed (`sealed_at`), when the lease was written
    (`written`), and the order of rows in the records of uploads, which many threads make. Of the same run, whose sync
    may have had less left to do, also how much it uploaded. Of another run, also its name, and in its summary what it
    compares with: the release that it found.
    """
    if name.endswith(".parquet"):
        table = pq.read_table(BytesIO(content))
        if "staged_mtime_ns" in table.column_names:
            table = table.drop_columns(["staged_mtime_ns"])
        if {"key", "etag"} <= set(table.column_names) and "outcome" not in table.column_names:
            table = table.sort_by("key")
        return str(table.schema), table.to_pylist()
    if name in ("release.json", "lease.json", "summary.json", CLAIM):
        said = json.loads(content)
        return {key: value for key, value in said.items() if key not in OWN[like]}
    if name == ".deployment":
        return len(content)
    if name == "SUMMARY.md" and like != "task":
        lines = content.decode().splitlines()
        row = next((index for index, line in enumerate(lines) if line.startswith("| uploaded")), -3) + 2
        return like == "other run" or lines[:row] + lines[row + 1 :]
    return content


@dataclass
class Progress:
    """A run: its name, its params, and what the tasks that ended well handed over, by task."""

    run_id: str
    params: dict[str, Any] = field(default_factory=dict)
    handed_over: dict[str, Any] = field(default_factory=dict)

    def instances(self, task: str) -> list[list[Any]]:
        """The arguments of each process of a task."""
        if task == "scan":
            return [[FLAT["name"]], [TREE["name"]]]
        if task == "copy_shard":
            return [[shard] for shard in self.handed_over["filter_manifest"]]
        return [[]]

    @property
    def next_task(self) -> str:
        """The first task that has not ended well."""
        return next(task for task in TASKS if task not in self.handed_over)

    def done(self, task: str, results: list[Any]) -> None:
        self.handed_over[task] = results if task in ("scan", "copy_shard") else results[0]
