"""Checksums over whole rows, so that a flipped bit becomes an error and never another row.

They guard against failing disks, not against people: values are signed by who writes them.
"""

from __future__ import annotations

import struct
from typing import Any
from zlib import crc32

_NUMBERS = struct.Struct("<qqqddiiiiiiii")


def row_checksum(*columns: Any) -> int:
    """The checksum of a row of any columns; numbers with a fraction must be floats."""
    return crc32(repr(columns).encode())


def record_checksum(
    place: int,
    scope: bytes,
    node: bytes,
    kind: str,
    turn: int,
    label: str,
    name: str,
    attempt: int,
    began: float,
    ended: float,
    detail: str | None,
    preview: str | None,
    payload: bytes | None,
    file: bytes | None,
    inner: bytes | None,
) -> int:
    """The checksum of a record as it is stored; the lengths tell where a column ends, and absent from empty."""
    numbers = _NUMBERS.pack(
        place,
        turn,
        attempt,
        began,
        ended,
        len(scope),
        len(label),
        len(name),
        -1 if detail is None else len(detail),
        -1 if preview is None else len(preview),
        -1 if payload is None else len(payload),
        -1 if file is None else len(file),
        -1 if inner is None else len(inner),
    )
    words = f"{kind}{label}{name}{detail or ''}{preview or ''}".encode()
    return crc32(b"".join((numbers, scope, node, words, payload or b"", file or b"", inner or b"")))
