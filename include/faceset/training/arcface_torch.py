"""The config of InsightFace's arcface_torch for an ImageFolder.

It is imported as ``configs.<file name without .py>`` after ``configs.base``, which it updates
(recognition/arcface_torch/utils/utils_config.py)."""

from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from include.faceset.run.run import Run


def file_name(dataset: str) -> str:
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
