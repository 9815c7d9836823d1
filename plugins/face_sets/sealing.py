"""Names and digests as links carry them: what a browser asks for stands in the access log, where no name belongs."""

import base64
import hashlib
from functools import cache

from airflow.configuration import conf
from cryptography.fernet import Fernet, InvalidToken
from fastapi import HTTPException


def sealed(text: str) -> str:
    """A text that only this Airflow can read, for the part of a link behind the question mark; empty for none."""
    return _box().encrypt(text.encode()).decode() if text else ""


def opened(token: str) -> str:
    """The text that was sealed.

    Raises:
        HTTPException: it was not sealed here, or before Airflow got another secret key.
    """
    try:
        return _box().decrypt(token).decode() if token else ""
    except InvalidToken:
        raise HTTPException(404, "This link is not good any more; ask again.") from None


@cache
def _box() -> Fernet:
    key = conf.get_mandatory_value("api", "secret_key")
    return Fernet(base64.urlsafe_b64encode(hashlib.sha256(f"face sets\0{key}".encode()).digest()))
