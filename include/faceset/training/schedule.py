"""What arcface_torch will make of a release's counts, and why it may make nothing of them.

Sources, in InsightFace recognition/arcface_torch: ``train_v2.py`` (``total_batch_size = batch_size * world_size``,
``total_step = num_image // total_batch_size * num_epoch``, ``warmup_step`` likewise), ``dataset.py`` and
``utils/utils_distributed_sampler.py`` (each rank takes ``ceil(num_image / world_size)`` images and drops a last batch
that is not full), ``partial_fc_v2.py`` (each rank holds its share of the classes, and takes ``int(sample_rate *
share)`` of them into a step).
"""

from collections.abc import Iterator
from dataclasses import dataclass

from include.faceset.declared.training import Training

VERBOSE = 2000
"""Steps from one verification to the next in arcface_torch's base config."""


@dataclass(frozen=True)
class TrainingPlan:
    """Steps of a training run; `batch_size` is images a step on each GPU.

    `steps_per_epoch`, and the totals, are what the learning rate goes by; `rank_steps_per_epoch` is what each GPU
    really makes, and `verbose` the steps from one verification to the next.
    """

    num_classes: int
    num_image: int
    batch_size: int
    gpus: int
    steps_per_epoch: int
    rank_steps_per_epoch: int
    total_steps: int
    warmup_steps: int
    verbose: int


def plan(training: Training, num_classes: int, num_image: int, gpus: int | None = None) -> TrainingPlan:
    """The steps for the dataset's number of GPUs, or for `gpus`."""
    gpus = gpus or training.gpus
    steps = scheduled_steps(num_image, training.batch_size, gpus)
    made = rank_steps(num_image, training.batch_size, gpus)
    return TrainingPlan(
        num_classes=num_classes,
        num_image=num_image,
        batch_size=training.batch_size,
        gpus=gpus,
        steps_per_epoch=steps,
        rank_steps_per_epoch=made,
        total_steps=steps * training.num_epoch,
        warmup_steps=steps * training.warmup_epoch,
        verbose=max(1, min(training.verbose or VERBOSE, made)),
    )


def scheduled_steps(images: int, batch_size: int, gpus: int) -> int:
    """Steps an epoch that the learning rate goes by."""
    return images // (batch_size * gpus)


def rank_steps(images: int, batch_size: int, gpus: int) -> int:
    """Steps an epoch that each GPU makes."""
    return -(-images // gpus) // batch_size


def refusals(training: Training, planned: TrainingPlan) -> Iterator[str]:
    """Why a training on these images would be for nothing, and what to do; nothing, if it would not."""
    batch = planned.batch_size * planned.gpus
    if not planned.steps_per_epoch:
        yield (
            f"{planned.num_image:,} images are fewer than a batch of {batch:,} ({planned.batch_size:,} on each of "
            f"{planned.gpus:,} GPUs), so the trainer would make no step at all, and save a model that has learned "
            "nothing. Lower batch_size or gpus (training, in the dataset file), or bring more images"
        )
    of_a_gpu = planned.num_classes // planned.gpus
    if not of_a_gpu:
        yield (
            f"{planned.num_classes:,} classes are fewer than {planned.gpus:,} GPUs, so one of them would hold none. "
            "Lower gpus (training, in the dataset file), or bring more identities"
        )
    elif not int(training.sample_rate * of_a_gpu):
        yield (
            f"sample_rate {training.sample_rate:g} of the {of_a_gpu:,} classes that a GPU holds "
            f"({planned.num_classes:,} on {planned.gpus:,} GPUs) is less than one class. Raise it to at least "
            f"{_least_rate(of_a_gpu):g} (training, in the dataset file), or take fewer GPUs"
        )


def _least_rate(classes: int) -> float:
    """The lowest sample rate, to three digits, with which one of so many classes is taken."""
    return max(-(-1000 // classes), 1) / 1000


def mismatch(planned: TrainingPlan) -> str | None:
    """That the learning rate counts other steps than are made, and what to change; None if they are as many."""
    made, counted = planned.rank_steps_per_epoch, planned.steps_per_epoch
    if made == counted or not counted:
        return None
    better = nearest_batch(planned.num_image, planned.batch_size, planned.gpus)
    remedy = f"With batch_size {better:,} both are as many" if better else "Another number of GPUs may fit"
    return (
        f"each GPU makes {made:,} steps an epoch and the learning rate counts {counted:,}, so the last "
        f"{100 * (made - counted) / made:.1f} % of all steps are made at rate 0. {remedy}"
    )


def nearest_batch(images: int, batch_size: int, gpus: int) -> int | None:
    """The batch size nearest to one, with which as many steps are made as are counted; None if none is within half."""
    candidates = sorted(range(max(1, batch_size // 2), 2 * batch_size), key=lambda one: abs(one - batch_size))
    return next(
        (one for one in candidates if rank_steps(images, one, gpus) == scheduled_steps(images, one, gpus) > 0), None
    )
