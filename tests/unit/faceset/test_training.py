"""The steps that the trainer will take, for the reference counts."""

import pytest

from include.faceset.dataset import Training
from include.faceset.training import plan


@pytest.mark.parametrize(("gpus", "steps", "total"), [(1, 3_360, 80_640), (8, 420, 10_080)])
def test_the_reference_run(gpus: int, steps: int, total: int) -> None:
    planned = plan(Training(), num_classes=102_491, num_image=430_143, gpus=gpus)
    assert (planned.steps_per_epoch, planned.total_steps) == (steps, total)
