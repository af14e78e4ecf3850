"""Bytes that are read from the front, never beyond their end, and the sizes that stand in them."""

from __future__ import annotations

from cascade.spec.exceptions import CorruptedValueError

_SMALL_SIZES = tuple(bytes((size,)) for size in range(128))
_MOST_SIZE_BYTES = 9


class NotPlain(Exception):
    """Something in the value is outside the plain format; the value is for pickle."""


def size_bytes(size: int) -> bytes:
    """A size in groups of 7 bits, the lowest first, each but the last with its high bit set."""
    if size < 128:
        return _SMALL_SIZES[size]
    groups = bytearray()
    while size >= 128:
        groups.append(size & 127 | 128)
        size >>= 7
    groups.append(size)
    return bytes(groups)


def sized(mark: bytes, content: bytes) -> bytes:
    """A mark, the size of the content, and the content."""
    size = len(content)
    return mark + (_SMALL_SIZES[size] if size < 128 else size_bytes(size)) + content


class Source:
    """A place in bytes that are not trusted: whatever they say, nothing larger than they are is made."""

    __slots__ = ("_data", "at")

    def __init__(self, data: bytes, at: int = 0) -> None:
        self._data = data
        self.at = at

    @property
    def remaining(self) -> int:
        """How many bytes are left."""
        return len(self._data) - self.at

    def byte(self) -> int:
        """The next byte."""
        at = self.at
        if at >= len(self._data):
            raise CorruptedValueError("it ends too early")
        self.at = at + 1
        return self._data[at]

    def take(self, size: int) -> bytes:
        """The next bytes."""
        start = self.at
        end = start + size
        if end > len(self._data):
            raise CorruptedValueError(f"it ends too early: {self.remaining} bytes instead of {size}")
        self.at = end
        return self._data[start:end]

    def size(self) -> int:
        """A size as `size_bytes` writes it."""
        size = self.byte()
        if size < 128:
            return size
        size &= 127
        for place in range(1, _MOST_SIZE_BYTES):
            group = self.byte()
            size |= (group & 127) << 7 * place
            if group < 128:
                if group == 0:
                    break
                return size
        raise CorruptedValueError("a size is written in a way that no size is")

    def sized(self) -> bytes:
        """The content that follows its size."""
        data = self._data
        at = self.at
        # Most are short and whole, and read without further calls.
        if at < len(data) and data[at] < 128:
            end = at + 1 + data[at]
            if end <= len(data):
                self.at = end
                return data[at + 1 : end]
        return self.take(self.size())

    def count(self) -> int:
        """How many parts follow; each of them takes at least one byte."""
        count = self.size()
        if count > self.remaining:
            raise CorruptedValueError(f"{count} parts are announced in {self.remaining} bytes")
        return count

    def text(self) -> str:
        """The text that follows its size."""
        return str(self.sized(), "utf-8", "surrogatepass")
