"""Rows of the disk: scan and filter beside `find`, copying beside `cp` and `rsync`."""

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

from bench import measure
from bench.measure import Row, Target, Usage
from bench.peers import of_machine
from local.sample.entries import FLAT, FOLDERS

LISTING = "%s %T@ %p\\n"


def ours(work: str, **arguments: object) -> list[str]:
    """The command that does our work."""
    return [sys.executable, "-m", "bench.ours", work, json.dumps(arguments)]


def scan_row(corpus: Path, scratch: Path, files: int) -> Row:
    """All exports scanned and filtered, beside a listing of the same folders."""
    roots = [str(corpus / FLAT), str(corpus / FOLDERS)]

    def scan(number: int) -> Usage:
        output = scratch / f"scan-{number}"
        return measure.run(ours("scan", source=str(corpus), output=str(output / "merged")), output / "said")

    def find(number: int) -> Usage:
        command = [of_machine("find"), *roots, "-type", "f", "-printf", LISTING]
        return measure.run(command, scratch / f"find-{number}")

    return Row(
        "scan",
        "scan, manifest and filter",
        files,
        {"ours": scan, "find": find},
        [Target("wall_s", 1.3, ("find",)), Target("peak_mb", 300)],
    )


def copy_row(corpus: Path, scratch: Path, files: int) -> Row:
    """Every image decoded, hashed and copied, beside plain copies."""
    sides = {"ours": _copied(corpus, scratch / "copy", link_mode="copy"), "cp -r": _peer(corpus, scratch, "cp", "-r")}
    if shutil.which("rsync"):
        sides["rsync -a"] = _peer(corpus, scratch, "rsync", "-a")
    return Row(
        "copy",
        "copy with decode: full, link_mode: copy",
        files,
        sides,
        [Target("wall_s", 1.0, ("cp -r",)), Target("peak_mb", 500)],
        note="`cp` looks at no byte. Of our CPU time, 106 µs an image, libjpeg takes 40, the kernel 39, and Python "
        "with SHA-256 the rest. On two cores the first two alone are 1.7 times what `cp` takes.",
    )


def link_row(corpus: Path, scratch: Path, files: int) -> Row:
    """Headers read, everything hashed, hard links."""
    sides = {
        "ours": _copied(corpus, scratch / "link", link_mode="hardlink", decode="header"),
        "cp -rl": _peer(corpus, scratch, "cp", "-rl"),
    }
    return Row(
        "link",
        "copy with decode: header, link_mode: hardlink",
        files,
        sides,
        [Target("wall_s", 2.5, ("cp -rl",))],
        note="`cp -rl` opens no file. Ours are opened, read and hashed: of 48 µs of CPU an image some 29 are system "
        "calls, which on two cores are 1.8 times what `cp -rl` takes; the rest is SHA-256, the header, and Python.",
    )


def _copied(corpus: Path, scratch: Path, **params: str) -> Callable[[int], Usage]:
    def copy(number: int) -> Usage:
        arguments = {"source": str(corpus), "output": str(scratch / f"{number}" / "merged"), **params}
        measure.run(ours("scan", **arguments), scratch / "scan.said")
        return measure.run(ours("copy", **arguments), scratch / "copy.said")

    return copy


def _peer(corpus: Path, scratch: Path, command: str, flags: str) -> Callable[[int], Usage]:
    def copy(number: int) -> Usage:
        target = scratch / f"{command}{flags}-{number}"
        return measure.run([of_machine(command), flags, str(corpus / FOLDERS), str(target)], scratch / "said")

    return copy
