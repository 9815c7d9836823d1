"""What is declared of an export, whatever its layout."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

# Airflow takes JSON Schema's patterns as Python's, where $ also matches before a line break at the end.
END = r"$(?!\n)"
IN_S3 = "s3://"
S3_ROOT = r"^s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]/([^/\s]+/)+$"
PARTITION = "{partition}"


class Declared(BaseModel):
    """Base of everything a user writes: nothing unknown, nothing converted, nothing changed later."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False, regex_engine="python-re")


class Export(Declared):
    """One source, a folder or a prefix in S3, with a declared layout.

    A layout is a subclass with a literal `layout`; `depth` is how many folders an image lies in.
    """

    depth: ClassVar[int]

    name: str = Field(
        pattern=r"^[a-z0-9][a-z0-9_-]*" + END,
        max_length=64,
        description="Short name; lower-case, digits, _ and -.",
    )
    root: str | None = Field(
        None,
        pattern=r"^[^\x00-\x1f]+" + END,
        description="Folder, absolute or relative to local_source, or s3://bucket/prefix/. Default: the export's name. "
        "With {partition} in it, as in faces_only/{partition}, the export arrives in dated parts, one folder each.",
    )
    aws_conn_id: Annotated[str, Field(min_length=1)] | None = Field(
        None, description="Airflow connection of an export in S3. Default: the dataset's, which is the destination's."
    )
    required: bool = Field(
        False, description="Whether a part that is not there yet fails the run of its date, instead of skipping it."
    )
    namespace: Literal["shared", "own"] = Field(
        "shared",
        description="shared: the same identity in two exports is one person. own: it becomes <export>__<identity>.",
    )
    layout: str

    @field_validator("root")
    @classmethod
    def _names_one_partition(cls, root: str | None) -> str | None:
        named = (root or "").replace(PARTITION, "")
        if root is not None and (root.count(PARTITION) > 1 or "{" in named or "}" in named):
            raise ValueError("may hold {partition} once, and no other braces")
        if root is not None and "://" in root:
            # Also what stands before the parts has to be a prefix.
            steady = root.partition(PARTITION)[0].rpartition("/")[0] + "/"
            if (
                not re.fullmatch(S3_ROOT, steady)
                or not root.endswith("/")
                or {"", ".", ".."} & set(steady[5:-1].split("/"))
            ):
                raise ValueError("must be s3://bucket/prefix/, with a slash at its end and plain names")
        return root

    @property
    def dated(self) -> bool:
        """Whether the export arrives in parts."""
        return PARTITION in (self.root or "")

    @property
    def in_s3(self) -> bool:
        """Whether the export lies in S3 rather than on a disk."""
        return (self.root or "").startswith(IN_S3)

    @property
    def prefix(self) -> str:
        """Of an export in S3, what paths of the manifest are relative to: the root, up to where its parts begin."""
        return f"{self._split()[0]}/"

    def folder(self, local_source: Path) -> Path:
        """Of an export on a disk, the same."""
        return local_source / self._split()[0]

    def part(self, partition: str) -> str:
        """Where a part lies below `prefix` or `folder`."""
        return self._split()[1].replace(PARTITION, partition)

    def _split(self) -> tuple[str, str]:
        """The root up to its parts (an absolute `root` stands for itself), and the rest."""
        root = self.root or self.name
        if self.in_s3:
            root = root.rstrip("/")
        if not self.dated:
            return root, ""
        steady = root.partition(PARTITION)[0].rpartition("/")[0] or ("/" if root.startswith("/") else ".")
        return steady, root[len(steady) :].lstrip("/") if steady != "." else root

    def label(self, identity: str) -> str:
        """The identity as the merged dataset knows it."""
        return identity if self.namespace == "shared" else f"{self.name}__{identity}"

    def identities(self, folders: Sequence[str], names: Sequence[str]) -> list[str | None]:
        """Whose each file is, by its folder and its name below the export; None where that is not of the layout."""
        raise NotImplementedError
