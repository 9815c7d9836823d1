"""From an Airflow connection to two clients of one bucket: obstore for many objects, boto3 for the rest."""

from __future__ import annotations

import ipaddress
import logging
import os
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from airflow.providers.amazon.aws.hooks.s3 import S3Hook
from botocore.config import Config
from botocore.exceptions import BotoCoreError
from obstore.auth.boto3 import Boto3CredentialProvider
from obstore.store import S3Store

from s3_sync.errors import DestinationNotReady, cause
from s3_sync.named import check_connection, how_to_add
from s3_sync.options import check_encryption

if TYPE_CHECKING:
    from collections.abc import Callable

    from obstore.store import ClientConfig, S3Config

log = logging.getLogger(__name__)

CONNECT_TIMEOUT_S = 10
REQUEST_TIMEOUT_S = 120
MAX_ATTEMPTS = 10
FIRST_BACKOFF_S, MAX_BACKOFF_S = 0.2, 15.0
# Below the five minutes for which credentials fetched just before must still be good.
RETRY_TIMEOUT_S = 180


@dataclass(frozen=True)
class S3Connection:
    """Clients of ``bucket``, which share credentials, endpoint, certificates and encryption.

    ``store`` is at the bucket's root. ``client`` is boto3's. ``new_client(config)`` makes another one, with a
    botocore ``Config`` merged into the connection's. ``encryption`` holds boto3's arguments for a PUT.
    """

    bucket: str
    endpoint: str
    store: S3Store
    client: Any
    new_client: Callable[[Any], Any] = field(repr=False)
    encryption: dict[str, str]


def connect(
    bucket: str,
    *,
    aws_conn_id: str | None = "aws_default",
    region_name: str | None = None,
    verify: bool | str | None = None,
    encryption: str | None = None,
    kms_key_id: str | None = None,
) -> S3Connection:
    """Return clients of ``bucket`` with what the Airflow connection says; no request is sent.

    Credentials, region, endpoint, certificates and botocore settings come from the connection and, where it says
    nothing, from boto3's own chain (``AWS_ENDPOINT_URL``, ``AWS_PROFILE``, ``AWS_CA_BUNDLE``, instance role, …).
    Requests are path-style unless the connection's ``config_kwargs`` ask for
    ``{"s3": {"addressing_style": "virtual"}}``: a bucket name with dots matches no TLS wildcard certificate.

    Raises DestinationNotReady without the connection (only ``aws_default`` may be absent) or without credentials, or
    for an endpoint without TLS that is not on this machine; InvalidOption for an impossible encryption.
    """
    check_encryption(encryption, kms_key_id)
    check_connection(aws_conn_id)
    hook = S3Hook(aws_conn_id=aws_conn_id, region_name=region_name, verify=verify)

    def new_client(config: Any) -> Any:
        return hook.get_client_type(config=_botocore_config(hook.config).merge(config))

    try:
        client = new_client(Config())
        credentials = Boto3CredentialProvider(hook.get_session(region_name=hook.region_name))
    except (BotoCoreError, ValueError) as error:
        raise DestinationNotReady(
            f"connection {aws_conn_id!r} gives no usable S3 client or credentials ({cause(error)}). Set its login"
            " and password, its role or its profile, or the standard AWS_* variables; where it is not there at all:"
            f" {how_to_add(aws_conn_id)}"
        ) from error
    endpoint: str = client.meta.endpoint_url
    _refuse_plain_http(endpoint, allowed=bool(hook.service_config.get("allow_http")))
    virtual = ((hook.config.s3 or {}).get("addressing_style")) == "virtual"
    config: S3Config = {
        "endpoint": endpoint.replace("://", f"://{bucket}.", 1) if virtual else endpoint,
        "region": client.meta.region_name or "us-east-1",
        "virtual_hosted_style_request": virtual,
        # The server refuses bytes that were damaged on the way, and remembers the checksum.
        "checksum_algorithm": "SHA256",
    }
    if encryption:
        config["server_side_encryption"] = encryption
    if kms_key_id:
        config["sse_kms_key_id"] = kms_key_id
    store = S3Store(
        bucket,
        config=config,
        client_options=_client_options(hook.verify),
        retry_config={
            "max_retries": MAX_ATTEMPTS,
            "retry_timeout": timedelta(seconds=RETRY_TIMEOUT_S),
            "backoff": {
                "init_backoff": timedelta(seconds=FIRST_BACKOFF_S),
                "max_backoff": timedelta(seconds=MAX_BACKOFF_S),
                "base": 2,
            },
        },
        credential_provider=credentials,
    )
    return S3Connection(bucket, endpoint, store, client, new_client, _encryption_arguments(encryption, kms_key_id))


def _botocore_config(own: Any) -> Any:
    """Return this package's settings for boto3, over which the connection's ``own`` ones win."""
    return Config(
        connect_timeout=CONNECT_TIMEOUT_S,
        read_timeout=REQUEST_TIMEOUT_S,
        retries={"mode": "standard", "total_max_attempts": MAX_ATTEMPTS},
        max_pool_connections=64,
        s3={"addressing_style": "path"},
    ).merge(own)


def _client_options(verify: bool | str | None) -> ClientConfig:
    """Return obstore's HTTP options; ``verify`` has boto3's meaning: a CA bundle's path, or False for no check."""
    options: ClientConfig = {
        "allow_http": True,  # _refuse_plain_http has decided
        "connect_timeout": timedelta(seconds=CONNECT_TIMEOUT_S),
        "timeout": timedelta(seconds=REQUEST_TIMEOUT_S),
    }
    if verify is False:
        log.warning("the connection says verify=False: TLS certificates are not checked")
        options["allow_invalid_certificates"] = True
    elif bundle := verify if isinstance(verify, str) else os.environ.get("AWS_CA_BUNDLE"):
        try:
            options["root_certificate"] = Path(bundle).read_bytes()
        except OSError as error:
            raise DestinationNotReady(f"the CA bundle {bundle} cannot be read: {error.strerror}") from error
    return options


def _refuse_plain_http(endpoint: str, *, allowed: bool) -> None:
    url = urlsplit(endpoint)
    if url.scheme == "https" or allowed or _is_loopback(url.hostname or ""):
        return
    raise DestinationNotReady(
        f"the endpoint {endpoint} has no TLS, and objects would cross the network in the clear. Use https://, or,"
        ' for a network that nobody else is on, add {"service_config": {"s3": {"allow_http": true}}} to the extra'
        " of the connection"
    )


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _encryption_arguments(encryption: str | None, kms_key_id: str | None) -> dict[str, str]:
    arguments = {"ServerSideEncryption": encryption, "SSEKMSKeyId": kms_key_id}
    return {name: value for name, value in arguments.items() if value}
