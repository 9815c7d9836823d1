"""Packing: every image of a release is read once, compared with its SHA-256, and appended to the records."""

import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import suppress
from itertools import chain, islice, tee
from pathlib import Path
from typing import NamedTuple

from include.faceset.errors import Final, NotReadyError
from include.faceset.exports.opening import open_now, read_whole
from include.faceset.exports.read_ahead import READERS, reading_ahead
from include.faceset.ground import files
from include.faceset.records import order, recordio
from include.faceset.records.packed import IDX, Packed, folder_of
from include.faceset.records.pixels import for_all_readers
from include.faceset.records.writer import RecordWriter, safe_records
from include.faceset.release.release import Release
from include.faceset.run.attempt import Attempt
from include.faceset.run.run import Run

OVERHEAD = 48
"""Bytes that a record and its line in the index take beside the image's own."""
CHECK_EVERY = 1_000
_IN_WORK = ".packing-"


class PackError(Final):
    """A release that cannot be packed."""


class Image(NamedTuple):
    """An image to pack, as `order.shuffled` has it."""

    key: str
    label: int
    size: int
    sha256: bytes
    export: str
    path: str
    etag: str | None


def pack_anew(attempt: Attempt, sealed: Release, label_table: str) -> Packed:
    """Pack a release into its folder (`packed.folder_of`), going on where a try that was killed had come to.

    Raises:
        NotReadyError: it does not fit on the disk.
        PackError: an image is no longer what was sealed.
        SupersededError: a later try of this task has begun.
    """
    run = attempt.run
    earlier = _take_over(attempt)
    _check_room(run, sealed)
    folder = run.records / f"{_IN_WORK}{attempt.folder.name}"
    folder.mkdir(mode=files.FOLDER_MODE)
    writer = RecordWriter(folder)
    try:
        reencoded = _write_all(attempt, writer, sealed, earlier)
        written = writer.finish()
    finally:
        writer.close()
    final = folder_of(run, sealed.release_id)
    attempt.discard(final)
    try:
        folder.rename(final)
    except FileNotFoundError:
        attempt.check()
        raise
    files.sync_folder(final.parent)
    return Packed(sealed.release_id, sealed.images, sealed.labels, label_table, reencoded, written)


def clear_unfinished(attempt: Attempt) -> None:
    """Remove what killed tries left."""
    for folder in attempt.run.records.glob(f"{_IN_WORK}*"):
        attempt.discard(folder)


def _take_over(attempt: Attempt) -> list[Path]:
    """The unfinished folders of earlier tries, now this try's own: theirs cannot become a release's any more."""
    files.make_folder(attempt.run.records)
    taken = []
    for number, folder in enumerate(sorted(attempt.run.records.glob(f"{_IN_WORK}*"))):
        mine = attempt.waste / f"unfinished-{number}"
        with suppress(FileNotFoundError):
            folder.rename(mine)
            taken.append(mine)
    return sorted(taken, key=_size, reverse=True)


def _size(folder: Path) -> int:
    index = folder / IDX
    return index.stat().st_size if index.exists() else 0


def _check_room(run: Run, sealed: Release) -> None:
    needed, free = sealed.size + OVERHEAD * sealed.images, shutil.disk_usage(run.records).free
    if free < needed:
        raise NotReadyError(
            f"the records of release {sealed.release_id} need {needed / 1e9:.2f} GB on the disk of {run.records}, "
            f"which has {free / 1e9:.2f} GB free; make room and clear pack, or take `record` out of forms"
        )


def _write_all(attempt: Attempt, writer: RecordWriter, sealed: Release, earlier: list[Path]) -> int:
    """Append the records of all images; how many of them went in as another image."""
    images = _images(attempt, sealed)
    reencoded = 0
    for record in safe_records(earlier[0]) if earlier else ():
        if (image := next(images, None)) is None:
            break
        as_it_is = _is_of(record, image)
        if not as_it_is and not _is_made_of(attempt.run, record, image):
            images = chain([image], images)  # of another release, with other class numbers, or damaged
            break
        reencoded += not as_it_is
        writer.append(record)
    for image, data in _contents(attempt.run, images):
        if hashlib.sha256(data).digest() != image.sha256:
            raise PackError(
                f"{image.key.rpartition('/')[2]} (of export {image.export}) holds other bytes than release "
                f"{sealed.release_id} was sealed with; start another run"
            )
        content = for_all_readers(data)
        reencoded += content is not data
        writer.append(recordio.encode(writer.count, image.label, content))
        if writer.count % CHECK_EVERY == 0:
            attempt.check()
    if writer.count != sealed.images:
        raise PackError(
            f"{writer.count:,} of {sealed.images:,} images have a class number; this is a fault of the program, please "
            "report it"
        )
    return reencoded


def _is_of(record: bytes, image: Image) -> bool:
    """Whether a record holds an image's own bytes under its label."""
    _, label, content = recordio.decode(recordio.join(record))
    return label == image.label and hashlib.sha256(content).digest() == image.sha256


def _is_made_of(run: Run, record: bytes, image: Image) -> bool:
    """Whether a record holds the PNG that an image was made into."""
    _, label, content = recordio.decode(recordio.join(record))
    return label == image.label and all(for_all_readers(data) == content for _, data in _contents(run, iter([image])))


def _images(attempt: Attempt, sealed: Release) -> Iterator[Image]:
    folder, scratch = attempt.run.release(sealed.release_id), attempt.new
    for rows in order.shuffled(folder, sealed, attempt.run.params.shards, scratch):
        columns = (rows[name].to_pylist() for name in Image._fields)
        yield from map(Image._make, zip(*columns, strict=True))


def _contents(run: Run, images: Iterator[Image]) -> Iterator[tuple[Image, bytes]]:
    """Each image with its bytes, read ahead: from the output or, where there is none, from the exports."""
    # From a disk to hand over each by itself would cost more than to read it; from S3 each is worth a thread.
    read, together, readers = (_read, 64, 2) if run.on_disk else (_fetch, 1, READERS)
    ahead, now = tee(_batches(images, together))
    sized = ((some, sum(image.size for image in some)) for some in ahead)
    with reading_ahead(sized, lambda some: [read(run, image) for image in some], readers) as coming:
        for some in now:
            yield from zip(some, coming.take(some), strict=True)


def _batches(images: Iterator[Image], size: int) -> Iterator[list[Image]]:
    while some := list(islice(images, size)):
        yield some


def _read(run: Run, image: Image) -> bytes:
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        descriptor = os.open(f"{run.output}/{image.key}", flags)
    except OSError as error:
        raise _gone(image, error.strerror) from error
    try:
        return read_whole(descriptor, image.size)
    finally:
        os.close(descriptor)


def _fetch(run: Run, image: Image) -> bytes:
    with open_now(run, image.export, image.path, image.size, image.etag) as file:
        if file is None:
            raise _gone(image, "it is not there any more, or has changed")
        return file.read()


def _gone(image: Image, why: str | None) -> PackError:
    name = image.key.rpartition("/")[2]
    return PackError(f"{name} (of export {image.export}) cannot be packed: {why}. Start another run")
