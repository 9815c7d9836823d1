"""One server after the other: each stands while its tests run, SeaweedFS also behind its disguises."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from local.s3 import storage
from tests.servers import matrix, places
from tests.servers.expected import EXPECTED
from tests.servers.places import Place
from tests.servers.release import FILES, MANY, Release


@pytest.fixture(scope="session")
def _seaweed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[], Place]]:
    """SeaweedFS, from when it is first asked for on."""
    with ExitStack() as stack:
        running: list[Place] = []

        def get() -> Place:
            if not running:
                folder = tmp_path_factory.mktemp("seaweed")
                running.append(stack.enter_context(places.started("SeaweedFS", folder)))
            return running[0]

        yield get


@pytest.fixture(scope="session", params=places.SERVERS)
def _running(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, _seaweed: Callable[[], Place]
) -> Iterator[Place]:
    name: str = request.param
    if name == "SeaweedFS":
        yield _seaweed()
    elif name in places.REAL:
        with places.started(name, tmp_path_factory.mktemp(name.replace(" ", "-").lower())) as place:
            yield place
    else:
        with places.disguised(name, _seaweed()) as place:
            yield place


@pytest.fixture
def at(_running: Place, monkeypatch: pytest.MonkeyPatch) -> Place:
    """A server, to which the connection `aws_default` leads."""
    for name, value in storage.connection(_running.server).items():
        monkeypatch.setenv(name, value)
    return _running


@pytest.fixture
def release(at: Place, tmp_path: Path) -> Release:
    """A few files, to go to a fresh prefix."""
    return Release.of(at, tmp_path, FILES)


@pytest.fixture(scope="session")
def many(_running: Place, tmp_path_factory: pytest.TempPathFactory) -> Release:
    """2,500 files at their destination, with names in every script; tests compare with what the folder holds."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in storage.connection(_running.server).items():
            patch.setenv(name, value)
        release = Release.of(_running, tmp_path_factory.mktemp("many"), MANY)
        release.sync()
    return release


@pytest.fixture(scope="session", autouse=True)
def _matrix() -> Iterator[None]:
    yield
    matrix.write()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Ask a disguise only for what the table names: all else is SeaweedFS again."""
    left_out = [item for item in items if isinstance(item, pytest.Function) and not is_asked(item)]
    items[:] = [item for item in items if item not in left_out]
    config.hook.pytest_deselected(items=left_out)


def is_asked(item: pytest.Function) -> bool:
    callspec = getattr(item, "callspec", None)
    name = callspec.params.get("_running") if callspec else None
    return name not in places.DISGUISED or item.originalname.removeprefix("test_") in EXPECTED.get(name, {})
