"""The commands of SUMMARY.md, run as they stand there: release after release, each over what the one before left."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from bench import peers
from include.faceset.run.run import Run
from include.faceset.steps import pack, publish, summarise
from include.faceset.steps.render import render_config
from local.airflow.settings import ROOT
from local.s3 import seaweed, storage
from s3_sync.destination import S3Destination
from s3_sync.sync.request import SyncRequest
from s3_sync.sync.sync import sync
from tests.unit.faceset.pipeline import SMALL, TREE, Result, face, make_dataset, make_run, put, run_to_seal

BUCKET = "faces.example.com"
TOOLS = ("aws", "s5cmd")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[seaweed.S3Server]:
    with seaweed.running(tmp_path_factory.mktemp("s3"), [BUCKET]) as running:
        yield running


@pytest.fixture
def host(server: seaweed.S3Server, monkeypatch: pytest.MonkeyPatch) -> Mapping[str, str]:
    """The environment of a training host, which reaches the same server."""
    for name, value in storage.connection(server).items():
        monkeypatch.setenv(name, value)
    commands = (Path(sys.executable).parent, peers.install(ROOT / ".local/peers"), os.defpath)
    return {
        "AWS_ACCESS_KEY_ID": server.user.access_key,
        "AWS_SECRET_ACCESS_KEY": server.user.secret_key,
        "AWS_REGION": seaweed.REGION,
        "AWS_ENDPOINT_URL": server.endpoint,
        "S3_ENDPOINT_URL": server.endpoint,
        "PATH": os.pathsep.join(map(str, commands)),
    }


def deliver(run: Run) -> tuple[Result, list[str]]:
    """What a run publishes, and the commands of its SUMMARY.md: for each form a block."""
    result = run_to_seal(run)
    folder = run.release(result.sealed.release_id)
    bucket = S3Destination.reach(run.params.destination, holder="a test")
    done = sync(
        bucket.prefix,
        SyncRequest(
            source=run.output,
            objects=folder / "manifest.parquet",
            record_path=run.sync_record(),
            max_delete_fraction=1.0,
        ),
    )
    publish.publish(run, result.sealed.release_id, bucket)
    pack.pack(run, result.sealed.release_id, bucket)
    render_config(run, result.sealed)
    facts = {"uploaded": 0, "restored": 0, "skipped": 0, "deleted": done.deleted, "bytes": 0}
    summarise.tell(run, result.sealed.release_id, [], facts, None, bucket=bucket)
    return result, re.findall(r"```bash\n(.*?)```", (folder / "SUMMARY.md").read_text(), re.DOTALL)


def of_tool(commands: str, tool: str) -> str:
    """The commands up to the check, with one of the two ways to download."""
    lines = commands[: commands.index("# In the checkout")].splitlines()
    downloads = [line for line in lines if " sync " in line or line.startswith("rm -rf")]
    assert len(downloads) == 4
    others = downloads[2:] if tool == "aws" else downloads[:2]
    return "\n".join(line for line in lines if line not in others)


def of_records(commands: str, tool: str) -> str:
    """The same of the block of records."""
    lines = commands[: commands.index("# In the checkout")].splitlines()
    return "\n".join(line for line in lines if line.startswith((f"{tool} ", "python ")))


def run_by(host: Mapping[str, str], script: str) -> str:
    """What a training host says to some commands."""
    command = ["/bin/bash", "-euo", "pipefail", "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=dict(host))
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def files(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


@pytest.mark.parametrize("tool", TOOLS)
def test_release_after_release_is_downloaded_right(tool: str, host: Mapping[str, str], tmp_path: Path) -> None:
    tree, rec = tmp_path / "exports/training_data", tmp_path / "a host's/data"
    for number in range(12):
        put(tree / f"id {number % 4} é/{number}.jpg", face(number))
    training: dict[str, Any] = {**SMALL, "data_root": str(rec)}
    dataset = make_dataset(
        tmp_path, [TREE], training=training, destination=f"s3://{BUCKET}/{tool}/set/", max_delete_fraction=1.0
    )

    first, (commands,) = deliver(make_run(dataset, "1"))
    said = run_by(host, of_tool(commands, tool))
    assert said.splitlines()[0].strip() == "4"
    assert "12 files hold exactly the bytes of the release" in said
    assert files(rec) == first.output
    put(rec / "lfw.bin", b"a validation set, put there by hand")

    time.sleep(1.1)  # s5cmd goes by which is newer, and S3 tells time in seconds; what it passes over `--full` finds
    # An identity goes, another comes, an image has other bytes of the same length, and one more leaves.
    for path in (tree / "id 1 é").iterdir():
        path.unlink()
    changed = tree / "id 2 é/2.jpg"
    whole = changed.read_bytes()
    changed.write_bytes(whole.replace(b"JFIF\x00\x01\x01", b"JFIF\x00\x01\x02"))
    assert (changed.stat().st_size, changed.read_bytes() != whole) == (len(whole), True)
    put(tree / "id 9/1.jpg", face(90))
    put(tree / "id 9/2.jpg", face(91))
    (tree / "id 3 é/3.jpg").unlink()
    second, (commands,) = deliver(make_run(dataset, "2"))
    # Not looked at is what `aws s3 ls` says: SeaweedFS shows a folder for a while after it lost its last object.
    said = run_by(host, of_tool(commands, tool))
    assert "10 files hold exactly the bytes of the release" in said
    assert files(rec) == {**second.output, "lfw.bin": b"a validation set, put there by hand"}
    assert sorted(path.name for path in rec.iterdir()) == ["id 0 é", "id 2 é", "id 3 é", "id 9", "lfw.bin"]
    assert [path.name for path in Path(f"{rec}.downloaded").iterdir()] == [second.sealed.release_id]
    tables = Path(f"{rec}.downloaded") / second.sealed.release_id
    assert set(os.listdir(tables)) == {"classes.parquet", "manifest.parquet", "faces_imagefolder.py"}

    # The config of the release before no longer fits what lies there.
    old = first.run.release(first.sealed.release_id) / "faces_imagefolder.py"
    refused = subprocess.run([sys.executable, str(old)], capture_output=True, text=True, check=False, env=dict(host))
    assert refused.returncode == 1
    assert "1 missing: 'id 1 é'; 1 surplus: 'id 9'" in refused.stderr


@pytest.mark.parametrize("tool", TOOLS)
def test_records_are_downloaded_right_over_those_before(tool: str, host: Mapping[str, str], tmp_path: Path) -> None:
    tree, rec = tmp_path / "exports/training_data", tmp_path / "host/data"
    for number in range(12):
        put(tree / f"id{number % 4}/{number}.jpg", face(number))
    dataset = make_dataset(
        tmp_path,
        [TREE],
        training={**SMALL, "data_root": str(rec)},
        forms=["image_folder", "record"],
        destination=f"s3://{BUCKET}/records-{tool}/set/",
    )
    for run_id in ("1", "2"):
        result, (_, commands) = deliver(make_run(dataset, run_id))
        said = run_by(host, of_records(commands, tool))
        assert "train.rec and train.idx hold exactly the bytes of the release" in said
        there = {name: content for name, content in files(Path(f"{rec}.records")).items() if name.startswith("train.")}
        assert there == files(result.run.records / result.sealed.release_id)
        put(tree / "id1/new.jpg", face(50))
        time.sleep(1.1)
    (Path(f"{rec}.records") / "train.rec").write_bytes(there["train.rec"][:-4])
    config = Path(f"{rec}.records/faces_record.py")
    refused = subprocess.run([sys.executable, config], capture_output=True, text=True, check=False)
    assert refused.returncode == 1
    size = len(there["train.rec"])
    assert f"train.rec has {size - 4:,} bytes instead of {size:,}" in refused.stderr
