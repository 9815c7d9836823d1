"""Measure the rows that are asked for, print them, and keep them."""

import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

from bench import disk, growth, parse, peers, pipeline, records, report, s3, scale, show
from bench.measure import BenchError, Row, measure
from local.airflow.settings import ROOT, state_folder
from local.commands.run import UsageError, command
from local.s3 import identities, seaweed
from local.sample.sample import Counts, make_reference

DISK = ("parse", "scan", "copy", "link", "pack", "read", "ask")
S3 = ("upload", "upload-aws", "unchanged", "verify", "publish")
DAG = ("dag", "dag-shell")
ROWS = (*DISK, "sink", *S3, *DAG, "growth", "scale")
MAKES_FILES = {"copy", "link", "growth", "pack", "read", "publish", "ask", *DAG}
EXT4_REMEMBERS_S = 360
"""ext4 gives no inode away again that was freed less than 60 to 360 s ago, and looks at all of them for every file that
is made, which then takes four times as long: `recently_deleted` in fs/ext4/ialloc.c."""
QUICK_BELOW = 0.1
QUICK = tuple(name for name in ROWS if name not in {"upload-aws", "growth", "scale", *DAG})
"""What a quick look takes, once: without what needs minutes at any size."""


@dataclass(frozen=True)
class Bench:
    """What was asked for, and where its files are."""

    scale: float
    rounds: int
    corpus: Path
    counts: Counts
    scratch: Path

    @property
    def scanned(self) -> int:
        return self.counts.flat_files + self.counts.folder_files


ON_DISK: dict[str, Callable[[Bench], Row]] = {
    "parse": lambda bench: parse.parse_row(bench.scratch),
    "scan": lambda bench: disk.scan_row(bench.corpus, bench.scratch, bench.scanned),
    "copy": lambda bench: disk.copy_row(bench.corpus, bench.scratch, bench.counts.folder_files),
    "link": lambda bench: disk.link_row(bench.corpus, bench.scratch, bench.counts.folder_files),
    "pack": lambda bench: records.pack_row(bench.corpus, bench.scratch, bench.counts.folder_files),
    "ask": lambda bench: show.ask_row(bench.corpus, bench.scratch, bench.scanned),
    "read": lambda bench: records.read_row(bench.corpus, bench.scratch, bench.counts.folder_files),
}


@contextmanager
def row(name: str, bench: Bench) -> Iterator[Row]:
    """A row, with the servers that it needs."""
    corpus, scratch, images = bench.corpus, bench.scratch, bench.counts.folder_files
    if name in ON_DISK:
        yield ON_DISK[name](bench)
    elif name == "sink":
        with s3.sink() as endpoint:
            nobody = identities.Credentials("nobody", "nothing")
            yield s3.sink_row(s3.bucket(endpoint, nobody, _tools(), scratch / "sink"), corpus, images)
    else:
        with seaweed.running(scratch / "s3", [s3.BUCKET]) as server:
            bucket = s3.bucket(server.endpoint, server.user, _tools(), scratch / "clients")
            if name in {"upload", "upload-aws"}:
                yield s3.upload_row(bucket, corpus, images, aws=name == "upload-aws")
            elif name == "publish":
                yield records.publish_row(bucket, corpus, scratch, images)
            elif name == "unchanged":
                yield s3.unchanged_row(bucket, corpus, images)
            else:
                yield s3.verify_row(bucket, corpus, images)


def single(name: str, bench: Bench) -> Iterator[dict[str, Any]]:
    """Measure a row of single commands."""
    with row(name, bench) as one:
        yield report.as_dict(measure(one, bench.rounds), bench.scale, bench.rounds, peers.versions(_tools()))


def whole(name: str, bench: Bench) -> Iterator[dict[str, Any]]:
    """Measure the whole DAG: from nothing and then with nothing to do, or beside what it replaces."""
    images, versions = bench.counts.folder_files, peers.versions(_tools())
    with pipeline.deployed(bench.corpus, bench.scratch / name, _tools()) as deployed:
        rows = [pipeline.full_row(deployed, images, shell=name == "dag-shell")]
        if name == "dag":
            rows.append(pipeline.unchanged_row(deployed, images))
        for one in rows:
            measured = measure(one, bench.rounds)
            below = pipeline.picture(deployed, measured)
            yield report.as_dict(measured, bench.scale, bench.rounds, versions, below)


def growing(_: str, bench: Bench) -> Iterator[dict[str, Any]]:
    """Measure every task at several sizes."""
    with seaweed.running(bench.scratch / "s3", [s3.BUCKET]) as server:
        bucket = s3.bucket(server.endpoint, server.user, _tools(), bench.scratch / "clients")
        sizes = growth.Growth(bucket, state_folder(), bench.scratch, bench.scale)
        measured = measure(sizes.row(), bench.rounds)
        yield report.as_dict(measured, bench.scale, bench.rounds, peers.versions(_tools()), sizes.table())


def many(_: str, bench: Bench) -> Iterator[dict[str, Any]]:
    """Measure manifests of many millions of rows."""
    sizes = scale.Scale(bench.scratch, bench.scale)
    measured = measure(sizes.row(), bench.rounds)
    yield report.as_dict(measured, bench.scale, bench.rounds, peers.versions(_tools()), sizes.table())


MEASURES = {"growth": growing, "scale": many, **dict.fromkeys(DAG, whole)}


def main() -> int:
    """Read the settings, measure, keep and print.

    `SCALE` of the corpus, `ROWS` by name (default: all, or those of a quick look), `ROUNDS` of each (3, or 1), `SOURCE`
    (a corpus that is there), `RESULTS` (the folder of the figures).
    """
    scale = float(os.environ.get("SCALE") or 1)
    quick = scale < QUICK_BELOW
    rounds = int(os.environ.get("ROUNDS") or (1 if quick else 3))
    asked = (os.environ.get("ROWS") or " ".join(QUICK if quick else ROWS)).split()
    if unknown := set(asked) - set(ROWS):
        raise UsageError(f"ROWS: {', '.join(sorted(unknown))} is none of {', '.join(ROWS)}")
    corpus = Path(os.environ.get("SOURCE") or state_folder() / f"sample-scale-{scale:g}")
    counts = make_reference(corpus, scale)
    (state := state_folder() / "bench").mkdir(parents=True, exist_ok=True)
    makes_files, removed = MAKES_FILES & set(asked) and not quick, state / "removed-many-files"
    if makes_files and removed.exists():
        _wait_for_ext4(since=removed.stat().st_mtime)
    results = Path(os.environ.get("RESULTS") or (ROOT / "docs" if scale == 1 else state / f"scale-{scale:g}"))
    scratch = Path(mkdtemp(prefix=f"scale-{scale:g}-", dir=state))
    bench = Bench(scale, rounds, corpus, counts, scratch)
    try:
        for name in asked:
            for found in MEASURES.get(name, single)(name, bench):
                report.keep(found, results)
    except BenchError as error:
        print(error, file=sys.stderr)
        return 1
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
        if makes_files:
            removed.touch()
    print((results / "benchmarks.md").read_text())
    return 0


def _wait_for_ext4(since: float) -> None:
    """Wait until what the last bench removed (seconds since the epoch) slows down nobody who makes files."""
    left = since + EXT4_REMEMBERS_S - time.time()
    if left > 0:
        print(f"waiting {left:.0f} s: ext4 is slow until it forgets the files of the last bench", file=sys.stderr)
        time.sleep(left)


def _tools() -> Path:
    return peers.install(state_folder() / "bench-tools")


if __name__ == "__main__":
    command(main)
