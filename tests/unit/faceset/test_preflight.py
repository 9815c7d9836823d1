"""Refusals before any work, each naming cause and remedy."""

from pathlib import Path

import pytest

from include.faceset import preflight
from include.faceset.preflight import NotReadyError
from tests.unit.faceset.pipeline import TREE, face, make_dataset, make_run, put


def test_a_good_run_passes_and_nothing_is_written(tmp_path: Path) -> None:
    put(tmp_path / "exports/training_data/anna/1.jpg", face(1))
    before = sorted(tmp_path.rglob("*"))
    preflight.preflight(make_run(make_dataset(tmp_path, [TREE])))
    assert sorted(tmp_path.rglob("*")) == before


def test_all_findings_come_at_once(tmp_path: Path) -> None:
    (tmp_path / "exports/empty").mkdir(parents=True)
    exports = [{**TREE, "name": "missing"}, {**TREE, "name": "empty"}]
    with pytest.raises(NotReadyError) as refused:
        preflight.preflight(make_run(make_dataset(tmp_path, exports)))
    lines = str(refused.value).splitlines()
    assert "export missing: " in lines[0]
    assert "does not exist; correct local_source" in lines[0]
    assert "export empty: " in lines[1]
    assert "is empty" in lines[1]


@pytest.mark.parametrize("output", ["exports/training_data/anna/out", "exports", "exports/training_data"])
def test_an_output_inside_an_export_or_around_it_is_refused(tmp_path: Path, output: str) -> None:
    put(tmp_path / "exports/training_data/anna/1.jpg", face(1))
    with pytest.raises(NotReadyError, match="lie in one another"):
        preflight.preflight(make_run(make_dataset(tmp_path, [TREE]), output=str(tmp_path / output)))


def test_a_link_that_leads_the_output_into_an_export_is_refused(tmp_path: Path) -> None:
    put(tmp_path / "exports/training_data/anna/1.jpg", face(1))
    (tmp_path / "link").symlink_to(tmp_path / "exports/training_data")
    with pytest.raises(NotReadyError, match="lie in one another"):
        preflight.preflight(make_run(make_dataset(tmp_path, [TREE]), output=str(tmp_path / "link/merged")))


def test_a_folder_that_holds_other_things_is_never_taken_as_output(tmp_path: Path) -> None:
    put(tmp_path / "exports/training_data/anna/1.jpg", face(1))
    put(tmp_path / "home/thesis.odt", b"years of work")
    with pytest.raises(NotReadyError, match="is not empty and no run of this dataset made it"):
        preflight.preflight(make_run(make_dataset(tmp_path, [TREE]), output=str(tmp_path / "home")))


def test_a_copy_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    put(tmp_path / "exports/training_data/anna/1.jpg", face(1))
    with pytest.raises(NotReadyError, match=r"needs up to .* GB .* make room"):
        preflight.check_room(make_run(make_dataset(tmp_path, [TREE])), images=10, size=1 << 60)
    preflight.check_room(make_run(make_dataset(tmp_path, [TREE]), link_mode="hardlink"), images=10, size=1 << 60)
