"""How the embedded Airflow is set up: its folder, its secrets, its environment."""

import os
import secrets
from base64 import urlsafe_b64encode
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


HOST = "127.0.0.1"
USER = "admin"
START_TIMEOUT_S = 180.0


def state_folder() -> Path:
    """Return where state is kept: AIRFLOW_HOME if that is set, else .local of the checkout."""
    return Path(os.environ["AIRFLOW_HOME"]).resolve() if os.environ.get("AIRFLOW_HOME") else ROOT / ".local"


def airflow_home() -> Path:
    """Return AIRFLOW_HOME if that is set, else .local/airflow of the checkout."""
    return state_folder() if os.environ.get("AIRFLOW_HOME") else ROOT / ".local" / "airflow"


def settings(home: Path, dags: Path, base_url: str = "http://localhost", *, service: bool = False) -> dict[str, str]:
    """Return Airflow's configuration as environment variables; they win over any airflow.cfg."""
    no_proxy = ",".join(filter(None, [os.environ.get("NO_PROXY", os.environ.get("no_proxy")), HOST, "localhost"]))
    sections = {
        "api": {"base_url": base_url, "secret_key": secrets.token_urlsafe(32)},
        "api_auth": {"jwt_secret": secrets.token_urlsafe(64)},
        "core": {
            "dags_are_paused_at_creation": "True",
            "dags_folder": str(dags.resolve()),
            "execution_api_server_url": f"{base_url}/execution/",
            "executor": "LocalExecutor",
            "fernet_key": kept(home / "fernet.key", lambda: urlsafe_b64encode(secrets.token_bytes(32)).decode()),
            "load_examples": "False",
            "parallelism": str(max(2, os.cpu_count() or 1)),
            "plugins_folder": str(ROOT / "plugins"),
            "simple_auth_manager_all_admins": "False",
            "simple_auth_manager_passwords_file": str(home / "passwords.json"),
            "simple_auth_manager_users": f"{USER}:admin",
        },
        "dag_processor": {
            # A dataset file is read when its DAG file is parsed: who edits one in `make up` wants to see it soon.
            "min_file_process_interval": "15" if service else "600",
            "refresh_interval": "15" if service else "600",
        },
        "database": {
            "load_default_connections": "False",
            "sql_alchemy_connect_args": "local.airflow.sqlite.CONNECT_ARGS",
            "sql_alchemy_conn": f"sqlite:///{home / 'airflow.db'}",
        },
        "logging": {"base_log_folder": str(home / "logs")},
        "scheduler": {
            "scheduler_idle_sleep_time": "0.2",
            "use_job_schedule": str(service),
        },
        "usage_data_collection": {"enabled": "False"},
    }
    return {
        "AIRFLOW_HOME": str(home),
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "plugins")]),
        "NO_PROXY": no_proxy,
        "no_proxy": no_proxy,
        **{
            f"AIRFLOW__{section.upper()}__{name.upper()}": value
            for section, values in sections.items()
            for name, value in values.items()
        },
    }


def kept(path: Path, make: Callable[[], str]) -> str:
    """Return the file's text, which only its owner can read; make it the first time."""
    if not path.exists():
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(make())
    return path.read_text()
