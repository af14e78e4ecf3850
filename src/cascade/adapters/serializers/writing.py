"""Plain data to bytes, without recursion.

    value      atom | list | tuple | dict | set | frozenset | enum | composite | reference | packed numbers
    list       "l" count value*             tuple     "t" count value*
    dict       "d" count (member value)*    set       "y" count member*     frozenset  "z" count member*
    enum       "e" name (text | int)        packed    "A" ("l" | "t") ("d" | "q") count number*
    composite  "C" name count field* value*, and from the second of a class on  "c" class value*
    reference  "@" number

Containers, composites, bytearrays and atoms longer than `LONG` bytes are numbered when they end; a reference stands for
one that has ended before, so shared objects are shared again when loaded and take no space twice. The same value,
shared in the same way, gives the same bytes in every process.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any

from cascade.adapters.serializers.atoms import ATOM_WRITERS
from cascade.adapters.serializers.members import write_enum, write_member, write_set
from cascade.adapters.serializers.registry import Composite, enum_token, find_composite
from cascade.adapters.serializers.source import NotPlain, size_bytes, sized

LONG = 32
"""Bytes beyond which an atom is numbered, so that a long text that is used often is written once."""

PACKED = {float: "d", int: "q"}
"""Numbers that are written together when a list has only such, as `struct` knows them."""

_PACKED_FROM = 8
_UNFINISHED = -1


def write_plain(value: object) -> bytes:
    """The bytes of a value.

    Raises:
        NotPlain: the value contains itself, or something that the format does not have.
    """
    return _Writer().write(value)


class _Writer:
    __slots__ = ("_classes", "_finished", "_numbers", "_pieces")

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self._numbers: dict[int, int] = {}
        # Keeps them alive too: an id must not be given again before the end.
        self._finished: list[object] = []
        self._classes: dict[type, int] = {}

    def write(self, value: object) -> bytes:
        append = self._pieces.append
        numbers = self._numbers
        above: list[tuple[Iterator[object], object]] = []
        items: Iterator[object] = iter((value,))
        whole: object = None
        while True:
            for item in items:
                kind = type(item)
                write_atom = ATOM_WRITERS.get(kind)
                if write_atom is None:
                    piece = b""
                else:
                    piece = write_atom(item)
                    if len(piece) <= LONG and kind is not bytearray:
                        append(piece)
                        continue
                number = numbers.get(id(item))
                if number is not None:
                    if number == _UNFINISHED:
                        raise NotPlain
                    append(b"@" + size_bytes(number))
                    continue
                parts = None
                if piece:
                    append(piece)
                else:
                    parts = self._begin(item, kind)
                if parts is None:
                    self._finish(item)
                    continue
                numbers[id(item)] = _UNFINISHED
                above.append((items, whole))
                items, whole = parts, item
                break
            else:
                if not above:
                    return b"".join(self._pieces)
                self._finish(whole)
                items, whole = above.pop()

    def _finish(self, item: object) -> None:
        self._numbers[id(item)] = len(self._finished)
        self._finished.append(item)

    def _begin(self, item: Any, kind: type) -> Iterator[object] | None:
        """Write all of an item, or its beginning and return its parts."""
        append = self._pieces.append
        # Copies, because a list that another thread changes meanwhile must not be written with a wrong count.
        if kind is list or kind is tuple:
            parts = list(item)
            mark = b"l" if kind is list else b"t"
            packed = _packed(mark, parts)
            if packed is not None:
                append(packed)
                return None
            append(mark + size_bytes(len(parts)))
            return iter(parts)
        if kind is dict:
            pairs = list(item.items())
            append(b"d" + size_bytes(len(pairs)))
            return self._dict_values(pairs)
        if kind is set or kind is frozenset:
            append(write_set(b"y" if kind is set else b"z", item))
            return None
        composite = find_composite(kind)
        if composite is not None:
            return self._begin_composite(composite, item, kind)
        token = enum_token(item)
        if token is None:
            raise NotPlain
        append(write_enum(*token))
        return None

    def _dict_values(self, pairs: list[tuple[object, object]]) -> Iterator[object]:
        append = self._pieces.append
        for key, value in pairs:
            append(write_member(key))
            yield value

    def _begin_composite(self, composite: Composite, item: object, kind: type) -> Iterator[object]:
        values = composite.values(item)
        known = self._classes.get(kind)
        if known is None:
            self._classes[kind] = len(self._classes)
            names = b"".join(sized(b"", name.encode("utf-8", "surrogatepass")) for name in composite.names)
            name = sized(b"C", composite.name.encode("utf-8", "surrogatepass"))
            self._pieces.append(name + size_bytes(len(values)) + names)
        else:
            self._pieces.append(b"c" + size_bytes(known))
        return iter(values)


def _packed(mark: bytes, parts: list[Any]) -> bytes | None:
    if len(parts) < _PACKED_FROM:
        return None
    kind = type(parts[0])
    code = PACKED.get(kind)
    if code is None or set(map(type, parts)) != {kind}:
        return None
    try:
        numbers = struct.pack(f"<{len(parts)}{code}", *parts)
    except struct.error:
        # An int of more than 64 bits is among them.
        return None
    return b"A" + mark + code.encode() + size_bytes(len(parts)) + numbers
