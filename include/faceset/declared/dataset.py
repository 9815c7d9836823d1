"""The dataset file: what a user declares in ``include/datasets/<name>.yaml``.

One file is one dataset and becomes one DAG. ``python -m include.faceset.declared.dataset`` prints the JSON
schema that editors use (kept beside the files as ``dataset.schema.json``).
"""

import json
import re
import sys
from collections.abc import Collection, Iterable, Iterator
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from croniter import croniter
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PositiveInt,
    PrivateAttr,
    ValidationError,
    field_validator,
    model_validator,
)

from include.faceset.errors import Final

# Airflow takes JSON Schema's patterns as Python's, where $ also matches before a line break at the end.
END = r"$(?!\n)"
DESTINATION = r"^s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]/((?!\.{1,2}/|\s)[^/\x00-\x1f\x7f-\x9f\ud800-\udfff]+/)+" + END
IN_S3 = "s3://"
S3_ROOT = r"^s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]/([^/\s]+/)+$"
AbsolutePath = Annotated[str, Field(pattern=r"^/[^\x00-\x1f\ud800-\udfff]*[^\x00-\x1f\ud800-\udfff/]" + END)]
Images = Annotated[int, Field(ge=1, le=2**31 - 1)]

PARTITION = "{partition}"
DEFAULT_QUEUE = "default"
PRESETS = frozenset({"@hourly", "@daily", "@weekly", "@monthly", "@quarterly", "@yearly"})

_REMEDIES = {
    "extra_forbidden": "remove it, or correct its spelling; allowed here: {allowed}",
    "missing": "add it",
    "union_tag_not_found": "say `layout: flat` or `layout: image_folder`",
    "union_tag_invalid": "say `layout: flat` or `layout: image_folder`",
    "string_pattern_mismatch": "write it in the form the description of the field gives",
}


class DatasetError(Final, ValueError):
    """A dataset file that cannot be used; the message names file, field and remedy."""


