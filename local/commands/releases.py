"""`make releases`: the releases that are kept of a dataset, the one sealed last first. DATASET and OUTPUT choose."""

import os
from collections.abc import Mapping

from include.faceset.declared import params
from include.faceset.release import history, pointer, release
from include.faceset.run.run import Run
from local.airflow import settings
from local.commands.run import DEFAULT_DATASET, command, find_dataset


def lines(run: Run) -> list[str]:
    """A table of the releases that are kept beside a run's output."""
    in_place = pointer.last(run)
    rows = [("release", "sealed (UTC)", "identities", "images", "parts", "")]
    for folder in history.folders(run):
        sealed = release.read(folder)
        parts = sum(len(known) for known in sealed.parts.values())
        when = sealed.sealed_at[:16].replace("T", " ")
        counts = (f"{sealed.identities:,}", f"{sealed.images:,}", str(parts or ""))
        rows.append((sealed.release_id, when, *counts, "in place" if folder == in_place else ""))
    return [f"{row[0]:<16}  {row[1]:<16}  {row[2]:>10}  {row[3]:>10}  {row[4]:>5}  {row[5]}".rstrip() for row in rows]


def asked_for(environment: Mapping[str, str]) -> Run:
    """The dataset and output that the arguments name.

    Raises:
        UsageError: there is no such dataset, or the output is no absolute path.
    """
    chosen = find_dataset(environment.get("DATASET") or DEFAULT_DATASET)
    default = {"output": str(settings.state_folder() / "merged")} if chosen.name == DEFAULT_DATASET else {}
    named = {"output": environment["OUTPUT"]} if environment.get("OUTPUT") else {}
    return Run(chosen, params.check(default | named, chosen), "history")


def main() -> int:
    """Print the table."""
    run = asked_for(os.environ)
    print(f"Releases in {run.releases}")
    print("\n".join(lines(run)))
    print("\nTo publish one of them again, trigger a run with its id as the param `release`.")
    return 0


if __name__ == "__main__":
    command(main)
