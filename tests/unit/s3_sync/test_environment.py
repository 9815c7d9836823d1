"""Whatever stands in the environment, every client goes where the Airflow connection says, and as it says."""

import importlib.util
import json
import os
import re
import socketserver
import threading
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

import obstore
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError, SSLError
from obstore.exceptions import BaseError

from local.s3.seaweed import S3Server
from s3_sync.bucket.connection import S3Connection, connect
from s3_sync.bucket.target import S3Target
from s3_sync.errors import DestinationNotReady, InvalidTarget, SourceNotReady
from s3_sync.lease import hold
from s3_sync.listing import contents
from s3_sync.preflight import check_destination
from s3_sync.proof import publish
from s3_sync.proof.verify import verify
from s3_sync.sources.source import S3Source
from s3_sync.sync import expected as expected_objects
from s3_sync.sync import record as records
from s3_sync.sync.request import SyncRequest
from s3_sync.sync.sync import sync
from tests.unit.s3_sync import proxy
from tests.unit.s3_sync.conftest import airflow_connection
from tests.unit.s3_sync.proxy import Answer, Proxy, Request
from tests.unit.s3_sync.test_faults import certificate

pytestmark = pytest.mark.long

FILES = {"anna/1.jpg": b"one", "ben/2.jpg": b"two", "cleo/3.jpg": b"three"}
REGION = "eu-trap-1"


def package(name: str) -> Path:
    spec = importlib.util.find_spec(name)
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent


def of_botocore() -> set[str]:
    """Every variable that botocore or boto3 names anywhere, and those whose names it puts together."""
    texts = [path.read_text() for name in ("botocore", "boto3") for path in package(name).glob("*.py")]
    return {found for text in texts for found in re.findall(r"[\"'](AWS_[A-Z0-9_]+)[\"']", text)} | {
        "AWS_ENDPOINT_URL_S3",
        "AWS_ENDPOINT_URL_STS",
        "AWS_BEARER_TOKEN_S3",
    }


def of_obstore() -> set[str]:
    """Every variable that obstore knows: its options, as its types tell them, and their other names."""
    types = [package("obstore") / "_store" / f"{name}.pyi" for name in ("_aws", "_client")]
    named = {found for path in types for found in re.findall(r"\bAWS_[A-Z0-9_]+", path.read_text())}
    keys = {found for path in types for found in re.findall(r"(?m)^    ([a-z0-9_]+): ", path.read_text())}
    return named | {f"AWS_{key.removeprefix('aws_').upper()}" for key in keys} | {"AWS_DISABLE_SYSTEM_CERTIFICATES"}


