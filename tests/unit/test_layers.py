"""Who may import whom: dags -> include, plugins; include knows neither Airflow nor S3; nothing imports dags.

Within include/faceset a room imports those before it in ROOMS, and steps import no step.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FORBIDDEN = {
    "include": {"airflow", "boto3", "botocore", "obstore", "s3_sync", "plugins", "dags", "local", "bench", "tests"},
    "plugins/s3_sync": {"include", "dags", "local", "bench", "tests", "face_sets"},
    "plugins": {"dags", "local", "bench", "tests"},
    "dags": {"local", "bench", "tests", "dags", "pyarrow", "boto3", "obstore", "PIL"},
    "local": {"dags", "bench", "tests"},
    "bench": {"airflow", "dags", "tests"},
}
ROOMS = (
    "errors",
    "names",
    "ports",
    "ground",
    "ledger",
    "declared",
    "run",
    "people",
    "exports",
    "images",
    "release",
    "output",
    "records",
    "training",
    "figures",
    "erasure",
    "report",
    "show",
    "steps",
)
"""Of include/faceset, lowest first; a room is a package or a module."""


def imports(path: Path) -> Iterator[str]:
    """Top-level package of everything a file imports, wherever in the file."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports hide who imports whom"
            yield (node.module or "").split(".")[0]


@pytest.mark.parametrize("layer", FORBIDDEN)
def test_a_layer_imports_only_what_it_may(layer: str) -> None:
    files = sorted((ROOT / layer).rglob("*.py"))
    assert files
    wrong = {str(path.relative_to(ROOT)): found for path in files if (found := FORBIDDEN[layer] & set(imports(path)))}
    assert wrong == {}


def modules_imported(source: str) -> Iterator[str]:
    """What a file imports of include.faceset, each by its path below it, such as `run.attempt`."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("include.faceset"):
            package = (node.module or "").removeprefix("include.faceset").lstrip(".")
            yield from (f"{package}.{alias.name}".lstrip(".") for alias in node.names)


def stray_imports(module: str, source: str) -> Iterator[str]:
    """Of each import of a module of include.faceset that goes up, or from step to step, where it belongs."""
    room = module.partition(".")[0]
    for imported in modules_imported(source):
        other = imported.partition(".")[0]
        if room == other == "steps":
            yield f"{module} imports {imported}: steps import no step; what both need is of a room below (ROOMS)"
        elif ROOMS.index(other) > ROOMS.index(room):
            yield (
                f"{module} imports {imported}, which is higher up: move {module} into {other!r} or above, or what it "
                f"needs of {imported} into {room!r} or below; the order is {' < '.join(ROOMS)}"
            )


def test_a_room_imports_lower_rooms_only_and_a_step_no_step() -> None:
    top = ROOT / "include/faceset"
    paths = {".".join(path.relative_to(top).with_suffix("").parts): path for path in sorted(top.rglob("*.py"))}
    strays = [
        stray
        for module, path in paths.items()
        if module != "__init__"
        for stray in stray_imports(module, path.read_text())
    ]
    assert not strays, "\n".join(strays)


def test_what_is_said_of_a_stray_import_says_where_it_belongs() -> None:
    up = list(stray_imports("run.turns", "from include.faceset.release import pointer"))
    assert len(up) == 1
    assert "run.turns imports release.pointer" in up[0]
    assert "into 'release' or above, or what it needs of release.pointer into 'run' or below" in up[0]
    assert "steps import no step" in next(stray_imports("steps.copy", "from include.faceset.steps.scan import scan"))
    assert not list(stray_imports("release.pointer", "from include.faceset.run.run import Run"))


def test_the_map_and_the_package_name_the_rooms_in_their_order() -> None:
    rooms = [room for room in ROOMS if (ROOT / "include/faceset" / room).is_dir()]
    page = (
        (ROOT / "docs/architecture.md").read_text().partition("## Rooms of `include/faceset`")[2].partition("\n## ")[0]
    )
    assert re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE) == rooms
    said = (ROOT / "include/faceset/__init__.py").read_text().partition("lowest first:")[2].partition(";")[0]
    assert re.findall(r"``(\w+)``", said) == rooms[:-1]
