"""Which parts a run takes, by what started it, and which other runs of a backfill there may be."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from include.faceset.declared import params
from include.faceset.declared.params import ParamsError
from include.faceset.declared.partitions import Event, other_dates, partitions_of
from tests.unit.faceset.pipeline import TREE, make_dataset

WEEKLY = {"name": "weekly", "layout": "image_folder", "root": "weekly/{partition}"}
FRIDAY = datetime(2026, 5, 1, tzinfo=UTC)


def parts(folder: Path, event: Event, export: dict[str, Any] = WEEKLY, **changes: Any) -> tuple[str, ...] | None:
    dataset = make_dataset(folder, [export])
    return partitions_of(dataset, params.check(changes, dataset), event)


def test_the_param_wins_over_the_date_and_the_date_over_all(tmp_path: Path) -> None:
    assert parts(tmp_path, Event("manual")) is None
    assert parts(tmp_path, Event("manual", FRIDAY)) is None
    for kind in ("scheduled", "backfill"):
        assert parts(tmp_path, Event(kind, FRIDAY)) == ("2026-05-01",)
        assert parts(tmp_path, Event(kind, FRIDAY), partition="2026-04-24") == ("2026-04-24",)
        assert parts(tmp_path, Event(kind, FRIDAY), export=TREE) is None


def test_asset_events_name_their_parts_or_all(tmp_path: Path) -> None:
    named = ("2026-05-08", "2026-05-01", "2026-05-08")
    assert parts(tmp_path, Event("asset_triggered", named=named)) == ("2026-05-01", "2026-05-08")
    assert parts(tmp_path, Event("asset_triggered", named=("2026-05-01", None))) is None
    assert parts(tmp_path, Event("asset_triggered")) is None
    with pytest.raises(ParamsError, match="names the partition 'May': write it as %Y-%m-%d"):
        parts(tmp_path, Event("asset_triggered", named=("May",)))


@pytest.mark.parametrize(
    ("schedule", "number"),
    [("0 0 * * FRI", 331), ("@weekly", 330), ("@quarterly", 26), ("@daily", 2313), (None, 0)],
)
def test_other_dates_are_those_of_the_cadence(tmp_path: Path, schedule: str | None, number: int) -> None:
    dataset = make_dataset(tmp_path, [WEEKLY], schedule=schedule)
    dates = other_dates(dataset, datetime(1999, 1, 1, tzinfo=UTC), FRIDAY)
    assert len(dates) == len(set(dates)) == number
    if dates:
        assert dates[0] >= datetime(2020, 1, 1, tzinfo=UTC)
        assert FRIDAY - timedelta(days=95) < dates[-1] <= FRIDAY
        assert len(other_dates(dataset, dates[3], FRIDAY)) == number - 1
