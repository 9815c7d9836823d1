"""boto3's clients as they are used here: one session for all of them, and the manners that obstore has.

Neither goes where S3 points to, both send the checksum of what they put in its head.
"""

from __future__ import annotations

from base64 import b64encode
from functools import cached_property
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from airflow.providers.amazon.aws.hooks.s3 import S3Hook
from botocore.config import Config

from s3_sync.errors import elsewhere

if TYPE_CHECKING:
    from boto3.session import Session

# Whoever gives sessions (STS, SSO) is asked while others wait.
CONNECT_TIMEOUT_S, READ_TIMEOUT_S, MAX_ATTEMPTS = 3, 5, 2


class Hook(S3Hook):
    """Airflow's hook, all of whose clients share one session, and with it the credentials."""

    @cached_property
    def own(self) -> Any:
        """What the connection's ``config_kwargs`` say."""
        return self.config

    @cached_property
    def session(self) -> Session:
        """The session; whoever gives it its credentials is asked with short patience unless the connection says else.

        Raises what botocore raises.
        """
        patience = Config(
            connect_timeout=CONNECT_TIMEOUT_S,
            read_timeout=READ_TIMEOUT_S,
            retries={"mode": "standard", "total_max_attempts": MAX_ATTEMPTS},
        ).merge(self.own)
        # For a role of the connection, and for what a profile says.
        self.conn_config.botocore_config = patience
        session = super().get_session(region_name=self.region_name)
        session._session.set_default_client_config(patience)  # noqa: SLF001 boto3's session has no way of its own
        return session

    def get_session(self, region_name: str | None = None, deferrable: bool = False) -> Session:  # noqa: ARG002
        return self.session


def prepare(client: Any, *, request_payer: bool) -> None:
    """Give a new ``client`` its manners; with ``request_payer`` whoever asks pays."""
    events = client.meta.events
    events.register("before-parameter-build.s3.PutObject", _checked)
    events.register("before-call.s3", _stay_here)
    events.register("needs-retry.s3", _name_region)
    if request_payer:
        events.register("before-call.s3", _pay)


def _checked(params: dict[str, Any], **_: Any) -> None:
    """Let a PUT carry the SHA-256 of its bytes, so that the server refuses damaged ones.

    What botocore does by itself goes behind the body over TLS, which many servers do not understand.
    """
    if isinstance(body := params.get("Body"), bytes):
        params.pop("ChecksumAlgorithm", None)
        params.setdefault("ChecksumSHA256", b64encode(sha256(body).digest()).decode())


def _stay_here(context: dict[str, Any], **_: Any) -> None:
    """Make botocore give S3's answer back that names another region, and not go there."""
    context.setdefault("s3_redirect", {})["redirected"] = True


def _name_region(response: Any, request_dict: dict[str, Any], **_: Any) -> None:
    """Add to S3's answer that a bucket is in another region which one that is, and what to do."""
    error, metadata = (response[1].get(part, {}) for part in ("Error", "ResponseMetadata")) if response else ({}, {})
    region = metadata.get("HTTPHeaders", {}).get("x-amz-bucket-region") or error.get("Region")
    if error and region and region != request_dict["context"].get("signing", {}).get("region"):
        error["Message"] = f"{error.get('Message', '')} ({elsewhere(region)})"


def _pay(params: dict[str, Any], **_: Any) -> None:
    params["headers"]["x-amz-request-payer"] = "requester"
