"""A real S3 server, and a process that forks one for each task, for all tests here."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from local.s3 import seaweed, storage
from tests.kills.deployment import BUCKET, Deployment, worker
from tests.s3_client import client

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    with (
        seaweed.running(tmp_path_factory.mktemp("kills") / "s3", [BUCKET]) as server,
        worker(storage.connection(server)) as tasks,
    ):
        yield Deployment(tmp_path_factory.mktemp("kills"), client(server, server.admin), tasks)
