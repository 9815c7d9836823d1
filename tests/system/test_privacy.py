"""A canary scan: nothing that Airflow keeps of a whole run holds a credential or names a person."""

import gzip
import json
import sqlite3
import stat
from contextlib import closing
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from local.s3 import seaweed
from local.sample.sample import make_sample
from tests.system.conftest import BUCKET, System

pytestmark = [pytest.mark.system, pytest.mark.long]

KEPT_SECRET = {"passwords.json", "fernet.key"}
"""Where Airflow's own secrets are: for their owner only."""


def test_no_credential_and_no_person_in_what_a_run_leaves(
    system: System, server: seaweed.S3Server, tmp_path: Path
) -> None:
    source, output = tmp_path / "sample", tmp_path / "merged"
    make_sample(source)
    # A run that ends well, a dry run, and one whose sync fails: errors are logged too.
    asked = {"local_source": str(source), "output": str(output), "destination": f"s3://{BUCKET}/canary/set/"}
    run = system.run(**asked, shards=3)
    assert system.airflow.state(run) == "success", system.states(run)
    assert system.airflow.state(system.run(**asked, shards=3, dry_run=True)) == "success"
    refused = system.run(**asked | {"destination": "s3://no-such-bucket/set/"}, shards=3)
    assert system.airflow.state(refused) == "failed"

    home = system.airflow.home
    secrets = [
        *(secret for one in (server.user, server.admin) for secret in (one.secret_key,)),
        *json.loads((home / "passwords.json").read_text()).values(),
        (home / "fernet.key").read_text().strip(),
    ]
    assert all(len(secret) >= 16 for secret in secrets)
    folder = Path(system.airflow.xcom(run, "summary")["summary"]).parent
    manifest = pq.read_table(folder / "manifest.parquet", columns=["identity", "key"])
    people = {name for name in manifest["identity"].unique().to_pylist() if len(name) >= 6}
    assert len(people) > 20

    database = dump(home / "airflow.db")
    assert run.run_id in database
    assert "manifest.parquet" in database  # the XComs are in it
    logs = {path: path.read_text(errors="replace") for path in (home / "logs").rglob("*") if path.is_file()}
    assert any("What was skipped, and why" in text for text in logs.values())
    for name, text in [("the database", database), *((str(path), text) for path, text in logs.items())]:
        assert not [secret[:4] for secret in secrets if secret in text], name
        assert not sorted(person for person in people if person in text)[:3], name

    # Reports, tables and records may name people: they are where the faces are. They hold no credential.
    for path in [*output.with_name("merged.releases").rglob("*"), *home.rglob("*")]:
        if path.is_file() and path.name not in KEPT_SECRET:
            data = path.read_bytes()
            assert not [secret[:4] for secret in secrets if secret.encode() in data], path
    for name in KEPT_SECRET:
        assert stat.S_IMODE((home / name).stat().st_mode) == 0o600
    for key in system.objects("canary/"):
        data = system.read(f"canary/{key}")
        assert not [secret[:4] for secret in secrets if secret.encode() in data], key

    # And no page without a login.
    for page in ("/dags", f"/dags/reidnet_v3/dagRuns/{run.run_id}", "/assets", "/connections", "/variables"):
        assert system.airflow.api.get(page, auth=None).status_code == 401


def dump(database: Path) -> str:
    """All rows of a SQLite database as text, compressed ones unpacked."""
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
        connection.text_factory = lambda data: data.decode(errors="replace")
        tables = [row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        rows = (row for table in tables for row in connection.execute(f'SELECT * FROM "{table}"'))  # noqa: S608
        return "\n".join(unpacked(value) for row in rows for value in row)


def unpacked(value: object) -> str:
    if isinstance(value, bytes):
        plain = gzip.decompress(value) if value.startswith(b"\x1f\x8b") else value
        return plain.decode(errors="replace")
    return str(value)
