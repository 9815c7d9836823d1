"""Reports mistakes in the dataset files and lists of people that nobody reads, as this file's import error.

Airflow holds back every DAG of a file that has an import error. So ``face_datasets.py`` makes the
DAGs of the files that are right, and this one, which has no DAG, fails while any file is wrong.
"""

# Airflow parses a file only if it names both: airflow, dag.
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))  # as in face_datasets.py

from include.faceset.declared import loading

FOLDER = ROOT / "include" / "datasets"

mistakes = list(loading.stray_lists(FOLDER))
for path in loading.find(FOLDER):
    try:
        loading.load(path)
    except loading.DatasetError as error:
        mistakes.append(str(error))

if mistakes:
    raise loading.DatasetError("\n".join(mistakes))
