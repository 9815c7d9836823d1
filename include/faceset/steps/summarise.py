"""summary: what happened to every file, for a person (``SUMMARY.md``) and for a program (``summary.json``)."""

import json
import logging
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow as pa

from include.faceset import people
from include.faceset.erasure import met
from include.faceset.errors import Final
from include.faceset.figures import html
from include.faceset.ground import files
from include.faceset.ports import Bucket
from include.faceset.release import release
from include.faceset.release.release import Release
from include.faceset.report.counts import sample_identity
from include.faceset.report.facts import Told
from include.faceset.report.gathering import foresee, gather
from include.faceset.report.text import environment, report
from include.faceset.report.took import Step
from include.faceset.run import owner
from include.faceset.run.attempt import trying
from include.faceset.run.run import Run
from include.faceset.training import verification
from include.faceset.training.trainers import wanted

log = logging.getLogger(__name__)


class NotProvenError(Final):
    """The bucket does not say that it holds the run's release."""


def summarise(
    run: Run,
    sealed: Release,
    took: list[Step],
    sync: Mapping[str, Any] | None,
    erased: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Write ``summary.json``, ``SUMMARY.md`` and ``report.html`` into the release folder.

    Args:
        run: the run.
        sealed: its release.
        took: the time of its steps so far.
        sync: result of the sync (uploaded, skipped, deleted, bytes); None if the run skipped the upload.
        erased: what the run erased of people (`receipt.sum_up`); None if nothing.

    Returns:
        What ``summary.json`` holds.
    """
    folder = run.release(sealed.release_id)
    with trying(run, "summary") as attempt:
        facts = gather(run, sealed, took, sync, erased)
        text, said = report(run, facts, sample_identity(run, folder)), asdict(facts)
        files.write_text(folder / release.SUMMARY_JSON_FILE, json.dumps(said, indent=2) + "\n", attempt.folder)
        files.write_text(folder / release.SUMMARY_FILE, text, attempt.folder)
        files.write_text(folder / release.REPORT_FILE, html.render(said), attempt.folder)
    log.info("%s", report(run, facts, sample=None))
    _warn(facts)
    return said


def tell(
    run: Run,
    release_id: str,
    took: list[Step],
    sync: Mapping[str, Any] | None,
    erased: Mapping[str, Any] | None,
    *,
    bucket: Bucket | None,
) -> dict[str, Any]:
    """Write the summary of a run, here and beside the bucket's prefix; the few facts that Airflow shows.

    Args:
        run: the run.
        release_id: what it sealed.
        took: the time of its steps so far.
        sync: as of `summarise`.
        erased: as of `summarise`.
        bucket: where it was published; None if the run skipped the upload.

    Raises:
        NotProvenError: the bucket does not say that it holds the release.
    """
    if bucket is not None:
        check_published(release_id, bucket)
    sealed = release.read(run.release(release_id))
    summarise(run, sealed, took, sync, erased)
    if bucket is not None:
        publish_summary(run, release_id, bucket)
    return {
        "summary": str(run.release(release_id) / release.SUMMARY_FILE),
        "release_id": release_id,
        "identities": sealed.identities,
        "images": sealed.images,
    }


def foretell(run: Run, took: list[Step], bucket: Bucket | None) -> dict[str, Any]:
    """Write what a run would do, of which this is the dry run; the few facts that Airflow shows.

    Args:
        run: the run.
        took: the time of its steps so far.
        bucket: where it would publish; None if it would skip the upload.
    """
    if bucket is None:
        return {"summary": str(dry_run(run, None, took))}
    listing, found = bucket.listing(), bucket.versions_of(sorted(people.to_erase(run)))
    return {"summary": str(dry_run(run, listing, took, found.counts, found.folders))}


def publish_summary(run: Run, release_id: str, bucket: Bucket) -> None:
    """Put the config and the summary of a release beside the bucket's prefix."""
    folder = run.release(release_id)
    names = [trainer.file_name(run.dataset.name) for trainer in wanted(run, folder)]
    beside = (release.RECORDS_FILE, verification.file_name(run.dataset.name))
    names += [name for name in beside if (folder / name).exists()]
    with bucket.hold(owner.token(run)) as check:
        for name in (*names, release.SUMMARY_FILE, release.REPORT_FILE, release.SUMMARY_JSON_FILE):
            bucket.put(folder / name, f"{release_id}/{name}", check)


def check_published(release_id: str, bucket: Bucket) -> None:
    """Check that the bucket says that it holds a release: what a summary says of it would not be true.

    Raises:
        NotProvenError: it does not.
    """
    found = bucket.pointer().get("release_id")
    if found != release_id:
        raise NotProvenError(
            f"the latest.json of {bucket.releases_uri} names {found or 'nothing'}, so release {release_id} is not"
            " proven there: verify has not run since (was it marked as success?). Clear sync, with the tasks that"
            " follow it"
        )


def _warn(facts: Told) -> None:
    """Log what a person is to look at though the run is green."""
    for one in facts.unmet:
        log.warning("people to erase: nobody is matched by %s", met.in_words(one))
    for why in filter(None, [*facts.training_refusals, facts.training_mismatch]):
        log.warning("%s", why)


def dry_run(
    run: Run,
    listing: pa.Table | None,
    took: list[Step],
    in_bucket: Mapping[str, int] | None = None,
    named_in_bucket: Iterable[str] = (),
) -> Path:
    """Write what a run would do into the run's work folder, and log it.

    Args:
        run: the run.
        listing: columns key, size (bytes) and etag of the destination now; None if the run would skip the upload.
        took: the time of its steps so far.
        in_bucket: what would be erased of people in the bucket, in counts; None if the run would skip the upload.
        named_in_bucket: of the people to erase those of whom the bucket holds anything.

    Returns:
        Path of the ``SUMMARY.md``.
    """
    facts = foresee(run, listing, took, in_bucket, named_in_bucket)
    files.write_text(run.work / release.SUMMARY_JSON_FILE, json.dumps(asdict(facts), indent=2) + "\n")
    text = environment().get_template("DRY_RUN.md.j2").render(facts=facts, params=run.params, dataset=run.dataset)
    path = run.work / release.SUMMARY_FILE
    files.write_text(path, text)
    log.info("%s", text)
    _warn(facts)
    return path
