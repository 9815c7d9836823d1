"""A network and a machine that fail: what a sync makes of it."""

from __future__ import annotations

import datetime as dt
import ipaddress
import os
import signal
import ssl
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from s3_sync.bucket.connection import connect
from s3_sync.errors import DestinationNotReady, InvalidRecord, S3SyncError, UploadFailed
from s3_sync.listing import contents
from s3_sync.preflight import check_destination
from s3_sync.proof.verify import verify
from s3_sync.sync import expected as expected_objects
from s3_sync.sync import record, unfinished
from s3_sync.sync.request import SyncRequest
from s3_sync.sync.sync import sync
from tests.unit.s3_sync import proxy
from tests.unit.s3_sync.conftest import airflow_connection

pytestmark = pytest.mark.long

if TYPE_CHECKING:
    from pathlib import Path

    from local.s3.seaweed import S3Server
    from s3_sync.bucket.connection import S3Connection
    from s3_sync.bucket.target import S3Target

LARGE = 17 << 20  # above what goes in one piece


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    folder.mkdir()
    for number in range(200):
        (folder / f"{number}.jpg").write_bytes(f"image {number}".encode())
    return folder


@pytest.fixture
def large(tmp_path: Path) -> Path:
    folder = tmp_path / "large"
    folder.mkdir()
    (folder / "weights.bin").write_bytes(os.urandom(1 << 20) * (LARGE >> 20))
    return folder


def test_throttling_server_errors_and_resets_are_retried(
    server: S3Server, target: S3Target, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The listing meets the first two, several uploads at once meet the others.
    faults = {"ListObjectsV2": ["503 SlowDown", "reset before"]}
    faults["PutObject"] = ["500 InternalError", "reset before", "503 SlowDown"] * 2
    with proxy.running(server) as spoiling:
        spoiling.begin(lambda operation, number: dict(enumerate(faults.get(operation, ()))).get(number))
        monkeypatch.setenv("AIRFLOW_CONN_SPOILT", airflow_connection(server, spoiling.endpoint))
        connection = connect(target.bucket, aws_conn_id="spoilt")
        assert sync(connection.at(target), SyncRequest(source=source, max_concurrency=8)).uploaded == 200
        assert spoiling.spoilt.total() == 8
        verify(connection.at(target), expected_objects.walk(source), record.empty())


@pytest.mark.long
def test_over_tls_a_private_authority_must_be_named(
    server: S3Server, target: S3Target, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bucket's name has dots: only path-style requests fit the certificate."""
    bundle, tls = certificate(tmp_path)
    with proxy.running(server, tls) as secure:
        monkeypatch.setenv("AIRFLOW_CONN_TLS", airflow_connection(server, secure.endpoint))
        with pytest.raises(DestinationNotReady, match=r"check .* the certificates"):
            check_destination(connect(target.bucket, aws_conn_id="tls").at(target))

        monkeypatch.setenv("AWS_CA_BUNDLE", str(bundle))
        connection = connect(target.bucket, aws_conn_id="tls")
        check_destination(connection.at(target))
        assert sync(connection.at(target), SyncRequest(source=source)).uploaded == 200

        monkeypatch.delenv("AWS_CA_BUNDLE")
        named = connect(target.bucket, aws_conn_id="tls", verify=str(bundle))
        assert sync(named.at(target), SyncRequest(source=source)).skipped == 200


def certificate(folder: Path) -> tuple[Path, ssl.SSLContext]:
    """Return a CA bundle and a server's context with a certificate for 127.0.0.1 that it signed."""
    now = dt.datetime.now(dt.UTC)

    def signed(name: str, key: Any, issuer: str, issuer_key: Any, *, ca: bool) -> x509.Certificate:
        builder = x509.CertificateBuilder(
            x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]),
            x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]),
            key.public_key(),
            x509.random_serial_number(),
            now - dt.timedelta(hours=1),
            now + dt.timedelta(hours=1),
        )
        address = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
        issuer_id = x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key())
        usage = dict.fromkeys(KEY_USAGE, False) | {"key_cert_sign": ca, "crl_sign": ca, "digital_signature": True}
        builder = builder.add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        builder = builder.add_extension(x509.KeyUsage(**usage), critical=True)
        builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        builder = builder.add_extension(issuer_id, critical=False)
        return (builder if ca else builder.add_extension(address, critical=False)).sign(issuer_key, hashes.SHA256())

    ca_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    authority = signed("authority", ca_key, "authority", ca_key, ca=True)
    leaf = signed("127.0.0.1", key, "authority", ca_key, ca=False)
    (folder / "ca.pem").write_bytes(authority.public_bytes(serialization.Encoding.PEM))
    (folder / "server.pem").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        + leaf.public_bytes(serialization.Encoding.PEM)
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "server.pem")
    return folder / "ca.pem", context


KEY_USAGE = (
    "digital_signature",
    "content_commitment",
    "key_encipherment",
    "data_encipherment",
    "key_agreement",
    "key_cert_sign",
    "crl_sign",
    "encipher_only",
    "decipher_only",
)


def test_refused_credentials_end_it_with_one_clear_line(
    connection: S3Connection, target: S3Target, source: Path
) -> None:
    assert connection.bucket == target.bucket
    with pytest.raises(S3SyncError, match="SignatureDoesNotMatch") as refused:
        sync(connect(target.bucket, aws_conn_id="wrong").at(target), SyncRequest(source=source))
    assert "\n" not in str(refused.value)


