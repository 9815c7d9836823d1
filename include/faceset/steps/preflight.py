"""preflight: refuse in seconds what would fail, or do damage, later. The S3 half is the sync plugin's."""

import os
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from include.faceset import names, people
from include.faceset.declared import deciding
from include.faceset.declared.decisions import DecisionError
from include.faceset.erasure import look
from include.faceset.errors import NotReadyError
from include.faceset.exports import parts
from include.faceset.ground.files import existing_above
from include.faceset.release import history, pointer, release
from include.faceset.run.run import Run

ROOM_TO_START = 1 << 30
"""Bytes that must be free before anything is known of the exports' size."""


def preflight(run: Run) -> None:
    """Check the exports and the output of a run; changes nothing on disk.

    Raises:
        NotReadyError: with all findings at once.
    """
    exports = _release(run) if run.params.release else [*_exports(run), *_parts(run)]
    findings = [*exports, *_overlaps(run), *_output(run), *_names(run), *_suppressed(run), *_decisions(run)]
    if findings:
        raise NotReadyError("\n".join(findings))


def check_exports(run: Run) -> None:
    """Check the exports on disks alone, as the worker that reads them sees them.

    Raises:
        NotReadyError: with all findings at once.
    """
    if findings := [] if run.params.release else list(_folders(run)):
        raise NotReadyError("\n".join(findings))


def _exports(run: Run) -> Iterator[str]:
    for export in run.dataset.exports:
        if export.in_s3 and not run.sources[export.name].holds(""):
            yield f"export {export.name}: nothing lies at {export.prefix}; correct the export's root"
    yield from _folders(run)


def _folders(run: Run) -> Iterator[str]:
    for name, root in _roots(run):
        where = f"export {name}: {root}"
        try:
            with os.scandir(root) as entries:
                if next(entries, None) is None:
                    yield f"{where} is empty; is the right folder mounted there?"
        except FileNotFoundError:
            yield f"{where} does not exist; correct local_source ({run.params.local_source}) or the export's root"
        except NotADirectoryError:
            yield f"{where} is not a folder; correct local_source or the export's root"
        except OSError as error:
            yield f"{where} cannot be read ({error.strerror}); let the user that runs Airflow's workers read it"


def _parts(run: Run) -> Iterator[str]:
    for export in run.dataset.exports:
        if not export.dated or not (export.in_s3 or run.folder(export).is_dir()):
            continue
        folder = f"{export.prefix}" if export.in_s3 else f"{run.folder(export)}/"
        come = parts.find_parts(run, export)
        if not come and run.partitions is None:
            example = folder + export.part(run.dataset.partition(datetime.now(UTC)))
            yield f"export {export.name}: there is no part in {folder.rstrip('/')}; one of today would be {example}"
        if export.required and (absent := sorted(set(run.partitions or ()) - set(come))):
            yield f"export {export.name}: {folder + export.part(absent[0])} is not there, and its parts are required"


def nothing_to_do(run: Run) -> str | None:
    """Why a run has nothing to scan and nothing to build, if so.

    All the parts that it asks for are absent, every known part is in the last release, nobody is to be erased, and
    nothing was decided since.
    """
    dated = [export for export in run.dataset.exports if export.dated]
    if run.params.release or run.partitions is None or any(parts.to_scan(run, export) for export in dated):
        return None
    if look.is_needed(run):
        return None
    last = pointer.last(run)
    if last is not None and (release.read(last).decisions, release.read(last).pictures) != (
        deciding.decided(run.dataset).digest,
        run.dataset.pictures.rules,
    ):
        return None
    if run.dataset.publish == "latest" and parts.digest_parts(run) != (release.read(last).parts if last else {}):
        return None
    wanted = ", ".join(run.partitions)
    return f"part {wanted} is not there yet: nothing to do. Once it has come, trigger a run with this partition"


def _release(run: Run) -> Iterator[str]:
    try:
        history.to_restore(run)
    except history.ReleaseError as error:
        yield f"release: {error}"


def _suppressed(run: Run) -> Iterator[str]:
    try:
        people.listed(run)
    except people.SuppressedError as error:
        yield f"suppressed: {error}"


def _decisions(run: Run) -> Iterator[str]:
    try:
        deciding.decided(run.dataset)
    except DecisionError as error:
        yield f"decisions: {error}"


def _overlaps(run: Run) -> Iterator[str]:
    roots = [(f"export {name}", root.resolve()) for name, root in _roots(run)]
    ours = [("releases", run.releases.resolve())]
    if run.on_disk:
        ours[:0] = [("output", run.output.resolve()), ("records", run.records.resolve())]
    for number, (name, root) in enumerate(roots):
        for other, place in [*ours, *roots[number + 1 :]]:
            if root == place or root in place.parents or place in root.parents:
                yield f"{name} ({root}) and {other} ({place}) lie in one another; choose folders that do not"
    in_s3 = [export for export in run.dataset.exports if export.in_s3]
    for number, one in enumerate(in_s3):
        for another in in_s3[number + 1 :]:
            if one.prefix.startswith(another.prefix) or another.prefix.startswith(one.prefix):
                yield (
                    f"export {one.name} ({one.prefix}) and export {another.name} ({another.prefix}) lie in one "
                    "another; choose prefixes that do not"
                )


def _output(run: Run) -> Iterator[str]:
    field, place = ("output", run.output) if run.on_disk else ("releases", run.releases)
    parent = existing_above(place.parent)
    if not os.access(parent, os.W_OK | os.X_OK):
        yield f"{field}: {parent} cannot be written to; let the user that runs Airflow's workers write there"
        return
    if run.on_disk:
        yield from _merged_dataset(run)
    elif run.releases.exists() and not run.releases.is_dir():
        yield f"releases: {run.releases} is not a folder; choose another"
    elif run.releases.exists() and any(run.releases.iterdir()) and not _is_ours(run):
        yield (
            f"releases: {run.releases} is not empty and no run of this dataset made it; choose another folder, or "
            "empty it yourself"
        )
    if (free := shutil.disk_usage(parent).free) < ROOM_TO_START:
        yield f"{field}: only {free / 1e6:.0f} MB are free on the disk of {place}; make room"


def _is_ours(run: Run) -> bool:
    """Whether a run has worked in the folder of the releases: it takes it first."""
    return any(path.exists() for path in (run.owner, run.all_work, run.releases / "parts"))


def _merged_dataset(run: Run) -> Iterator[str]:
    if run.output.exists() and not run.output.is_dir():
        yield f"output: {run.output} is not a folder; choose another output"
    elif run.output.exists() and not run.releases.exists() and any(run.output.iterdir()):
        yield (
            f"output: {run.output} is not empty and no run of this dataset made it ({run.releases} is missing); "
            "a run would remove what lies there. Choose another output, or empty it yourself"
        )
    elif _device(run.output) != _device(run.releases):
        yield (
            f"output: {run.output} and {run.releases} are on two file systems, and files are moved between them "
            "by renaming; mount their common parent instead"
        )


def _names(run: Run) -> Iterator[str]:
    field, place = ("output", run.output) if run.on_disk else ("releases", run.releases)
    for part in place.parts[1:]:
        if part in {".", ".."} or not names.is_safe(part.lstrip(".")):
            yield f"{field}: {place} has a part that is no plain name; choose another {field}"
            return


def _roots(run: Run) -> list[tuple[str, Path]]:
    """The exports on a disk: name and folder."""
    return [(export.name, run.folder(export)) for export in run.dataset.exports if not export.in_s3]


def _device(path: Path) -> int:
    return existing_above(path).stat().st_dev
