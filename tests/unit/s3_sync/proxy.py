"""A TCP proxy before the real S3 server that spoils the first connections, and can speak TLS."""

from __future__ import annotations

import socket
import struct
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterable, Iterator

ANSWER = "<Error><Code>{reason}</Code><Message>spoiled on purpose</Message></Error>"


@contextmanager
def spoiling(
    endpoint: str, faults: Iterable[str], tls: ssl.SSLContext | None = None
) -> Iterator[tuple[str, list[str]]]:
    """Pass connections on to ``endpoint``, but for the first ones: one fault each.

    A fault is ``reset`` (RST instead of an answer), an HTTP status such as ``503 SlowDown``, or empty for none.
    Yields the proxy's own endpoint and the list of the faults still to come.
    """
    left = list(faults)
    real = urlsplit(endpoint)
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        with suppress(OSError):  # closed: the test is over
            while True:
                connection, _ = listener.accept()
                fault = left.pop(0) if left else ""
                threading.Thread(target=handle, args=(connection, fault), daemon=True).start()

    def handle(connection: socket.socket, fault: str) -> None:
        with suppress(OSError):
            client = tls.wrap_socket(connection, server_side=True) if tls else connection
            if not fault:
                server = socket.create_connection((real.hostname, real.port))
                threading.Thread(target=pump, args=(server, client), daemon=True).start()
                pump(client, server)
                return
            request = client.recv(1 << 20)
            if fault == "reset":
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                client.close()
                return
            while not complete(request):
                request += client.recv(1 << 20)
            body = ANSWER.format(reason=fault.partition(" ")[2])
            head = f"HTTP/1.1 {fault}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
            client.sendall((head + body).encode())
            client.close()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        scheme = "https" if tls else "http"
        yield f"{scheme}://127.0.0.1:{listener.getsockname()[1]}", left
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()


def complete(request: bytes) -> bool:
    """Say whether an HTTP request has come with all of its body."""
    head, end, body = request.partition(b"\r\n\r\n")
    lengths = [line for line in head.lower().splitlines() if line.startswith(b"content-length:")]
    return bool(end) and (not lengths or len(body) >= int(lengths[0].partition(b":")[2]))


def pump(source: socket.socket, sink: socket.socket) -> None:
    """Copy bytes until one side is closed, then close the other."""
    with suppress(OSError), source, sink:
        while data := source.recv(1 << 16):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_RDWR)
