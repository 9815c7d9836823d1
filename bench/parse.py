"""Row of the DAG file's parse time: what it adds to importing Airflow's SDK."""

import sys
from pathlib import Path

from bench import measure
from bench.measure import Row, Usage
from local.airflow.settings import ROOT

SDK = "import airflow.sdk"


def parse_row(scratch: Path) -> Row:
    """The DAG file run as the DAG processor does, beside the import that every DAG file needs."""

    def run(code: str) -> Usage:
        paths = {"PYTHONPATH": f"{ROOT}:{ROOT / 'plugins'}", "AIRFLOW_HOME": str(scratch / "airflow")}
        return measure.run([sys.executable, "-c", code], scratch / "parse", environment=paths)

    dag = f"{SDK}; import runpy; runpy.run_path({str(ROOT / 'dags/face_datasets.py')!r})"
    return Row(
        "parse",
        "dags/face_datasets.py, beside `import airflow.sdk` alone",
        1,
        {"ours": lambda _: run(dag), "import airflow.sdk": lambda _: run(SDK)},
        [],
        note="The aim is a difference of at most 0.3 s.",
    )
