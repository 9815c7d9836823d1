"""What arcface_torch will compute from a release's counts.

Source: InsightFace recognition/arcface_torch/train_v2.py: ``total_batch_size = batch_size * world_size``,
``total_step = num_image // total_batch_size * num_epoch``, ``warmup_step`` likewise.
"""

from dataclasses import dataclass

from include.faceset.declared.training import Training


@dataclass(frozen=True)
class TrainingPlan:
    """Steps of a training run; `batch_size` is images a step on each GPU."""

    num_classes: int
    num_image: int
    batch_size: int
    gpus: int
    steps_per_epoch: int
    total_steps: int
    warmup_steps: int


def lack(planned: TrainingPlan) -> str | None:
    """Why a training on these images would do nothing, and what to do; None if it has steps."""
    if planned.steps_per_epoch:
        return None
    batch = planned.batch_size * planned.gpus
    return (
        f"{planned.num_image:,} images are fewer than a batch of {batch:,} ({planned.batch_size:,} on each of "
        f"{planned.gpus:,} GPUs), so the trainer would make no step at all, and save a model that has learned nothing. "
        "Lower batch_size or gpus (training, in the dataset file), or bring more images"
    )


def plan(training: Training, num_classes: int, num_image: int, gpus: int | None = None) -> TrainingPlan:
    """The steps for the dataset's number of GPUs, or for `gpus`."""
    gpus = gpus or training.gpus
    steps = num_image // (training.batch_size * gpus)
    return TrainingPlan(
        num_classes=num_classes,
        num_image=num_image,
        batch_size=training.batch_size,
        gpus=gpus,
        steps_per_epoch=steps,
        total_steps=steps * training.num_epoch,
        warmup_steps=steps * training.warmup_epoch,
    )
