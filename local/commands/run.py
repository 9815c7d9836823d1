"""`make run`: one run of a dataset's DAG on this machine, from nothing to the summary.

Its arguments are environment variables, so that any path and any JSON reaches it as it was typed: SOURCE, OUTPUT,
DEST, DATASET and PARAMS. The exit code is 0 only if the run succeeded; 1 if it did not, 2 for arguments that
cannot be used, 130 after Ctrl-C. What the run asks is asked on the terminal; where there is none, the run fails.
"""

import json
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import urlsplit

import httpx

from include.faceset.declared import loading, params
from include.faceset.declared.dataset import Dataset
from local.airflow import settings, stack
from local.airflow.answers import TaskInstance
from local.airflow.api import Run, Stack
from local.airflow.errors import StackError
from local.airflow.progress import Progress, errors, last_event
from local.airflow.question import Asker, NobodyAnswersError, terminal
from local.airflow.screen import Screen, is_wanted
from local.s3 import storage
from local.s3.errors import SeaweedError
from local.sample.sample import make_sample

DATASETS = settings.ROOT / "include" / "datasets"
DEFAULT_DATASET = "reidnet_v3"
PARAM_OF = {"SOURCE": "local_source", "OUTPUT": "output", "DEST": "destination"}


class UsageError(ValueError):
    """Arguments that cannot be used; the message says which ones can."""


@dataclass(frozen=True)
class Plan:
    """What `make run` was asked for: the DAG's name, its conf, and where the result goes."""

    dag_id: str
    conf: dict[str, Any]
    bucket: str
    sample: Path | None
    """Where to draw the sample first; None when there is a source."""
    export_buckets: tuple[str, ...] = ()


def plan(environment: Mapping[str, str], state: Path) -> Plan:
    """Read the arguments.

    Raises:
        UsageError: anything is missing, unknown, given twice or of the wrong kind.
    """
    chosen = find_dataset(environment.get("DATASET") or DEFAULT_DATASET)
    conf = _params(environment.get("PARAMS") or "{}")
    for argument, param in PARAM_OF.items():
        if value := environment.get(argument):
            if param in conf:
                raise UsageError(f"{argument} and the param {param!r} say the same thing: give one of them.")
            conf[param] = value if param == "destination" else str(Path(value).expanduser().resolve())
    sample = None
    missing = [name for name in needed(chosen) if PARAM_OF[name] not in conf]
    if missing == ["SOURCE", "OUTPUT"]:
        sample = state / "sample"
        _sample_may_go_there(chosen, conf, environment)
        conf |= {"local_source": str(sample), "output": str(state / "merged")}
    elif missing:
        if len(needed(chosen)) == 2:
            raise UsageError("SOURCE and OUTPUT go together: make run SOURCE=/data/exports OUTPUT=/data/merged")
        raise UsageError(f"{missing[0]}: {chosen.name} needs it: make run DATASET={chosen.name} {missing[0]}=/data/…")
    elif "local_source" in conf and not Path(conf["local_source"]).is_dir():
        raise UsageError(f"SOURCE: there is no folder {conf['local_source']}")
    try:
        checked = params.check(conf, chosen)
    except params.ParamsError as error:
        raise UsageError(str(error)) from error
    return Plan(chosen.name, conf, urlsplit(checked.destination).netloc, sample, export_buckets(chosen))


def export_buckets(chosen: Dataset) -> tuple[str, ...]:
    """The buckets that a dataset's exports lie in."""
    return tuple(sorted({urlsplit(export.prefix).netloc for export in chosen.exports if export.in_s3}))


def needed(chosen: Dataset) -> list[str]:
    """The arguments that say where a dataset's exports and its output lie, as far as its file leaves that to them."""
    source = [] if all(export.in_s3 for export in chosen.exports) else ["SOURCE"]
    return source if chosen.output is None else [*source, "OUTPUT"]


def find_dataset(name: str) -> Dataset:
    files = {path.stem: path for path in loading.find(DATASETS)}
    if name not in files:
        raise UsageError(f"DATASET: there is no dataset {name!r} in {DATASETS}; there are: {', '.join(files)}")
    try:
        return loading.load(files[name])
    except loading.DatasetError as error:
        raise UsageError(str(error)) from error


def _params(text: str) -> dict[str, Any]:
    try:
        values = json.loads(text)
    except ValueError as error:
        raise UsageError(f"PARAMS is no JSON ({error}). For example: PARAMS='{{\"min_images\": 3}}'") from error
    if not isinstance(values, dict):
        raise UsageError(f"PARAMS: an object is needed, such as '{{\"min_images\": 3}}', not {text}")
    return values


