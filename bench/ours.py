"""What the DAG's tasks do, as commands that can be timed beside others: `python -m bench.ours <work> <JSON>`.

The disk work runs in two processes, as Airflow's tasks do on two cores.
"""

import json
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import include.faceset  # noqa: F401 chooses Arrow's allocator, as the DAG file does for every task
from local.sample.entries import FLAT, FOLDERS
from local.sample.sample import EXPORTS

WORKERS = 2
SHARDS = 16


def make_run(source: str, output: str, **changes: Any) -> Any:
    """A run over the two exports of the reference corpus."""
    from include.faceset.declared import params
    from include.faceset.declared.dataset import Dataset
    from include.faceset.run.run import Run

    dataset = Dataset.model_validate(
        {
            "name": "bench",
            "local_source": source,
            "output": output,
            "destination": "s3://bench/set/",
            "exports": EXPORTS,
            "shards": SHARDS,
            "forms": ["image_folder", "record"],
        }
    )
    return Run(dataset, params.check(changes, dataset), "bench")


def _scan_one(arguments: dict[str, Any], export: str) -> None:
    from include.faceset.steps.scan import scan as scan_export

    scan_export(make_run(**arguments), export)


def _copy_one(arguments: dict[str, Any], shard: int) -> None:
    from include.faceset.steps.copy import copy_shard

    copy_shard(make_run(**arguments), shard)


def scan(**arguments: Any) -> None:
    """The tasks `scan` (two) and `filter_manifest`."""
    with ProcessPoolExecutor(WORKERS) as pool:
        list(pool.map(_scan_one, [arguments] * 2, [FOLDERS, FLAT]))
    from include.faceset.steps.select import filter_manifest

    filter_manifest(make_run(**arguments))


def copy(**arguments: Any) -> None:
    """The tasks `copy_shard`."""
    with ProcessPoolExecutor(WORKERS) as pool:
        list(pool.map(_copy_one, [arguments] * SHARDS, range(SHARDS)))


def seal(**arguments: Any) -> None:
    """The task `seal`."""
    from include.faceset.steps.seal import seal as seal_run

    seal_run(make_run(**arguments))


def pack(**arguments: Any) -> None:
    """The task `pack`, without upload."""
    _pack(make_run(**arguments, skip_upload=True), None)


def publish_records(destination: str, **arguments: Any) -> None:
    """The same, of what is packed already, to a bucket."""
    from s3_sync.destination import S3Destination

    run = make_run(**arguments, destination=destination)
    _pack(run, S3Destination.reach(destination, holder="a measurement", aws_conn_id=None))


def _pack(run: Any, bucket: Any) -> None:
    from include.faceset.release import pointer
    from include.faceset.steps.pack import pack as pack_release

    folder = pointer.last(run)
    if folder is None:
        raise FileNotFoundError(run.latest)
    pack_release(run, folder.name, bucket)


def summary(**arguments: Any) -> None:
    """The task `summary`."""
    from include.faceset.release import pointer, release
    from include.faceset.steps.summarise import summarise

    run = make_run(**arguments)
    folder = pointer.last(run)
    if folder is None:
        raise FileNotFoundError(run.latest)
    summarise(run, release.read(folder), [], None)


def ask(question: str, **arguments: Any) -> None:
    """What a page, or `make why`, answers."""
    from include.faceset.show.ask import ask as ask_all

    print([answer.total for answer in ask_all(make_run(**arguments), question)])


def whole_ledger(question: str, **arguments: Any) -> None:
    """The rows of an identity, as somebody would find them who knows Arrow: the ledger read, and filtered."""
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    from include.faceset.release import pointer, release

    folder = pointer.last(make_run(**arguments))
    rows = pq.read_table(Path(folder or "") / release.LEDGER_FILE)
    print(rows.filter(pc.equal(rows["identity"], question)).num_rows)


def sheet(**arguments: Any) -> None:
    """A hundred faces, as a page shows them."""
    from include.faceset.release import pointer
    from include.faceset.show import rows
    from include.faceset.show import sheet as sheets

    run = make_run(**arguments)
    found, _ = rows.ledger(run, Path(pointer.last(run) or "")).page("kept", 0, sheets.IMAGES)
    images = sheets.contents(run, found.to_pylist(), lambda _: None)
    print(len(sheets.draw(images, run.dataset.image_size)))


def objects(source: str, path: str) -> None:
    """What a prefix shall hold, as a Parquet file: key, size and SHA-256 of every file."""
    import pyarrow.parquet as pq

    from s3_sync.sync.expected import walk

    pq.write_table(walk(Path(source)), path)


def sync(**arguments: Any) -> None:
    """The task `sync`: what S3SyncOperator does."""
    from s3_sync.sync.task import run

    run(aws_conn_id=None, **arguments)


def verify(destination: str, objects: str, record: str) -> None:
    """The task `verify`."""
    from include.faceset.ground import tables
    from s3_sync.bucket.connection import connect
    from s3_sync.bucket.target import S3Target
    from s3_sync.proof.verify import verify as verify_prefix
    from s3_sync.sync.record import read

    target = S3Target.parse(destination)
    connection = connect(target.bucket, aws_conn_id=None)
    expected = tables.read(Path(objects), ["key", "size", "sha256"])
    prefix = connection.at(target)
    verify_prefix(prefix, expected, read(Path(record), prefix))


def scan_many(**arguments: Any) -> None:
    """The task `scan` of a prefix of many images."""
    from bench import many
    from include.faceset.steps.scan import scan as scan_export

    scan_export(many.make_run(**arguments), many.EXPORT)


def filter_many(**arguments: Any) -> None:
    """The task `filter_manifest` of the same."""
    from bench import many
    from include.faceset.steps.select import filter_manifest

    filter_manifest(many.make_run(**arguments))


def judge_many(**arguments: Any) -> None:
    """In the place of the tasks `copy_shard`, which would read the images."""
    from bench import many

    many.judge(many.make_run(**arguments))


def seal_many(**arguments: Any) -> None:
    """The task `seal` of the same."""
    from bench import many
    from include.faceset.steps.seal import seal as seal_run

    seal_run(many.make_run(**arguments))


WORK: dict[str, Callable[..., None]] = {
    "scan": scan,
    "copy": copy,
    "pack": pack,
    "publish_records": publish_records,
    "seal": seal,
    "summary": summary,
    "ask": ask,
    "whole_ledger": whole_ledger,
    "sheet": sheet,
    "scan-many": scan_many,
    "filter-many": filter_many,
    "judge-many": judge_many,
    "seal-many": seal_many,
    "objects": objects,
    "sync": sync,
    "verify": verify,
}

if __name__ == "__main__":
    WORK[sys.argv[1]](**json.loads(sys.argv[2]))
