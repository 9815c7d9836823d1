"""One folder an identity, its images inside."""

from collections.abc import Sequence
from typing import ClassVar, Literal

from include.faceset.declared.export import Export


class ImageFolderExport(Export):
    """One folder an identity, its images inside."""

    depth: ClassVar[int] = 1
    layout: Literal["image_folder"]

    def identities(self, folders: Sequence[str], names: Sequence[str]) -> list[str | None]:  # noqa: ARG002
        """The folder of each file."""
        return [folder or None for folder in folders]
