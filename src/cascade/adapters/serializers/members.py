"""What stands in sets and as keys in the plain format: hashable, written by itself, nested only so deep.

Members are written alone, so that those of a set can be sorted by their bytes: a set has one form in every process,
whatever the order in which it was made. The depth is bounded because Python hashes nested tuples by recursion.
"""

from __future__ import annotations

from typing import Any

from cascade.adapters.serializers.atoms import ATOM_READERS, ATOM_WRITERS
from cascade.adapters.serializers.registry import enum_token, load_enum
from cascade.adapters.serializers.source import NotPlain, Source, size_bytes, sized
from cascade.spec.exceptions import CorruptedValueError

DEEPEST = 16
"""How deep tuples and frozensets may be nested where they are hashed."""


def write_member(value: Any, depth: int = DEEPEST) -> bytes:
    """The bytes of one member of a set, or of one key."""
    kind = type(value)
    write = ATOM_WRITERS.get(kind)
    if write is not None:
        return write(value)
    if depth and kind is tuple:
        return _announced(b"t", [write_member(item, depth - 1) for item in value])
    if depth and kind is frozenset:
        return write_set(b"z", value, depth - 1)
    token = enum_token(value)
    if token is None:
        raise NotPlain
    return write_enum(*token)


def write_set(mark: bytes, value: set[object] | frozenset[object], depth: int = DEEPEST) -> bytes:
    """The bytes of a set, the same for all sets with these members."""
    return _announced(mark, sorted(write_member(item, depth) for item in list(value)))


def write_enum(name: str, member: str | int) -> bytes:
    """The bytes of an enum's member."""
    return sized(b"e", name.encode("utf-8", "surrogatepass")) + ATOM_WRITERS[type(member)](member)


def read_member(source: Source, depth: int = DEEPEST) -> object:
    """What `write_member` wrote."""
    mark = source.byte()
    read = ATOM_READERS.get(mark)
    if read is not None:
        return read(source)
    if depth and mark == ord("t"):
        return tuple([read_member(source, depth - 1) for _ in range(source.count())])
    if depth and mark == ord("z"):
        return frozenset(read_set(source, depth - 1))
    if mark == ord("e"):
        return read_enum(source)
    raise CorruptedValueError(f"{bytes((mark,))!r} marks nothing that can be hashed")


def read_set(source: Source, depth: int = DEEPEST) -> set[object]:
    """The members of a set, after its mark."""
    count = source.count()
    members = {read_member(source, depth) for _ in range(count)}
    if len(members) != count:
        raise CorruptedValueError("a member of a set stands in it twice")
    return members


def read_enum(source: Source) -> object:
    """A member of an enum, after its mark."""
    name = source.text()
    mark = source.byte()
    if mark not in (ord("s"), ord("i")):
        raise CorruptedValueError("the member of an enum is missing")
    member: Any = ATOM_READERS[mark](source)
    return load_enum(name, member)


def _announced(mark: bytes, members: list[bytes]) -> bytes:
    return b"".join((mark, size_bytes(len(members)), *members))
