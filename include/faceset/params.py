"""What a run may change: the typed params of the DAG, in one place for the form, the API and `make run`."""

from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from include.faceset.dataset import DESTINATION, AbsolutePath, Dataset

LinkMode = Literal["clone", "copy", "hardlink"]
Decode = Literal["full", "header", "off"]


class ParamsError(ValueError):
    """Params that cannot be used; the message lists the right ones."""


class RunParams(BaseModel):
    """One run's params, validated. Field descriptions are what the trigger form shows."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    local_source: AbsolutePath | None = Field(
        default=None,
        title="Local source",
        description="Folder that holds the exports (absolute path). It is only read. Exports in S3 do not lie in it.",
    )
    output: AbsolutePath | None = Field(
        default=None,
        title="Output",
        description="Folder of the merged ImageFolder (absolute path). It belongs to this dataset alone: whatever else "
        "lies in it is removed. Releases lie beside it, in <output>.releases/. Empty, for a dataset whose file names "
        "`releases`: the merged dataset lies at the destination alone.",
    )
    min_images: Annotated[int, Field(ge=1)] = Field(
        title="Minimum images",
        description="Fewest distinct images that an identity needs, counted over all exports.",
    )
    skip_upload: bool = Field(
        default=False,
        title="Skip upload",
        description="Stop at the merged dataset on disk: no sync, no check of the bucket. "
        "The config is rendered for the local path.",
    )
    destination: Annotated[str, Field(pattern=DESTINATION)] = Field(
        title="Destination",
        description="s3://bucket/prefix/ brought into exactly the state of the merged dataset; ends with a slash.",
    )
    shards: Annotated[int, Field(ge=1, le=512)] = Field(
        title="Shards", description="Copy tasks to fan out to (1 to 512). The result does not depend on it."
    )
    link_mode: LinkMode = Field(
        default="clone",
        title="Link mode",
        description="How a kept file gets into the output. clone: copy-on-write where the disk can, else a copy. "
        "hardlink: shares its bytes with the export, so editing one edits both.",
    )
    decode: Decode = Field(
        default="full",
        title="Decode",
        description="full: every image is decoded, as by the trainer. header: its header is read. off: not looked at. "
        "An image that cannot be decoded makes the trainer hang.",
    )
    dry_run: bool = Field(
        default=False,
        title="Dry run",
        description="Scan and filter, then report what a run would do; nothing is copied, uploaded or deleted.",
    )
    max_delete_fraction: Annotated[float, Field(ge=0, le=1, strict=False)] = Field(
        title="Largest deletion",
        description="Largest part (0 to 1) of the files at the destination that a run may delete unasked; above it, it "
        "waits for somebody's approval before anything is changed.",
    )
    partition: str | None = Field(
        default=None,
        title="Partition",
        description="The part to scan, such as 2026-05-01, of exports that arrive in parts. Empty: a scheduled run or "
        "a backfill takes the part of its date; any other run, all parts that are there.",
    )
    release: Annotated[str, Field(pattern=r"^[0-9a-f]{16}$")] | None = Field(
        default=None,
        title="Release",
        description="Roll back: publish this kept release again, instead of what the exports hold now "
        "(`make releases` lists them).",
    )
    config_path: AbsolutePath | None = Field(
        default=None,
        title="Config path",
        description="Folder that also gets the rendered config, for example a checkout's "
        "recognition/arcface_torch/configs. Empty: only the release folder gets it.",
    )


def defaults(dataset: Dataset) -> dict[str, Any]:
    """The params of a run that changes nothing; keys in the order of the form."""
    own = dataset.model_dump()
    return {name: own.get(name, field.default) for name, field in RunParams.model_fields.items()}


def schemas() -> dict[str, dict[str, Any]]:
    """JSON schema of each param: type, bounds, title and description; the default is the dataset's, so not here."""
    properties: dict[str, dict[str, Any]] = RunParams.model_json_schema()["properties"]
    return {name: _flattened(schema) for name, schema in properties.items()}


def check(values: dict[str, Any], dataset: Dataset) -> RunParams:
    """The params of a run: the dataset's defaults with `values` over them.

    Raises:
        ParamsError: an unknown name or a value of the wrong type or range.
    """
    try:
        checked = RunParams.model_validate({**defaults(dataset), **values})
    except ValidationError as error:
        lines = [_mistake(mistake) for mistake in error.errors(include_url=False)]
        raise ParamsError("\n".join([*lines, "", "Params and their values now:", *_listing(dataset)])) from error
    if checked.local_source is None and not all(export.in_s3 for export in dataset.exports):
        msg = "param 'local_source': exports of this dataset lie in it; give the folder"
        raise ParamsError(msg)
    if checked.output is None and dataset.releases is None:
        msg = "param 'output': give the folder of the merged dataset; only a dataset file with `releases` does without"
        raise ParamsError(msg)
    if checked.output is None and checked.skip_upload:
        msg = "param 'skip_upload': without an output there is nothing but the upload; give an output, or leave it off"
        raise ParamsError(msg)
    if checked.partition is not None and not dataset.dated:
        msg = "param 'partition': no export of this dataset arrives in parts; leave it empty"
        raise ParamsError(msg)
    if checked.partition is not None and not dataset.is_partition(checked.partition):
        example = dataset.partition(datetime(2026, 5, 1, tzinfo=UTC))
        msg = f"param 'partition': {checked.partition!r:.80} is no part's name; write it as {example}"
        raise ParamsError(msg)
    return checked


def _mistake(mistake: Any) -> str:
    name = ".".join(str(part) for part in mistake["loc"])
    if mistake["type"] == "extra_forbidden":
        return f"unknown param {name!r}"
    return f"param {name!r}: {mistake['msg']} (given: {mistake['input']!r:.80})"


def _listing(dataset: Dataset) -> list[str]:
    known = schemas()
    return [f"  {name} ({_type(known[name])}) = {value!r}" for name, value in defaults(dataset).items()]


def _type(schema: dict[str, Any]) -> str:
    if "enum" in schema:
        return " | ".join(schema["enum"])
    kind = schema["type"]
    return str(kind[0] if isinstance(kind, list) else kind)


def _flattened(schema: dict[str, Any]) -> dict[str, Any]:
    """An optional string as `type: [string, null]`: the trigger form knows no `anyOf`."""
    rest = {key: item for key, item in schema.items() if key not in {"anyOf", "default"}}
    if "anyOf" not in schema:
        return rest
    value = next(option for option in schema["anyOf"] if option.get("type") != "null")
    return {**value, **rest, "type": [value["type"], "null"]}
