"""The steps that the trainer will take, for the reference counts; and that a training without any is told."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from include.faceset.declared.training import Training
from include.faceset.training.schedule import mismatch, plan, rank_steps, refusals, scheduled_steps


@pytest.mark.parametrize(("gpus", "steps", "total"), [(1, 3_360, 80_640), (8, 420, 10_080)])
def test_the_reference_run(gpus: int, steps: int, total: int) -> None:
    planned = plan(Training(), num_classes=102_491, num_image=430_143, gpus=gpus)
    assert (planned.steps_per_epoch, planned.total_steps) == (steps, total)


@pytest.mark.parametrize(
    ("images", "batch", "gpus", "steps"), [(1024, 128, 8, 1), (1023, 128, 8, 0), (0, 1, 1, 0), (1, 1, 1, 1)]
)
def test_fewer_images_than_a_batch_is_no_step_and_is_told(images: int, batch: int, gpus: int, steps: int) -> None:
    training = Training(batch_size=batch, gpus=gpus)
    planned = plan(training, 8, images)
    assert planned.steps_per_epoch == steps
    told = list(refusals(training, planned))
    assert (not told) == (steps > 0)
    if told:
        assert f"{images:,} images are fewer than a batch of {batch * gpus:,}" in told[0]
        assert "Lower batch_size or gpus" in told[0]


def test_that_the_learning_rate_counts_other_steps_than_are_made_is_told_with_what_to_change() -> None:
    """Shown by the trainer itself: 4,089 images on 8 GPUs are 4 steps for each of them, and 3 for the scheduler."""
    planned = plan(Training(), num_classes=1_000, num_image=4_089)
    assert (planned.rank_steps_per_epoch, planned.steps_per_epoch) == (4, 3)
    told = mismatch(planned)
    assert told is not None
    assert "makes 4 steps an epoch and the learning rate counts 3, so the last 25.0 % of all steps" in told
    assert "With batch_size 127 both are as many" in told
    assert mismatch(plan(Training(), 102_491, 430_143)) is None


@given(st.integers(1, 5_000), st.integers(1, 64), st.integers(1, 16))
def test_what_is_advised_makes_as_many_steps_as_are_counted(images: int, batch: int, gpus: int) -> None:
    planned = plan(Training(batch_size=batch, gpus=gpus), 100, images)
    told = mismatch(planned)
    assert (told is None) == (planned.rank_steps_per_epoch == planned.steps_per_epoch or not planned.steps_per_epoch)
    if told and "With batch_size" in told:
        advised = int(told.partition("With batch_size ")[2].split()[0].replace(",", ""))
        assert rank_steps(images, advised, gpus) == scheduled_steps(images, advised, gpus) > 0
    assert planned.verbose <= max(1, planned.rank_steps_per_epoch)


@pytest.mark.parametrize(
    ("classes", "rate", "gpus", "said"),
    [
        (7, 1.0, 8, "7 classes are fewer than 8 GPUs"),
        (99, 0.05, 8, "sample_rate 0.05 of the 12 classes that a GPU holds .* Raise it to at least 0.084 "),
        (160, 0.05, 8, None),
        (8, 1.0, 8, None),
    ],
)
def test_a_gpu_that_may_hold_no_class_is_refused(classes: int, rate: float, gpus: int, said: str | None) -> None:
    training = Training(sample_rate=rate, gpus=gpus)
    told = list(refusals(training, plan(training, classes, 100_000)))
    assert bool(told) == bool(said)
    if said:
        assert re.search(said, told[0])
    assert not list(refusals(training.model_copy(update={"sample_rate": 0.084}), plan(training, 99, 100_000)))