class Declared(BaseModel):
    """Base of everything a user writes: nothing unknown, nothing converted, nothing changed later."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False, regex_engine="python-re")


class Export(Declared):
    """One source, a folder or a prefix in S3, with a declared layout."""

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

    @field_validator("root")
    @classmethod
    def _names_one_partition(cls, root: str | None) -> str | None:
        named = (root or "").replace(PARTITION, "")
        if root is not None and (root.count(PARTITION) > 1 or "{" in named or "}" in named):
            msg = "may hold {partition} once, and no other braces"
            raise ValueError(msg)
        if root is not None and "://" in root:
            # Also what stands before the parts has to be a prefix.
            steady = root.partition(PARTITION)[0].rpartition("/")[0] + "/"
            if (
                not re.fullmatch(S3_ROOT, steady)
                or not root.endswith("/")
                or {"", ".", ".."} & set(steady[5:-1].split("/"))
            ):
                msg = "must be s3://bucket/prefix/, with a slash at its end and plain names"
                raise ValueError(msg)
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


class FlatExport(Export):
    """All files in one directory, the identity in the name."""

    layout: Literal["flat"]
    pattern: str = Field(
        description="File name with {identity} once, as in {identity}_face.png; * stands for anything."
    )

    @field_validator("pattern")
    @classmethod
    def _names_one_identity(cls, pattern: str) -> str:
        if pattern.count("{identity}") != 1 or "/" in pattern or re.search(r"[{}]", pattern.replace("{identity}", "")):
            msg = "must hold {identity} exactly once, no other braces and no slash"
            raise ValueError(msg)
        return pattern

    def regex(self) -> re.Pattern[str]:
        """The pattern as a regular expression; where `*` leaves a choice the identity is the longest match."""
        parts = re.split(r"(\{identity\}|\*)", self.pattern)
        groups = {"{identity}": "(?P<identity>.+)", "*": ".*"}
        return re.compile("".join(groups.get(part, re.escape(part)) for part in parts), re.DOTALL)


class ImageFolderExport(Export):
    """One folder an identity, its images inside."""

    layout: Literal["image_folder"]


class Training(Declared):
    """Numbers for the trainer (InsightFace arcface_torch); `num_classes` and `num_image` come from the release."""

    batch_size: PositiveInt = Field(128, description="Images a step on each GPU.")
    gpus: PositiveInt = Field(8, description="GPUs of the training host.")
    num_epoch: PositiveInt = Field(24, description="Epochs.")
    warmup_epoch: Annotated[int, Field(ge=0)] = Field(1, description="Epochs of learning-rate warm-up.")
    lr: Annotated[float, Field(gt=0)] = Field(0.01, description="Learning rate.")
    network: str = Field("r50", description="Backbone, as arcface_torch names it.")
    embedding_size: PositiveInt = Field(512, description="Length of the embedding.")
    sample_rate: Annotated[float, Field(gt=0, le=1)] = Field(1.0, description="Partial FC sample rate.")
    val_targets: list[str] = Field(
        default_factory=list, description="Validation sets (.bin files beside the images), such as lfw."
    )
    data_root: str = Field(
        "/data/{dataset}", description="Where the training host puts the download; {dataset} is the name."
    )


class Expected(Declared):
    """What the owner of the data expects; only compared with in the summary."""

    identities: PositiveInt
    images: PositiveInt
    images_per_identity: tuple[float, float] = Field(description="Lowest and highest mean expected.", strict=False)


class Dataset(Declared):
    """A dataset file, validated. `name` is the file's stem."""

    name: str = Field(pattern=r"^[a-z][a-z0-9_]*" + END, max_length=64, exclude=True)
    description: str = Field("", description="One sentence for the people who see the DAG.")
    schedule: str | None = Field(
        None,
        description="Cron expression or preset such as @weekly, in UTC; null: by hand only. Of an export in parts, the "
        "run of a date takes the part of that date.",
    )
    triggered_by: list[Annotated[str, Field(min_length=1)]] = Field(
        default_factory=list,
        description="Names of Airflow assets; an event of any of them starts a run, on the part that its extra names "
        "as `partition`, or on all parts.",
    )
    partition_format: str = Field(
        "%Y-%m-%d", description="How a part's date is written (strftime), from the longest unit to the shortest."
    )
    publish: Literal["each", "latest"] = Field(
        "each",
        description="each: every run publishes. latest: of a backfill only the last run does; those before it only "
        "scan their parts.",
    )
    keep_releases: PositiveInt = Field(10, description="Releases to keep, to look at and to roll back to.")
    queue: Annotated[str, Field(min_length=1)] = Field(
        DEFAULT_QUEUE,
        description="Celery queue of the dataset's tasks: its workers (airflow celery worker --queues …) all see the "
        "exports and the output. `default`: the queue that this Airflow calls its default. Other executors take no "
        "notice.",
    )
    local_source: AbsolutePath | None = Field(
        None, description="Folder that holds the exports; an absolute path. Not needed where all of them lie in S3."
    )
    output: AbsolutePath | None = Field(
        None,
        description="Folder of the merged ImageFolder, owned by this dataset alone; an absolute path. Without it the "
        "merged dataset lies at the destination alone: give `releases`.",
    )
    releases: AbsolutePath | None = Field(
        None,
        description="Instead of `output`: folder of the releases and of what passes between tasks, owned by this "
        "dataset alone; no image is written there. An absolute path.",
    )
    destination: str = Field(
        pattern=DESTINATION,
        description="s3://bucket/prefix/ that the training host downloads; ends with a slash.",
    )
    aws_conn_id: Annotated[str, Field(min_length=1)] = Field(
        "aws_default",
        description="Airflow connection for the destination. One that is named has to be there; without aws_default, "
        "boto3's own settings count (AWS_… variables, a profile, an instance's role).",
    )
    sole_writer: bool = Field(
        False,
        description="true: somebody vouches that this deployment alone ever writes to the destination. Only asked for "
        "where the server cannot decide between two that write at the same time (preflight says so).",
    )
    exports: list[Annotated[FlatExport | ImageFolderExport, Field(discriminator="layout")]] = Field(min_length=1)
    min_images: Images = Field(2, description="Fewest distinct images that an identity needs, over all exports.")
    image_size: tuple[PositiveInt, PositiveInt] = Field(
        (112, 112), description="Width and height in pixels.", strict=False
    )
    max_file_size: Annotated[int, Field(ge=1, le=1 << 30)] = Field(
        64_000_000,
        description="Largest file in bytes that is read into memory, at most 1 GiB. Of a larger one the header is "
        "judged; if it is kept, it is hashed and copied by blocks.",
    )
    shards: Annotated[int, Field(ge=1, le=512)] = Field(16, description="Copy tasks to fan out to.")
    max_delete_fraction: Annotated[float, Field(ge=0, le=1)] = Field(
        0.1, description="Largest part of the destination that a run may delete."
    )
    suppressed: AbsolutePath | None = Field(
        None,
        description="File that lists people to erase, one identity a line, beside those in <dataset>.suppressed, which "
        "lies where this file lies and need not be named.",
    )
    training: Training = Training()
    expected: Expected | None = None
    _suppressed_beside: Path | None = PrivateAttr(None)

    @field_validator("schedule")
    @classmethod
    def _is_a_cadence(cls, schedule: str | None) -> str | None:
        if schedule is not None and schedule not in PRESETS and not croniter.is_valid(schedule):
            msg = f"is no cron expression and none of {', '.join(sorted(PRESETS))}"
            raise ValueError(msg)
        return schedule

    @field_validator("partition_format")
    @classmethod
    def _reads_what_it_writes(cls, form: str) -> str:
        written = datetime(2026, 12, 31, tzinfo=UTC).strftime(form)
        try:
            back = datetime.strptime(written, form).replace(tzinfo=UTC)
        except ValueError:
            back = None
        if (
            back is None
            or back.date() != date(2026, 12, 31)
            or not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", written)
        ):
            msg = f"writes 31 December 2026 as {written!r}: must name year, month and day in letters, digits, _ . and -"
            raise ValueError(msg)
        return form

    @property
    def suppressed_beside(self) -> Path | None:
        """Where a list of people to erase would lie beside the dataset file; None if it came from no file."""
        return self._suppressed_beside

    def lying_at(self, path: Path) -> "Dataset":
        """This dataset, which now knows where its file lies."""
        self._suppressed_beside = path.absolute().with_suffix(".suppressed")
        return self

    @property
    def dated(self) -> bool:
        """Whether any export arrives in parts."""
        return any(export.dated for export in self.exports)

    def partition(self, when: datetime) -> str:
        """The name of the part of a date."""
        return when.astimezone(UTC).strftime(self.partition_format)

    def is_partition(self, name: str) -> bool:
        """Whether a name is exactly how a part would be called."""
        try:
            return (
                datetime.strptime(name, self.partition_format).replace(tzinfo=UTC).strftime(self.partition_format)
                == name
            )
        except ValueError:
            return False

    @model_validator(mode="after")
    def _has_its_folders(self) -> "Dataset":
        if (self.output is None) == (self.releases is None):
            msg = (
                "give either `output` (folder of the merged dataset) or, for a dataset that lies in S3 alone, "
                "`releases` (folder of what is kept of its releases)"
            )
            raise ValueError(msg)
        if self.local_source is None and (local := [one for one in self.exports if not one.in_s3]):
            msg = f"local_source: add it: export {local[0].name!r} lies in it (an export in S3 has a root s3://…/)"
            raise ValueError(msg)
        return self

    @model_validator(mode="after")
    def _exports_are_told_apart(self) -> "Dataset":
        names = [export.name for export in self.exports]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            msg = f"exports: the name {twice[0]!r} is used twice; give each export its own"
            raise ValueError(msg)
        return self


