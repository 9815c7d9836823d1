"""Which parts of a dated export a run takes, by what started the run."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from croniter import croniter

from include.faceset.declared.dataset import Dataset
from include.faceset.declared.params import ParamsError, RunParams

_QUARTERLY = "0 0 1 */3 *"
"""What Airflow means by `@quarterly`, which croniter does not know."""
FIRST_DATE = datetime(2020, 1, 1, tzinfo=UTC)
"""Where the cadence of every dataset begins."""


@dataclass(frozen=True)
class Event:
    """What started a run: Airflow's type of it, its date if it has one, and the parts that asset events `named`."""

    kind: str
    date: datetime | None = None
    named: Sequence[object] = ()


def partitions_of(dataset: Dataset, params: RunParams, event: Event) -> tuple[str, ...] | None:
    """The parts that a run scans; None: all that are there.

    The param says it, or the asset events that started the run, or the date of a scheduled run or a backfill. Any other
    run takes all.

    Raises:
        ParamsError: an asset event names what is no part.
    """
    if not dataset.dated:
        return None
    if params.partition is not None:
        return (params.partition,)
    if event.kind == "asset_triggered":
        return _named(dataset, event)
    if event.kind in {"scheduled", "backfill"} and event.date is not None:
        return (dataset.partition(event.date),)
    return None


def _named(dataset: Dataset, event: Event) -> tuple[str, ...] | None:
    named = set(event.named)
    if wrong := [name for name in named if name is not None and not dataset.is_partition(str(name))]:
        raise ParamsError(
            f"an asset event names the partition {wrong[0]!r:.80}: write it as {dataset.partition_format}"
        )
    return None if None in named or not named else tuple(sorted(map(str, named)))


def other_dates(dataset: Dataset, own: datetime, now: datetime) -> list[datetime]:
    """The dates of the dataset's cadence from its beginning until `now`, without a run's `own`."""
    if dataset.schedule is None:
        return []
    cadence = _QUARTERLY if dataset.schedule == "@quarterly" else dataset.schedule
    dates, ticks = list[datetime](), croniter(cadence, FIRST_DATE - timedelta(seconds=1))
    while (date := ticks.get_next(datetime)) <= now:
        if date != own:
            dates.append(date)
    return dates
