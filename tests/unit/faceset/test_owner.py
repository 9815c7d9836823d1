"""One run at a time works on an output."""

from pathlib import Path

from include.faceset.run import owner
from include.faceset.run.owner import Owner
from tests.unit.faceset.pipeline import make_dataset, make_run


def test_another_run_waits_until_the_first_is_over(tmp_path: Path) -> None:
    dataset = make_dataset(tmp_path)
    first, second = make_run(dataset, "first"), make_run(dataset, "second")
    over: set[str] = set()

    def is_over(other: Owner) -> bool:
        return other.run_id in over

    assert owner.take(first, is_over) is None
    assert owner.take(first, is_over) is None
    assert owner.take(second, is_over) == Owner("faces", "first")
    over.add("first")
    assert owner.take(second, is_over) is None
    assert owner.take(first, is_over) == Owner("faces", "second")


def test_another_output_is_free(tmp_path: Path) -> None:
    dataset = make_dataset(tmp_path)
    assert owner.take(make_run(dataset, "first"), lambda _: False) is None
    elsewhere = make_run(dataset, "second", output=str(tmp_path / "elsewhere"))
    assert owner.take(elsewhere, lambda _: False) is None


def test_a_note_whose_writer_was_killed_holds_nobody_up(tmp_path: Path) -> None:
    run = make_run(make_dataset(tmp_path))
    owner.take(run, lambda _: False)
    [claim] = run.owner.iterdir()
    claim.write_text("{")
    assert owner.take(make_run(run.dataset, "second"), lambda _: False) is None


def test_a_claim_anew_has_a_higher_number(tmp_path: Path) -> None:
    dataset = make_dataset(tmp_path)
    first, second = make_run(dataset, "first"), make_run(dataset, "second")
    assert owner.take(first, lambda _: False) is None
    assert owner.take(first, lambda _: False, anew=True) is None
    assert owner.number(first) == 2
    assert owner.take(second, lambda _: False, anew=True) == Owner("faces", "first")
    assert (owner.number(first), owner.number(second)) == (2, 0)
    assert [path.name for path in first.owner.iterdir()] == ["00000002.json"]


def test_a_run_that_is_cleared_while_another_takes_over_keeps_the_output(tmp_path: Path) -> None:
    dataset = make_dataset(tmp_path)
    first, second = make_run(dataset, "first"), make_run(dataset, "second")
    owner.take(first, lambda _: False)
    cleared = iter([True, False])
    assert owner.take(second, lambda _: next(cleared)) == Owner("faces", "first")
    assert owner.other(first) is None
    assert owner.take(second, lambda _: True) is None
