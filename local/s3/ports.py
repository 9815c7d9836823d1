"""Ports that nobody uses, for a server that takes several at once."""

from __future__ import annotations

import secrets
import socket
from contextlib import closing

from local.s3.errors import SeaweedError

HOST = "127.0.0.1"


PORT_RANGE = range(10_000, 22_768)


GRPC_OFFSET = 10_000


def free_ports(count: int) -> list[int]:
    """Return ``count`` different loopback ports that, like their gRPC ports, nobody listens on just now."""
    found: list[int] = []
    for port in secrets.SystemRandom().sample(PORT_RANGE, k=len(PORT_RANGE)):
        if _is_free(port) and _is_free(port + GRPC_OFFSET):
            found.append(port)
        if len(found) == count:
            return found
    message = f"fewer than {count} free ports on {HOST} in {PORT_RANGE}"
    raise SeaweedError(message)


def _is_free(port: int) -> bool:
    with closing(socket.socket()) as probe:
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True
