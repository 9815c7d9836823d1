"""The real DAG under a real scheduler against a real S3 server, on the drawn sample with every kind of bad file."""

import hashlib
import json
import os
import runpy
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from include.faceset.ledger import Outcome
from local.sample.sample import make_sample
from tests.system.conftest import System
from tests.unit.faceset.pipeline import ASKED_FOR

pytestmark = pytest.mark.system


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("exports") / "sample"
    make_sample(folder)
    return folder


def conf(source: Path, output: Path, prefix: str, **changes: Any) -> dict[str, Any]:
    return {
        "local_source": str(source),
        "output": str(output),
        "destination": f"s3://data-labeling.livereachmedia.com/{prefix}",
        "shards": 3,
        **changes,
    }


def files(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if not path.is_dir()}


def test_a_run_and_the_same_run_again(
    system: System, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output, prefix = tmp_path / "merged", "datasets/first/set/"
    asked = conf(source, output, prefix)
    run = system.run(**asked)
    assert system.airflow.state(run) == "success", system.states(run)
    result = system.airflow.xcom(run, "summary")
    folder = Path(result["summary"]).parent

    # Rows in Parquet: every file has one outcome, every kind of bad file is among them.
    ledger = pq.read_table(folder / "ledger.parquet")
    summary = json.loads((folder / "summary.json").read_text())
    assert ledger.num_rows == summary["scanned_files"] == entries(source)
    assert summary["scanned_files"] == summary["kept_files"] + sum(summary["rejected"].values())
    assert set(pc.unique(ledger["outcome"]).to_pylist()) == set(Outcome) - ASKED_FOR - {
        Outcome.ARCHIVED,
        Outcome.CHANGED_DURING_RUN,
        Outcome.HELD_OUT,
        Outcome.SUPPRESSED,
    }

    # Files on disk: exactly the manifest, byte for byte.
    manifest = pq.read_table(folder / "manifest.parquet").to_pylist()
    merged = files(output)
    assert {key: hashlib.sha256(data).digest() for key, data in merged.items()} == {
        row["key"]: row["sha256"] for row in manifest
    }
    for row in manifest[:50]:
        assert merged[row["key"]] == (source / row["export"] / row["path"]).read_bytes()

    # Keys in the bucket: the same, nothing else, and latest.json says so.
    assert system.objects(prefix) == {
        key: hashlib.md5(data, usedforsecurity=False).hexdigest() for key, data in merged.items()
    }
    beside = prefix.removesuffix("/") + ".releases/"
    latest = json.loads(system.read(beside + "latest.json"))
    assert latest["release_id"] == folder.name == result["release_id"]
    assert (latest["identities"], latest["images"]) == (len(os.listdir(output)), len(merged))
    sealed = system.read(f"{beside}{folder.name}/manifest.parquet")
    assert hashlib.sha256(sealed).hexdigest() == latest["manifest_sha256"]
    assert {path.name for path in folder.iterdir()} == {
        key.removeprefix(f"{folder.name}/") for key in system.objects(beside) if "/" in key
    }

    # The rendered config, imported where nothing was downloaded.
    monkeypatch.setenv("FACESET_SKIP_CHECK", "1")
    config = runpy.run_path(str(folder / "reidnet_v3_imagefolder.py"))["config"]
    assert (config.num_classes, config.num_image) == (len(os.listdir(output)), len(merged))

    # The Asset's event tells other DAGs what was proven.
    events = system.airflow._call("GET", "/assets/events", params={"source_run_id": run.run_id})["asset_events"]
    assert events[0]["extra"]["release_id"] == folder.name

    # No identity and no credential in any log line of the run.
    logs = "".join(
        system.airflow.task_log(run, one).read_text()
        for one in system.airflow.task_instances(run)
        if one.state == "success"
    )
    assert not [row["identity"] for row in manifest if row["identity"] in logs][:3]

    # The same input again: nothing uploaded, nothing deleted, the same release; with another number of shards.
    again = system.run(**asked | {"shards": 5})
    assert system.airflow.state(again) == "success"
    assert system.airflow.xcom(again, "summary")["release_id"] == folder.name
    sync = system.airflow.xcom(again, "sync")
    assert (sync["uploaded"], sync["deleted"], sync["skipped"]) == (0, 0, len(merged))
    assert sum(system.airflow.xcom(again, "copy_shard", map_index=shard)["read"] for shard in range(5)) < 20
    assert files(output) == merged


def entries(source: Path) -> int:
    """What a person counts: all names in the flat export; in the tree, all in the folders and all beside them."""
    flat = len(os.listdir(source / "faces_only"))
    with os.scandir(source / "reidnet_v2_training_data") as tree:
        return flat + sum(len(os.listdir(entry.path)) if entry.is_dir(follow_symlinks=False) else 1 for entry in tree)


def test_a_dry_run_changes_nothing(system: System, source: Path, tmp_path: Path) -> None:
    output = tmp_path / "merged"
    run = system.run(**conf(source, output, "datasets/dry/set/", dry_run=True))
    assert system.airflow.state(run) == "success", system.states(run)
    states = system.states(run)
    assert all(states[task] == {"skipped"} for task in ("copy_shard", "seal", "sync", "verify", "render_config"))
    text = Path(system.airflow.xcom(run, "summary")["summary"]).read_text()
    assert "Nothing was copied, uploaded or deleted" in text
    assert not output.exists()
    assert system.objects("datasets/dry/") == {}


def test_without_upload_the_config_points_at_the_output(system: System, source: Path, tmp_path: Path) -> None:
    output = tmp_path / "merged"
    run = system.run(**conf(source, output, "datasets/local/set/", skip_upload=True))
    assert system.airflow.state(run) == "success", system.states(run)
    states = system.states(run)
    assert states["sync"] == states["verify"] == {"skipped"}
    assert states["render_config"] == states["summary"] == {"success"}
    folder = Path(system.airflow.xcom(run, "summary")["summary"]).parent
    config = runpy.run_path(str(folder / "reidnet_v3_imagefolder.py"))["config"]
    assert config.rec == str(output)
    assert system.objects("datasets/local/") == {}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"local_source": "/nowhere"}, "does not exist; correct local_source"),
        ({"destination": "s3://no-such-bucket/set/"}, "bucket no-such-bucket"),
        ({"min_imgs": 3}, "unknown param 'min_imgs'"),
    ],
)
def test_what_cannot_work_is_refused_at_once(
    system: System, source: Path, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    run = system.run(**conf(source, tmp_path / "merged", "datasets/refused/set/") | changes)
    assert system.airflow.state(run) == "failed"
    assert message in system.log(run, "preflight")
    assert not (tmp_path / "merged").exists()
