"""The S3 that a run talks to: the user's own if the environment names one, else the embedded server."""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

from local.s3 import seaweed

# Each of these names somebody's S3 or credentials: boto3's own chain, or Airflow's connection.
OWN = (
    "AIRFLOW_CONN_AWS_DEFAULT",
    "AWS_ACCESS_KEY_ID",
    "AWS_CONFIG_FILE",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_DEFAULT_PROFILE",
    "AWS_ENDPOINT_URL",
    "AWS_ENDPOINT_URL_S3",
    "AWS_PROFILE",
    "AWS_SHARED_CREDENTIALS_FILE",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
)


@dataclass(frozen=True)
class Storage:
    """Where S3 is, in words, and what Airflow's environment needs to find it."""

    description: str
    environment: Mapping[str, str]


def own(environment: Mapping[str, str]) -> list[str]:
    """Return the names of the variables set that say: use this S3, start none."""
    return [name for name in OWN if environment.get(name)]


def is_on_this_machine(environment: Mapping[str, str]) -> bool:
    """Whether the S3 endpoint that the environment names is a loopback address; False where it names none."""
    url = _endpoint_of_connection(environment.get("AIRFLOW_CONN_AWS_DEFAULT", ""))
    if not url and environment.get("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "").lower() != "true":
        url = environment.get("AWS_ENDPOINT_URL_S3") or environment.get("AWS_ENDPOINT_URL") or ""
    host = urlsplit(url).hostname or ""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _endpoint_of_connection(said: str) -> str:
    """Return the endpoint for S3 that a connection names, as JSON or as a URI; empty if it names none.

    It wins over boto3's variables. One that cannot be read names an endpoint that is not of this machine.
    """
    try:
        if said.lstrip().startswith("{"):
            extra = json.loads(said).get("extra") or {}
        else:
            extra = dict(parse_qsl(urlsplit(said).query))
            extra = extra.get("__extra__", extra)
        extra = json.loads(extra) if isinstance(extra, str) else extra
        service = extra.get("service_config", {})
        service = json.loads(service) if isinstance(service, str) else service
        return str(service.get("s3", {}).get("endpoint_url") or extra.get("endpoint_url") or "")
    except (ValueError, AttributeError):
        return "unreadable"


def connection(server: seaweed.S3Server) -> dict[str, str]:
    """Return the environment that makes the embedded server Airflow's `aws_default`, as its lesser identity."""
    value = {
        "conn_type": "aws",
        "login": server.user.access_key,
        "password": server.user.secret_key,
        "extra": {
            "endpoint_url": server.endpoint,
            "region_name": seaweed.REGION,
            "config_kwargs": {"proxies": {}},  # no proxy reaches this machine
        },
    }
    return {"AIRFLOW_CONN_AWS_DEFAULT": json.dumps(value)}


@contextmanager
def running(data: Path, buckets: Sequence[str]) -> Iterator[Storage]:
    """Give a run its S3 until the block ends; the embedded server keeps its objects in `data`.

    Raises:
        local.s3.seaweed.SeaweedError: the embedded server cannot be started.
    """
    if names := own(os.environ):
        yield Storage(f"yours, as named by {', '.join(names)}", {})
        return
    with seaweed.running(data, buckets) as server:
        credentials = data / "credentials.json"
        yield Storage(f"embedded at {server.endpoint}, credentials in {credentials}", connection(server))