class _Loader(yaml.SafeLoader):
    """YAML's safe loader, which would take the last of two fields with one name without a word."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        names = [self.construct_object(key) for key, _ in node.value if key.tag == "tag:yaml.org,2002:str"]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            problem = f"{twice[0]} is there twice; remove one of them"
            raise yaml.constructor.ConstructorError(None, None, problem, node.start_mark)
        return super().construct_mapping(node, deep)


def load(path: Path) -> Dataset:
    """Read and validate one dataset file.

    Raises:
        DatasetError: with one line a mistake, each naming file, field and remedy.
    """
    if twins := [one for one in find(path.parent) if one.stem == path.stem and one != path]:
        msg = f"{path.name}: {twins[0].name} lies beside it, and both would be the dataset {path.stem!r}; remove one"
        raise DatasetError(msg)
    try:
        declared = yaml.load(path.read_text(encoding="utf-8"), _Loader)  # noqa: S506 it is a safe one
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        msg = f"{path.name}: cannot be read as YAML: {' '.join(str(error).split())}"
        raise DatasetError(msg) from error
    if not isinstance(declared, dict):
        msg = f"{path.name}: holds no mapping of fields; see reidnet_v3.yaml for the form"
        raise DatasetError(msg)
    if "name" in declared:
        msg = f"{path.name}: name: is taken from the file name; remove the field"
        raise DatasetError(msg)
    try:
        dataset = Dataset.model_validate({**declared, "name": path.stem})
    except ValidationError as error:
        raise DatasetError("\n".join(_mistakes(path, error))) from error
    return dataset.lying_at(path)


def find(folder: Path) -> list[Path]:
    """The dataset files of a folder, sorted by name."""
    return sorted(path for path in folder.iterdir() if path.suffix in {".yaml", ".yml"})


def shared_destination(places: Collection[str], others: Iterable[Dataset]) -> str | None:
    """Why a dataset may not publish at `places`: one of them lies in another dataset's destination, or around it."""
    for other in others:
        for place in sorted(places):
            if place.startswith(other.destination) or other.destination.startswith(place):
                return (
                    f"destination: {place} and {other.destination} of the dataset {other.name!r} lie in one another; "
                    "give each dataset a destination of its own"
                )
    return None


