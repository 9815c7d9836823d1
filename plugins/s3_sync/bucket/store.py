"""obstore's client of a bucket, built from what boto3 resolved and from nothing else.

obstore fills its builder from every ``AWS_*`` variable that it knows before it looks at what it is given, and its HTTP
client asks the environment for proxies and certificates where it is told nothing. So it is told everything.
(object_store's ``AmazonS3Builder::from_env`` and ``ClientOptions::client``.)
"""

from __future__ import annotations

import os
import threading
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from obstore.store import S3Store

if TYPE_CHECKING:
    from collections.abc import Iterator

    from obstore.store import ClientConfig, RetryConfig, S3Config

    from s3_sync.bucket.credentials import S3Credentials
    from s3_sync.bucket.resolved import Resolved

# No value of these says "none".
ENCRYPTION_VARIABLES = ("AWS_SERVER_SIDE_ENCRYPTION", "AWS_SSE_")
# Nobody can listen there.
NOWHERE = "http://127.0.0.1:0"

_alone = threading.Lock()


@dataclass(frozen=True)
class Patience:
    """How long a client waits for a connection, for an answer and between tries (seconds), and how often it tries.

    ``retry_s`` is when the last try of a request begins.
    """

    connect_s: float
    request_s: float
    attempts: int
    retry_s: float
    first_backoff_s: float
    max_backoff_s: float


def build(resolved: Resolved, credentials: S3Credentials, patience: Patience) -> S3Store:
    """Return the client at the bucket's root; no request is sent.

    It is not to be pickled or copied: that would read the environment again, and in another process another one.
    """
    with _without_variables(*ENCRYPTION_VARIABLES):
        return S3Store(
            resolved.bucket,
            config=_config(resolved),
            client_options=_client_options(resolved, patience),
            retry_config=_retry_config(patience),
            credential_provider=credentials,
        )


def _config(resolved: Resolved) -> S3Config:
    endpoint = resolved.bucket_host if resolved.virtual else resolved.endpoint
    config: S3Config = {
        "endpoint": endpoint,
        "aws_endpoint_url_s3": endpoint,
        "region": resolved.region,
        "virtual_hosted_style_request": resolved.virtual,
        "request_payer": resolved.request_payer,
        # The server refuses bytes that were damaged on the way, and remembers the checksum.
        "checksum_algorithm": "SHA256",
        "unsigned_payload": False,
        "skip_signature": False,
        "s3_express": False,
        "disable_tagging": False,
        "disable_bulk_delete": False,
        "conditional_put": "etag",
        "copy_if_not_exists": "multipart",
    }
    if resolved.encryption:
        config["server_side_encryption"] = resolved.encryption
    if resolved.kms_key_id:
        config["sse_kms_key_id"] = resolved.kms_key_id
    return config


def _client_options(resolved: Resolved, patience: Patience) -> ClientConfig:
    options: ClientConfig = {
        # What is sent to an endpoint with TLS is not redirected to one without.
        "allow_http": resolved.endpoint.startswith("http://"),
        "allow_invalid_certificates": not resolved.checked,
        "connect_timeout": timedelta(seconds=patience.connect_s),
        "timeout": timedelta(seconds=patience.request_s),
    }
    if resolved.proxy:
        options["proxy_url"] = resolved.proxy
    else:
        # The only way to say "none", and to go nowhere else when a server answers with a redirection, which obstore
        # would follow (boto3 does not).
        options |= {"proxy_url": NOWHERE, "proxy_excludes": urlsplit(resolved.endpoint).hostname or ""}
    # Else those of the system are trusted too, as the environment finds them. (Its types do not know the option.)
    options["disable_system_certificates"] = True  # type: ignore[typeddict-unknown-key]
    if resolved.certificates:
        options["root_certificate"] = resolved.certificates
    return options


def _retry_config(patience: Patience) -> RetryConfig:
    return {
        "max_retries": patience.attempts,
        "retry_timeout": timedelta(seconds=patience.retry_s),
        "backoff": {
            "init_backoff": timedelta(seconds=patience.first_backoff_s),
            "max_backoff": timedelta(seconds=patience.max_backoff_s),
            "base": 2,
        },
    }


@contextmanager
def _without_variables(*beginnings: str) -> Iterator[None]:
    """Take variables out of the environment while the block runs, in whatever case they are written.

    Only obstore reads these, so no other thread misses them.
    """
    with _alone:
        taken = {name: value for name, value in os.environ.items() if name.upper().startswith(beginnings)}
        for name in taken:
            del os.environ[name]
        try:
            yield
        finally:
            os.environ.update(taken)
