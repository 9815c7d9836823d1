"""The config of InsightFace's arcface_torch for an ImageFolder.

It is imported as ``configs.<file name without .py>`` after ``configs.base``, which it updates
(recognition/arcface_torch/utils/utils_config.py)."""

import ast
import subprocess
import sys
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from include.faceset.run.run import Run

_IMPORT = "import runpy, sys; print(repr(dict(runpy.run_path(sys.argv[1])['config'])))"


def file_name(dataset: str) -> str:
    """What the config is called: a module's name, so without dots and dashes."""
    return f"{dataset}_imagefolder.py"


def values(run: Run, identities: int, images: int) -> dict[str, Any]:
    """What the config sets, by name. `output=None` lets arcface_torch make a directory of the config's own name."""
    training = run.dataset.training
    downloaded = training.data_root.replace("{dataset}", run.dataset.name)
    return {
        "network": training.network,
        "output": None,
        "embedding_size": training.embedding_size,
        "sample_rate": training.sample_rate,
        "batch_size": training.batch_size,
        "lr": training.lr,
        "dali": False,
        "rec": run.params.output if run.params.skip_upload else downloaded,
        "num_classes": identities,
        "num_image": images,
        "num_epoch": training.num_epoch,
        "warmup_epoch": training.warmup_epoch,
        "val_targets": list(training.val_targets),
    }


def render(dataset: str, release_id: str, config: dict[str, Any]) -> str:
    """The config's source; every value stands there as its `repr`."""
    # Python source, not HTML: escaping would corrupt it, and every value goes through repr.
    environment = Environment(  # noqa: S701
        loader=PackageLoader("include.faceset.training"), undefined=StrictUndefined, keep_trailing_newline=True
    )
    environment.filters["repr"] = repr
    template = environment.get_template("imagefolder.py.j2")
    return template.render(dataset=dataset, release_id=release_id, values=config)


def read_back(path: Path) -> dict[str, Any]:
    """Import a config in a fresh interpreter; what it sets.

    Raises:
        ValueError: it cannot be imported.
    """
    # -I: nothing of this process's environment may help the import.
    result = subprocess.run(
        [sys.executable, "-I", "-c", _IMPORT, str(path)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    if result.returncode:
        raise ValueError(f"cannot be imported: {result.stderr.strip().splitlines()[-1]}")
    found: dict[str, Any] = ast.literal_eval(result.stdout)
    return found
