"""The configs that a release is rendered. A new trainer is one file here, and its module in TRAINERS."""

from pathlib import Path
from typing import Any, Protocol

from include.faceset.release.release import Release
from include.faceset.run.run import Run
from include.faceset.training import arcface_torch, arcface_torch_record
from include.faceset.training.counts import Counts


class Trainer(Protocol):
    """A module that knows one trainer, and one form in which it reads."""

    def is_wanted(self, run: Run, folder: Path | None, /) -> bool:
        """Whether a release, whose files lie in `folder`, is to have its config; without one, whether any may."""

    def file_name(self, dataset: str, /) -> str:
        """What its config is called."""

    def values(self, run: Run, counts: Counts, /) -> dict[str, Any]:
        """What the config sets, by name."""

    def render(self, release: Release, folder: Path, config: dict[str, Any], /) -> str:
        """The config's text; the release's files lie in `folder`."""

    def read_back(self, path: Path, /) -> dict[str, Any]:
        """What a config sets, as the trainer reads it. Raises ValueError where it cannot."""


TRAINERS: tuple[Trainer, ...] = (arcface_torch, arcface_torch_record)


def wanted(run: Run, folder: Path | None = None) -> list[Trainer]:
    """The trainers that a release is rendered a config for; the first one's values stand in the summary."""
    return [trainer for trainer in TRAINERS if trainer.is_wanted(run, folder)]