def stray_lists(folder: Path) -> Iterator[str]:
    """Of each file that looks like a list of people to erase and that no dataset reads, what is wrong with it.

    Its name is misspelt, has another suffix behind it, as some editors add one, or its dataset file is gone.
    """
    read = {f"{path.stem}.suppressed" for path in find(folder)}
    for path in sorted(folder.iterdir()):
        if re.search(r"sup+res+ed", path.name, re.IGNORECASE) and path.name not in read:
            yield (
                f"{path.name}: looks like a list of people to erase, and no dataset reads it: call it "
                "<dataset>.suppressed, as its dataset file is called, or remove it"
            )


def json_schema() -> str:
    """The JSON schema of a dataset file, for editors."""
    schema = Dataset.model_json_schema()
    schema["properties"].pop("name", None)
    schema["required"] = [field for field in schema["required"] if field != "name"]
    return json.dumps({"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}, indent=2) + "\n"


def _mistakes(path: Path, error: ValidationError) -> Iterator[str]:
    for mistake in error.errors(include_url=False):
        where = [part for part in mistake["loc"] if part not in {"flat", "image_folder"}]
        field = ".".join(str(part) for part in where) or "file"
        if field == "name":
            remedy = "rename the file: lower-case letters, digits and _ only, a letter first"
        else:
            remedy = _REMEDIES.get(mistake["type"], "correct the value").format(allowed=_allowed(where[:-1]))
        given = "" if mistake["type"] in {"missing", "value_error"} else f" (given: {mistake['input']!r:.80})"
        yield f"{path.name}: {field}: {mistake['msg']}{given}; {remedy}"


def _allowed(where: list[int | str]) -> str:
    models: dict[str, type[Declared]] = {"training": Training, "expected": Expected, "exports": FlatExport}
    model = models.get(str(where[0]), Dataset) if where else Dataset
    return ", ".join(sorted(name for name in model.model_fields if (model, name) != (Dataset, "name")))


if __name__ == "__main__":
    sys.stdout.write(json_schema())
