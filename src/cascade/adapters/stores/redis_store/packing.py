"""Records, runs, lines and signals as bytes.

Text is UTF-8 in which lone surrogates pass, so that any text comes back exactly and plain text can be read in the
database. A record begins with the checksum of all the rest and of its place, so that a flipped bit becomes an error.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from typing import Final, cast
from zlib import crc32

from cascade.spec.records import Line, Record, RecordKind, RunRow, RunStatus, Signal

MOST_BYTES: Final = 500_000_000
"""How much one command may carry: Redis takes 512 MiB in one argument."""

_KINDS: Final[dict[RecordKind, int]] = {
    "value": 0,
    "skipped": 1,
    "failed": 2,
    "continues": 3,
    "mapped": 4,
    "volatile": 5,
}
_KIND_NAMES: Final = tuple(_KINDS)

_FRAME: Final = struct.Struct("<IBI")
"""Of which of the scopes, how long the name of the node is, and how long the record is."""

_NUMBER: Final = struct.Struct("<I")
_HEAD: Final = struct.Struct("<BqqddIIiiii")
"""Kind, turn, attempt, began, ended, and the lengths of the texts and the bytes; -1 stands for `None`."""

LENGTH_OF_PAYLOAD_AT: Final = _NUMBER.size + _HEAD.size - 4
"""Where a packed record has the length of its payload, with which it ends; four bytes."""

_LINE: Final = struct.Struct("<qdqIII")
"""Number, moment, attempt, and the lengths of source, place and name; the text is the rest."""


def encode(text: str) -> bytes:
    r"""Any text as bytes.

    >>> decode(encode("a\0\ud800")) == "a\0\ud800"
    True
    """
    return text.encode("utf-8", "surrogatepass")


def decode(data: bytes) -> str:
    return data.decode("utf-8", "surrogatepass")


def pack_record(record: Record) -> bytes:
    """A record without its place."""
    scope, node, kind, turn, label, name, attempt, began, ended, detail, preview, payload, inner = record
    label_bytes = label.encode("utf-8", "surrogatepass")
    name_bytes = name.encode("utf-8", "surrogatepass")
    detail_bytes = None if detail is None else detail.encode("utf-8", "surrogatepass")
    preview_bytes = None if preview is None else preview.encode("utf-8", "surrogatepass")
    head = _HEAD.pack(
        _KINDS[kind],
        turn,
        attempt,
        began,
        ended,
        len(label_bytes),
        len(name_bytes),
        -1 if detail_bytes is None else len(detail_bytes),
        -1 if preview_bytes is None else len(preview_bytes),
        -1 if inner is None else len(inner),
        -1 if payload is None else len(payload),
    )
    body = b"".join(
        (head, label_bytes, name_bytes, detail_bytes or b"", preview_bytes or b"", inner or b"", payload or b"")
    )
    return _NUMBER.pack(crc32(body, crc32(node, crc32(scope)))) + body


def unpack_record(scope: bytes, node: bytes, data: bytes) -> Record:
    """What `pack_record` was given.

    Raises:
        ValueError: the bytes are not what was packed for this place.
    """
    body = data[_NUMBER.size :]
    if len(body) < _HEAD.size or _NUMBER.unpack_from(data)[0] != crc32(body, crc32(node, crc32(scope))):
        raise _damaged(scope, node)
    return _record(scope, node, body)


def unpack_outline(scope: bytes, node: bytes, data: bytes) -> Record:
    """What `pack_record` was given without the payload, from bytes that were cut before it.

    Raises:
        ValueError: the bytes can be no record.
    """
    try:
        return _record(scope, node, data[_NUMBER.size :])._replace(payload=None)
    except (struct.error, IndexError):
        raise _damaged(scope, node) from None


def _damaged(scope: bytes, node: bytes) -> ValueError:
    return ValueError(f"the record of node {node.hex()} in scope {scope.hex()} was damaged")


def _record(scope: bytes, node: bytes, body: bytes) -> Record:
    kind, turn, attempt, began, ended, *lengths = _HEAD.unpack_from(body)
    parts: list[bytes | None] = []
    at = _HEAD.size
    for length in lengths:
        parts.append(None if length < 0 else body[at : at + length])
        at += max(0, length)
    label, name, detail, preview, inner, payload = parts
    return Record(
        scope,
        node,
        _KIND_NAMES[kind],
        turn,
        decode(label or b""),
        decode(name or b""),
        attempt,
        began,
        ended,
        None if detail is None else decode(detail),
        None if preview is None else decode(preview),
        payload,
        inner,
    )


def pack_group(records: Sequence[Record]) -> tuple[list[bytes], bytes]:
    """The scopes of some records, and the records as the script reads them, each with the number of its scope."""
    numbers: dict[bytes, int] = {}
    parts: list[bytes] = []
    for record in records:
        packed = pack_record(record)
        scope, node = record[0], record[1]
        number = numbers.get(scope)
        if number is None:
            number = numbers[scope] = len(numbers)
        parts += (_FRAME.pack(number, len(node), len(packed)), node, packed)
    return list(numbers), b"".join(parts)


def run_fields(row: RunRow) -> list[bytes | str]:
    """A run as the fields of a hash: what is `None` is left out."""
    fields: list[bytes | str] = []
    for name, value in zip(RunRow._fields, row, strict=True):
        if value is not None:
            fields += (name, encode(value) if isinstance(value, str) else _bytes(value))
    return fields


def run_row(fields: Mapping[bytes, bytes]) -> RunRow:
    """The run that a hash holds.

    Raises:
        KeyError: a field is missing.
        ValueError: a field is not what was written.
    """
    program, error = fields.get(b"program"), fields.get(b"error")
    return RunRow(
        run_id=decode(fields[b"run_id"]),
        status=cast(RunStatus, decode(fields[b"status"])),
        epoch=int(fields[b"epoch"]),
        host=decode(fields[b"host"]),
        owner=decode(fields[b"owner"]),
        lease_until=float(fields[b"lease_until"]),
        created=float(fields[b"created"]),
        updated=float(fields[b"updated"]),
        target=decode(fields[b"target"]),
        params=fields[b"params"],
        program=None if program is None else decode(program),
        error=None if error is None else decode(error),
    )


def pack_line(line: Line) -> bytes:
    """A line, with its number: so no two of a run are the same."""
    number, at, source, place, name, attempt, text = line
    texts = [encode(part) for part in (source, place, name)]
    body = b"".join((_LINE.pack(number, at, attempt, *map(len, texts)), *texts, encode(text)))
    return _NUMBER.pack(crc32(body)) + body


def unpack_line(data: bytes) -> Line:
    """What `pack_line` was given.

    Raises:
        ValueError: the bytes are not what was packed.
    """
    body = data[_NUMBER.size :]
    if len(body) < _LINE.size or _NUMBER.unpack_from(data)[0] != crc32(body):
        raise ValueError("a line was damaged")
    number, at, attempt, *lengths = _LINE.unpack_from(body)
    texts: list[str] = []
    start = _LINE.size
    for length in lengths:
        texts.append(decode(body[start : start + length]))
        start += length
    source, place, name = texts
    return Line(number, at, source, place, name, attempt, decode(body[start:]))


def pack_signal(name: str, payload: str) -> bytes:
    """A signal without its number."""
    name_bytes = encode(name)
    return _NUMBER.pack(len(name_bytes)) + name_bytes + encode(payload)


def unpack_signal(number: int, data: bytes) -> Signal:
    end = _NUMBER.size + _NUMBER.unpack_from(data)[0]
    return Signal(number, decode(data[_NUMBER.size : end]), decode(data[end:]))


def pack_setting(text: str, expires: float | None) -> bytes:
    """A setting without its key."""
    return b"%b %b" % (b"" if expires is None else _bytes(expires), encode(text))


def unpack_setting(data: bytes) -> tuple[str, float | None]:
    """The text, and when it expires.

    Raises:
        ValueError: it is not what was packed.
    """
    expires, text = data.split(b" ", 1)
    return decode(text), float(expires) if expires else None


def _bytes(value: bytes | float) -> bytes:
    return value if isinstance(value, bytes) else repr(value).encode()
