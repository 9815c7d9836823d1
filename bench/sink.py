"""An S3 server that takes everything and keeps nothing, so that only its client is measured: `python -m bench.sink`.

It prints its port, answers every PUT with 200 and an ETag, every listing with an empty one, and stops with its parent.
"""

import asyncio
import re
import sys

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_EMPTY = (
    b'<?xml version="1.0" encoding="UTF-8"?>'
    b'<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Name>bench</Name><Prefix></Prefix>'
    b"<KeyCount>0</KeyCount><MaxKeys>1000</MaxKeys><IsTruncated>false</IsTruncated></ListBucketResult>"
)
_STORED = b'HTTP/1.1 200 OK\r\nETag: "00000000000000000000000000000000"\r\nContent-Length: 0\r\n\r\n'
_LISTED = b"HTTP/1.1 200 OK\r\nContent-Type: application/xml\r\nContent-Length: %d\r\n\r\n%s" % (len(_EMPTY), _EMPTY)


class Sink(asyncio.Protocol):
    """One connection."""

    def __init__(self) -> None:
        self.received = bytearray()
        self.missing = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: asyncio.Transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        self.received += data
        while len(self.received) >= self.missing and (end := self.received.find(b"\r\n\r\n")) >= 0:
            length = _LENGTH.search(self.received, 0, end)
            self.missing = end + 4 + (int(length[1]) if length else 0)
            if len(self.received) < self.missing:
                return
            self.transport.write(_STORED if self.received.startswith(b"PUT") else _LISTED)
            del self.received[: self.missing]
            self.missing = 0


async def _serve() -> None:
    server = await asyncio.get_running_loop().create_server(Sink, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(_serve())
