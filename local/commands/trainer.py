"""`make trainer`: a release, read and trained on by the trainer's own code. ARCFACE is its folder."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from include.faceset.declared import params
from include.faceset.declared.dataset import Dataset
from include.faceset.release import release
from include.faceset.run.run import Run
from include.faceset.steps import copy, forget, pack, preflight, render, scan, seal, select
from local.airflow import settings
from local.commands.run import DEFAULT_DATASET, UsageError, command, find_dataset
from local.sample.sample import make_sample

TRAINER = settings.ROOT / "local/trainer"
REQUIREMENTS = TRAINER / "requirements.txt"
PYTHONS = ("python3.10", "python3.9", "python3.8")
"""What scipy 1.8 is there for."""
STEPS = 20
HELD_OUT = {"fraction": 0.05, "pairs": 60}


def find_checkout(environment: Mapping[str, str]) -> Path:
    """The trainer's folder. Raises UsageError if it is none."""
    folder = Path(environment.get("ARCFACE") or "")
    if not environment.get("ARCFACE") or not (folder / "train_v2.py").is_file():
        raise UsageError(
            "ARCFACE: name the folder recognition/arcface_torch of a checkout of InsightFace (it holds train_v2.py)"
        )
    return folder


def find_python(environment: Mapping[str, str]) -> str:
    """A Python that the trainer goes with. Raises UsageError if there is none."""
    for name in (environment.get("TRAINER_PYTHON"), *PYTHONS):
        if name and (path := shutil.which(name)) and not subprocess.run([path, "-c", ""], check=False).returncode:
            return path
    raise UsageError(f"the trainer needs one of {', '.join(PYTHONS)} (scipy below 1.9); name it: TRAINER_PYTHON=…")


def install(python: str, home: Path) -> Path:
    """The Python of the trainer's environment, installed once."""
    stamp = home / "installed"
    if not stamp.exists() or stamp.read_text() != REQUIREMENTS.read_text():
        shutil.rmtree(home, ignore_errors=True)
        print(f"Installing {REQUIREMENTS.relative_to(settings.ROOT)} into {home} (some minutes, once) …", flush=True)
        subprocess.run([python, "-m", "venv", home], check=True)
        subprocess.run([home / "bin/pip", "install", "--quiet", "-r", REQUIREMENTS], check=True)
        stamp.write_text(REQUIREMENTS.read_text())
    return home / "bin/python"


def make_release(folder: Path) -> Path:
    """A release of the drawn sample in both forms, with people held out, on this disk alone; its folder."""
    make_sample(folder / "sample")
    declared = find_dataset(DEFAULT_DATASET).model_dump(exclude_defaults=True) | {
        "name": DEFAULT_DATASET,
        "forms": ["image_folder", "record"],
        "holdout": HELD_OUT,
    }
    declared["training"] |= {"val_targets": [], "batch_size": 128, "gpus": 1}
    dataset = Dataset.model_validate(declared)
    chosen = params.check(
        {"local_source": str(folder / "sample"), "output": str(folder / "merged"), "skip_upload": True}, dataset
    )
    run = Run(dataset, chosen, "trainer")
    preflight.preflight(run)
    for export in dataset.exports:
        scan.scan(run, export.name)
    forget.forget(run)
    for shard in select.filter_manifest(run).shards:
        copy.copy_shard(run, shard)
    sealed = seal.seal(run)
    pack.pack(run, sealed.release_id, None)
    render.render_config(run, sealed)
    made = run.release(sealed.release_id)
    for pairs in made.glob("*.bin"):
        for rec in (run.output, run.records / sealed.release_id):
            shutil.copy(pairs, rec)
    return made


def try_it(checkout: Path, python: Path, made: Path, steps: int, scratch: Path) -> int:
    """Run the trainer's code in a copy of its folder; its exit status."""
    copied = scratch / "arcface_torch"
    shutil.copytree(checkout, copied, ignore=shutil.ignore_patterns(".git", "work_dirs"))
    configs = sorted(made.glob("*_imagefolder.py")) + sorted(made.glob("*_record.py"))
    for config in configs:
        shutil.copy(config, copied / "configs")
    asked: Sequence[str | Path] = [str(steps), made / release.CLASSES_FILE, *(config.stem for config in configs)]
    return subprocess.run([python, TRAINER / "check.py", *asked], cwd=copied, check=False).returncode


def main() -> int:
    """Make a release, or take the one that is named, and let the trainer at it."""
    checkout = find_checkout(os.environ)
    python = install(find_python(os.environ), settings.state_folder() / "trainer")
    with tempfile.TemporaryDirectory(prefix="trainer-") as folder:
        made = Path(os.environ["RELEASE"]) if os.environ.get("RELEASE") else make_release(Path(folder))
        return try_it(checkout, python, made, int(os.environ.get("STEPS") or STEPS), Path(folder))


if __name__ == "__main__":
    command(main)
