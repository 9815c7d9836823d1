"""`make airflow ARGS='backfill create …'`: a command of Airflow's command line, on the Airflow of `make up`."""

import os
import shlex
import subprocess
import sys

from local.airflow import process, settings


def main() -> None:
    """Run the command and end with its exit code."""
    home = settings.airflow_home()
    if not (home / "airflow.db").exists():
        sys.exit(f"There is no Airflow in {home} yet: start it with `make up`")
    command = [process.airflow_command(), *shlex.split(os.environ.get("ARGS", "--help"))]
    environment = {**os.environ, **settings.settings(home, settings.ROOT / "dags")}
    sys.exit(subprocess.run(command, env=environment, check=False).returncode)


if __name__ == "__main__":
    main()
