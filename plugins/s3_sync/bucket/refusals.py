"""What S3 refuses a preflight, and what to do about it."""

from __future__ import annotations

from botocore.exceptions import ClientError

REMEDIES = {
    "RequestTimeTooSkewed": "the clock of this machine is wrong: synchronise it (timedatectl set-ntp true)",
    "InvalidAccessKeyId": "the access key is unknown: correct the connection's login",
    "SignatureDoesNotMatch": "the secret key does not fit the access key: correct the connection's password",
    "ExpiredToken": "the session token has expired: get new credentials",
    "InvalidToken": "the session token is wrong: get new credentials",
    "PermanentRedirect": "the bucket is in another region: set region_name in the connection's extra",
    "AuthorizationHeaderMalformed": "the bucket is in another region: set region_name in the connection's extra",
    "NoSuchBucket": "the bucket does not exist, and is never created here: create it (aws s3 mb s3://…) and block"
    " public access to it, or correct the destination",
}


def client_error(error: Exception) -> ClientError | None:
    """Return what the server said: at once, or each time that it was asked again."""
    said = error.__cause__.__cause__ if error.__cause__ else error
    return said if isinstance(said, ClientError) else None


def region_remedy(region: str | None) -> str:
    return f"set region_name to {region or 'the region of the bucket'} in the extra of the connection"
