"""Where S3 is and how it is spoken to, told once: what boto3 makes of the Airflow connection and its own environment.

boto3 and obstore read different parts of the environment, and by different rules. So it is read by boto3 alone, then
taken from a client that it has made, and every other client is built from this description.
"""

from __future__ import annotations

import ipaddress
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from botocore.awsrequest import AWSResponse
from botocore.exceptions import BotoCoreError
from botocore.httpsession import ProxyConfiguration, get_cert_path
from botocore.utils import get_environ_proxies

from s3_sync.errors import DestinationNotReady, cause

if TYPE_CHECKING:
    from boto3.session import Session

SIGNATURE = "s3v4"
# https://docs.aws.amazon.com/general/latest/gr/s3.html
AWS = (".amazonaws.com", ".amazonaws.com.cn")


@dataclass(frozen=True)
class Resolved:
    """What every client of ``bucket`` is built from.

    Args:
        endpoint: URL without the bucket and without a last slash.
        virtual: whether the bucket stands in the host's name, and not in the path.
        region: what requests are signed for.
        proxy: URL of the proxy for the endpoint; None for none.
        certificates: PEM of the authorities that are trusted; None where no TLS is spoken, or nothing is checked.
        checked: whether certificates are checked.
        encryption: what is asked for with a PUT; None for the bucket's default.
        kms_key_id: the key for it.
        request_payer: whether the one who asks pays.
    """

    bucket: str
    endpoint: str
    virtual: bool
    region: str
    proxy: str | None = field(repr=False)
    certificates: bytes | None = field(repr=False)
    checked: bool
    encryption: str | None = None
    kms_key_id: str | None = None
    request_payer: bool = False

    @property
    def bucket_host(self) -> str:
        """The endpoint's URL with the bucket in the host's name."""
        return self.endpoint.replace("://", f"://{self.bucket}.", 1)

    @property
    def realm(self) -> str:
        """Where a bucket's name means one bucket: an endpoint, or all those of an AWS partition together."""
        host = urlsplit(self.endpoint).hostname or ""
        return next((f"aws{end}" for end in AWS if host.endswith(end)), self.endpoint)

    @property
    def put_arguments(self) -> dict[str, str]:
        """boto3's arguments for a PUT."""
        arguments = {"ServerSideEncryption": self.encryption, "SSEKMSKeyId": self.kms_key_id}
        return {name: value for name, value in arguments.items() if value}


def resolve(
    client: Any,
    session: Session,
    bucket: str,
    *,
    verify: bool | str | None,
    allow_http: bool,
    encryption: str | None = None,
    kms_key_id: str | None = None,
    request_payer: bool = False,
) -> Resolved:
    """Return what a boto3 ``client`` of ``session``, made with ``verify``, does with ``bucket``; no request is sent.

    Raises DestinationNotReady for an endpoint without TLS that is not on this machine, unless ``allow_http``, and for
    what only one of the clients can do, or boto3 cannot.
    """
    config = client.meta.config
    _refuse_what_one_cannot(config)
    url, region = _url_and_region(client, bucket)
    endpoint, virtual = _endpoint(url, bucket)
    proxies = config.proxies if config.proxies is not None else get_environ_proxies(client.meta.endpoint_url)
    proxy = ProxyConfiguration(proxies).proxy_url_for(endpoint)
    if not allow_http:
        _refuse_plain_http(endpoint, proxy)
    bundle = _bundle(session, verify)
    speaks_tls = any(urlsplit(url).scheme == "https" for url in (endpoint, proxy or ""))
    more = (config.proxies_config or {}).get("proxy_ca_bundle")
    bundles = [one for one in (bundle, more) if one] if speaks_tls else []
    return Resolved(
        bucket,
        endpoint,
        virtual,
        region,
        proxy,
        b"\n".join(_read(one) for one in bundles) or None,
        checked=bundle is not None,
        encryption=encryption,
        kms_key_id=kms_key_id,
        request_payer=request_payer,
    )


