"""Plain data comes back as it was, and its bytes say nothing else."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
from collections import OrderedDict, defaultdict
from datetime import UTC, datetime, time
from decimal import Decimal
from enum import IntEnum
from pathlib import Path
from typing import Any
from uuid import uuid1
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cascade.adapters.serializers import SignedSerializer
from cascade.adapters.serializers.members import DEEPEST
from cascade.adapters.serializers.reading import read_plain
from cascade.adapters.serializers.source import NotPlain, Source, size_bytes
from cascade.adapters.serializers.writing import write_plain
from tests.unit.adapters.serializers.plain_data import PLAIN, same


def again(value: Any) -> Any:
    return read_plain(write_plain(value))


@given(PLAIN)
def test_plain_data_comes_back_in_type_bits_and_order(value):  # S27
    assert same(again(value)) == same(value)


@given(PLAIN)
def test_what_was_loaded_has_the_same_bytes(value):
    # Two loads, because a reference is only written for what is one object, as constants often are.
    loaded = again(value)
    assert write_plain(again(loaded)) == write_plain(loaded)


@given(st.integers(0, 2**63 - 1))
def test_sizes_come_back(size):
    assert Source(size_bytes(size)).size() == size


@pytest.mark.parametrize(
    "value",
    [
        struct.unpack("<d", bytes.fromhex("010000000000f07f"))[0],
        struct.unpack("<d", bytes.fromhex("010000000000f8ff"))[0],
        -0.0,
        complex(-0.0, float("nan")),
        Decimal("-0.00"),
        Decimal("sNaN123"),
        Decimal("1E+999999"),
        10**6000,
        -(2**63) - 1,
        [2**63] * 9,
        Path("/tmp") / "x",
        Path(),
        datetime(2026, 10, 25, 2, 30, tzinfo=ZoneInfo("Europe/Berlin"), fold=1),
        time(1, 2, tzinfo=ZoneInfo("UTC")),
        {(1, ("a", frozenset({2}))): None, None: 1, 1.5: 2},
        {1: "int", "1": "text", b"1": "bytes"},
        {frozenset({1, 2}), frozenset({2, 3})},
        "\ud83d\ude00 and \U0001f600",
        "x" * 200_000,
    ],
    ids=lambda value: repr(value)[:30] if not isinstance(value, int) else "int",
)
def test_a_value_at_the_edge_comes_back(value):
    assert same(again(value)) == same(value)


def test_the_one_object_for_utc_comes_back():
    assert again(datetime(2026, 1, 1, tzinfo=UTC)).tzinfo is UTC


def test_shared_objects_are_shared_again():
    shared: list[int] = []
    data = bytearray(b"x")
    text = "long enough to be written once" * 2
    loaded = again({"a": shared, "b": (shared,), "c": [shared, data, data, text, text]})
    assert loaded["a"] is loaded["b"][0] is loaded["c"][0]
    assert loaded["c"][1] is loaded["c"][2]
    assert loaded["c"][3] is loaded["c"][4]
    loaded["a"].append(1)
    assert loaded["b"] == ([1],)


def test_equal_objects_that_are_two_stay_two():
    one, other = again([[], []])
    assert one is not other


def test_what_is_shared_takes_its_space_once():
    value: Any = "leaf"
    for _ in range(200):
        value = (value, value)
    assert len(write_plain(value)) < 2000
    big = b"x" * 100_000
    assert len(write_plain([big] * 100)) < 101_000


@pytest.mark.parametrize("kind", [lambda part: [part], lambda part: (part,), lambda part: {"k": part}])
def test_depth_has_no_end(kind):
    value: Any = "leaf"
    for _ in range(100_000):
        value = kind(value)
    loaded = again(value)
    depth = 0
    while loaded != "leaf":
        loaded = loaded["k"] if type(loaded) is dict else loaded[0]
        depth += 1
    assert depth == 100_000


class Number(IntEnum):
    ONE = 1


class Text(str):
    __slots__ = ()


def nested(levels: int) -> tuple[Any, ...]:
    value: tuple[Any, ...] = ()
    for _ in range(levels):
        value = (value,)
    return value


cyclic: list[Any] = []
cyclic.append({"self": cyclic})


@pytest.mark.parametrize(
    "value",
    [
        *(Number.ONE, Text("x"), OrderedDict(a=1), defaultdict(list), Exception("x"), cyclic),
        [1, {"deep": [Number.ONE]}],
        {nested(DEEPEST)},
        {nested(DEEPEST): 1},
        uuid1(),
    ],
    ids=lambda value: "a uuid1" if type(value).__name__ == "UUID" else repr(value)[:30],
)
def test_what_is_no_plain_data_is_left_to_pickle(value):
    if type(value).__name__ == "UUID" and value.is_safe.value is None:
        pytest.skip("this system does not say whether the id is safe")
    with pytest.raises(NotPlain):
        write_plain(value)
    serializer = SignedSerializer(bytes(32))
    loaded = serializer.loads(serializer.dumps(value, context=b""), context=b"")
    assert type(loaded) is type(value)
    assert repr(loaded) == repr(value)


def test_sets_have_the_same_bytes_in_every_process():
    code = (
        "from cascade.adapters.serializers.writing import write_plain\n"
        "print(write_plain([{'a', 'b', 'c', ('d', 1), frozenset({'e', 'f'})}]).hex())"
    )
    written = {
        subprocess.run(
            [sys.executable, "-c", code], check=True, capture_output=True, env={**os.environ, "PYTHONHASHSEED": seed}
        ).stdout
        for seed in ("1", "2", "3")
    }
    assert len(written) == 1
