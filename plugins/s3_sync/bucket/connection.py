"""From an Airflow connection to two clients of one bucket: obstore for many objects, boto3 for the rest."""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from botocore.config import Config
from botocore.exceptions import NoCredentialsError

from s3_sync.bucket.boto import Hook, prepare
from s3_sync.bucket.credentials import S3Credentials
from s3_sync.bucket.named import DEFAULT, check_connection, how_to_add
from s3_sync.bucket.options import check_encryption
from s3_sync.bucket.prefix import S3Prefix
from s3_sync.bucket.remedies import explained
from s3_sync.bucket.resolved import SIGNATURE, Resolved, resolve
from s3_sync.bucket.store import Patience, build
from s3_sync.bucket.target import check_bucket

if TYPE_CHECKING:
    from collections.abc import Callable

    from obstore.store import S3Store

    from s3_sync.bucket.target import S3Target

log = logging.getLogger(__name__)

CONNECT_TIMEOUT_S = 10
REQUEST_TIMEOUT_S = 120
MAX_ATTEMPTS = 10
FIRST_BACKOFF_S, MAX_BACKOFF_S = 0.2, 15.0
# A request is signed once for all its tries, and S3 takes it for 15 minutes.
RETRY_TIMEOUT_S = 180


@dataclass(frozen=True)
class S3Connection:
    """Clients of a bucket, all built from one ``resolved`` description and signing with the same ``credentials``.

    ``store`` is at the bucket's root. ``client`` is boto3's. ``new_client(config)`` makes another one, with a
    botocore ``Config`` merged into the connection's, and ``new_store(patience)`` another store. ``encryption`` holds
    boto3's arguments for a PUT.
    """

    resolved: Resolved
    store: S3Store
    client: Any
    new_client: Callable[[Any], Any] = field(repr=False)
    credentials: S3Credentials = field(repr=False)

    def new_store(self, patience: Patience) -> S3Store:
        return build(self.resolved, self.credentials, patience)

    def at(self, target: S3Target) -> S3Prefix:
        """Return ``target``, reached by this connection."""
        return S3Prefix(self, target)

    @property
    def bucket(self) -> str:
        return self.resolved.bucket

    @property
    def endpoint(self) -> str:
        return self.resolved.endpoint

    @property
    def encryption(self) -> dict[str, str]:
        return self.resolved.put_arguments


def connect(
    bucket: str,
    *,
    aws_conn_id: str | None = DEFAULT,
    region_name: str | None = None,
    verify: bool | str | None = None,
    encryption: str | None = None,
    kms_key_id: str | None = None,
) -> S3Connection:
    """Return clients of ``bucket`` with what the Airflow connection says; no request is sent to S3.

    Credentials, region, endpoint, proxies, certificates and botocore settings come from the connection and, where it
    says nothing, from boto3's own chain (``AWS_ENDPOINT_URL``, ``AWS_PROFILE``, ``AWS_CA_BUNDLE``, instance role, …);
    the rest of the environment means nothing, and nobody is redirected to another region.
    Requests are path-style unless the connection's ``config_kwargs`` ask for
    ``{"s3": {"addressing_style": "virtual"}}``: a bucket name with dots matches no TLS wildcard certificate.
    ``{"service_config": {"s3": {"request_payer": true}}}`` in its extra pays for requests to a bucket that asks for it.

    Raises DestinationNotReady without the connection (only ``aws_default`` may be absent), without credentials, for an
    endpoint without TLS that is not on this machine, and for what only one of the clients can do; InvalidTarget for
    what is no plain bucket; InvalidOption for an impossible encryption.
    """
    check_bucket(bucket)
    check_encryption(encryption, kms_key_id)
    check_connection(aws_conn_id)
    hook = Hook(aws_conn_id=aws_conn_id, region_name=region_name, verify=verify)
    owner = f"connection {aws_conn_id!r}" if hook.conn_config else "boto3's own chain"
    asked = hook.service_config
    request_payer = bool(asked.get("request_payer"))
    session, credentials = _sign_in(hook, owner, aws_conn_id)
    new_client = _maker(hook, credentials, request_payer=request_payer)
    with explained(owner):
        client = new_client(Config())
        resolved = resolve(
            client,
            session,
            bucket,
            verify=hook.verify,
            allow_http=bool(asked.get("allow_http")),
            encryption=encryption,
            kms_key_id=kms_key_id,
            request_payer=request_payer,
        )
    if not resolved.checked:
        log.warning("the connection says verify=False: TLS certificates are not checked")
    patience = Patience(
        CONNECT_TIMEOUT_S, REQUEST_TIMEOUT_S, MAX_ATTEMPTS, RETRY_TIMEOUT_S, FIRST_BACKOFF_S, MAX_BACKOFF_S
    )
    return S3Connection(resolved, build(resolved, credentials, patience), client, new_client, credentials)


def _sign_in(hook: Hook, owner: str, aws_conn_id: str | None) -> tuple[Any, S3Credentials]:
    """Return the connection's session, with the credentials that it goes by. Raises DestinationNotReady."""
    profile = hook.conn_config.profile_name
    method = "assume-role" if hook.conn_config.role_arn else ""
    otherwise = f"; where there is no connection yet: {how_to_add(aws_conn_id)}"
    with explained(owner, method=method, profile=profile, otherwise=otherwise):
        session = hook.session
        if (found := session.get_credentials()) is None:
            raise NoCredentialsError
    credentials = S3Credentials(found, owner, profile=profile or session.profile_name)
    session._session._credentials = credentials  # noqa: SLF001 as Airflow itself sets a role's
    return session, credentials


def _maker(hook: Hook, credentials: S3Credentials, *, request_payer: bool) -> Callable[[Any], Any]:
    """Return what makes a client of boto3 with further settings."""
    making = threading.Lock()

    def new_client(config: Any) -> Any:
        with making:  # a session makes one client at a time
            client = hook.get_client_type(config=_botocore_config(hook.own).merge(config))
        credentials.watch(client)
        prepare(client, request_payer=request_payer)
        return client

    return new_client


def _botocore_config(own: Any) -> Any:
    """Return this package's settings for boto3, over which the connection's ``own`` ones win."""
    return Config(
        connect_timeout=CONNECT_TIMEOUT_S,
        read_timeout=REQUEST_TIMEOUT_S,
        retries={"mode": "standard", "total_max_attempts": MAX_ATTEMPTS},
        max_pool_connections=64,
        signature_version=SIGNATURE,
        request_checksum_calculation="when_required",
        s3={"addressing_style": "path"},
    ).merge(own)
