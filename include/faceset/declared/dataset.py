"""The dataset file: what a user declares in ``include/datasets/<name>.yaml``.

One file is one dataset and becomes one DAG. ``python -m include.faceset.declared.dataset`` prints the JSON
schema that editors use (kept beside the files as ``dataset.schema.json``).
"""

import json
import re
import sys
import warnings
from datetime import UTC, date, datetime
from functools import reduce
from operator import or_
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from croniter import croniter
from pydantic import Field, PositiveInt, PrivateAttr, field_validator, model_validator

from include.faceset.declared.export import END, Declared
from include.faceset.declared.holdout import Holdout
from include.faceset.declared.layouts import LAYOUTS
from include.faceset.declared.pictures import Pictures
from include.faceset.declared.training import Expected, Training

DESTINATION = r"^s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]/((?!\.{1,2}/|\s)[^/\x00-\x1f\x7f-\x9f\ud800-\udfff]+/)+" + END
AbsolutePath = Annotated[str, Field(pattern=r"^/[^\x00-\x1f\ud800-\udfff]*[^\x00-\x1f\ud800-\udfff/]" + END)]
Images = Annotated[int, Field(ge=1, le=2**31 - 1)]

DEFAULT_QUEUE = "default"
PRESETS = frozenset({"@hourly", "@daily", "@weekly", "@monthly", "@quarterly", "@yearly"})

if TYPE_CHECKING:
    from include.faceset.declared.export import Export as AnyExport
else:
    AnyExport = Annotated[reduce(or_, LAYOUTS), Field(discriminator="layout")]


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
    exports: list[AnyExport] = Field(min_length=1)
    min_images: Images = Field(2, description="Fewest distinct images that an identity needs, over all exports.")
    image_size: tuple[PositiveInt, PositiveInt] = Field(
        (112, 112), description="Width and height in pixels.", strict=False
    )
    max_file_size: Annotated[int, Field(ge=1, le=1 << 30)] = Field(
        64_000_000,
        description="Largest file in bytes that is read into memory, at most 1 GiB. Of a larger one the header is "
        "judged; if it is kept, it is hashed and copied by blocks.",
    )
    compact_labels: bool = Field(
        False,
        description="true: number the classes of each release from 0 without gaps, whatever numbers they had before. "
        "Otherwise an identity keeps its number for good, and one that left leaves it vacant.",
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
    decisions: AbsolutePath | None = Field(
        None,
        description="File of what people decided about identities and images (docs/looking.md), instead of "
        "<dataset>.decisions, which lies where this file lies and need not be named.",
    )
    faces_shown_to: Literal["editors", "readers", "nobody"] = Field(
        "editors",
        description="Who may look at faces on the pages in Airflow: whoever may change the DAG, whoever may read it, "
        "or nobody.",
    )
    forms: Annotated[list[Literal["image_folder", "record"]], Field(min_length=1)] = Field(
        ["image_folder"],
        description="How a training host can download a release. image_folder: an object an image. record: two files "
        "(train.rec, train.idx) beside it, at <destination without its last slash>.records/<release id>/ and in "
        "<output>.records/.",
    )
    keep_records: PositiveInt = Field(1, description="Releases whose records to keep.")
    holdout: Holdout | None = Field(
        None, description="Hold identities out of the training set, and draw pairs of their images to verify models by."
    )
    pictures: Pictures = Field(
        Pictures(), description="Leave images out for how they look. By default none is, and the summary counts them."
    )
    training: Training = Training()
    expected: Expected | None = None
    _file: Path | None = PrivateAttr(None)

    @field_validator("schedule")
    @classmethod
    def _is_a_cadence(cls, schedule: str | None) -> str | None:
        if schedule is not None and schedule not in PRESETS and not croniter.is_valid(schedule):
            raise ValueError(f"is no cron expression and none of {', '.join(sorted(PRESETS))}")
        return schedule

    @field_validator("partition_format")
    @classmethod
    def _reads_what_it_writes(cls, form: str) -> str:
        written = datetime(2026, 12, 31, tzinfo=UTC).strftime(form)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)  # of a form without a year, which is refused below
                back = datetime.strptime(written, form).replace(tzinfo=UTC)
        except ValueError:
            back = None
        if (
            back is None
            or back.date() != date(2026, 12, 31)
            or not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", written)
        ):
            raise ValueError(
                f"writes 31 December 2026 as {written!r}: must name year, month and day in letters, digits, _ . and -"
            )
        return form

    @field_validator("forms")
    @classmethod
    def _names_each_form_once(cls, forms: list[str]) -> list[str]:
        if twice := sorted({form for form in forms if forms.count(form) > 1}):
            raise ValueError(f"{twice[0]!r} is named twice; name each form once")
        return forms

    @property
    def suppressed_beside(self) -> Path | None:
        """Where a list of people to erase would lie beside the dataset file; None if it came from no file."""
        return self._file and self._file.with_suffix(".suppressed")

    @property
    def decisions_beside(self) -> Path | None:
        """Where decisions would lie beside the dataset file; None if it came from no file."""
        return self._file and self._file.with_suffix(".decisions")

    def lying_at(self, path: Path) -> "Dataset":
        """This dataset, which now knows where its file lies."""
        self._file = path.absolute()
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
            raise ValueError(
                "give either `output` (folder of the merged dataset) or, for a dataset that lies in S3 alone, "
                "`releases` (folder of what is kept of its releases)"
            )
        if self.local_source is None and (local := [one for one in self.exports if not one.in_s3]):
            raise ValueError(
                f"local_source: add it: export {local[0].name!r} lies in it (an export in S3 has a root s3://…/)"
            )
        return self

    @model_validator(mode="after")
    def _exports_are_told_apart(self) -> "Dataset":
        names = [export.name for export in self.exports]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"exports: the name {twice[0]!r} is used twice; give each export its own")
        return self


def json_schema() -> str:
    """The JSON schema of a dataset file, for editors."""
    schema = Dataset.model_json_schema()
    schema["properties"].pop("name", None)
    schema["required"] = [field for field in schema["required"] if field != "name"]
    return json.dumps({"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}, indent=2) + "\n"


if __name__ == "__main__":
    sys.stdout.write(json_schema())
