"""The config of InsightFace's arcface_torch for an ImageFolder.

It is imported as ``configs.<file name without .py>`` after ``configs.base``, which it updates
(recognition/arcface_torch/utils/utils_config.py)."""

import ast
import hashlib
import inspect
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from jinja2 import Environment, PackageLoader, StrictUndefined

from include.faceset.release import release as releases
from include.faceset.release.release import Release
from include.faceset.run.run import Run
from include.faceset.training import guard, schedule, verification
from include.faceset.training.counts import Counts

_IMPORT = "import runpy, sys; print(repr(dict(runpy.run_path(sys.argv[1])['config'])))"


def is_wanted(run: Run, _: Path | None) -> bool:
    """Whether the dataset has the form that this config is about."""
    return "image_folder" in run.dataset.forms


def file_name(dataset: str) -> str:
    """What the config is called: a module's name, so without dots and dashes."""
    return f"{dataset}_imagefolder.py"


def values(run: Run, counts: Counts) -> dict[str, Any]:
    """What the config sets, by name."""
    training, names = run.dataset.training, {"{dataset}": run.dataset.name, "{release_id}": counts.release_id}
    return {
        "network": training.network,
        "output": _filled_in(training.output, names),
        "embedding_size": training.embedding_size,
        "sample_rate": training.sample_rate,
        "batch_size": training.batch_size,
        "lr": training.lr,
        **training.of_base(),
        "dali": False,
        "rec": run.params.output if run.params.skip_upload else _filled_in(training.data_root, names),
        "num_classes": counts.identities,
        "num_image": counts.images,
        "num_epoch": training.num_epoch,
        "warmup_epoch": training.warmup_epoch,
        "verbose": schedule.plan(training, counts.identities, counts.images).verbose,
        "val_targets": [*training.val_targets, *_held_out(run, counts)],
    }


def _held_out(run: Run, counts: Counts) -> list[str]:
    """The name of the release's own pairs, if it has them; of a release that is only foreseen, if it would."""
    name = verification.file_name(run.dataset.name)
    there = verification.is_there(run.release(counts.release_id), run.dataset.name)
    return [name.removesuffix(".bin")] if (there if counts.release_id else run.dataset.holdout) else []


def _filled_in(text: str, names: dict[str, str]) -> str:
    for name, value in names.items():
        text = text.replace(name, value)
    return text


def render(release: Release, folder: Path, config: dict[str, Any]) -> str:
    """The config's source; every value stands there as its `repr`, and below them what checks that they are true."""
    return fill_in_template(release, config, what_was_proven(release, folder))


def fill_in_template(release: Release, config: dict[str, Any], sealed: dict[str, Any]) -> str:
    """The source of a config; `sealed` is what its guard compares with."""
    # Python source, not HTML: escaping would corrupt it, and every value goes through repr.
    environment = Environment(  # noqa: S701
        loader=PackageLoader("include.faceset.training"), undefined=StrictUndefined, keep_trailing_newline=True
    )
    environment.filters["repr"] = repr
    template = environment.get_template("imagefolder.py.j2")
    return template.render(
        dataset=release.dataset,
        release_id=release.release_id,
        values=config,
        sealed=sealed,
        skip=guard.SKIP,
        guard=inspect.getsource(guard).removeprefix(f'"""{guard.__doc__}"""').strip(),
    )


def what_was_proven(release: Release, folder: Path) -> dict[str, Any]:
    """What the guard compares with what lies on the training host (guard.py)."""
    names = hashlib.sha256()
    for rows in pq.ParquetFile(folder / releases.CLASSES_FILE).iter_batches(columns=["identity"]):
        names.update("".join(f"{name}\n" for name in rows["identity"].to_pylist()).encode())
    return {
        "form": "image_folder",
        "release_id": release.release_id,
        "classes": release.identities,
        "images": release.images,
        "names": names.hexdigest(),
    }


def read_back(path: Path) -> dict[str, Any]:
    """Import a config in a fresh interpreter; what it sets.

    Raises:
        ValueError: it cannot be imported.
    """
    # -I: nothing of this process's environment may help the import. What it checks lies on another machine.
    result = subprocess.run(
        [sys.executable, "-I", "-c", _IMPORT, str(path)],
        env={**os.environ, guard.SKIP: "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    if result.returncode:
        raise ValueError(f"cannot be imported: {result.stderr.strip().splitlines()[-1]}")
    found: dict[str, Any] = ast.literal_eval(result.stdout)
    return found
