"""Dataset files: found, read, and their mistakes told with file, field and remedy."""

import re
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import BaseModel, ValidationError

from include.faceset.declared.dataset import Dataset
from include.faceset.declared.holdout import Holdout
from include.faceset.declared.layouts import LAYOUTS
from include.faceset.declared.pictures import Pictures
from include.faceset.declared.training import Expected, Training
from include.faceset.errors import Final
from include.faceset.ground import files

_NAMES = [get_args(one.model_fields["layout"].annotation)[0] for one in LAYOUTS]
_LAYOUTS = "say " + " or ".join(f"`layout: {name}`" for name in _NAMES)
_REMEDIES = {
    "extra_forbidden": "remove it, or correct its spelling; allowed here: {allowed}",
    "missing": "add it",
    "union_tag_not_found": _LAYOUTS,
    "union_tag_invalid": _LAYOUTS,
    "string_pattern_mismatch": "write it in the form the description of the field gives",
}


class DatasetError(Final, ValueError):
    """A dataset file that cannot be used; the message names file, field and remedy."""


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
        raise DatasetError(
            f"{path.name}: {twins[0].name} lies beside it, and both would be the dataset {path.stem!r}; remove one"
        )
    try:
        declared = yaml.load(path.read_text(encoding="utf-8"), _Loader)  # noqa: S506 it is a safe one
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise DatasetError(f"{path.name}: cannot be read as YAML: {' '.join(str(error).split())}") from error
    if not isinstance(declared, dict):
        raise DatasetError(f"{path.name}: holds no mapping of fields; see reidnet_v3.yaml for the form")
    if "name" in declared:
        raise DatasetError(f"{path.name}: name: is taken from the file name; remove the field")
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


_BESIDE = {
    ".suppressed": ("a list of people to erase", r"sup+res+ed"),
    ".decisions": ("a table of decisions", r"decis+ions?"),
}
"""Suffix of what may lie beside a dataset file, what it is, and how a misspelt name of it looks."""


def stray_lists(folder: Path) -> Iterator[str]:
    """Of each file that looks like a list of people to erase, or decisions, that no dataset reads, what is wrong.

    Its name is misspelt, has another suffix behind it, as some editors add one, or its dataset file is gone.
    """
    stems = [path.stem for path in find(folder)]
    for path in sorted(path for path in folder.iterdir() if not files.is_temporary(path)):
        for suffix, (what, looks) in _BESIDE.items():
            if re.search(looks, path.name, re.IGNORECASE) and path.name not in {f"{stem}{suffix}" for stem in stems}:
                yield (
                    f"{path.name}: looks like {what}, and no dataset reads it: call it <dataset>{suffix}, as its "
                    "dataset file is called, or remove it"
                )


def _mistakes(path: Path, error: ValidationError) -> Iterator[str]:
    for mistake in error.errors(include_url=False):
        where = [part for part in mistake["loc"] if part not in _NAMES]
        field = ".".join(str(part) for part in where) or "file"
        if field == "name":
            remedy = "rename the file: lower-case letters, digits and _ only, a letter first"
        else:
            remedy = _REMEDIES.get(mistake["type"], "correct the value").format(allowed=_allowed(where[:-1]))
        given = "" if mistake["type"] in {"missing", "value_error"} else f" (given: {mistake['input']!r:.80})"
        yield f"{path.name}: {field}: {mistake['msg']}{given}; {remedy}"


def _allowed(where: list[int | str]) -> str:
    """The fields that there may be at a place in the file."""
    models: dict[str, tuple[type[BaseModel], ...]] = {
        "training": (Training,),
        "holdout": (Holdout,),
        "pictures": (Pictures,),
        "expected": (Expected,),
        "exports": LAYOUTS,
    }
    fields = {name for model in models.get(str(where[0]), ()) for name in model.model_fields} if where else set[str]()
    return ", ".join(sorted(fields or set(Dataset.model_fields) - {"name"}))
