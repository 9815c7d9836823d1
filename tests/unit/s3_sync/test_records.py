"""Few large files beside a prefix, on a real server: brought, pointed to, replaced, erased with all versions."""

import hashlib
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from s3_sync.bucket.connection import S3Connection
from s3_sync.bucket.target import POINTER, S3Target
from s3_sync.erasure import erase
from s3_sync.errors import VerifyFailed
from s3_sync.proof import records
from s3_sync.proof.publish import read_pointer
from tests.unit.s3_sync.delivery import Bundle

PART = bytes(range(256)) * (1 << 16)
"""16 MB: what is larger goes in parts."""


def bundle(folder: Path, name: str, **files: bytes) -> Bundle:
    rows = []
    for stem, content in sorted(files.items()):
        path = folder / name / f"{stem}.rec"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        rows.append({"key": path.name, "size": len(content), "sha256": hashlib.sha256(content).digest()})
    schema = pa.schema([("key", pa.string()), ("size", pa.int64()), ("sha256", pa.binary(32))])
    pointer: dict[str, Any] = {"records": f"s3://somewhere/{name}/", "size": sum(row["size"] for row in rows)}
    return Bundle(folder / name, pa.Table.from_pylist(rows, schema), folder / "record.parquet", pointer)


def test_records_are_brought_replaced_and_erased(connection: S3Connection, target: S3Target, tmp_path: Path) -> None:
    prefix = connection.at(target).records
    first = bundle(tmp_path, "one", train=PART + b"and more", index=b"0")
    records.publish(prefix, first, ["one"])
    assert read_pointer(prefix) == first.pointer
    assert records.folders_of(prefix) == {"one"}

    # The same files again, and then from no disk: nothing is sent, all is proven.
    records.publish(prefix, first, ["one"])
    (tmp_path / "one").rename(tmp_path / "gone")
    records.publish(prefix, first, ["one"])

    second = bundle(tmp_path, "two", train=b"others", index=b"1")
    records.publish(prefix, second, ["two", "one"])
    assert records.folders_of(prefix) == {"one", "two"}
    records.publish(prefix, second, ["two"])
    assert records.folders_of(prefix) == {"two"}

    missing = bundle(tmp_path, "three", train=b"never sent")
    (tmp_path / "three/train.rec").unlink()
    (tmp_path / "three").rmdir()
    with pytest.raises(VerifyFailed):
        records.publish(prefix, missing, ["three"])
    assert read_pointer(prefix) == second.pointer

    erase.all_but(prefix, ["two"])
    assert records.folders_of(prefix) == {"two"}
    assert set(erase.list_all(prefix)["key"].to_pylist()) == {"two/train.rec", "two/index.rec", POINTER}
    erase.all_but(prefix, [])
    assert erase.list_all(prefix).num_rows == 0
