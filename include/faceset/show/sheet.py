"""Contact sheets: many faces in one picture, drawn when somebody looks, and never written anywhere."""

import io
import os
import stat
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from PIL import Image, ImageDraw

from include.faceset.ledger import Outcome
from include.faceset.run.run import Run

IMAGES = 100
"""Faces of a page."""
COLUMNS = 10
READERS = 16
QUALITY = 80
_GAP = 4
_LARGEST_CELL = 224
_MOST_PIXELS = 1 << 24
_PAPER, _MISSING = (128, 128, 128), (90, 90, 90)

Fetch = Callable[[str], bytes | None]
"""The bytes of a key at the destination; None if it is not there."""


def contents(run: Run, rows: Sequence[Mapping[str, Any]], fetch: Fetch) -> list[bytes | None]:
    """The bytes of files of a ledger: from the output, the destination or the export; None of one that has gone."""
    with ThreadPoolExecutor(READERS) as pool:
        return list(pool.map(lambda row: _content(run, row, fetch), rows))


def _content(run: Run, row: Mapping[str, Any], fetch: Fetch) -> bytes | None:
    if row["outcome"] == Outcome.KEPT.value and row["key"]:
        found = _read(run, str(run.output / row["key"])) if run.on_disk else None
        if (found := found or fetch(row["key"])) is not None:
            return found
    export = next((one for one in run.dataset.exports if one.name == row["export"]), None)
    if export is None or (row["size"] or 0) > run.dataset.max_file_size:
        return None
    if not export.in_s3:
        return _read(run, str(run.folder(export) / row["path"]))
    read = run.sources[export.name].read(row["path"], row["etag"]) if row["etag"] else None
    return read if isinstance(read, bytes) else None


def _read(run: Run, path: str) -> bytes | None:
    """A plain file's bytes; nothing that lies there under its name but is no file is waited for."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return None
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or status.st_size > run.dataset.max_file_size:
            return None
        return file.read()


def draw(images: Sequence[bytes | None], size: tuple[int, int], columns: int = COLUMNS) -> bytes:
    """A contact sheet (WebP) of images in rows of `columns`; one that cannot be drawn is a grey field with a cross.

    Args:
        images: encoded images.
        size: width and height of a cell in pixels; larger ones are scaled down.
        columns: images in a row.
    """
    scale = min(1, _LARGEST_CELL / max(size))
    width, height = (max(1, round(side * scale)) for side in size)
    columns = max(1, min(columns, len(images)))
    rows = -(-len(images) // columns) or 1
    sheet = Image.new("RGB", (columns * (width + _GAP) + _GAP, rows * (height + _GAP) + _GAP), _PAPER)
    for at, data in enumerate(images):
        corner = (_GAP + at % columns * (width + _GAP), _GAP + at // columns * (height + _GAP))
        sheet.paste(_cell(data, (width, height)), corner)
    written = io.BytesIO()
    sheet.save(written, "WEBP", quality=QUALITY, method=0)
    return written.getvalue()


def _cell(data: bytes | None, size: tuple[int, int]) -> Image.Image:
    try:
        with Image.open(io.BytesIO(data or b"")) as image:
            if image.width * image.height <= _MOST_PIXELS:
                image.draft("RGB", size)
                image.thumbnail(size)
                return image.convert("RGB")
    # Whatever Pillow raises of a file that is no whole image: what is looked at may be just that.
    except Exception:  # noqa: BLE001, S110
        pass
    cell = Image.new("RGB", size, _MISSING)
    ImageDraw.Draw(cell).line([(0, 0), size], fill=_PAPER, width=3)
    ImageDraw.Draw(cell).line([(0, size[1]), (size[0], 0)], fill=_PAPER, width=3)
    return cell
