"""Rows of S3: first upload, nothing changed, proof; beside the AWS CLI, s5cmd and rclone at flags that suit them."""

import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench import measure
from bench.disk import ours
from bench.measure import Row, Target, Usage
from local.s3 import identities, seaweed
from local.sample.entries import FOLDERS

BUCKET = "bench"
WORKERS = "64"
RCLONE = ("--transfers", WORKERS, "--checkers", WORKERS, "--fast-list", "--s3-no-check-bucket", "--s3-no-head")
AWS_CONFIG = "[default]\ns3 =\n  max_concurrent_requests = 64\n  max_queue_size = 10000\n"


@dataclass(frozen=True)
class Bucket:
    """An S3 server for the rows: what every client's environment needs, and the peers' commands."""

    environment: Mapping[str, str]
    tools: Path
    scratch: Path

    def run(self, command: list[str], name: str) -> Usage:
        return measure.run(command, self.scratch / name, environment=self.environment)

    def ours(self, work: str, **arguments: object) -> Usage:
        return self.run(ours(work, **arguments), f"ours-{work}")

    def tool(self, name: str, *arguments: str) -> Usage:
        return self.run([str(self.tools / name), *arguments], name)


def bucket(endpoint: str, credentials: identities.Credentials, tools: Path, scratch: Path) -> Bucket:
    """The environment that leads every client to one server."""
    scratch.mkdir(parents=True, exist_ok=True)
    config = scratch / "aws.config"
    config.write_text(AWS_CONFIG)
    return Bucket(
        {
            "AWS_ACCESS_KEY_ID": credentials.access_key,
            "AWS_SECRET_ACCESS_KEY": credentials.secret_key,
            "AWS_REGION": seaweed.REGION,
            "AWS_DEFAULT_REGION": seaweed.REGION,
            "AWS_ENDPOINT_URL": endpoint,
            "AWS_CONFIG_FILE": str(config),
            "S3_ENDPOINT_URL": endpoint,
            "RCLONE_CONFIG_S3_TYPE": "s3",
            "RCLONE_CONFIG_S3_PROVIDER": "Other",
            "RCLONE_CONFIG_S3_ENV_AUTH": "true",
            "RCLONE_CONFIG_S3_ENDPOINT": endpoint,
            "RCLONE_CONFIG_S3_REGION": seaweed.REGION,
        },
        tools,
        scratch,
    )


def upload_row(s3: Bucket, corpus: Path, files: int, *, aws: bool) -> Row:
    """Everything sent to an empty prefix, beside the quick ones or, since it needs long, the AWS CLI alone."""
    tree = f"{corpus / FOLDERS}/"
    listed = _objects(s3, corpus)
    name = "with-aws" if aws else "ours"

    def sent(number: int) -> Usage:
        record = s3.scratch / f"record-{number}.parquet"
        record.unlink(missing_ok=True)
        return s3.ours("sync", source=tree, destination=_uri(name, number), objects=listed, record=str(record))

    if aws:
        cli = lambda n: s3.tool("aws", "s3", "sync", "--quiet", tree, _uri("aws", n))  # noqa: E731
        sides = {"ours": sent, "aws s3 sync": cli}
        slow = Target("cpu_s", 0.15, ("aws s3 sync",))
        return Row("upload-aws", "first upload, beside the AWS CLI", files, sides, [slow], once=("aws s3 sync",))
    peers: dict[str, Callable[[int], Usage]] = {
        "s5cmd cp": lambda n: s3.tool("s5cmd", "--numworkers", WORKERS, "cp", tree, _uri("s5cp", n)),
        "s5cmd sync": lambda n: s3.tool("s5cmd", "--numworkers", WORKERS, "sync", tree, _uri("s5sync", n)),
        "rclone copy": lambda n: s3.tool("rclone", "copy", tree, _remote("rclone", n), *RCLONE, "--no-check-dest"),
    }
    targets = [Target("wall_s", 1.0, tuple(peers)), Target("cpu_s", 0.7, tuple(peers))]
    return Row("upload", "first upload", files, {"ours": sent, **peers}, targets)


