"""receipt: what was erased, in counts, for a person and for a program; it names nobody.

While a run erases, counts are kept in ``erasures/pending.json`` by what they are of, each before the change that it
tells of. So a run that is killed, and the one after it, add to the same receipt and count nothing twice.
Of a run without upload stays how many images the bucket may still hold, for whoever is asked about deletions there.
"""

import hashlib
import hmac
import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from include.faceset.ground import files
from include.faceset.people import People
from include.faceset.run import owner
from include.faceset.run.attempt import Attempt
from include.faceset.run.run import Run

FOLDER = "erasures"
BUCKET = "bucket"
_LEFT = "left_in_bucket"
NOT_REACHED = (
    "the exports: whoever holds them must remove the person's files there; until then the list keeps them out",
    "models that were trained on a release that held the person, and their embeddings",
    "copies that others made: downloads on training hosts, backups, snapshots of the disk",
    "replicas of the bucket, its backups, and logs of access to it; versions under an Object Lock (the run fails then)",
    "other destinations that this dataset was once published to: start a run with each of them",
    "an image of the person that lies under somebody else's identity, and a name inside another file's name",
    "Airflow's logs and its database: what this project logs at INFO names nobody, but an error may name a file",
    "the list itself, which must keep the name as long as an export holds the person",
)


def digest(run: Run, listed: People) -> str:
    """What tells one list from another, 16 hex digits: keyed, so that nobody can try names without the deployment's."""
    key = owner.token(run).partition("/")[0].encode()
    return hmac.new(key, "\n".join(sorted(listed)).encode(), hashlib.sha256).hexdigest()[:16]


def note_erased(attempt: Attempt, what: str, **counts: int | str | None) -> None:
    """Keep counts of what is about to be erased; of a second try the higher ones stay."""
    _keep(attempt.run, what, counts, within=attempt.folder)


def note_bucket(run: Run, counts: Mapping[str, int], what: str = "") -> None:
    """Keep counts of what is about to be erased from the bucket, or from something in it."""
    _keep(run, " ".join(filter(None, (BUCKET, run.params.destination, what))), counts)


def _keep(run: Run, what: str, counts: Mapping[str, int | str | None], within: Path | None = None) -> None:
    facts = {"begun": datetime.now(UTC).isoformat(timespec="microseconds"), "erased": {}} | pending(run)
    known = facts["erased"].get(what, {})
    facts["erased"][what] = {
        name: max(count, known.get(name, 0)) if isinstance(count, int) else count for name, count in counts.items()
    }
    files.make_folder(run.releases / FOLDER)
    files.write_text(_pending(run), json.dumps(facts, indent=2) + "\n", within)


def pending(run: Run) -> dict[str, Any]:
    """What was erased since the last receipt; nothing, if nothing was."""
    try:
        found: dict[str, Any] = json.loads(_pending(run).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    return found


def images_erased(run: Run) -> int:
    """How many images of the output, as the release before had it, were erased since the last receipt."""
    counted: int = pending(run).get("erased", {}).get("output", {}).get("images", 0)
    return counted


def images_to_delete(run: Run) -> int:
    """The same and, where runs before skipped the upload, what they erased: the bucket may hold all these."""
    left: int = pending(run).get(_LEFT, 0)
    return left + images_erased(run)


def write(run: Run, listed: People, unmet: Sequence[str] = ()) -> list[Path]:
    """Write the receipt of what was erased since the last one: Markdown and JSON. No file if nothing was.

    `unmet` are the lines of the list that match nobody, in words that name none.
    """
    facts = pending(run)
    if not any(count for counts in facts.get("erased", {}).values() for count in counts.values()):
        return []
    begun = datetime.fromisoformat(facts["begun"])
    receipt = {
        "dataset": run.dataset.name,
        "begun": facts["begun"],
        "people_listed": len(listed),
        "list_digest": digest(run, listed),
        "lines_that_match_nobody": list(unmet),
        "erased": facts["erased"],
        "bucket_reached": not run.params.skip_upload,
        "not_reached": list(NOT_REACHED),
    }
    stem = run.releases / FOLDER / begun.strftime("%Y-%m-%dT%H%M%S.%fZ")
    written = [stem.with_name(f"{stem.name}.{suffix}") for suffix in ("md", "json")]
    for path, text in zip(written, (_markdown(receipt), json.dumps(receipt, indent=2) + "\n"), strict=True):
        files.write_text(path, text)
    return written


def sum_up(run: Run, written: list[Path]) -> dict[str, Any] | None:
    """What the summary says of a receipt that `write` wrote, before it is closed; None if there is none."""
    if not written:
        return None
    erased = pending(run)["erased"]
    rewritten = {what.split()[1] for what in erased if what.startswith("release ")}
    return {"receipt": str(written[0]), "images": images_erased(run), "releases": len(rewritten)}


def close(run: Run) -> None:
    """The receipt is written, and wherever it should be: the next one begins with nothing but what the bucket holds."""
    left = images_to_delete(run) if run.params.skip_upload else 0
    if left:
        files.write_text(_pending(run), json.dumps({_LEFT: left}) + "\n")
    else:
        _pending(run).unlink(missing_ok=True)


def _pending(run: Run) -> Path:
    return run.releases / FOLDER / "pending.json"


def _markdown(receipt: Mapping[str, Any]) -> str:
    lines = [
        f"# {receipt['dataset']}: people erased",
        "",
        f"Begun {receipt['begun']}, by a list of {receipt['people_listed']:,} (digest {receipt['list_digest']}).",
        "This receipt names nobody.",
        *(f"Lines that match nobody: {one}." for one in receipt["lines_that_match_nobody"]),
        "",
        "| of | erased |",
        "| --- | --- |",
        *(f"| {what} | {_counts(counts)} |" for what, counts in receipt["erased"].items()),
        "",
        "A release whose images went has a new id, under `now`; it can still be asked for by the old one.",
        "`disputed`: images that lay under somebody else too. These stay, and are no longer in dispute: look at them.",
        "",
    ]
    if not receipt["bucket_reached"]:
        begun = any(what.startswith(BUCKET) for what in receipt["erased"])
        said = (
            "not cleared to its end: a run that began it broke off, and this one" if begun else "not touched: the run"
        )
        lines += [f"**The bucket was {said} skipped the upload.** Start one that does not.", ""]
    return "\n".join([*lines, "## What this cannot reach", "", *(f"- {what}" for what in receipt["not_reached"]), ""])


def _counts(counts: Mapping[str, Any]) -> str:
    said = [f"{name}: {count:,}" if isinstance(count, int) else f"{name}: {count}" for name, count in counts.items()]
    return ", ".join(said)


def of_release(facts: Mapping[str, Any]) -> str:
    """SUMMARY.md of a release that people were erased from."""
    rows = [f"| {reason} | {count:,} |" for reason, count in facts["rejected"].items()]
    before, skipped = ", ".join(facts["formerly"]), facts["scanned_files"] - facts["kept_files"]
    return "\n".join(
        [
            f"# {facts['dataset']}: release {facts['release_id']}",
            "",
            f"**{facts['identities']:,} identities, {facts['images']:,} images**, without the people who were erased.",
            *([f"It was {before} before."] if before else []),
            "",
            f"{facts['scanned_files']:,} files scanned = {facts['kept_files']:,} kept + {skipped:,} skipped.",
            "",
            "| reason | files |",
            "| --- | ---: |",
            *rows,
            "",
        ]
    )
