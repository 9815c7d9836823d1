"""Rows of the record form: packed, published, read back; beside what moves or reads the same bytes."""

import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bench import measure
from bench.disk import ours
from bench.measure import Row, Target, Usage
from bench.peers import of_machine
from bench.s3 import BUCKET, Bucket
from local.sample.entries import FOLDERS

READ = Path(__file__).with_name("read.py")


@dataclass(frozen=True)
class Release:
    """A corpus that was sealed, and where: its output has hard links to the corpus."""

    corpus: Path
    output: Path

    @property
    def arguments(self) -> dict[str, str]:
        return {"source": str(self.corpus), "output": str(self.output)}

    @property
    def records(self) -> Path:
        """The folder of the two files."""
        (folder,) = Path(f"{self.output}.records").iterdir()
        return folder


def seal(corpus: Path, scratch: Path) -> Release:
    """Seal the corpus, if that is not done yet."""
    release = Release(corpus, scratch / "records/merged")
    if not Path(f"{release.output}.releases/latest.json").exists():
        for work in ("scan", "copy", "seal"):
            asked = {**release.arguments, "decode": "header", "link_mode": "hardlink"}
            measure.run(ours(work, **asked), scratch / "records" / work)
    return release


def pack(corpus: Path, scratch: Path) -> Release:
    """Seal and pack the corpus, if that is not done yet."""
    release = seal(corpus, scratch)
    if not Path(f"{release.output}.records").exists():
        measure.run(ours("pack", **release.arguments), scratch / "pack")
    return release


def pack_row(corpus: Path, scratch: Path, files: int) -> Row:
    """All images into one file, in another order, each compared with its SHA-256; beside a mere `cat`."""
    release = seal(corpus, scratch)

    def packed(number: int) -> Usage:
        shutil.rmtree(f"{release.output}.records", ignore_errors=True)
        return measure.run(ours("pack", **release.arguments), scratch / f"pack-{number}")

    def cat(number: int) -> Usage:
        script = 'find "$0" -type f -print0 | xargs -0 cat > "$1"'
        target = scratch / "cat"
        target.unlink(missing_ok=True)
        command = [of_machine("sh"), "-c", script, str(corpus / FOLDERS), str(target)]
        return measure.run(command, scratch / f"cat-said-{number}")

    note = "`cat` reads the files in the order in which they lie on the disk, and looks at none of them."
    return Row("pack", "pack into records", files, {"ours": packed, "cat": cat}, [Target("peak_mb", 500)], note=note)


def publish_row(s3: Bucket, corpus: Path, scratch: Path, files: int) -> Row:
    """The two files to S3, in parts, proven; beside one file as it is."""
    release = pack(corpus, scratch)
    rec = release.records / "train.rec"

    def published(number: int) -> Usage:
        destination = f"s3://{BUCKET}/publish-{number}/set/"
        return s3.ours("publish_records", **release.arguments, destination=destination)

    sides: dict[str, Callable[[int], Usage]] = {
        "ours": published,
        "s5cmd cp": lambda number: s3.tool("s5cmd", "cp", str(rec), f"s3://{BUCKET}/s5cmd-{number}/train.rec"),
    }
    return Row("publish", "publish the records", files, sides, [Target("wall_s", 1.2, ("s5cmd cp",))])


def read_row(corpus: Path, scratch: Path, files: int) -> Row:
    """Every image once, as a training reads it: records as they lie there, folders in a drawn order."""
    release = pack(corpus, scratch)

    def read(form: str, folder: Path) -> Callable[[int], Usage]:
        return lambda number: measure.run([sys.executable, str(READ), form, str(folder)], scratch / f"{form}-{number}")

    sides = {"ours": read("records", release.records), "image folder": read("folder", release.output)}
    return Row("read", "read all images back", files, sides, [Target("wall_s", 1.0, ("image folder",))])
