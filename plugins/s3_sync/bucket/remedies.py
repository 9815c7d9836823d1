"""What to do where credentials cannot be had: by the way in which they are to be had."""

from __future__ import annotations

import re
from contextlib import contextmanager
from typing import TYPE_CHECKING

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    LoginError,
    NoCredentialsError,
    PartialCredentialsError,
    ProfileNotFound,
    SSOError,
    TokenRetrievalError,
)
from obstore.exceptions import BaseError, UnauthenticatedError

from s3_sync.errors import CredentialsNotReady, cause

if TYPE_CHECKING:
    from collections.abc import Iterator


# https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html; InvalidTokenId is MinIO's.
REFUSED = {
    "ExpiredToken",
    "ExpiredTokenException",
    "InvalidToken",
    "InvalidTokenId",
    "RequestExpired",
    "TokenRefreshRequired",
}


# What obstore says of a provider that raises.
OF_THE_PROVIDER = "External AWS credential provider"


SET_THEM = (
    "get new ones and set them where they come from: login, password and aws_session_token of the connection, its role"
    " or its profile, or the standard AWS_* variables"
)


BAD_REQUEST = 400


def is_refused(error: BaseException) -> bool:
    """Say whether ``error`` of obstore is about credentials that have ended, or cannot be had."""
    if not isinstance(error, BaseError | OSError):
        return False
    code = re.search("<Code>(.*?)</Code>", str(error))
    return bool(code and code[1] in REFUSED) or (
        isinstance(error, UnauthenticatedError) and OF_THE_PROVIDER in str(error)
    )


@contextmanager
def explained(owner: str, *, method: str = "", profile: str | None = None, otherwise: str = "") -> Iterator[None]:
    """Say in words, while a session or a client is made, why it cannot be. Raises CredentialsNotReady.

    ``method`` and ``profile`` are those of `remedy`, ``otherwise`` is what else may be done where nothing was found.
    """
    try:
        yield
    except (BotoCoreError, ClientError, ValueError) as error:
        raise CredentialsNotReady(
            f"{owner} gives no usable S3 client or credentials ({told(error)}): {remedy(method, error, profile)}"
            f"{otherwise if isinstance(error, NoCredentialsError) else ''}"
        ) from None


def told(error: BaseException) -> str:
    """Return what ``error`` says, without the answer of a service of sessions that botocore quotes."""
    return re.sub(r"(container metadata|EC2 Instance Metadata)\b.*", r"\1", cause(error))


def remedy(method: str, error: BaseException | None, profile: str | None) -> str:
    """Return what to do about credentials that cannot be had.

    Args:
        method: botocore's name of the way in which they were found; empty if none was.
        error: why they cannot be had.
        profile: the profile that the session uses.
    """
    method = getattr(error, "kwargs", {}).get("provider", method)
    named = f" --profile {profile}" if profile and profile != "default" else ""
    of_a_role = "assume-role" in method or getattr(error, "operation_name", "").startswith("AssumeRole")
    found_none = isinstance(error, NoCredentialsError | PartialCredentialsError)
    ways = {
        f"log in again where the workers run: aws sso login{named}": method == "sso"
        or isinstance(error, SSOError | TokenRetrievalError),
        f"log in again where the workers run: aws login{named}": method == "login" or isinstance(error, LoginError),
        "check the file of the web identity token, the role's trust in its issuer, and the endpoint of STS": method
        == "assume-role-with-web-identity",
        "check that the role may be assumed (sts:AssumeRole, its trust policy), and the endpoint of STS": of_a_role,
        "check the container's credentials endpoint (AWS_CONTAINER_CREDENTIALS_FULL_URI or _RELATIVE_URI) and its"
        " token": method == "container-role",
        "check that the instance has a role, and that its metadata service answers": method == "iam-role",
        "run the profile's credential_process by hand": method == "custom-process",
        "correct AWS_PROFILE or the connection's profile_name, or add the profile to boto3's config file": isinstance(
            error, ProfileNotFound
        ),
        "correct what it names, in the connection, the standard AWS_* variables or boto3's config file": not method
        and not found_none,
    }
    return next((what for what, applies in ways.items() if applies), SET_THEM)