def _sample_may_go_there(chosen: Dataset, conf: Mapping[str, Any], environment: Mapping[str, str]) -> None:
    """The sample is for trying things out: it must not end up in a bucket that people train from."""
    if chosen.name != DEFAULT_DATASET:
        raise UsageError(
            f"The sample is drawn for {DEFAULT_DATASET}. For {chosen.name} give its exports: "
            f"make run DATASET={chosen.name} SOURCE=/data/exports OUTPUT=/data/merged"
        )
    names = storage.own(environment)
    stays_here = storage.is_on_this_machine(environment) or conf.get("skip_upload") or conf.get("dry_run")
    if names and "destination" not in conf and not stays_here:
        raise UsageError(
            f"{', '.join(names)}: this would publish the drawn sample at {chosen.destination} of your own S3. Name "
            f"another place for it (DEST=s3://bucket/prefix/), or your data (SOURCE= and OUTPUT=), or unset {names[0]}."
        )


def execute(order: Plan, state: Path, home: Path) -> bool:
    """Run the DAG, tell the terminal about it, and return whether it succeeded."""
    began = time.monotonic()
    if order.sample is not None:
        make_sample(order.sample)
    with storage.running(state / "s3", sorted({order.bucket, *order.export_buckets})) as s3:
        print(f"S3: {s3.description}")
        print(f"Airflow: starting, state and logs in {home}", flush=True)
        with stack.running(home, environment=s3.environment) as airflow:
            run = airflow.trigger(order.dag_id, order.conf)
            print(f"Run {run.run_id} of {run.dag_id}", flush=True)
            _watch(airflow, run)
            succeeded = _report(airflow, run)
    minutes, seconds = divmod(round(time.monotonic() - began), 60)
    print(f"\n{'Succeeded' if succeeded else 'FAILED'} after {minutes} min {seconds} s, all told.")
    return succeeded


def _watch(airflow: Stack, run: Run) -> None:
    """Tell the terminal about a run until it is over, and let the person there answer what it asks.

    Raises:
        NobodyAnswersError: nobody is there who can; the run is marked as failed.
    """
    asker = Asker(airflow, run, terminal())
    with ExitStack() as shown:
        watchers = (_shown(airflow, run, shown).watch, asker.watch)

        def watch(instances: list[TaskInstance]) -> None:
            for one in watchers:
                one(instances)

        _wait(airflow, run, watch)


def _shown(airflow: Stack, run: Run, until: ExitStack) -> Screen | Progress:
    """What tells the terminal about a run: a screen that lives, or lines where nobody looks on."""
    if is_wanted():
        screen = Screen(
            f"Run {run.run_id} of {run.dag_id}",
            lambda task, number: airflow.xcom(run, task, map_index=number),
            lambda one: last_event(airflow.task_log(run, one)),
        )
        return until.enter_context(screen)
    return Progress(lambda one: airflow.task_log(run, one), lambda one: airflow.question(run, one))


def _wait(airflow: Stack, run: Run, watch: Callable[[list[TaskInstance]], None]) -> None:
    try:
        airflow.wait(run, watch=watch)
    except NobodyAnswersError:
        airflow.fail(run)
        raise


def _report(airflow: Stack, run: Run) -> bool:
    """Print the summary, or what went wrong; return whether the run, summary and all, succeeded."""
    instances = airflow.task_instances(run)
    for one in instances:
        if one.state == "failed":
            log = airflow.task_log(run, one)
            print("\n".join(["", f"{one.task_id} failed:", *errors(log), f"Its log: {log}"]), file=sys.stderr)
    if not any(one.task_id == "summary" and one.state == "success" for one in instances):
        return False
    summary = Path(airflow.xcom(run, "summary")["summary"])
    print(f"\n{summary.read_text()}\nThis summary: {summary}")
    return airflow.state(run) == "success"


def command(work: Callable[[], int]) -> NoReturn:
    """Run `work` as a command does: errors as messages, exit codes as said above, stopped by any of the usual signals.

    SIGTERM and SIGHUP end it as Ctrl-C does, so that whatever was started is stopped.
    """
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda received, _: sys.exit(128 + received))
    try:
        sys.exit(work())
    except UsageError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
    except (StackError, SeaweedError, httpx.HTTPError) as error:
        print(error, file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        print("\nInterrupted; everything that was started is stopped.", file=sys.stderr)
        sys.exit(130)


def main() -> int:
    """Do what the environment asks for and return the exit code."""
    state = settings.state_folder()
    return 0 if execute(plan(os.environ, state), state, settings.airflow_home()) else 1


if __name__ == "__main__":
    command(main)
