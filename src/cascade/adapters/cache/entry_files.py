"""One value in one signed file.

    magic 4 | signature 32 | expiry 8 | length of key 4 | length of content 8 | key | content

The signature covers all that follows it, the key included, so that a file in the place of another is noticed.
"""

from __future__ import annotations

import hmac
import math
import os
import struct
import tempfile
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

_MAGIC = b"CCV1"
_HEADER = struct.Struct(">4s32sdIQ")
_SIGNED_FROM = 36

HEADER_SIZE = _HEADER.size
"""Bytes that a file has besides its key and content."""


class Damaged(Exception):
    """The file is not whole, as after a full disk or a loss of power."""


class Forged(Exception):
    """The file is whole, but not signed by this cache for this key."""


def read_entry(file: bytes, key: str, secret: bytes) -> tuple[float | None, memoryview]:
    """The expiry, in seconds since the epoch or `None`, and the content of a file.

    Raises:
        Damaged, Forged: the content is not to be loaded.
    """
    if len(file) < _HEADER.size:
        raise Damaged
    magic, signature, expiry, key_length, content_length = _HEADER.unpack_from(file)
    start = _HEADER.size + key_length
    if magic != _MAGIC or len(file) != start + content_length:
        raise Damaged
    view = memoryview(file)
    if not hmac.compare_digest(signature, _signature(secret, view[_SIGNED_FROM:])):
        raise Forged
    if file[_HEADER.size : start] != _bytes(key):
        raise Forged
    return (None if expiry == math.inf else expiry), view[start:]


def write_entry(path: Path, key: str, content: bytes, secret: bytes, *, expiry: float | None, modified: float) -> int:
    """Write the file, whole or not at all, and return its size in bytes.

    Both times, that of the expiry and that of the last use to begin with, are seconds since the epoch.
    """
    name = _bytes(key)
    fields = (math.inf if expiry is None else expiry, len(name), len(content))
    signed = _HEADER.pack(_MAGIC, b"", *fields)[_SIGNED_FROM:] + name + content
    path.parent.mkdir(mode=0o700, exist_ok=True)
    # Not synced to the disk: a loss of power may damage the file, which is then a miss.
    descriptor, temporary = tempfile.mkstemp(prefix=".", dir=path.parent)
    try:
        with open(descriptor, "wb") as file:
            file.write(_MAGIC)
            file.write(_signature(secret, signed))
            file.write(signed)
        os.utime(temporary, (modified, modified))
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
    return _SIGNED_FROM + len(signed)


def _bytes(key: str) -> bytes:
    return key.encode("utf-8", "surrogatepass")


def _signature(secret: bytes, signed: bytes | memoryview) -> bytes:
    return hmac.digest(secret, signed, "sha256")
