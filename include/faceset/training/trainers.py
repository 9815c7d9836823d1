"""The trainers that a release is rendered a config for. A new one is one file here, and its module in TRAINERS."""

from pathlib import Path
from typing import Any, Protocol

from include.faceset.release.release import Release
from include.faceset.run.run import Run
from include.faceset.training import arcface_torch


class Trainer(Protocol):
    """A module that knows one trainer."""

    def file_name(self, dataset: str, /) -> str:
        """What its config is called."""

    def values(self, run: Run, release_id: str, identities: int, images: int, /) -> dict[str, Any]:
        """What the config sets, by name, for a release of so many identities and images."""

    def render(self, release: Release, folder: Path, config: dict[str, Any], /) -> str:
        """The config's text; the release's files lie in `folder`."""

    def read_back(self, path: Path, /) -> dict[str, Any]:
        """What a config sets, as the trainer reads it. Raises ValueError where it cannot."""


TRAINERS: tuple[Trainer, ...] = (arcface_torch,)
"""The first one's values stand in the summary."""