def unchanged_row(s3: Bucket, corpus: Path, files: int) -> Row:
    """Nothing to do: the prefix is as it should be."""
    tree = f"{corpus / FOLDERS}/"
    listed, record = _uploaded(s3, corpus)
    sides: dict[str, Callable[[int], Usage]] = {
        "ours": lambda _: s3.ours("sync", source=tree, destination=_uri("whole"), objects=listed, record=record),
        "s5cmd sync": lambda _: s3.tool("s5cmd", "sync", tree, _uri("whole")),
        "rclone copy --size-only": lambda _: s3.tool("rclone", "copy", tree, _remote("whole"), *RCLONE, "--size-only"),
        "aws s3 sync": lambda _: s3.tool("aws", "s3", "sync", "--quiet", tree, _uri("whole")),
    }
    peers = tuple(side for side in sides if side != "ours")
    return Row(
        "unchanged",
        "sync, nothing changed",
        files,
        sides,
        [Target("wall_s", 0.5, peers)],
        note="We list in eight ranges side by side; one after the other the server needs 16 to 18 s for as many keys.",
    )


def verify_row(s3: Bucket, corpus: Path, files: int) -> Row:
    """Every key, size and checksum proven, beside a mere listing and rclone's check."""
    tree = f"{corpus / FOLDERS}/"
    listed, record = _uploaded(s3, corpus)
    sides: dict[str, Callable[[int], Usage]] = {
        "ours": lambda _: s3.ours("verify", destination=_uri("whole"), objects=listed, record=record),
        "aws s3 ls --recursive": lambda _: s3.tool("aws", "s3", "ls", "--recursive", _uri("whole")),
        "rclone check": lambda _: s3.tool("rclone", "check", tree, _remote("whole"), *RCLONE),
    }
    return Row("verify", "verify", files, sides, [Target("wall_s", 1.0, ("aws s3 ls --recursive",))])


def sink_row(s3: Bucket, corpus: Path, files: int) -> Row:
    """The client alone: what it sends goes nowhere."""
    tree = f"{corpus / FOLDERS}/"
    listed = _objects(s3, corpus)
    sides: dict[str, Callable[[int], Usage]] = {
        "ours": lambda n: s3.ours("sync", source=tree, destination=_uri("ours", n), objects=listed),
        "s5cmd cp": lambda n: s3.tool("s5cmd", "--numworkers", WORKERS, "cp", tree, _uri("s5cp", n)),
    }
    targets = [Target("wall_s", 1 / 1.5, ("s5cmd cp",)), Target("cpu_s", 0.6, ("s5cmd cp",))]
    return Row("sink", "upload to a server that keeps nothing", files, sides, targets)


@contextmanager
def sink() -> Iterator[str]:
    """The endpoint of a running sink."""
    process = subprocess.Popen([sys.executable, "-m", "bench.sink"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    with process:
        if process.stdout is None:
            raise measure.BenchError("the sink has no output")
        yield f"http://127.0.0.1:{int(process.stdout.readline())}"


def _uri(side: str, number: int | None = None) -> str:
    return f"s3://{BUCKET}/{side}/" if number is None else f"s3://{BUCKET}/{side}-{number}/"


def _remote(side: str, number: int | None = None) -> str:
    return _uri(side, number).replace("s3://", "s3:")


def _objects(s3: Bucket, corpus: Path) -> str:
    """The list of what is to be sent: made once, since the DAG's `seal` has it too."""
    path = s3.scratch / "objects.parquet"
    if not path.exists():
        measure.run(ours("objects", source=str(corpus / FOLDERS), path=str(path)), s3.scratch / "objects.out")
    return str(path)


def _uploaded(s3: Bucket, corpus: Path) -> tuple[str, str]:
    """The list and the record of a prefix `whole` that holds everything."""
    listed, record = _objects(s3, corpus), s3.scratch / "whole.parquet"
    s3.ours("sync", source=str(corpus / FOLDERS), destination=_uri("whole"), objects=listed, record=str(record))
    return listed, str(record)
