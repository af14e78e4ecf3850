"""Values that have no parts, and the bytes that stand for each of them.

The bytes name the type, so that `1`, `True` and `1.0` differ, and each token tells where it ends, so that
tokens can follow one another without being mistaken for others.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from hashlib import blake2b
from math import isnan
from typing import Any

DIGEST_SIZE = 16
"""Bytes of a digest: two different values share one by accident with probability 2**-128."""

_LONGEST_INLINE = 1024
_pack_integer = struct.Struct(">cq").pack
_pack_float = struct.Struct(">cd").pack
_pack_length = struct.Struct(">cQ").pack

_NAN = b"f\x7f\xf8" + bytes(6)


def composite(content: bytes) -> bytes:
    """The token of a value with parts, from the bytes that describe them."""
    return b"\x00" + blake2b(content, digest_size=DIGEST_SIZE).digest()


def sized(kind: bytes, content: bytes | bytearray | memoryview) -> bytes:
    """The token of a value that is nothing but `content`; a long one is hashed where it lies, not copied."""
    length = len(content)
    if length <= _LONGEST_INLINE:
        return _pack_length(kind, length) + content
    hashed = blake2b(content, digest_size=DIGEST_SIZE).digest()
    return _pack_length(kind, length) + hashed


def text(value: str) -> bytes:
    # Surrogates are legal in a str and stand in paths that are no UTF-8.
    return sized(b"s", value.encode("utf-8", "surrogatepass"))


def integer(value: int) -> bytes:
    try:
        return _pack_integer(b"i", value)
    except struct.error:
        return sized(b"I", value.to_bytes(value.bit_length() // 8 + 1, "big", signed=True))


def floating(value: float) -> bytes:
    # The sign and payload of a NaN come from the processor, so all of them are one value; -0.0 is not 0.0.
    return _NAN if isnan(value) else _pack_float(b"f", value)


def _complex(value: complex) -> bytes:
    return b"c" + floating(value.real) + floating(value.imag)


def _range(value: range) -> bytes:
    return b"r" + integer(value.start) + integer(value.stop) + integer(value.step)


ATOMS: dict[type, Callable[[Any], bytes]] = {
    type(None): lambda value: b"N",
    bool: lambda value: b"T" if value else b"F",
    int: integer,
    float: floating,
    str: text,
    bytes: lambda value: sized(b"b", value),
    complex: _complex,
    bytearray: lambda value: sized(b"B", value),
    range: _range,
    type(Ellipsis): lambda value: b"E",
    type(NotImplemented): lambda value: b"M",
}
"""By exact type: a subclass may carry more than its base, and is taken apart like any object."""
