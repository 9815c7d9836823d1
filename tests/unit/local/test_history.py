"""What `make releases` shows."""

from pathlib import Path

import pytest

from local.commands import releases
from local.commands.run import UsageError
from tests.unit.faceset.pipeline import TREE, face, make_dataset, make_run, put, run_to_seal


def test_it_lists_what_is_kept_and_what_is_in_place(tmp_path: Path) -> None:
    dataset, ids = make_dataset(tmp_path, [TREE]), []
    for count in (2, 3):
        put(tmp_path / f"exports/training_data/ann/{count}.jpg", face(count))
        put(tmp_path / "exports/training_data/ann/1.jpg", face(1))
        result = run_to_seal(make_run(dataset, str(count)))
        ids.append(result.sealed.release_id)
    table = releases.lines(result.run)
    assert table[0].split() == ["release", "sealed", "(UTC)", "identities", "images", "parts"]
    rows = {line.split()[0]: line.split()[3:] for line in table[1:]}
    assert rows == {ids[1]: ["1", "3", "in", "place"], ids[0]: ["1", "2"]}


def test_nothing_is_kept_yet(tmp_path: Path) -> None:
    assert len(releases.lines(releases.asked_for({"OUTPUT": str(tmp_path / "none")}))) == 1


def test_a_dataset_that_is_not_there_is_named() -> None:
    with pytest.raises(UsageError, match="there is no dataset 'none'"):
        releases.asked_for({"DATASET": "none"})