def _url_and_region(client: Any, bucket: str) -> tuple[str, str]:
    """Return where a request about the bucket goes (acceleration, dual stack and the like tell only then), and the
    region that it is signed for.
    """
    asked: list[tuple[str, str]] = []

    def take(params: dict[str, Any], context: dict[str, Any], **_: Any) -> tuple[AWSResponse, dict[str, Any]]:
        asked.append((params["url"], context["signing"]["region"]))
        return AWSResponse(params["url"], 200, {}, None), {}  # botocore takes that for the answer

    client.meta.events.register_first("before-call.s3.HeadBucket", take)
    try:
        client.head_bucket(Bucket=bucket)
    except BotoCoreError as error:
        raise DestinationNotReady(
            f"boto3 cannot reach bucket {bucket} with these settings ({cause(error)}): correct config_kwargs in the"
            " connection's extra, or the s3 section of the profile"
        ) from error
    finally:
        client.meta.events.unregister("before-call.s3.HeadBucket", take)
    return asked[0]


def _endpoint(url: str, bucket: str) -> tuple[str, bool]:
    """Return the endpoint of a bucket's ``url``, and whether the bucket stands in its host's name."""
    parts = urlsplit(url)
    path = parts.path.rstrip("/")
    if path.rpartition("/")[2] == bucket:
        return f"{parts.scheme}://{parts.netloc}{path.rpartition('/')[0]}", False
    if parts.netloc.startswith(f"{bucket}."):
        return f"{parts.scheme}://{parts.netloc.removeprefix(f'{bucket}.')}{path}", True
    raise DestinationNotReady(f"boto3 reaches bucket {bucket} at {url}, which is not a way that is known here")


def _bundle(session: Session, verify: bool | str | None) -> str | None:
    """Return the file of the authorities that botocore trusts, by its own rules; None if it checks nothing."""
    if verify is None:
        # https://docs.aws.amazon.com/boto3/latest/guide/configuration.html; the last one is botocore.endpoint's.
        named = session._session.get_config_variable("ca_bundle")  # noqa: SLF001
        verify = named if named is not None else os.environ.get("REQUESTS_CA_BUNDLE")
        verify = True if verify is None else verify
    return str(get_cert_path(verify)) if verify else None


def _read(bundle: str) -> bytes:
    try:
        return Path(bundle).read_bytes()
    except OSError as error:
        raise DestinationNotReady(f"the CA bundle {bundle} cannot be read: {error.strerror}") from error


def _refuse_what_one_cannot(config: Any) -> None:
    """Raise DestinationNotReady for what boto3 would do and obstore cannot."""
    proxies = config.proxies_config or {}
    cannot = {
        f"signature_version {config.signature_version!r}": config.signature_version != SIGNATURE,
        "client_cert": config.client_cert,
        "proxies_config proxy_client_cert": proxies.get("proxy_client_cert"),
        "proxies_config proxy_use_forwarding_for_https": proxies.get("proxy_use_forwarding_for_https"),
    }
    if asked := [name for name, value in cannot.items() if value]:
        raise DestinationNotReady(
            f"the connection's config_kwargs ask for {', '.join(asked)}, which uploads cannot do: every request is"
            f" signed with {SIGNATURE}, without a certificate of its own. Take it out of the connection's extra"
        )


def _refuse_plain_http(endpoint: str, proxy: str | None) -> None:
    if endpoint.startswith("https://"):
        return
    far = None if _is_loopback(endpoint) else f"the endpoint {endpoint}"
    if proxy and not _is_loopback(proxy):
        far = f"the endpoint {endpoint}, reached by way of the proxy {urlsplit(proxy).hostname} (NO_PROXY spares it),"
    if far:
        raise DestinationNotReady(
            f"{far} has no TLS, and objects would cross the network in the clear. Use https://, or, for a network that"
            ' nobody else is on, add {"service_config": {"s3": {"allow_http": true}}} to the extra of the connection'
        )


def _is_loopback(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
