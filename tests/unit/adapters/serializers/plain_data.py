"""Random plain data, and when two values are the same in type, bits and order."""

from __future__ import annotations

import struct
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from fractions import Fraction
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any
from zoneinfo import ZoneInfo

from hypothesis import strategies as st

ZONES = st.sampled_from([
    None, UTC, timezone(timedelta(hours=-3, microseconds=7)), timezone(timedelta(hours=1), "here"),
    timezone(timedelta(0), "zero"),
])  # fmt: skip
MOMENTS = (
    st.dates()
    | st.timedeltas()
    | st.builds(
        lambda value, zone, fold: value.replace(tzinfo=zone, fold=fold), st.times(), ZONES, st.sampled_from([0, 1])
    )
    | st.builds(
        lambda value, zone, fold: value.replace(tzinfo=zone, fold=fold), st.datetimes(), ZONES, st.sampled_from([0, 1])
    )
)
TEXT = st.text(st.characters(), max_size=40) | st.text("\ud800\udc00\0é", max_size=3)
MEMBER_ATOMS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(-(2**300), 2**300)
    | st.floats(width=64, allow_nan=True)
    | st.complex_numbers()
    | TEXT
    | st.binary(max_size=40)
    | MOMENTS
    | st.decimals()
    | st.fractions()
    | st.uuids()
    | st.builds(PurePosixPath, st.text("ab/.", max_size=8))
    | st.builds(PureWindowsPath, st.text("ab\\/:.", max_size=8)).filter(lambda path: PureWindowsPath(str(path)) == path)
    | st.builds(range, st.integers(), st.integers(), st.integers(1, 9))
)
# A signaling NaN has no hash.
MEMBERS = st.recursive(
    MEMBER_ATOMS.filter(lambda value: not (isinstance(value, Decimal) and value.is_snan())),
    lambda parts: st.lists(parts, max_size=3).map(tuple) | st.frozensets(parts, max_size=3),
    max_leaves=4,
)
PLAIN: st.SearchStrategy[Any] = st.recursive(
    MEMBER_ATOMS | st.binary(max_size=40).map(bytearray),
    lambda parts: (
        st.lists(parts, max_size=12)
        | st.lists(st.floats(), min_size=8, max_size=12)
        | st.lists(st.integers(-(2**64), 2**64), min_size=8, max_size=12).map(tuple)
        | st.lists(parts, max_size=4).map(tuple)
        | st.dictionaries(MEMBERS, parts, max_size=4)
        | st.sets(MEMBERS, max_size=4)
        | st.frozensets(MEMBERS, max_size=4)
        | st.builds(lambda part: [part, {"again": part}, (part,)], parts)
    ),
    max_leaves=20,
)


def same(value: Any) -> Any:
    """What two values have in common only when they are of the same types, with the same bits, in the same order."""
    kind = type(value)
    if kind is list or kind is tuple:
        return kind, [same(item) for item in value]
    if kind is dict:
        return kind, [(same(key), same(item)) for key, item in value.items()]
    if kind is set or kind is frozenset:
        return kind, sorted(map(repr, map(same, value)))
    if kind is float:
        return kind, struct.pack("<d", value)
    if kind is complex:
        return kind, struct.pack("<dd", value.real, value.imag)
    if kind is Decimal:
        return kind, value.as_tuple()
    if kind is Fraction:
        return kind, value.numerator, value.denominator
    if kind in (datetime, time):
        return kind, value.replace(tzinfo=None), value.fold, type(value.tzinfo), str(value.tzinfo), repr(value.tzinfo)
    if kind is range:
        return kind, value.start, value.stop, value.step
    if kind is ZoneInfo or isinstance(value, date):
        return kind, str(value)
    return kind, value
