"""What a run may change: the typed params of the DAG, in one place for the form, the API and `make run`."""

from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from include.faceset.declared.dataset import DESTINATION, AbsolutePath, Dataset, Images
from include.faceset.declared.export import END
from include.faceset.declared.partition_pattern import partition_pattern
from include.faceset.errors import Final

LinkMode = Literal["clone", "copy", "hardlink"]
Decode = Literal["full", "header", "off"]


def _whole(value: Any) -> Any:
    """3.0 as 3: to JSON Schema, and so to the trigger form and the API, both are the same integer."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


WholeNumber = BeforeValidator(_whole)
# JSON Schema's bounds let NaN pass, which is neither below nor above one: of all numbers it alone keeps these two.
NO_NAN: dict[str, Any] = {"not": {"minimum": 1, "maximum": 0}}


class ParamsError(Final, ValueError):
    """Params that cannot be used; the message lists the right ones."""


class RunParams(BaseModel):
    """One run's params, validated. Field descriptions are what the trigger form shows."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False, regex_engine="python-re")

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
    min_images: Annotated[Images, WholeNumber] = Field(
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
    shards: Annotated[int, Field(ge=1, le=512), WholeNumber] = Field(
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
    max_delete_fraction: Annotated[float, Field(ge=0, le=1)] = Field(
        title="Largest deletion",
        json_schema_extra=NO_NAN,
        description="Largest part (0 to 1) of the files at the destination that a run may delete unasked; above it, it "
        "waits for somebody's approval before anything is changed.",
    )
    partition: str | None = Field(
        default=None,
        title="Partition",
        description="The part to scan, such as 2026-05-01, of exports that arrive in parts. Empty: a scheduled run or "
        "a backfill takes the part of its date; any other run, all parts that are there.",
    )
    release: Annotated[str, Field(pattern=r"^[0-9a-f]{16}" + END)] | None = Field(
        default=None,
        title="Release",
        description="Roll back: publish this kept release again, instead of what the exports hold now "
        "(`make releases` lists them).",
    )
    suppressed: AbsolutePath | None = Field(
        default=None,
        title="People to erase",
        description="File (absolute path) that lists further identities to erase, one a line, beside those of the "
        "dataset's own list. A later run that does not name them takes them in again while the exports hold them.",
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


def schemas(dataset: Dataset | None = None) -> dict[str, dict[str, Any]]:
    """JSON schema of each param: type, bounds, title and description; the default is the dataset's, so not here.

    Airflow refuses at the trigger what does not fit. With a dataset they are as narrow as `check`, which then refuses
    no value of a param that fits, but for what one param means to another.
    """
    properties: dict[str, dict[str, Any]] = RunParams.model_json_schema()["properties"]
    found = {name: _flattened(schema) for name, schema in properties.items()}
    if dataset is not None:
        for name in ("local_source", "output"):
            if getattr(dataset, name) is not None and not _may_be_left_out(name, dataset):
                found[name]["type"] = "string"
        if dataset.dated:
            found["partition"]["pattern"] = partition_pattern(dataset.partition_format)
        else:
            found["partition"]["type"] = "null"
    return found


def _may_be_left_out(name: str, dataset: Dataset) -> bool:
    """Whether the folder of a dataset on a disk is of no use to it."""
    return all(export.in_s3 for export in dataset.exports) if name == "local_source" else dataset.releases is not None


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
    if checked.local_source is None and not _may_be_left_out("local_source", dataset):
        raise ParamsError("param 'local_source': exports of this dataset lie in it; give the folder")
    if checked.output is None and not _may_be_left_out("output", dataset):
        raise ParamsError(
            "param 'output': give the folder of the merged dataset; only a dataset file with `releases` does without"
        )
    if checked.output is None and checked.skip_upload:
        raise ParamsError(
            "param 'skip_upload': without an output there is nothing but the upload; give an output, or leave it off"
        )
    if checked.partition is not None and not dataset.dated:
        raise ParamsError("param 'partition': no export of this dataset arrives in parts; leave it empty")
    if checked.partition is not None and not dataset.is_partition(checked.partition):
        example = dataset.partition(datetime(2026, 5, 1, tzinfo=UTC))
        raise ParamsError(f"param 'partition': {checked.partition!r:.80} is no part's name; write it as {example}")
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