OTHERS = {"ALL_PROXY", "HTTPS_PROXY", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE", "SSL_CERT_DIR"}
OTHERS |= {name.lower() for name in OTHERS if "PROXY" in name}
# A monitor on this machine that boto3 tells, by UDP, which calls there were: no request, and a socket left open.
VARIABLES = sorted((of_botocore() | of_obstore() | OTHERS) - {"AWS_CSM_ENABLED"})
# What would not do as a value at all elsewhere, or is of a kind of its own.
VALUES = {
    "AWS_ACCOUNT_ID_ENDPOINT_MODE": "required",
    "AWS_CHECKSUM_ALGORITHM": "sha256",
    "AWS_CONDITIONAL_PUT": "disabled",
    "AWS_COPY_IF_NOT_EXISTS": "header: x-trap: yes",
    "AWS_CREDENTIAL_EXPIRATION": "2020-01-01T00:00:00Z",
    "AWS_CSM_PORT": "1",
    "AWS_DEFAULTS_MODE": "standard",
    "AWS_DEFAULT_REGION": REGION,
    "AWS_MAX_ATTEMPTS": "1",
    "AWS_METADATA_SERVICE_NUM_ATTEMPTS": "1",
    "AWS_METADATA_SERVICE_TIMEOUT": "1",
    "AWS_REGION": REGION,
    "AWS_REQUEST_CHECKSUM_CALCULATION": "when_supported",
    "AWS_REQUEST_MIN_COMPRESSION_SIZE_BYTES": "1",
    "AWS_RESPONSE_CHECKSUM_VALIDATION": "when_required",
    "AWS_RETRY_MODE": "legacy",
    "AWS_S3_US_EAST_1_REGIONAL_ENDPOINT": "regional",
    "AWS_SERVER_SIDE_ENCRYPTION": "aws:kms",
    "AWS_SSE_CUSTOMER_KEY_BASE64": b64encode(bytes(32)).decode(),
    "AWS_STS_REGIONAL_ENDPOINTS": "legacy",
    "AWS_AUTH_SCHEME_PREFERENCE": "smithy.api#noAuth,sigv4a",
    "AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE": "ipv4",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI": "/trap",
}
SWITCHES = r"ENABLED|DISABLE|SKIP|USE_|ALLOW|EXPRESS|ONLY|PAY|UNSIGNED|VIRTUAL|FALLBACK|IGNORE|RANDOMIZE|WHILE_IDLE"


def value_of(name: str, trap: str) -> str:
    """A value of ``name`` that would lead elsewhere, or change what is sent."""
    if name in VALUES:
        return VALUES[name]
    if re.search(r"ENDPOINT(?!_DISC)|_URI|HOST|PROXY_URL|(?i:^\w+_proxy$)", name):
        return trap
    if re.search(SWITCHES, name):
        return "true"
    if re.search("TIMEOUT|INTERVAL", name):
        return "1ms"
    return "trap"


class Trap:
    """A port of this machine that nobody has any business at; ``heard`` is what came."""

    def __init__(self, port: int) -> None:
        self.url, self.heard = f"http://127.0.0.1:{port}", list[bytes]()


@pytest.fixture
def trap() -> Iterator[Trap]:
    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            made.heard.append(self.request.recv(4096))

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as listener:
        made = Trap(listener.server_address[1])
        threading.Thread(target=listener.serve_forever, args=(0.05,), daemon=True).start()
        yield made
        listener.shutdown()


@pytest.fixture
def seen() -> list[Request]:
    return []


@pytest.fixture
def named(server: S3Server, seen: list[Request], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Proxy]:
    """The endpoint that the connection names. Every request that comes there is in ``seen``."""
    for name in [name for name in os.environ if name.startswith("AWS_") or "proxy" in name.lower()]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    with proxy.running(server) as running:
        running.instead = seen.append
        monkeypatch.setenv("AIRFLOW_CONN_AWS_DEFAULT", airflow_connection(server, running.endpoint))
        yield running


def write_config(path: Path, trap: Trap) -> None:
    """Write a config file of boto3 that leads to the trap in every way that it can, for any profile."""
    section = (
        f"region = {REGION}\nendpoint_url = {trap.url}\nservices = trap\nca_bundle = /trap\n"
        "s3 =\n    addressing_style = virtual\n    use_dualstack_endpoint = true\n"
    )
    services = f"[services trap]\ns3 =\n    endpoint_url = {trap.url}\nsts =\n    endpoint_url = {trap.url}\n"
    path.write_text(f"[default]\n{section}[profile trap]\n{section}{services}")


def check_requests(seen: list[Request], server: S3Server, *, region: str = "us-east-1") -> None:
    """All of them are signed as the connection's user's, and bytes go with a checksum, as the bucket encrypts them."""
    assert seen
    for request in seen:
        scope = request.header("authorization") or ""
        assert f"Credential={server.user.access_key}/" in scope
        assert f"/{region}/s3/" in scope
        assert request.header("x-amz-security-token") is None
        assert request.header("x-amz-request-payer") is None
        assert not [name for name, _ in request.headers if name.lower().startswith("x-amz-server-side")]
        if request.method == "PUT" and not request.header("x-amz-copy-source"):
            assert re.fullmatch("[0-9a-f]{64}", request.header("x-amz-content-sha256") or "")
            assert request.header("x-amz-trailer") is None
            assert request.header("x-amz-checksum-sha256")


def both_clients(connection: S3Connection, target: S3Target) -> None:
    """Write, list and read by obstore what boto3 lists, reads and deletes."""
    publish.put_bytes(connection.at(target), b"here", "here.txt")
    assert contents.list_prefix(connection.at(target))["key"].to_pylist() == ["here.txt"]
    assert contents.list_raw(connection.at(target))["key"].to_pylist() == ["here.txt"]
    where = {"Bucket": target.bucket, "Key": target.key("here.txt")}
    assert connection.client.get_object(**where)["Body"].read() == b"here"
    connection.client.delete_object(**where)
    with pytest.raises(FileNotFoundError):
        obstore.get(connection.store, where["Key"])


@pytest.mark.parametrize("name", VARIABLES)
def test_no_variable_leads_anywhere_else(
    name: str,
    trap: Trap,
    named: Proxy,
    seen: list[Request],
    target: S3Target,
    *,
    server: S3Server,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    write_config(tmp_path / "config", trap)
    monkeypatch.setenv(name, value_of(name, trap.url))
    if name.endswith("PROFILE") or name == "AWS_CONFIG_FILE":
        monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    connection = connect(target.bucket)
    assert connection.endpoint == named.endpoint
    both_clients(connection, target)
    check_requests(seen, server)
    assert not trap.heard
    assert os.environ[name]


@pytest.mark.quick
def test_all_of_them_together_lead_nowhere_else(
    admin: Any,
    trap: Trap,
    named: Proxy,
    seen: list[Request],
    target: S3Target,
    *,
    server: S3Server,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    write_config(tmp_path / "config", trap)
    for name in VARIABLES:
        monkeypatch.setenv(name, value_of(name, trap.url))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    for key, content in FILES.items():
        path = tmp_path / "source" / key
        path.parent.mkdir(parents=True)
        path.write_bytes(content)
    connection, kept = connect(target.bucket), tmp_path / "record.parquet"
    check_destination(connection.at(target))
    strangers = [request for request in seen if not request.header("authorization")]
    assert len(strangers) == 2
    with hold(connection.at(target), owner="a/b", holder="a", give_back=True) as check:
        done = sync(connection.at(target), SyncRequest(source=tmp_path / "source", record_path=kept), check=check)
    assert done.uploaded == len(FILES)
    expected = expected_objects.walk(tmp_path / "source")
    verify(connection.at(target), expected, records.read(kept, connection.at(target)))
    source = S3Source(target.uri)
    assert {key for page in source.listing("") for key in page["key"].to_pylist()} == FILES.keys()

    held = admin.list_objects_v2(Bucket=target.bucket, Prefix=target.prefix)["Contents"]
    assert {item["Key"] for item in held} == {target.key(key) for key in FILES}
    signed = [request for request in seen if request.header("authorization")]
    assert {request.operation for request in signed} >= {"PutObject", "ListObjectsV2", "PutObject lease.json"}
    check_requests(signed, server)
    assert not trap.heard


@pytest.mark.parametrize(
    "environment",
    [
        {"AWS_ENDPOINT_URL": "<here>"},
        {"AWS_ENDPOINT_URL": "http://127.0.0.1:1", "AWS_ENDPOINT_URL_S3": "<here>"},
        {"AWS_ENDPOINT_URL_S3": "<here>/", "AWS_ENDPOINT": "http://127.0.0.1:1"},
    ],
)
def test_what_boto3_finds_where_the_connection_says_nothing_both_follow(
    environment: Mapping[str, str],
    named: Proxy,
    seen: list[Request],
    target: S3Target,
    server: S3Server,
    *,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    silent = json.loads(os.environ["AIRFLOW_CONN_AWS_DEFAULT"]) | {"extra": {}}
    monkeypatch.setenv("AIRFLOW_CONN_AWS_DEFAULT", json.dumps(silent))
    monkeypatch.setenv("AWS_DEFAULT_REGION", REGION)
    for name, value in environment.items():
        monkeypatch.setenv(name, value.replace("<here>", named.endpoint))
    connection = connect(target.bucket)
    assert connection.endpoint == named.endpoint
    both_clients(connection, target)
    check_requests(seen, server, region=REGION)


def test_so_do_they_a_profile(
    named: Proxy,
    seen: list[Request],
    target: S3Target,
    server: S3Server,
    tmp_path: Path,
    *,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("AIRFLOW_CONN_AWS_DEFAULT")
    monkeypatch.setenv("AWS_PROFILE", "mine")
    (tmp_path / "config").write_text(
        f"[profile mine]\nregion = {REGION}\nservices = mine\n"
        f"[services mine]\ns3 =\n    endpoint_url = {named.endpoint}\n"
    )
    (tmp_path / "credentials").write_text(
        f"[mine]\naws_access_key_id = {server.user.access_key}\naws_secret_access_key = {server.user.secret_key}\n"
    )
    both_clients(connect(target.bucket), target)
    check_requests(seen, server, region=REGION)


def test_without_a_region_both_sign_for_the_same(
    named: Proxy, seen: list[Request], target: S3Target, server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    silent = json.loads(os.environ["AIRFLOW_CONN_AWS_DEFAULT"]) | {"extra": {"endpoint_url": named.endpoint}}
    monkeypatch.setenv("AIRFLOW_CONN_AWS_DEFAULT", json.dumps(silent))
    both_clients(connect(target.bucket), target)
    check_requests(seen, server)


def with_extra(monkeypatch: pytest.MonkeyPatch, **extra: Any) -> None:
    """Add to the extra of the connection."""
    said = json.loads(os.environ["AIRFLOW_CONN_AWS_DEFAULT"])
    monkeypatch.setenv("AIRFLOW_CONN_AWS_DEFAULT", json.dumps(said | {"extra": said["extra"] | extra}))


@pytest.mark.parametrize("name", ["HTTP_PROXY", "http_proxy"])
@pytest.mark.parametrize("spared", ["", "*", "127.0.0.1"])
def test_both_go_through_the_proxy_that_boto3_goes_through(
    name: str, spared: str, named: Proxy, seen: list[Request], target: S3Target, *, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The proxy before the real server takes requests to proxies too: those name a whole URL.
    monkeypatch.setenv(name, named.endpoint)
    if spared:
        monkeypatch.setenv("NO_PROXY", spared)
    both_clients(connect(target.bucket), target)
    assert {request.path.startswith("http://") for request in seen} == {not spared}


def test_a_proxy_of_the_connection_wins_over_that_of_the_environment(
    trap: Trap, named: Proxy, seen: list[Request], target: S3Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", trap.url)
    for proxies, through in (({"http": named.endpoint}, True), ({}, False), ({"https": trap.url}, False)):
        with_extra(monkeypatch, config_kwargs={"proxies": proxies})
        both_clients(connect(target.bucket), target)
        assert {request.path.startswith("http://") for request in seen} == {through}
        seen.clear()
    assert not trap.heard


@pytest.mark.filterwarnings("ignore::urllib3.exceptions.InsecureRequestWarning")
@pytest.mark.parametrize(
    ("environment", "extra", "trusted"),
    [
        ({}, {}, False),
        ({"AWS_CA_BUNDLE": "<ca>"}, {}, True),
        ({"REQUESTS_CA_BUNDLE": "<ca>"}, {}, True),
        ({"AWS_CONFIG_FILE": "<config>"}, {}, True),
        ({"SSL_CERT_FILE": "<ca>", "CURL_CA_BUNDLE": "<ca>"}, {}, False),
        ({}, {"verify": "<ca>"}, True),
        ({}, {"verify": False}, True),
        ({"AWS_ALLOW_INVALID_CERTIFICATES": "true"}, {}, False),
        ({"AWS_CA_BUNDLE": "<ca>"}, {"verify": True}, False),
    ],
)
def test_both_trust_the_same_authorities(
    environment: dict[str, str],
    extra: dict[str, Any],
    trusted: bool,
    named: Proxy,
    target: S3Target,
    *,
    server: S3Server,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bundle, context = certificate(tmp_path)
    (tmp_path / "with_ca").write_text(f"[default]\nca_bundle = {bundle}\n")
    files = {"<ca>": str(bundle), "<config>": str(tmp_path / "with_ca")}
    monkeypatch.setattr("s3_sync.bucket.connection.MAX_ATTEMPTS", 1)
    with proxy.running(server, context) as secure:
        said = {key: files.get(value, value) for key, value in extra.items()}
        with_extra(monkeypatch, endpoint_url=secure.endpoint, **said)
        for name, value in environment.items():
            monkeypatch.setenv(name, files.get(value, value))
        connection = connect(target.bucket)
        client = connection.new_client(Config(retries={"total_max_attempts": 1}))
        assert works(lambda: obstore.put(connection.store, target.key("x"), b"x", use_multipart=False)) == trusted
        assert works(lambda: client.get_object(Bucket=target.bucket, Key=target.key("x"))) == trusted
    assert ("PutObject" in secure.seen) == trusted


@pytest.mark.parametrize("asked", [{}, {"ChecksumAlgorithm": "SHA256"}])
def test_over_tls_too_a_put_has_its_checksum_in_its_head(
    asked: Mapping[str, str],
    named: Proxy,
    seen: list[Request],
    target: S3Target,
    server: S3Server,
    *,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bundle, context = certificate(tmp_path)
    with proxy.running(server, context) as secure:
        secure.instead = seen.append
        with_extra(monkeypatch, endpoint_url=secure.endpoint, verify=str(bundle))
        client = connect(target.bucket).client
        client.put_object(Bucket=target.bucket, Key=target.key("x"), Body=b"x", **asked)
    (request,) = seen
    assert request.header("x-amz-checksum-sha256") == b64encode(sha256(b"x").digest()).decode()
    assert (request.header("x-amz-trailer"), request.header("content-encoding")) == (None, None)
    assert request.body == b"x"


def works(call: Callable[[], Any]) -> bool:
    try:
        call()
    except (BaseError, SSLError):
        return False
    return True


def test_a_bundle_that_cannot_be_read_is_named(named: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    with_extra(monkeypatch, endpoint_url="https://127.0.0.1:1")
    monkeypatch.setenv("AWS_CA_BUNDLE", "/no/such/ca.pem")
    with pytest.raises(DestinationNotReady, match=r"the CA bundle /no/such/ca\.pem cannot be read"):
        connect("bucket")


def test_a_proxy_may_have_an_authority_of_its_own(
    named: Proxy,
    target: S3Target,
    server: S3Server,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bundle, context = certificate(tmp_path)
    with proxy.running(server, context) as secure:
        proxies = {"proxies": {"http": secure.endpoint}, "proxies_config": {"proxy_ca_bundle": str(bundle)}}
        with_extra(monkeypatch, config_kwargs=proxies)
        both_clients(connect(target.bucket), target)
    assert {"PutObject", "ListObjectsV2", "GetObject", "DeleteObject"} <= secure.seen.keys()


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"client_cert": "/client.pem"}, "client_cert"),
        ({"signature_version": "unsigned"}, "signature_version"),
        ({"signature_version": "s3"}, "signature_version 's3'"),
        ({"proxies_config": {"proxy_client_cert": "/client.pem"}}, "proxy_client_cert"),
        ({"proxies_config": {"proxy_use_forwarding_for_https": True}}, "proxy_use_forwarding_for_https"),
    ],
)
def test_what_only_boto3_can_do_is_refused(
    asked: Mapping[str, Any], message: str, named: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_extra(monkeypatch, config_kwargs=asked)
    with pytest.raises(DestinationNotReady, match=rf"config_kwargs ask for .*{message}.*Take it out"):
        connect("bucket")


@pytest.mark.parametrize(
    ("environment", "extra", "endpoint"),
    [
        ({}, {}, "https://s3.us-west-2.amazonaws.com"),
        ({}, {"region_name": "us-east-1"}, "https://s3.amazonaws.com"),
        (
            {"AWS_S3_US_EAST_1_REGIONAL_ENDPOINT": "regional"},
            {"region_name": "us-east-1"},
            "https://s3.us-east-1.amazonaws.com",
        ),
        ({"AWS_REGION": "eu-west-1", "AWS_DEFAULT_REGION": "eu-west-1"}, {}, "https://s3.us-west-2.amazonaws.com"),
        ({"AWS_USE_DUALSTACK_ENDPOINT": "true"}, {}, "https://s3.dualstack.us-west-2.amazonaws.com"),
        ({"AWS_USE_FIPS_ENDPOINT": "true"}, {}, "https://s3-fips.us-west-2.amazonaws.com"),
        ({"AWS_USE_FIPS_ENDPOINT": "true"}, {"endpoint_url": "https://s3.example"}, "https://s3.example"),
        ({"AWS_ENDPOINT_URL": "https://env.example"}, {"endpoint_url": "https://s3.example/"}, "https://s3.example"),
        (
            {},
            {"endpoint_url": "http://192.0.2.1", "service_config": {"s3": {"endpoint_url": "https://s3.example"}}},
            "https://s3.example",
        ),
        ({}, {"endpoint_url": "https://gateway.example/s3/"}, "https://gateway.example/s3"),
        (
            {"AWS_ENDPOINT_URL": "http://192.0.2.1", "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS": "true"},
            {},
            "https://s3.us-west-2.amazonaws.com",
        ),
    ],
)
@pytest.mark.parametrize("bucket", ["faces", "data.example.com", "s3"])
def test_the_endpoint_that_boto3_really_uses_is_obstores(
    environment: Mapping[str, str],
    extra: dict[str, Any],
    endpoint: str,
    bucket: str,
    named: Proxy,
    *,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    own(monkeypatch, extra)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    connection = connect(bucket)
    assert (connection.endpoint, connection.resolved.virtual) == (endpoint, False)
    assert (connection.store.config["endpoint"], connection.store.config["endpoint_url_s3"]) == (endpoint, endpoint)
    assert connection.client.generate_presigned_url("get_object", {"Bucket": bucket, "Key": "key"}).startswith(
        f"{endpoint}/{bucket}/key?"
    )


@pytest.mark.parametrize(
    ("s3", "extra", "endpoint"),
    [
        ({"addressing_style": "virtual"}, {}, "https://s3.us-west-2.amazonaws.com"),
        ({"use_accelerate_endpoint": True}, {}, "https://s3-accelerate.amazonaws.com"),
        ({"use_dualstack_endpoint": True}, {}, "https://s3.dualstack.us-west-2.amazonaws.com"),
        ({"addressing_style": "virtual"}, {"endpoint_url": "https://s3.example:444"}, "https://s3.example:444"),
    ],
)
def test_so_is_the_bucket_in_the_name_of_the_host(
    s3: Mapping[str, Any], extra: dict[str, Any], endpoint: str, named: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    own(monkeypatch, {"config_kwargs": {"s3": s3}, **extra})
    connection = connect("faces")
    assert (connection.endpoint, connection.resolved.virtual) == (endpoint, True)
    assert connection.store.config["endpoint"] == endpoint.replace("://", "://faces.")
    assert connection.store.config["virtual_hosted_style_request"] == "true"


def test_an_export_by_another_endpoint_of_aws_may_not_lie_in_the_destination(
    named: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    own(monkeypatch, {"config_kwargs": {"s3": {"use_accelerate_endpoint": True}}})
    monkeypatch.setenv("AIRFLOW_CONN_EXPORTS", '{"conn_type": "aws", "login": "a", "password": "b"}')
    source = S3Source("s3://faces/set/anna/", "exports")
    with pytest.raises(SourceNotReady, match="lie in one another"):
        source.check(connect("faces"), S3Target.parse("s3://faces/set/"))


def test_settings_by_which_boto3_reaches_nothing_are_refused(named: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    with_extra(monkeypatch, config_kwargs={"s3": {"use_accelerate_endpoint": True}})
    with pytest.raises(DestinationNotReady, match=r"boto3 cannot reach bucket faces .*Accelerate.*: correct config_"):
        connect("faces")


def own(monkeypatch: pytest.MonkeyPatch, extra: Mapping[str, Any]) -> None:
    """Make this the extra of the connection, in a region of its own."""
    said = json.loads(os.environ["AIRFLOW_CONN_AWS_DEFAULT"])
    monkeypatch.setenv("AIRFLOW_CONN_AWS_DEFAULT", json.dumps(said | {"extra": {"region_name": "us-west-2", **extra}}))


FAR = "http://192.0.2.1"


@pytest.mark.parametrize(
    ("environment", "extra"),
    [
        ({}, {"endpoint_url": FAR}),
        ({}, {"service_config": {"s3": {"endpoint_url": FAR}}}),
        ({"AWS_ENDPOINT_URL": FAR}, {}),
        ({"AWS_ENDPOINT_URL": "https://s3.example", "AWS_ENDPOINT_URL_S3": FAR}, {}),
        ({"AWS_CONFIG_FILE": "<config>"}, {}),
    ],
)
def test_plain_http_is_refused_whoever_names_it(
    environment: Mapping[str, str],
    extra: dict[str, Any],
    named: Proxy,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "far").write_text(f"[default]\nservices = far\n[services far]\ns3 =\n    endpoint_url = {FAR}\n")
    own(monkeypatch, extra)
    for name, value in environment.items():
        monkeypatch.setenv(name, value.replace("<config>", str(tmp_path / "far")))
    with pytest.raises(DestinationNotReady, match=r"endpoint http://192\.0\.2\.1 has no TLS"):
        connect("faces")


@pytest.mark.parametrize("proxies", [{"HTTP_PROXY": "http://me:kept@192.0.2.1:3128"}, {"http_proxy": "192.0.2.1:3128"}])
def test_plain_http_is_refused_by_way_of_a_proxy_elsewhere(
    proxies: Mapping[str, str], named: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in proxies.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(DestinationNotReady, match=r"by way of the proxy 192\.0\.2\.1 .*has no TLS") as refused:
        connect("faces")
    assert "kept" not in str(refused.value)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    assert connect("faces").resolved.proxy is None
    monkeypatch.delenv("NO_PROXY")
    with_extra(monkeypatch, endpoint_url="https://s3.example")
    assert connect("faces").resolved.proxy is None


def moved(status: int, code: str, **headers: str) -> Answer:
    body = f"<Error><Code>{code}</Code><Message>elsewhere</Message><Region>eu-west-1</Region></Error>"
    return Answer(status, "Elsewhere", tuple(headers.items()), body.encode())


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (301, "PermanentRedirect"),
        (307, "TemporaryRedirect"),
        (400, "AuthorizationHeaderMalformed"),
        (400, "IllegalLocationConstraintException"),
    ],
)
def test_no_client_follows_a_bucket_into_another_region(
    status: int, code: str, named: Proxy, seen: list[Request], target: S3Target
) -> None:
    def elsewhere(request: Request) -> Answer:
        seen.append(request)
        return moved(status, code, **{"x-amz-bucket-region": "eu-west-1"})

    named.instead = elsewhere
    connection = connect(target.bucket)
    with pytest.raises(ClientError, match=rf"{code}.*the bucket is in eu-west-1: set region_name to that"):
        connection.client.list_objects_v2(Bucket=target.bucket)
    with pytest.raises(BaseError, match=f"{code}|incorrectly configured region"):
        obstore.get(connection.store, "key")
    assert len(seen) == 2
    assert {"/us-east-1/" in (request.header("authorization") or "") for request in seen} == {True}
    with pytest.raises(DestinationNotReady, match="set region_name to eu-west-1"):
        check_destination(connection.at(target))
    with pytest.raises(DestinationNotReady, match=r"cannot be listed .*the bucket is in eu-west-1"):
        contents.list_prefix(connection.at(target))
    with pytest.raises(SourceNotReady, match=r"cannot be listed .*the bucket is in eu-west-1"):
        S3Source(target.uri).holds("")


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_no_client_is_led_to_another_server(
    status: int, trap: Trap, named: Proxy, seen: list[Request], target: S3Target, *, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = trap.url.replace("127.0.0.1", "localhost")

    def led(request: Request) -> Answer:
        return moved(status, "TemporaryRedirect", Location=f"{elsewhere}{request.path}")

    named.instead = led
    monkeypatch.setattr("s3_sync.bucket.connection.MAX_ATTEMPTS", 1)
    connection = connect(target.bucket)
    where = {"Bucket": target.bucket, "Key": "key"}
    calls: list[Callable[[], Any]] = [
        lambda: obstore.put(connection.store, "key", b"face", use_multipart=False),
        lambda: obstore.get(connection.store, "key"),
        lambda: list(obstore.list(connection.store, "key")),
        lambda: connection.client.put_object(**where, Body=b"face"),
        lambda: connection.client.get_object(**where),
    ]
    for call in calls if status != 303 else calls[:3]:  # botocore trips over a 303
        with pytest.raises((BaseError, ClientError)):
            call()
    assert not trap.heard


@pytest.mark.parametrize(
    ("uri", "what"),
    [
        ("s3://faces--usw2-az1--x-s3/set/", "directory bucket"),
        ("s3://faces--usw2-az1--xa-s3/set/", "access point of a directory bucket"),
        ("s3://faces--table-s3/set/", "table bucket"),
        ("s3://faces-abc--ol-s3/set/", "Object Lambda access point"),
        ("s3://faces-abc-s3alias/set/", "access point"),
        ("s3://mfzwi23gnjvgw.mrap/set/", "multi-Region access point"),
        ("s3://arn:aws:s3:us-west-2:123456789012:accesspoint/faces/set/", "ARN"),
    ],
)
def test_what_is_no_plain_bucket_is_refused(uri: str, what: str) -> None:
    with pytest.raises(InvalidTarget, match=f"is the name of an? {what}.*name a general purpose bucket itself"):
        S3Target.parse(uri)
    with pytest.raises(InvalidTarget, match=what):
        connect(uri.split("/")[2])


def test_a_connection_that_does_not_exist_is_not_made_up(named: Proxy) -> None:
    with pytest.raises(DestinationNotReady, match=r"there is no connection 'labels'.*add it"):
        connect("faces", aws_conn_id="labels")


def test_who_asks_pays_if_the_connection_says_so(
    named: Proxy, seen: list[Request], target: S3Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_extra(monkeypatch, service_config={"s3": {"request_payer": True}})
    both_clients(connect(target.bucket), target)
    assert {request.header("x-amz-request-payer") for request in seen} == {"requester"}
    assert {"x-amz-request-payer" in (request.header("authorization") or "") for request in seen} == {True}


@pytest.mark.parametrize(
    ("encryption", "key"),
    [("AES256", None), ("aws:kms", None), ("aws:kms", "arn:aws:kms:us-east-1:1:key/2"), ("aws:kms:dsse", "a-key")],
)
def test_encryption_is_what_was_asked_for_and_no_more(
    encryption: str,
    key: str | None,
    named: Proxy,
    seen: list[Request],
    target: S3Target,
    *,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in of_obstore():
        if "_SSE_" in name or "ENCRYPTION" in name:
            monkeypatch.setenv(name, value_of(name, FAR))

    def kept(request: Request) -> Answer:
        seen.append(request)
        return Answer(200, "OK", (("ETag", '"x"'),), b"")

    named.instead = kept
    connection = connect(target.bucket, encryption=encryption, kms_key_id=key)
    publish.put_bytes(connection.at(target), b"x", "x", checked=True)
    connection.client.put_object(Bucket=target.bucket, Key="x", Body=b"x", **connection.encryption)
    wanted = {"x-amz-server-side-encryption": encryption} | (
        {"x-amz-server-side-encryption-aws-kms-key-id": key} if key else {}
    )
    assert len(seen) == 2
    for request in seen:
        found = {name.lower(): value for name, value in request.headers if "server-side" in name.lower()}
        assert found == wanted
