"""The scan at its edges: what cannot be read is an error, never an absence."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from include.faceset.exports import parts
from include.faceset.ground import sharded
from include.faceset.steps import scan
from include.faceset.steps.scan import ScanError
from tests.unit.faceset.pipeline import TREE, face, make_dataset, make_run, put

ROOT = Path(__file__).parents[3]
_AS_NOBODY = """
import sys; sys.path.insert(0, sys.argv[2])
from pathlib import Path
from include.faceset.steps import preflight, scan
from tests.unit.faceset.pipeline import TREE, make_dataset, make_run
run = make_run(make_dataset(Path(sys.argv[1]), [TREE]))
try: scan.scan(run, "training_data")
except scan.ScanError as error: print(error)
"""


def test_manifest_rows_lie_in_the_shard_of_their_identity(tmp_path: Path) -> None:
    for identity in range(20):
        put(tmp_path / f"exports/training_data/id{identity}/1.jpg", face(identity))
    run = make_run(make_dataset(tmp_path, [TREE]), shards=3)
    counts = scan.scan(run, "training_data")
    assert (counts.files, counts.images, counts.rejected) == (20, 20, 0)
    seen = set()
    for shard in range(3):
        rows = parts.read_images(run, shard).to_pylist()
        assert {sharded.shard_of(row["identity"], 3) for row in rows} <= {shard}
        for row in rows:
            file = tmp_path / "exports/training_data" / row["path"]
            assert (row["size"], row["mtime_ns"]) == (file.stat().st_size, file.stat().st_mtime_ns)
            seen.add(row["identity"])
    assert len(seen) == 20


def test_more_rows_than_fit_in_memory_go_to_disk_in_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scan, "ROWS_IN_MEMORY", 3)
    for identity in range(10):
        put(tmp_path / f"exports/training_data/id{identity}/1.jpg", b"x")
    run = make_run(make_dataset(tmp_path, [TREE]), shards=2)
    scan.scan(run, "training_data")
    rows = [parts.read_images(run, shard).num_rows for shard in range(2)]
    assert sum(rows) == 10


@pytest.mark.parametrize("missing", ["nothing", "a file", "an empty folder"])
def test_a_missing_or_empty_export_is_an_error(tmp_path: Path, missing: str) -> None:
    root = tmp_path / "exports/training_data"
    if missing == "a file":
        put(root, b"")
    elif missing == "an empty folder":
        root.mkdir(parents=True)
    run = make_run(make_dataset(tmp_path, [TREE]))
    with pytest.raises(ScanError, match=r"export training_data: .*(does not exist|is not a folder|is empty)"):
        scan.scan(run, "training_data")
    assert not run.manifest("training_data").exists()


@pytest.mark.skipif(os.getuid() != 0, reason="a user that is not root cannot make files it may not read its own way")
def test_an_unreadable_folder_is_an_error_even_for_root_without_its_powers(tmp_path: Path) -> None:
    put(tmp_path / "exports/training_data/anna/1.jpg", face(1))
    locked = put(tmp_path / "exports/training_data/ben/1.jpg", face(2)).parent
    locked.chmod(0)
    without_powers = ["setpriv", "--bounding-set=-all", "--inh-caps=-all", "--ambient-caps=-all"]
    result = subprocess.run(
        [*without_powers, sys.executable, "-c", _AS_NOBODY, str(tmp_path), str(ROOT)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert "export training_data: the folder ben cannot be read (Permission denied)" in result.stdout, result.stderr
    assert "clear this task" in result.stdout
    locked.chmod(0o755)
    assert not list((tmp_path / "merged.releases").rglob("*.parquet"))


def test_a_retry_replaces_what_the_first_try_left(tmp_path: Path) -> None:
    put(tmp_path / "exports/training_data/anna/1.jpg", face(1))
    run = make_run(make_dataset(tmp_path, [TREE]))
    scan.scan(run, "training_data")
    put(tmp_path / "exports/training_data/anna/2.jpg", face(2))
    assert scan.scan(run, "training_data").images == 2
    left = [path for path in run.work.rglob("*") if path.name.endswith(".tmp")]
    assert left == []
