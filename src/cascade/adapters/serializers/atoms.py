"""Values without parts in the plain format: each is a mark and its content, by its exact type."""

from __future__ import annotations

import struct
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from pathlib import PosixPath, PurePath, PurePosixPath, PureWindowsPath, WindowsPath
from typing import Any
from uuid import UUID, SafeUUID  # noqa: TID251 - a kind of value; no id is made here

from cascade.adapters.serializers.moments import MOMENT_READERS, MOMENT_WRITERS
from cascade.adapters.serializers.source import NotPlain, Source, size_bytes, sized
from cascade.spec.exceptions import ChangedCodeError, CorruptedValueError

# Little-endian IEEE 754, so that the bits of a NaN and the sign of a zero stay.
_FLOAT = struct.Struct("<d")
_COMPLEX = struct.Struct("<dd")

_PATHS: dict[int, type[PurePath]] = {
    ord("p"): PurePosixPath,
    ord("w"): PureWindowsPath,
    ord("P"): PosixPath,
    ord("W"): WindowsPath,
}
_PATH_MARKS = {kind: bytes((b"/"[0], mark)) for mark, kind in _PATHS.items()}


def _write_int(value: int) -> bytes:
    size = (value.bit_length() + 8) // 8
    return sized(b"i", value.to_bytes(size, "little", signed=True))


def _read_int(source: Source) -> int:
    return int.from_bytes(source.sized(), "little", signed=True)


def _read_marked_int(source: Source) -> int:
    if source.byte() != ord("i"):
        raise CorruptedValueError("a whole number is missing")
    return _read_int(source)


def _write_text(value: str) -> bytes:
    # Lone surrogates are text in Python, though not in UTF-8.
    return sized(b"s", value.encode("utf-8", "surrogatepass"))


def bytes_head(size: int) -> bytes:
    """What stands before so many bytes."""
    return b"b" + size_bytes(size)


def _write_complex(value: complex) -> bytes:
    return b"j" + _COMPLEX.pack(value.real, value.imag)


def _write_fraction(value: Fraction) -> bytes:
    return b"q" + _write_int(value.numerator) + _write_int(value.denominator)


def _write_range(value: range) -> bytes:
    return b"g" + _write_int(value.start) + _write_int(value.stop) + _write_int(value.step)


def _write_uuid(value: UUID) -> bytes:
    if value.is_safe is not SafeUUID.unknown:
        raise NotPlain
    return b"U" + value.bytes


def _write_path(value: PurePath) -> bytes:
    kind = type(value)
    text = str(value)
    # Python 3.11 reads its own text of an incomplete network share as another path.
    if isinstance(value, PureWindowsPath) and kind(text) != value:
        raise NotPlain
    return sized(_PATH_MARKS[kind], text.encode("utf-8", "surrogatepass"))


def _read_path(source: Source) -> PurePath:
    kind = _PATHS.get(source.byte())
    if kind is None:
        raise CorruptedValueError("a path is of no known kind")
    text = source.text()
    try:
        return kind(text)
    except NotImplementedError as error:
        problem = f"and this system cannot open '{text}'; use pathlib.PurePath for paths of other systems"
        raise ChangedCodeError(f"pathlib:{kind.__name__}", problem) from error


ATOM_WRITERS: dict[type, Callable[[Any], bytes]] = {
    type(None): lambda value: b"N",
    bool: lambda value: b"T" if value else b"F",
    int: _write_int,
    float: lambda value: b"r" + _FLOAT.pack(value),
    complex: _write_complex,
    str: _write_text,
    bytes: lambda value: sized(b"b", value),
    bytearray: lambda value: sized(b"B", bytes(value)),
    range: _write_range,
    Decimal: lambda value: sized(b"m", str(value).encode()),
    Fraction: _write_fraction,
    UUID: _write_uuid,
    **dict.fromkeys(_PATH_MARKS, _write_path),
    **MOMENT_WRITERS,
}
"""How each exact type is written, its mark first; what is not here is no atom. May raise `NotPlain`."""

ATOM_READERS: dict[int, Callable[[Source], object]] = {
    ord("N"): lambda source: None,
    ord("T"): lambda source: True,
    ord("F"): lambda source: False,
    ord("i"): _read_int,
    ord("r"): lambda source: _FLOAT.unpack(source.take(8))[0],
    ord("j"): lambda source: complex(*_COMPLEX.unpack(source.take(16))),
    ord("s"): Source.text,
    ord("b"): Source.sized,
    ord("B"): lambda source: bytearray(source.sized()),
    ord("g"): lambda source: range(*(_read_marked_int(source) for _ in range(3))),
    ord("m"): lambda source: Decimal(str(source.sized(), "ascii")),
    ord("q"): lambda source: Fraction(_read_marked_int(source), _read_marked_int(source)),
    ord("U"): lambda source: UUID(bytes=source.take(16)),
    ord("/"): _read_path,
    **MOMENT_READERS,
}
"""How what follows each mark is read. May raise what a constructor says of damaged parts."""
