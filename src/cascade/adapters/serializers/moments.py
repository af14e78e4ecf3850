"""Dates, times and durations in the plain format."""

from __future__ import annotations

import struct
from collections.abc import Callable
from datetime import date, datetime, time, timedelta, timezone, tzinfo
from typing import Any
from zoneinfo import ZoneInfo

from cascade.adapters.serializers.source import NotPlain, Source, sized
from cascade.spec.exceptions import ChangedCodeError, CorruptedValueError

_DATE = struct.Struct("<HBB")
_CLOCK = struct.Struct("<BBBIB")
_SPAN = struct.Struct("<iII")

_NO_ZONE, _OFFSET, _NAMED_OFFSET, _ZONE = b"-", b"+", b"n", b"z"


def _write_date(value: date) -> bytes:
    return b"D" + _DATE.pack(value.year, value.month, value.day)


def _read_date(source: Source) -> date:
    return date(*_DATE.unpack(source.take(_DATE.size)))


def _write_time(value: time) -> bytes:
    return b"H" + _clock(value) + _write_zone(value.tzinfo)


def _read_time(source: Source) -> time:
    hour, minute, second, microsecond, fold = _CLOCK.unpack(source.take(_CLOCK.size))
    return time(hour, minute, second, microsecond, _read_zone(source), fold=fold)


def _write_datetime(value: datetime) -> bytes:
    return b"M" + _DATE.pack(value.year, value.month, value.day) + _clock(value) + _write_zone(value.tzinfo)


def _read_datetime(source: Source) -> datetime:
    year, month, day = _DATE.unpack(source.take(_DATE.size))
    hour, minute, second, microsecond, fold = _CLOCK.unpack(source.take(_CLOCK.size))
    return datetime(year, month, day, hour, minute, second, microsecond, _read_zone(source), fold=fold)


def _write_span(value: timedelta) -> bytes:
    return b"S" + _SPAN.pack(value.days, value.seconds, value.microseconds)


def _read_span(source: Source) -> timedelta:
    return timedelta(*_SPAN.unpack(source.take(_SPAN.size)))


def _clock(value: time | datetime) -> bytes:
    return _CLOCK.pack(value.hour, value.minute, value.second, value.microsecond, value.fold)


def _write_zone(zone: tzinfo | None) -> bytes:
    if zone is None:
        return _NO_ZONE
    if type(zone) is timezone:
        # Only what it tells pickle says whether a name was given or made up from the offset.
        told: Any = zone.__reduce__()
        offset, *name = told[1]
        if name:
            return _NAMED_OFFSET + _write_span(offset) + sized(b"", name[0].encode("utf-8", "surrogatepass"))
        return _OFFSET + _write_span(offset)
    if type(zone) is ZoneInfo and isinstance(zone.key, str):
        return _ZONE + sized(b"", zone.key.encode("utf-8", "surrogatepass"))
    raise NotPlain


def _read_zone(source: Source) -> tzinfo | None:
    mark = source.take(1)
    if mark == _NO_ZONE:
        return None
    if mark == _ZONE:
        key = source.text()
        try:
            return ZoneInfo(key)
        except (LookupError, ValueError, OSError) as error:
            problem = f"of which this machine knows no time zone '{key}' (`pip install tzdata` brings them)"
            raise ChangedCodeError("zoneinfo:ZoneInfo", problem) from error
    if mark not in (_OFFSET, _NAMED_OFFSET) or source.take(1) != b"S":
        raise CorruptedValueError(f"{mark!r} marks no time zone")
    offset = _read_span(source)
    return timezone(offset) if mark == _OFFSET else timezone(offset, source.text())


MOMENT_WRITERS: dict[type, Callable[[Any], bytes]] = {
    date: _write_date,
    time: _write_time,
    datetime: _write_datetime,
    timedelta: _write_span,
}

MOMENT_READERS: dict[int, Callable[[Source], object]] = {
    ord("D"): _read_date,
    ord("H"): _read_time,
    ord("M"): _read_datetime,
    ord("S"): _read_span,
}
