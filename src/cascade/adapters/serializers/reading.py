"""Bytes to plain data, without recursion; `writing` says how they are laid out."""

from __future__ import annotations

import struct

from cascade.adapters.serializers.atoms import ATOM_READERS
from cascade.adapters.serializers.members import read_enum, read_member, read_set
from cascade.adapters.serializers.registry import Composite, load_composite
from cascade.adapters.serializers.source import Source
from cascade.adapters.serializers.writing import LONG, PACKED
from cascade.spec.exceptions import CorruptedValueError

_BYTEARRAY, _FIRST_COMPOSITE = ord("B"), ord("C")
_CODES = {ord(code): code for code in PACKED.values()}


def read_plain(data: bytes, start: int = 0) -> object:
    """The value that `write_plain` wrote, from `start` to the end of the data.

    Raises:
        CorruptedValueError: the bytes are no value; nothing larger than a few times the data was made of them.
        ChangedCodeError: a class is not registered, or has other fields now.
    """
    source = Source(data, start)
    try:
        value = _Reader(source).read()
    except CorruptedValueError:
        raise
    except Exception as error:
        # Constructors refuse damaged parts each in its own way.
        problem = f"at byte {source.at} of {len(data)}: {type(error).__name__}: {error}"
        raise CorruptedValueError(problem) from error
    if source.remaining:
        raise CorruptedValueError(f"{source.remaining} bytes follow its end")
    return value


class _Open:
    """A container whose items are still being read."""

    __slots__ = ("composite", "items", "keys", "mark", "missing")

    def __init__(self, mark: int, missing: int, composite: Composite | None = None) -> None:
        self.mark = mark
        self.missing = missing
        self.items: list[object] = []
        self.keys: list[object] = []
        self.composite = composite

    def finished(self) -> object:
        if self.composite is not None:
            return self.composite.make(self.items)
        if self.mark == ord("l"):
            return self.items
        if self.mark == ord("t"):
            return tuple(self.items)
        made = dict(zip(self.keys, self.items, strict=True))
        if len(made) != len(self.items):
            raise CorruptedValueError("a key stands in a dict twice")
        return made


class _Reader:
    __slots__ = ("_classes", "_finished", "_source")

    def __init__(self, source: Source) -> None:
        self._source = source
        self._finished: list[object] = []
        self._classes: list[Composite] = []

    def read(self) -> object:
        source = self._source
        finished = self._finished
        above: list[_Open] = []
        while True:
            start = source.at
            mark = source.byte()
            read_atom = ATOM_READERS.get(mark)
            if read_atom is not None:
                value = read_atom(source)
                if source.at - start > LONG or mark == _BYTEARRAY:
                    finished.append(value)
            elif mark == ord("@"):
                value = self._referred()
            else:
                opened = self._open(mark)
                if opened is None:
                    value = self._whole(mark)
                elif opened.missing:
                    above.append(opened)
                    self._before_item(opened)
                    continue
                else:
                    value = opened.finished()
                finished.append(value)
            while above:
                container = above[-1]
                container.items.append(value)
                container.missing -= 1
                if container.missing:
                    self._before_item(container)
                    break
                above.pop()
                value = container.finished()
                finished.append(value)
            else:
                return value

    def _before_item(self, container: _Open) -> None:
        if container.mark == ord("d"):
            container.keys.append(read_member(self._source))

    def _open(self, mark: int) -> _Open | None:
        if mark in b"ltd":
            return _Open(mark, self._source.count())
        if mark in b"Cc":
            composite = self._first_composite() if mark == _FIRST_COMPOSITE else self._known_composite()
            if len(composite.names) > self._source.remaining:
                raise CorruptedValueError(f"the fields of a {composite.name} are missing")
            return _Open(mark, len(composite.names), composite)
        return None

    def _first_composite(self) -> Composite:
        source = self._source
        name = source.text()
        composite = load_composite(name, tuple([source.text() for _ in range(source.count())]))
        self._classes.append(composite)
        return composite

    def _known_composite(self) -> Composite:
        number = self._source.size()
        if number >= len(self._classes):
            raise CorruptedValueError("a composite is of a class that was not named before")
        return self._classes[number]

    def _referred(self) -> object:
        number = self._source.size()
        if number >= len(self._finished):
            raise CorruptedValueError("a reference goes to what has not been read")
        return self._finished[number]

    def _whole(self, mark: int) -> object:
        if mark == ord("y"):
            return read_set(self._source)
        if mark == ord("z"):
            return frozenset(read_set(self._source))
        if mark == ord("e"):
            return read_enum(self._source)
        if mark == ord("A"):
            return self._numbers()
        raise CorruptedValueError(f"{bytes((mark,))!r} marks no kind of value")

    def _numbers(self) -> object:
        source = self._source
        kind, code = source.byte(), _CODES.get(source.byte())
        count = source.count()
        if code is None or kind not in b"lt":
            raise CorruptedValueError("packed numbers are of no known kind")
        numbers = struct.unpack(f"<{count}{code}", source.take(8 * count))
        return numbers if kind == ord("t") else list(numbers)
