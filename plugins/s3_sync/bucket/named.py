"""The Airflow connection that a dataset names: there, and one that says who asks S3 and where.

Airflow's own hook goes on without a connection that it does not find, or finds half of, and asks boto3's chain
instead: so a misspelt name would send objects, with whatever credentials lie about, to whatever S3 these belong to.
"""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

from airflow.sdk import Connection
from airflow.sdk.exceptions import AirflowNotFoundException

from s3_sync.errors import DestinationNotReady

if TYPE_CHECKING:
    from collections.abc import Mapping

DEFAULT = "aws_default"
"""The one name that need not be there: it then means boto3's own chain (``AWS_*``, a profile, an instance's role)."""

# Airflow 3.3.2, docs/apache-airflow/howto/connection.rst: AIRFLOW_CONN_{CONN_ID}
VARIABLE = "AIRFLOW_CONN_{}"
PAIRS = (("login", "password"), ("aws_access_key_id", "aws_secret_access_key"))


def check_connection(aws_conn_id: str | None) -> None:
    """Refuse a connection that is not there, is none of AWS, or of which Airflow's hook would leave a part aside.

    Raises DestinationNotReady, with what to type. None asks for boto3's chain, and is right.
    """
    if aws_conn_id is None:
        return
    try:
        connection = Connection.get(aws_conn_id)
    except AirflowNotFoundException as error:
        variable = VARIABLE.format(aws_conn_id.upper())
        if variable in os.environ:
            raise DestinationNotReady(
                f"connection {aws_conn_id!r}: what {variable} says cannot be read; write it as JSON:"
                ' {"conn_type": "aws", "login": …, "password": …, "extra": {…}}'
            ) from error
        if aws_conn_id == DEFAULT:
            return
        raise DestinationNotReady(
            f"there is no connection {aws_conn_id!r}: correct aws_conn_id in the dataset file, or add it:"
            f" {how_to_add(aws_conn_id)}"
        ) from error
    if why := _mistake(connection):
        raise DestinationNotReady(f"connection {aws_conn_id!r} {why}")


def how_to_add(aws_conn_id: str | None) -> str:
    """Return the command that adds a connection."""
    return (
        f"airflow connections add {aws_conn_id or DEFAULT} --conn-type aws --conn-login ACCESS_KEY"
        " --conn-password SECRET_KEY --conn-extra"
        """ '{"region_name": "eu-central-1", "endpoint_url": "https://…, of an S3 that is not AWS"}'"""
    )


def _mistake(connection: Connection) -> str | None:
    if connection.conn_type not in {"aws", "", None}:
        return f"is of type {connection.conn_type!r}: add one of type aws, or correct aws_conn_id in the dataset file"
    extra = _extra(connection.extra)
    if extra is None:
        return "has an extra that is no JSON object, so its endpoint and region would not count: correct it"
    given: Mapping[str, object] = {**extra, "login": connection.login, "password": connection.password}
    for one, other in PAIRS:
        if bool(given.get(one)) != bool(given.get(other)):
            lacking = other if given.get(one) else one
            return f"has no {lacking}, so other credentials would be used: add it, or leave both {one} and {other} out"
    return None


def _extra(text: str | None) -> dict[str, object] | None:
    """Return a connection's extra; None if it is no JSON object."""
    try:
        extra = json.loads(text) if text else {}
    except ValueError:
        return None
    return extra if isinstance(extra, dict) else None
