"""Refusals before any work, each naming cause and remedy."""

from pathlib import Path

import pytest

from include.faceset.errors import NotReadyError
from include.faceset.run.room import check_room
from include.faceset.run.run import Run
from include.faceset.steps import preflight, scan
from tests.unit.faceset.pipeline import TREE, face, make_dataset, make_run, put, run_to_seal


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
        check_room(make_run(make_dataset(tmp_path, [TREE])), images=10, size=1 << 60)
    check_room(make_run(make_dataset(tmp_path, [TREE]), link_mode="hardlink"), images=10, size=1 << 60)


def test_a_part_that_is_not_there_skips_the_run_or_fails_it_where_it_is_required(tmp_path: Path) -> None:
    weekly = {**TREE, "root": "weekly/{partition}"}
    put(tmp_path / "exports/weekly/2026-05-01/anna/1.jpg", face(1))
    run = make_run(make_dataset(tmp_path, [weekly]), partitions=("2026-05-08",))
    preflight.preflight(run)
    assert "part 2026-05-08 is not there yet" in str(preflight.nothing_to_do(run))
    here = make_run(make_dataset(tmp_path, [weekly]), partitions=("2026-05-01",))
    assert preflight.nothing_to_do(here) is None
    required = make_dataset(tmp_path, [{**weekly, "required": True}])
    with pytest.raises(NotReadyError, match=r"weekly/2026-05-08 is not there, and its parts are required"):
        preflight.preflight(make_run(required, partitions=("2026-05-08",)))


def test_the_last_run_of_a_backfill_builds_though_its_own_part_is_missing(tmp_path: Path) -> None:
    """With `publish: latest` the runs before it only scanned."""
    for number in range(2):
        put(tmp_path / f"exports/weekly/2026-05-01/anna/{number}.jpg", face(number))
    dataset = make_dataset(tmp_path, [{**TREE, "root": "weekly/{partition}"}], publish="latest")
    assert preflight.nothing_to_do(make_run(dataset, "early", ("2026-04-24",))) is not None
    scan.scan(make_run(dataset, "first", ("2026-05-01",)), "training_data")
    last = make_run(dataset, "last", ("2026-05-08",))
    assert preflight.nothing_to_do(last) is None
    assert run_to_seal(last).sealed.images == 2
    assert preflight.nothing_to_do(make_run(dataset, "later", ("2026-05-08",))) is not None


def test_a_folder_for_parts_that_holds_none_is_told(tmp_path: Path) -> None:
    put(tmp_path / "exports/weekly/anna/1.jpg", face(1))
    with pytest.raises(NotReadyError, match=r"there is no part in .*; one of today would be .*/weekly/20"):
        preflight.preflight(make_run(make_dataset(tmp_path, [{**TREE, "root": "weekly/{partition}"}])))


def test_a_folder_that_holds_other_things_is_never_taken_for_releases(tmp_path: Path) -> None:
    put(tmp_path / "exports/training_data/anna/1.jpg", face(1))
    put(tmp_path / "home/thesis.odt", b"years of work")
    dataset = make_dataset(tmp_path, [TREE], output=None, releases=str(tmp_path / "home"))
    with pytest.raises(NotReadyError, match=r"releases: .*home is not empty and no run of this dataset made it"):
        preflight.preflight(make_run(dataset))
    inside = make_dataset(tmp_path, [TREE], output=None, releases=str(tmp_path / "exports/training_data/kept"))
    with pytest.raises(NotReadyError, match="lie in one another"):
        preflight.preflight(make_run(inside))


def test_exports_in_s3_lie_apart(tmp_path: Path) -> None:
    roots = {"a": "s3://faces/x/", "b": "s3://faces/x/y/"}
    exports = [{"name": name, "layout": "image_folder", "root": root} for name, root in roots.items()]

    class Full:
        def holds(self, below: str) -> bool:
            return not below

    run = make_run(make_dataset(tmp_path, exports))
    full = Run(run.dataset, run.params, "1", sources=dict.fromkeys(roots, Full()))
    with pytest.raises(NotReadyError, match=r"export a \(s3://faces/x/\) and export b .* lie in one another"):
        preflight.preflight(full)
