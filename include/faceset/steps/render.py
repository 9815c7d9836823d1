"""render_config: the sealed counts -> ``<dataset>_imagefolder.py`` for arcface_torch, imported and compared before use.

arcface_torch imports a config as ``configs.<file name without .py>`` after ``configs.base``, which it
updates (recognition/arcface_torch/utils/utils_config.py).
"""

import ast
import subprocess
import sys
from pathlib import Path
from typing import Any

from include.faceset.errors import Final
from include.faceset.ground import files
from include.faceset.release.release import Release
from include.faceset.run.attempt import attempt
from include.faceset.run.run import Run
from include.faceset.training.arcface_torch import file_name, render, values

_IMPORT = "import runpy, sys; print(repr(dict(runpy.run_path(sys.argv[1])['config'])))"


class ConfigError(Final):
    """The rendered config does not say what it should, or cannot be put where the run wants it."""


def render_config(run: Run, sealed: Release) -> list[Path]:
    """Render the config into the release folder and, if the run names one, into `config_path`.

    Returns:
        Where it was written.

    Raises:
        ConfigError: a value read back differs, or `config_path` is no folder.
        SupersededError: a later try, or a later run, has begun.
    """
    folders = [run.release(sealed.release_id)]
    if run.params.config_path is not None:
        folders.append(Path(run.params.config_path))
        if not folders[-1].is_dir():
            msg = f"config_path: {folders[-1]} is no folder; name the configs folder of an arcface_torch checkout"
            raise ConfigError(msg)
    expected = values(run, sealed.identities, sealed.images)
    text = render(run.dataset.name, sealed.release_id, expected)
    written = []
    with attempt(run, "render") as mine:
        for folder in folders:
            path = folder / file_name(run.dataset.name)
            with files.replacing(path) as temporary:
                temporary.write_text(text, encoding="utf-8")
                compare(temporary, expected)
                mine.check()  # A later try that begins only now removes the temporary file.
            written.append(path)
    return written


def compare(path: Path, expected: dict[str, Any]) -> None:
    """Import a config in a fresh interpreter and compare every value.

    Raises:
        ConfigError: it cannot be imported, or a value differs, is missing or is too many.
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
        msg = f"{path.name}: cannot be imported: {result.stderr.strip().splitlines()[-1]}"
        raise ConfigError(msg)
    found = ast.literal_eval(result.stdout)
    differing = sorted(name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name))
    if differing or expected.keys() != found.keys():
        msg = f"{path.name}: the values read back differ from the sealed ones: {', '.join(differing)}"
        raise ConfigError(msg)
