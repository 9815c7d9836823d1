"""What a test needs of the machine: without it the test is skipped, in CI it fails."""

import os

import pytest


def require(lack: str | None) -> None:
    """Skip the test, with the reason, if anything is lacking; fail it in CI, which as root could have installed it."""
    if lack is not None:
        (pytest.fail if os.environ.get("CI") and os.geteuid() == 0 else pytest.skip)(lack)
