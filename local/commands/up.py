"""`make up`: Airflow with its web UI, and the embedded S3 server, until Ctrl-C."""

import sys
import time
from urllib.parse import urlsplit

from include.faceset.declared import loading
from local.airflow import settings, stack
from local.commands.run import DATASETS, command, export_buckets
from local.s3 import storage

CHECK_S = 1.0


def buckets() -> list[str]:
    """Return the buckets that the dataset files name; a file with a mistake is left to Airflow to report."""
    found: set[str] = set()
    for path in loading.find(DATASETS):
        try:
            declared = loading.load(path)
            found |= {urlsplit(declared.destination).netloc, *export_buckets(declared)}
        except loading.DatasetError as error:
            print(error, file=sys.stderr)
    return sorted(found)


def main() -> int:
    """Serve until a signal ends it."""
    home = settings.airflow_home()
    with storage.running(settings.state_folder() / "s3", buckets()) as s3:
        print(f"S3:       {s3.description}")
        print("Airflow:  starting …", flush=True)
        with stack.running(home, environment=s3.environment, service=True) as airflow:
            print(f"Airflow:  {airflow.base_url}")
            print(f"Log in:   {settings.USER}, with the password in {airflow.password_file}")
            print(f"Logs:     {home / 'logs'}")
            print("Stop it:  Ctrl-C", flush=True)
            while True:
                airflow.check()
                time.sleep(CHECK_S)


if __name__ == "__main__":
    command(main)
