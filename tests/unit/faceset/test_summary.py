"""The summary: every number adds up, every name is harmless."""

import json
import logging
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from include.faceset.report import gathering, text, took
from include.faceset.steps import summarise
from include.faceset.steps.retire import retire
from tests.unit.faceset.pipeline import Result, face, make_dataset, make_run, put, run_to_seal

CRUMBS = [
    {"task_id": "copy_shard", "map_index": 0, "state": "success", "duration": 2.0},
    {"task_id": "copy_shard", "map_index": 1, "state": "success", "duration": 3.0},
    {"task_id": "seal", "map_index": -1, "state": "success", "duration": 1.0},
]
SYNC = {"uploaded": 5, "restored": 0, "skipped": 0, "deleted": 0, "bytes": 12345}


@pytest.fixture
def result(tmp_path: Path) -> Result:
    exports = tmp_path / "exports"
    put(exports / "faces_only/anna_face.png", face(1, "PNG"))
    put(exports / "faces_only/cleo_face.png", face(2, "PNG"))
    for number, name in enumerate(["anna/1.jpg", "anna/2.jpg", "b`|<b>en/1.jpg", "b`|<b>en/2.jpg"], start=10):
        put(exports / "training_data" / name, face(number))
    expected = {"identities": 4, "images": 10, "images_per_identity": [3, 4]}
    training = {"batch_size": 2, "gpus": 8}
    run = make_run(make_dataset(tmp_path, expected=expected, training=training))
    return run_to_seal(run)


def test_the_numbers_add_up(result: Result) -> None:
    facts = summarise.summarise(result.run, result.sealed, took.steps(CRUMBS, ["copy_shard", "seal"]), SYNC)
    written = json.loads((result.run.release(result.sealed.release_id) / "summary.json").read_text())
    assert written == facts
    assert facts["scanned_files"] == 6 == facts["kept_files"] + sum(facts["rejected"].values())
    for export in facts["exports"]:
        assert export["files"] == export["kept_images"] + sum(export["rejected"].values())
    assert facts["exports"][0] == {
        "name": "faces_only",
        "layout": "flat",
        "files": 2,
        "identities": 2,
        "kept_identities": 1,
        "kept_images": 1,
        "rejected": {"too_few_images": 1},
    }
    assert facts["images_per_identity"]["histogram"] | {"2": 1, "3": 1} == facts["images_per_identity"]["histogram"]
    assert facts["formats"] == {"JPEG": 4, "PNG": 1}
    assert facts["durations_s"] == {"copy_shard": 5.0, "seal": 1.0}
    assert facts["sync"] == SYNC
    assert (facts["training"]["num_classes"], facts["training"]["num_image"]) == (2, 5)


def test_a_person_reads_the_commands_with_the_real_names(result: Result) -> None:
    summarise.summarise(result.run, result.sealed, took.steps(CRUMBS, ["copy_shard", "seal"]), SYNC)
    text = (result.run.release(result.sealed.release_id) / "SUMMARY.md").read_text()
    assert "aws s3 ls s3://faces/set/ | wc -l" in text
    assert "torchrun --nproc_per_node=8 train_v2.py configs/faces_imagefolder" in text
    assert "| identities | 4 | 2 | 50.0 % |" in text
    assert "| too_few_images | 1 | 1 | 0 |" in text
    assert (
        "\n\n**5 images are fewer than a batch of 16 (2 on each of 8 GPUs), so the trainer would make no step" in text
    )
    assert "`` b`|<b>en ``" in text


def test_the_log_names_no_identity(result: Result, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    summarise.summarise(result.run, result.sealed, took.steps(CRUMBS, ["copy_shard", "seal"]), SYNC)
    assert "What was skipped, and why" in caplog.text
    for name in ("anna", "en/1.jpg", "cleo"):
        assert name not in caplog.text


def test_an_earlier_runs_work_is_removed_and_this_runs_kept(result: Result) -> None:
    put(result.run.all_work / "earlier-run" / "manifest.parquet", b"")
    assert retire(result.run, None) == []
    assert list(result.run.all_work.iterdir()) == [result.run.work]


def test_a_dry_run_foresees_what_a_sync_would_do() -> None:
    images = pa.table({"key": ["a/1.jpg", "a/2.jpg", "b/b_face.png"], "size": [1, 2, 3]})
    listing = pa.table({"key": ["a/1.jpg", "a/2.jpg", "c/1.jpg"], "size": [1, 9, 4]})
    assert gathering.foresee_sync(images, listing) == {
        "upload_new": 1,
        "upload_changed": 1,
        "delete": 1,
        "there_now": 3,
    }


@given(st.text(alphabet=st.characters(exclude_categories=["Cc", "Cs"]), min_size=1))
def test_nothing_in_a_name_ends_its_code_span(name: str) -> None:
    span = text.code_span(name)
    fence = span[: len(span) - len(span.lstrip("`"))] if "`" in name else "`"
    assert span.startswith(fence)
    assert span.endswith(fence)
    assert fence not in name


def test_a_person_reads_what_differs_from_the_release_before(result: Result, tmp_path: Path) -> None:
    before = summarise.summarise(result.run, result.sealed, [], SYNC)
    assert before["changes"] is None
    for number in range(2):
        put(tmp_path / f"exports/training_data/amy/{number}.jpg", face(50 + number))
    after = run_to_seal(make_run(result.run.dataset, "manual__2"))
    facts = summarise.summarise(after.run, after.sealed, [], SYNC)
    assert facts["before"] == result.sealed.release_id
    text = (after.run.release(after.sealed.release_id) / "SUMMARY.md").read_text()
    assert f"## Compared with release {result.sealed.release_id}" in text
    assert "| identities | 1 | 0 | |" in text
    assert "| images | 2 | 0 | 0 |" in text
    assert "2 class indices moved: a model trained on the release before does not fit" in text
    assert "| num_classes | 2 | 3 |" in text

    same = run_to_seal(make_run(result.run.dataset, "manual__3"))
    summarise.summarise(same.run, same.sealed, [], SYNC)
    assert "Nothing differs." in (same.run.release(same.sealed.release_id) / "SUMMARY.md").read_text()
