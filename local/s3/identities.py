"""Who may ask the embedded S3 server for what: an administrator, and a lesser user."""

from __future__ import annotations

import json
import os
import secrets
import tempfile
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True)
class Credentials:
    """One S3 identity; its ``repr`` hides the secret."""

    access_key: str
    secret_key: str = field(repr=False)


def kept(path: Path) -> tuple[Credentials, Credentials]:
    """Return the (admin, user) credentials kept at ``path``, drawing them the first time."""
    if not path.exists():
        drawn = {name: Credentials(secrets.token_hex(10), secrets.token_hex(20)) for name in ("admin", "user")}
        write_private(path, {name: asdict(value) for name, value in drawn.items()})
    drawn_before = json.loads(path.read_text())
    return Credentials(**drawn_before["admin"]), Credentials(**drawn_before["user"])


def configured(admin: Credentials, user: Credentials, buckets: Sequence[str]) -> dict[str, object]:
    """Return SeaweedFS's ``-s3.config``: https://github.com/seaweedfs/seaweedfs/wiki/Amazon-S3-API."""
    allowed = [f"{action}:{bucket}" for bucket in buckets for action in ("Read", "Write", "List", "Tagging")]

    def identity(name: str, credentials: Credentials, actions: list[str]) -> dict[str, object]:
        keys = {"accessKey": credentials.access_key, "secretKey": credentials.secret_key}
        return {"name": name, "credentials": [keys], "actions": actions}

    everything = ["Admin", "Read", "Write", "List", "Tagging"]
    return {"identities": [identity("admin", admin, everything), identity("user", user, allowed)]}


def write_private(path: Path, content: dict[str, object]) -> None:
    """Replace ``path`` with ``content`` as JSON, readable by its owner only from its first byte."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    with os.fdopen(handle, "w") as file:
        json.dump(content, file, indent=2)
    Path(temporary).replace(path)
