"""Who may import whom: dags -> include, plugins; include knows neither Airflow nor S3; nothing imports dags."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FORBIDDEN = {
    "include": {"airflow", "boto3", "botocore", "obstore", "s3_sync", "plugins", "dags", "local", "bench", "tests"},
    "plugins": {"include", "dags", "local", "bench", "tests"},
    "dags": {"local", "bench", "tests", "dags", "pyarrow", "boto3", "obstore", "PIL"},
    "local": {"dags", "bench", "tests"},
    "bench": {"airflow", "dags", "tests"},
}


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
