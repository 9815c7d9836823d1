"""docker-compose.yaml as it is written: pinned, closed, healthy."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docker-compose.yaml").read_text()
COMPOSE: dict[str, Any] = yaml.safe_load(TEXT)
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
LONG_RUNNING = {name for name, service in SERVICES.items() if service.get("restart") != "no"}


@pytest.mark.parametrize("name", SERVICES)
def test_every_image_is_pinned_by_version(name: str) -> None:
    assert re.search(r":v?\d+[\w.-]*$", SERVICES[name]["image"])


def test_every_variable_is_required_and_explained() -> None:
    used = set(re.findall(r"\$\{(\w+)", TEXT))
    assert used == set(re.findall(r"\$\{(\w+):\?", TEXT)), "a variable without :? would start with an empty value"
    explained = set(re.findall(r"^(\w+)=", (ROOT / ".env.example").read_text(), re.MULTILINE))
    assert used == explained


def test_the_example_holds_no_secret() -> None:
    for line in (ROOT / ".env.example").read_text().splitlines():
        assert not re.match(r"\w*(PASSWORD|SECRET|KEY)\w*=.+", line), line


@pytest.mark.parametrize("name", sorted(LONG_RUNNING))
def test_every_long_running_service_has_a_health_check(name: str) -> None:
    assert SERVICES[name]["healthcheck"]["test"]


@pytest.mark.parametrize("name", SERVICES)
def test_memory_is_limited_and_ports_are_loopback(name: str) -> None:
    assert SERVICES[name]["mem_limit"]
    for port in SERVICES[name].get("ports", ()):
        assert str(port).startswith("127.0.0.1:")


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_waits_for_what_it_needs(name: str) -> None:
    for needed, how in SERVICES[name].get("depends_on", {}).items():
        wanted = "service_healthy" if needed in LONG_RUNNING else "service_completed_successfully"
        assert how["condition"] == wanted


def test_workers_share_the_staging_volume_and_only_read_the_exports() -> None:
    volumes = SERVICES["airflow-worker"]["volumes"]
    assert "merged:/data/merged" in volumes
    assert any(str(volume).endswith(":/data/exports:ro") for volume in volumes)
    assert "merged" in COMPOSE["volumes"]
