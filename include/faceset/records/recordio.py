"""The record form: ``train.rec`` and ``train.idx``, as MXNet, arcface_torch and DALI read them.

Sources: dmlc-core ``src/recordio.cc`` (records), MXNet ``python/mxnet/recordio.py`` (the header of an image, the
index). Records lie back to back, little-endian: the magic number, the kind and length of a piece, the piece, zeros to a
multiple of four. A record whose bytes hold the magic number at a multiple of four is cut there, and the number itself
left out, so that a reader who looks for it finds beginnings only. Keys count from 0, and there is no header record:
DALI cannot read one.
"""

import io
import struct
from collections.abc import Iterator
from typing import BinaryIO

MAGIC = struct.pack("<I", 0xCED7230A)
MAX_LABELS = 1 << 24
"""A label is a float32, which has no more whole numbers than these."""
MAX_LENGTH = 1 << 29
_HEAD = struct.Struct("<II")
_IMAGE = struct.Struct("<IfQQ")
_WHOLE, _FIRST, _MIDDLE, _LAST = range(4)
_KIND_SHIFT = 29


class RecordError(ValueError):
    """Bytes that are no record, or that make none."""


def encode(key: int, label: int, image: bytes) -> bytes:
    """The record of an image.

    Raises:
        RecordError: it is too long.
    """
    payload = _IMAGE.pack(0, label, key, 0) + image
    if len(payload) >= MAX_LENGTH:
        raise RecordError(f"an image of {len(image):,} bytes is too long for a record (below {MAX_LENGTH:,})")
    if MAGIC not in payload:
        return _piece(_WHOLE, payload)
    return b"".join(_cut(payload))


def index_line(key: int, offset: int) -> str:
    """What the index says of a record that begins at an offset in bytes."""
    return f"{key}\t{offset}\n"


def _piece(kind: int, data: bytes) -> bytes:
    return _HEAD.pack(0xCED7230A, kind << _KIND_SHIFT | len(data)) + data + bytes(-len(data) % 4)


def _cut(payload: bytes) -> Iterator[bytes]:
    begin, at, kind = 0, payload.find(MAGIC), _FIRST
    while at >= 0:
        if at % 4:
            at = payload.find(MAGIC, at + 1)
            continue
        yield _piece(kind, payload[begin:at])
        begin, at, kind = at + 4, payload.find(MAGIC, at + 4), _MIDDLE
    yield _piece(_LAST if begin else _WHOLE, payload[begin:])


def read_record(file: BinaryIO) -> bytes | None:
    """The next record; None at the end of the file.

    Raises:
        RecordError: no whole record begins here.
    """
    pieces: list[bytes] = []
    while head := file.read(_HEAD.size):
        if len(head) < _HEAD.size or not head.startswith(MAGIC):
            raise RecordError("no record begins here")
        (said,) = struct.unpack_from("<I", head, 4)
        kind, length = said >> _KIND_SHIFT, said & (MAX_LENGTH - 1)
        if (kind in {_WHOLE, _FIRST}) == bool(pieces):
            raise RecordError("a piece of a record lies out of its order")
        data = file.read(length + -length % 4)
        if len(data) < length + -length % 4:
            raise RecordError("the last record is cut off")
        pieces.append(data[:length])
        if kind in {_WHOLE, _LAST}:
            return MAGIC.join(pieces)
    if pieces:
        raise RecordError("the last record is cut off")
    return None


def join(record: bytes) -> bytes:
    """The payload of one encoded record. Raises RecordError."""
    payload = read_record(io.BytesIO(record))
    if payload is None:
        raise RecordError("no record begins here")
    return payload


def decode(record: bytes) -> tuple[int, int, bytes]:
    """Key, label and the image's bytes of a record."""
    flag, label, key, _ = _IMAGE.unpack_from(record)
    if flag:
        raise RecordError(f"record {key} has {flag} labels instead of one")
    return key, int(label), record[_IMAGE.size :]
