"""The layout of a flat directory: the identity is in the file's name."""

import re
from collections.abc import Sequence
from typing import ClassVar, Literal

from pydantic import Field, field_validator

from include.faceset.declared.export import Export


class FlatExport(Export):
    """All files in one directory, the identity in the name."""

    depth: ClassVar[int] = 0
    layout: Literal["flat"]
    pattern: str = Field(
        description="File name with {identity} once, as in {identity}_face.png; * stands for anything."
    )

    @field_validator("pattern")
    @classmethod
    def _names_one_identity(cls, pattern: str) -> str:
        if pattern.count("{identity}") != 1 or "/" in pattern or re.search(r"[{}]", pattern.replace("{identity}", "")):
            raise ValueError("must hold {identity} exactly once, no other braces and no slash")
        return pattern

    def regex(self) -> re.Pattern[str]:
        """The pattern as a regular expression; where `*` leaves a choice the identity is the longest match."""
        parts = re.split(r"(\{identity\}|\*)", self.pattern)
        groups = {"{identity}": "(?P<identity>.+)", "*": ".*"}
        return re.compile("".join(groups.get(part, re.escape(part)) for part in parts), re.DOTALL)

    def identities(self, folders: Sequence[str], names: Sequence[str]) -> list[str | None]:  # noqa: ARG002
        """What stands in each name in the place of {identity}."""
        match = self.regex().fullmatch
        return [found and found["identity"] for found in map(match, names)]
