"""The training config, loaded in the way arcface_torch does."""

import importlib
import sys
from pathlib import Path
from typing import Any

import pytest
from easydict import EasyDict

from include.faceset.steps import render
from include.faceset.steps.render import ConfigError
from include.faceset.training import arcface_torch
from include.faceset.training.counts import Counts
from tests.unit.faceset.pipeline import TREE, face, make_dataset, make_run, put, run_to_seal

BASE = """
from easydict import EasyDict as edict
config = edict()
config.margin_list = (1.0, 0.5, 0.0)
config.network = "r50"
config.output = "ms1mv3_arcface_r50"
config.batch_size = 128
config.dali = True
"""


@pytest.fixture
def exports(tmp_path: Path) -> None:
    for number in range(6):
        put(tmp_path / f"exports/training_data/id{number % 3}/{number}.jpg", face(number))


def load_as_the_trainer_does(configs: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    """recognition/arcface_torch/utils/utils_config.py, get_config: base first, then the job's config over it."""
    monkeypatch.syspath_prepend(str(configs.parent))
    for module in [module for module in sys.modules if module.split(".")[0] == "configs"]:
        monkeypatch.delitem(sys.modules, module)
    config = importlib.import_module("configs.base").config
    config.update(importlib.import_module(f"configs.{name}").config)
    if config.output is None:
        config.output = f"work_dirs/{name}"
    return config


@pytest.mark.usefixtures("exports")
def test_the_trainer_reads_the_true_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    configs = tmp_path / "arcface_torch" / "configs"
    put(configs / "base.py", BASE.encode())
    put(configs / "__init__.py", b"")
    training = {"batch_size": 2, "gpus": 1, "fp16": True, "data_root": str(tmp_path / "merged")}
    run = make_run(make_dataset(tmp_path, [TREE], training=training), config_path=str(configs))
    sealed = run_to_seal(run).sealed
    written = render.render_config(run, sealed)
    assert written == [
        run.release(sealed.release_id) / "faces_imagefolder.py",
        configs / "faces_imagefolder.py",
    ]
    config = load_as_the_trainer_does(configs, "faces_imagefolder", monkeypatch)
    assert isinstance(config, EasyDict)
    assert (config.num_classes, config.num_image) == (3, 6)
    assert config.num_classes == sum(1 for _ in run.output.iterdir())
    assert config.num_image == sum(1 for path in run.output.rglob("*") if path.is_file())
    assert (config.rec, config.dali) == (str(run.output), False)
    assert config.output == f"work_dirs/faces_{sealed.release_id}"
    assert (config.margin_list, config.fp16, config.verbose) == ((1.0, 0.5, 0.0), True, 3)


@pytest.mark.usefixtures("exports")
def test_without_upload_the_trainer_reads_the_output_folder(tmp_path: Path) -> None:
    run = make_run(make_dataset(tmp_path, [TREE]), skip_upload=True)
    assert arcface_torch.values(run, Counts("", 1, 2))["rec"] == str(tmp_path / "merged")


@pytest.mark.usefixtures("exports")
def test_a_config_path_that_is_no_folder_is_refused(tmp_path: Path) -> None:
    run = make_run(make_dataset(tmp_path, [TREE]), config_path=str(tmp_path / "nowhere"))
    with pytest.raises(ConfigError, match="nowhere is no folder"):
        render.render_config(run, run_to_seal(run).sealed)


def rendered(folder: Path, values: dict[str, Any]) -> bytes:
    """A config with any values, of some release."""
    result = run_to_seal(make_run(make_dataset(folder, [TREE])))
    return arcface_torch.render(result.sealed, result.run.release(result.sealed.release_id), values).encode()


@pytest.mark.usefixtures("exports")
def test_values_made_to_inject_code_stay_values(tmp_path: Path) -> None:
    values = {"rec": "/data/'\"\n+__import__('os').system('touch pwned')#", "val_targets": ["{{ 7*7 }}", "\\"]}
    path = put(tmp_path / "config.py", rendered(tmp_path, values))
    render.check_read_back(arcface_torch, path, values)
    assert not Path("pwned").exists()


@pytest.mark.usefixtures("exports")
def test_a_config_that_says_something_else_is_refused(tmp_path: Path) -> None:
    path = put(tmp_path / "config.py", rendered(tmp_path, {"rec": "/nowhere", "num_classes": 3, "lr": 0.1}))
    with pytest.raises(ConfigError, match="num_classes, num_image"):
        render.check_read_back(arcface_torch, path, {"rec": "/nowhere", "num_classes": 4, "num_image": 9, "lr": 0.1})
    put(path, b"import nowhere_to_be_found")
    with pytest.raises(ConfigError, match="cannot be imported: ModuleNotFoundError"):
        render.check_read_back(arcface_torch, path, {})


@pytest.mark.usefixtures("exports")
@pytest.mark.parametrize(
    ("training", "said"),
    [
        ({}, "6 images are fewer than a batch of 1,024 .128 on each of 8 GPUs"),
        ({"gpus": 4, "batch_size": 1}, "3 classes are fewer than 4 GPUs"),
        ({"gpus": 1, "batch_size": 1, "sample_rate": 0.3}, "sample_rate 0.3 of the 3 classes .* at least 0.334"),
    ],
)
def test_a_training_for_nothing_is_refused(tmp_path: Path, training: dict[str, Any], said: str) -> None:
    run = make_run(make_dataset(tmp_path, [TREE], training=training))
    with pytest.raises(ConfigError, match=said):
        render.render_config(run, run_to_seal(run).sealed)
