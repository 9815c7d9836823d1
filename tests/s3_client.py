"""boto3 as a user of the embedded S3 server: what the tests look into the bucket with."""

from typing import Any

import boto3
from botocore.config import Config

from local.s3 import identities, seaweed


def client(server: seaweed.S3Server, credentials: identities.Credentials) -> Any:
    """A client with path-style requests, as bucket names with dots need them."""
    return boto3.client(
        "s3",
        endpoint_url=server.endpoint,
        aws_access_key_id=credentials.access_key,
        aws_secret_access_key=credentials.secret_key,
        region_name=seaweed.REGION,
        config=Config(s3={"addressing_style": "path"}),
    )
