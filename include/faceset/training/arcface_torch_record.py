"""The config of InsightFace's arcface_torch for records: as that for an ImageFolder, with class numbers that stay."""

from pathlib import Path
from typing import Any

from include.faceset.records import packed
from include.faceset.release.release import Release
from include.faceset.run.run import Run
from include.faceset.training import arcface_torch
from include.faceset.training.arcface_torch import read_back
from include.faceset.training.counts import Counts

__all__ = ["file_name", "is_wanted", "read_back", "render", "values"]


def is_wanted(run: Run, folder: Path | None) -> bool:
    """Whether the dataset has the form `record`, and the release was packed."""
    return "record" in run.dataset.forms and (folder is None or packed.read(folder) is not None)


def file_name(dataset: str) -> str:
    """What the config is called."""
    return f"{dataset}_record.py"


def values(run: Run, counts: Counts) -> dict[str, Any]:
    """What the config sets, by name. A class number that is vacant counts too: the highest is one less."""
    of_folder = arcface_torch.values(run, counts)
    rec = str(packed.folder_of(run, counts.release_id)) if run.params.skip_upload else f"{of_folder['rec']}.records"
    return {
        **of_folder,
        "output": f"{of_folder['output']}_record",
        "dali": bool(run.dataset.training.dali),
        "rec": rec,
        "num_classes": counts.labels,
    }


def render(release: Release, folder: Path, config: dict[str, Any]) -> str:
    """The config's source, with what was packed."""
    return arcface_torch.fill_in_template(release, config, what_was_proven(release, folder))


def what_was_proven(release: Release, folder: Path) -> dict[str, Any]:
    """What the guard compares with the two files on the training host (guard.py)."""
    made = packed.read(folder)
    if made is None:
        raise ValueError(f"release {release.release_id} was not packed")
    return {
        "form": "record",
        "release_id": release.release_id,
        "classes": release.identities,
        "images": made.images,
        "sizes": {name: file.size for name, file in made.files.items()},
        "sha256": {name: file.sha256 for name, file in made.files.items()},
    }
