"""The DAG files as Airflow loads them."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
TASKS = [
    *("preflight", "scan", "forget", "filter_manifest", "copy_shard", "seal"),
    *("approve_deletions", "sync", "verify", "pack", "erase", "render_config", "summary"),
]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A copy of what Airflow reads, so that a test can add dataset files."""
    for name in ("dags", "include", "plugins"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


def load(project: Path, script: str) -> str:
    """Run a script that knows `bag`, a DagBag of the project, in a fresh interpreter; what it prints."""
    program = f"""
import sys
sys.path[:0] = [{str(project)!r}, {str(project / "plugins")!r}]
from pathlib import Path
from airflow.dag_processing.dagbag import DagBag
bag = DagBag({str(project / "dags")!r})
{script}
"""
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_the_reference_dag_has_the_steps_of_the_design_in_their_order() -> None:
    printed = load(
        ROOT,
        """
assert bag.import_errors == {}, bag.import_errors
dag = bag.dags["reidnet_v3"]
print([task.task_id for task in dag.topological_sort()])
print(dag.max_active_runs, dag.catchup, bool(dag.doc_md))
tasks = dag.task_dict
final = {task_id: task.retry_policy.serialize() for task_id, task in tasks.items() if task.retry_policy}
assert all(policy["rules"] == [] and policy["default"] == "fail" for policy in final.values()), final
# An error of these is final; a try that was lost with its worker left none and is tried again.
print({task_id: 0 if task_id in final else task.retries for task_id, task in tasks.items()})
assert {tasks[task_id].retries for task_id in final} == {2}
print({task_id: task.pool for task_id, task in tasks.items()})
print([asset.name for asset in tasks["verify"].outlets])
print([task_id for task_id, task in tasks.items() if task.is_mapped])
""",
    )
    lines = printed.strip().splitlines()[-6:]
    assert lines[0] == str(TASKS)
    assert lines[1] == "1 False True"
    network = ("preflight", "approve_deletions", "sync", "verify", "pack", "erase", "summary")
    retries = {**dict.fromkeys(TASKS, 0), **dict.fromkeys(network, 3)}
    assert yaml.safe_load(lines[2]) == retries
    assert yaml.safe_load(lines[3]) == dict.fromkeys(TASKS, "default_pool")
    assert lines[4:] == ["['reidnet_v3']", "['scan', 'copy_shard']"]


def test_a_second_dataset_file_is_a_second_dag(project: Path) -> None:
    shutil.copy(project / "include/datasets/reidnet_v3.yaml", project / "include/datasets/second.yaml")
    assert "['reidnet_v3', 'second'] {}" in load(project, "print(sorted(bag.dags), bag.import_errors)")


def test_a_file_with_a_mistake_is_an_import_error_and_the_other_dags_stay(project: Path) -> None:
    (project / "include/datasets/wrong.yaml").write_text("min_images: many\n")
    (project / "include/datasets/reidnet_v3.supressed").write_text("ann\n")
    printed = load(
        project,
        """
print(sorted(bag.dags), [Path(name).name for name in bag.import_errors])
print(list(bag.import_errors.values())[0])
""",
    )
    assert "['reidnet_v3'] ['dataset_errors.py']" in printed
    assert "wrong.yaml: min_images: " in printed
    assert "wrong.yaml: destination: Field required; add it" in printed
    assert "reidnet_v3.supressed: looks like a list of people to erase" in printed


def test_parsing_imports_nothing_heavy() -> None:
    # boto3 is not in the list: Airflow loads the Amazon provider's asset handler, and with it boto3, for an s3:// URI.
    program = f"""
import sys
sys.path[:0] = [{str(ROOT)!r}, {str(ROOT / "plugins")!r}, {str(ROOT / "dags")!r}]
import airflow.sdk
before = set(sys.modules)
import face_datasets
print(sorted({{"pyarrow", "obstore", "PIL", "numpy", "include.faceset.steps.scan"}} & (set(sys.modules) - before)))
"""
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout.strip().splitlines()[-1] == "[]"


def test_a_dataset_has_its_cadence_its_assets_both_or_neither(project: Path) -> None:
    declared = yaml.safe_load((ROOT / "include/datasets/reidnet_v3.yaml").read_text())
    cadence, assets = {"schedule": "0 0 * * FRI"}, {"triggered_by": ["faces-landed", "more-landed"]}
    for name, changes in {"cadence": cadence, "assets": assets, "both": cadence | assets, "neither": {}}.items():
        (project / f"include/datasets/{name}.yaml").write_text(yaml.safe_dump(declared | changes))
    printed = load(
        project,
        """
from airflow.serialization.serialized_objects import DagSerialization
assert bag.import_errors == {}, bag.import_errors
for name in ("cadence", "assets", "both", "neither"):
    timetable = DagSerialization.from_dict(DagSerialization.to_dict(bag.dags[name])).timetable
    print(name, type(timetable).__name__, timetable.periodic, timetable.summary)
""",
    )
    assert printed.strip().splitlines()[-4:] == [
        "cadence CronTriggerTimetable True 0 0 * * FRI",
        "assets AssetTriggeredTimetable False Asset",
        "both AssetOrTimeSchedule True Asset or 0 0 * * FRI",
        "neither NullTimetable False None",
    ]


@pytest.mark.parametrize("name", ["seal", "load", "make_dag", "task", "path"])
def test_a_dataset_may_have_the_name_of_anything_in_the_dag_file(project: Path, name: str) -> None:
    declared = yaml.safe_load((project / "include/datasets/reidnet_v3.yaml").read_text())
    declared |= {"destination": "s3://bucket/another/", "output": "/data/another"}
    (project / "include/datasets" / f"{name}.yaml").write_text(yaml.safe_dump(declared))
    (project / "include/datasets/zebra.yaml").write_text(
        yaml.safe_dump(declared | {"destination": "s3://bucket/zebra/", "output": "/data/zebra"})
    )
    printed = load(project, "print(bag.import_errors, *sorted(bag.dags))")
    assert printed.splitlines()[-1].split() == ["{}", *sorted([name, "reidnet_v3", "zebra"])]
