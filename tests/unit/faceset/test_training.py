"""The steps that the trainer will take, for the reference counts; and that a training without any is told."""

import pytest

from include.faceset.declared.training import Training
from include.faceset.training.schedule import lack, plan


@pytest.mark.parametrize(("gpus", "steps", "total"), [(1, 3_360, 80_640), (8, 420, 10_080)])
def test_the_reference_run(gpus: int, steps: int, total: int) -> None:
    planned = plan(Training(), num_classes=102_491, num_image=430_143, gpus=gpus)
    assert (planned.steps_per_epoch, planned.total_steps) == (steps, total)


@pytest.mark.parametrize(
    ("images", "batch", "gpus", "steps"), [(1024, 128, 8, 1), (1023, 128, 8, 0), (0, 1, 1, 0), (1, 1, 1, 1)]
)
def test_fewer_images_than_a_batch_is_no_step_and_is_told(images: int, batch: int, gpus: int, steps: int) -> None:
    planned = plan(Training(batch_size=batch, gpus=gpus), 2, images)
    assert planned.steps_per_epoch == steps
    told = lack(planned)
    assert (told is None) == (steps > 0)
    if told:
        assert f"{images:,} images are fewer than a batch of {batch * gpus:,}" in told
        assert "Lower batch_size or gpus" in told