@pytest.mark.quick
def test_a_killed_sync_run_again_ends_as_if_it_had_never_been_killed(
    admin: Any, connection: S3Connection, target: S3Target, tmp_path: Path
) -> None:
    source, kept = tmp_path / "many", tmp_path / "record.parquet"
    source.mkdir()
    for number in range(2000):
        (source / f"{number}.jpg").write_bytes(f"image {number}".encode())
    program = (
        "import sys; from s3_sync.sync.task import run; "
        "run(source=sys.argv[1], destination=sys.argv[2], record=sys.argv[3])"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    arguments = [sys.executable, "-c", program, str(source), target.uri, str(kept)]
    with subprocess.Popen(arguments, env=environment) as victim:
        while not admin.list_objects_v2(Bucket=target.bucket, Prefix=target.prefix).get("KeyCount"):
            assert victim.poll() is None
        victim.send_signal(signal.SIGKILL)
    arrived = contents.list_raw(connection.at(target)).num_rows
    assert 0 < arrived < 2000

    again = sync(connection.at(target), SyncRequest(source=source, record_path=kept))
    assert (again.uploaded, again.skipped) == (2000 - arrived, arrived)
    verify(connection.at(target), expected_objects.walk(source), record.read(kept, connection.at(target)))


def test_large_files_go_in_parts_and_their_etag_is_taken_for_a_token(
    connection: S3Connection, target: S3Target, large: Path, tmp_path: Path
) -> None:
    kept, expected = tmp_path / "record.parquet", expected_objects.walk(large)
    assert sync(connection.at(target), SyncRequest(source=large, record_path=kept)).uploaded == 1
    assert contents.list_raw(connection.at(target))["etag"][0].as_py().endswith("-3")
    assert verify(connection.at(target), expected, record.read(kept, connection.at(target))).by_record == 1
    assert verify(connection.at(target), expected, record.empty()).by_checksum == 1
    assert sync(connection.at(target), SyncRequest(source=large, record_path=kept)).skipped == 1
    assert (
        sync(connection.at(target), SyncRequest(source=large)).uploaded == 1
    )  # no record: such an ETag proves nothing


def test_a_large_file_that_changed_never_becomes_visible(
    admin: Any, connection: S3Connection, target: S3Target, large: Path
) -> None:
    expected = expected_objects.walk(large)
    with (large / "weights.bin").open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        last = file.read(1)
        file.seek(-1, os.SEEK_END)
        file.write(bytes([last[0] ^ 1]))
    with pytest.raises(UploadFailed, match=r"weights\.bin: the local file has changed"):
        sync(connection.at(target), SyncRequest(source=large, objects=expected))
    assert contents.list_raw(connection.at(target)).num_rows == 0
    assert not admin.list_multipart_uploads(Bucket=target.bucket, Prefix=target.prefix).get("Uploads")


def test_uploads_that_broke_off_below_the_prefix_are_aborted_and_no_other(
    server: S3Server, admin: Any, target: S3Target, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    beside = target.sibling("2").key("x.bin")
    for key in [beside, *[target.key("weights.bin")] * 5, target.key("gone/0.bin")]:
        admin.create_multipart_upload(Bucket=target.bucket, Key=key)
    with proxy.running(server) as paging:
        paging.begin(paging.choose, page_size=2)
        monkeypatch.setenv("AIRFLOW_CONN_PAGING", airflow_connection(server, paging.endpoint))
        sync(connect(target.bucket, aws_conn_id="paging").at(target), SyncRequest(source=source))
    uploads = admin.list_multipart_uploads(Bucket=target.bucket, Prefix=target.prefix.removesuffix("set/"))["Uploads"]
    assert [upload["Key"] for upload in uploads] == [beside]


def test_an_upload_in_parts_whose_id_came_damaged_holds_up_no_other(
    admin: Any, connection: S3Connection, target: S3Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a", "b"):
        admin.create_multipart_upload(Bucket=target.bucket, Key=target.key(name))
    page, damaged = unfinished._first_page, [{(target.key("a"), "no such id")}]
    monkeypatch.setattr(unfinished, "_first_page", lambda *where: damaged.pop() if damaged else page(*where))
    unfinished.abort_unfinished(connection.at(target))
    assert not admin.list_multipart_uploads(Bucket=target.bucket, Prefix=target.prefix).get("Uploads")


def test_a_record_of_another_destination_proves_nothing_here(
    connection: S3Connection, target: S3Target, source: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    kept = tmp_path / "record.parquet"
    sync(connection.at(target.sibling("-elsewhere")), SyncRequest(source=source, record_path=kept))
    assert sync(connection.at(target), SyncRequest(source=source, record_path=kept)).uploaded == 200
    assert "another destination" in caplog.text


def test_a_damaged_record_is_an_error_with_a_remedy(
    connection: S3Connection, target: S3Target, source: Path, tmp_path: Path
) -> None:
    (tmp_path / "record.parquet").write_bytes(b"PAR1 not really")
    with pytest.raises(InvalidRecord, match="Delete the file"):
        sync(connection.at(target), SyncRequest(source=source, record_path=tmp_path / "record.parquet"))
    assert contents.list_raw(connection.at(target)).num_rows == 0
