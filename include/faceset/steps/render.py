"""render_config: the sealed counts -> a config for each trainer (training/), read back and compared before use."""

from pathlib import Path
from typing import Any

from include.faceset.errors import Final
from include.faceset.ground import files
from include.faceset.release.release import Release
from include.faceset.run.attempt import Attempt, trying
from include.faceset.run.run import Run
from include.faceset.training import schedule
from include.faceset.training.counts import Counts
from include.faceset.training.trainers import Trainer, wanted


class ConfigError(Final):
    """The rendered config does not say what it should, or cannot be put where the run wants it."""


def render_config(run: Run, sealed: Release) -> list[Path]:
    """Render the configs into the release folder and, if the run names one, into `config_path`.

    Returns:
        Where they were written.

    Raises:
        ConfigError: a training would be for nothing, a value read back differs, or `config_path` is no folder.
        SupersededError: a later try, or a later run, has begun.
    """
    planned = schedule.plan(run.dataset.training, sealed.identities, sealed.images)
    if refused := list(schedule.refusals(run.dataset.training, planned)):
        raise ConfigError("\n".join([*refused, "Then clear render_config, with the tasks that follow it"]))
    folders = [run.release(sealed.release_id)]
    if run.params.config_path is not None:
        folders.append(Path(run.params.config_path))
        if not folders[-1].is_dir():
            raise ConfigError(
                f"config_path: {folders[-1]} is no folder; name the configs folder of an arcface_torch checkout"
            )
    with trying(run, "render") as attempt:
        return [_render(attempt, trainer, sealed, folder) for trainer in wanted(run, folders[0]) for folder in folders]


def _render(attempt: Attempt, trainer: Trainer, sealed: Release, folder: Path) -> Path:
    run, path = attempt.run, folder / trainer.file_name(attempt.run.dataset.name)
    expected = trainer.values(run, Counts.of(sealed))
    with files.replacing(path) as temporary:
        temporary.write_text(trainer.render(sealed, run.release(sealed.release_id), expected), encoding="utf-8")
        check_read_back(trainer, temporary, expected)
        attempt.check()  # A later try that begins only now removes the temporary file.
    return path


def check_read_back(trainer: Trainer, path: Path, expected: dict[str, Any]) -> None:
    """Read a config back as its trainer does, and compare every value.

    Raises:
        ConfigError: it cannot be read, or a value differs, is missing or is too many.
    """
    try:
        found = trainer.read_back(path)
    except ValueError as error:
        raise ConfigError(f"{path.name}: {error}") from error
    differing = sorted(name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name))
    if differing or expected.keys() != found.keys():
        raise ConfigError(f"{path.name}: the values read back differ from the sealed ones: {', '.join(differing)}")
