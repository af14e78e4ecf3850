"""Bytes that are not what was written are refused, and never do harm."""

from __future__ import annotations

import os
import pickle
import tracemalloc
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cascade.adapters.serializers import CorruptedValueError, SignedSerializer
from cascade.adapters.serializers.reading import read_plain
from cascade.adapters.serializers.writing import write_plain
from cascade.spec.exceptions import DeclarationError
from tests.unit.adapters.serializers.plain_data import PLAIN
from tests.unit.adapters.serializers.registered_classes import Color, Order, Point

SERIALIZER = SignedSerializer(bytes(range(32)))
HERE = b"run\0node"
SAMPLES: list[Any] = [
    7,
    "text" * 20,
    {"a": [1.5, (None, b"x")], 2: {3, 4}},
    [Order(1, [Point(1, 2)]), Order(2, []), Color.RED],
    Exception("pickled"),
]


def refused(payload: bytes, context: bytes = HERE) -> None:
    with pytest.raises(CorruptedValueError, match="a stored value was refused"):
        SERIALIZER.loads(payload, context=context)


@pytest.mark.parametrize("value", SAMPLES, ids=repr)
def test_every_flipped_bit_and_every_cut_is_refused(value):  # S27
    payload = SERIALIZER.dumps(value, context=HERE)
    for place in range(8 * len(payload)):
        altered = bytearray(payload)
        altered[place // 8] ^= 1 << place % 8
        refused(bytes(altered))
    for end in range(len(payload)):
        refused(payload[:end])
    refused(payload + b"\0")


@given(st.binary(max_size=200))
def test_random_bytes_are_refused(payload):
    refused(payload)
    refused(b"\x01P" + payload)
    refused(b"\x01K" + payload)


def test_a_value_of_another_place_is_refused():
    payload = SERIALIZER.dumps("value", context=b"ab")
    refused(payload, b"ba")
    # What ends the context must not pass for what begins the body.
    moved = payload[:34] + b"b" + payload[34:]
    refused(moved, b"a")


def test_a_value_signed_with_another_key_is_refused():
    refused(SignedSerializer(bytes(32)).dumps("value", context=HERE))


def test_the_kinds_cannot_be_exchanged():
    payload = SERIALIZER.dumps("value", context=HERE)
    refused(payload[:1] + b"K" + payload[2:])


def test_versions_and_kinds_that_are_not_known_are_named():
    payload = SERIALIZER.dumps("value", context=HERE)
    with pytest.raises(CorruptedValueError, match="version 2, and this version of Cascade reads 1"):
        SERIALIZER.loads(b"\x02" + payload[1:], context=HERE)
    with pytest.raises(CorruptedValueError, match="kind b'Q'"):
        SERIALIZER.loads(payload[:1] + b"Q" + payload[2:], context=HERE)


def test_nothing_is_unpickled_before_the_signature_is_checked(tmp_path):
    class Trap:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "sprung"),)

    refused(b"\x01K" + bytes(32) + pickle.dumps(Trap()))
    assert not (tmp_path / "sprung").exists()
    payload = SERIALIZER.dumps(Trap(), context=HERE)
    refused(payload, b"elsewhere")
    assert not (tmp_path / "sprung").exists()


def test_a_short_key_is_refused():
    with pytest.raises(DeclarationError, match="at least 32 bytes, not 31"):
        SignedSerializer(bytes(31))


def parse(body: bytes) -> None:
    """Read a body as if its signature had been right: a value, or a `CorruptedValueError`."""
    try:
        read_plain(body)
    except CorruptedValueError:
        pass


@given(st.binary(max_size=300))
def test_the_parser_survives_random_bytes(body):
    parse(body)


@given(PLAIN, st.data())
def test_the_parser_survives_altered_bodies(value, data):
    body = bytearray(write_plain(value))
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(body) - 1))
        match data.draw(st.sampled_from(["set", "cut", "copy"])):
            case "set":
                body[place] = data.draw(st.integers(0, 255))
            case "cut":
                del body[place : place + data.draw(st.integers(0, 9))]
            case _:
                body[place:place] = body[data.draw(st.integers(0, place)) : place]
        body = body or bytearray(b"N")
    parse(bytes(body))


@pytest.mark.parametrize("value", SAMPLES[:-1], ids=repr)
def test_the_parser_survives_every_byte_in_every_place(value):
    body = write_plain(value)
    for place in range(len(body)):
        parse(body[:place])
        for byte in range(256):
            parse(body[:place] + bytes((byte,)) + body[place + 1 :])


@pytest.mark.parametrize("mark", [b"l", b"t", b"d", b"y", b"z", b"s", b"b", b"B", b"i", b"m", b"Ald", b"Atq", b"C\x00"])
def test_announced_sizes_allocate_nothing(mark):
    body = mark + b"\xff" * 7 + b"\x7f" + b"N" * 50
    tracemalloc.start()
    try:
        with pytest.raises(CorruptedValueError):
            read_plain(body)
        assert tracemalloc.get_traced_memory()[1] < 100_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"?",
        b"NN",
        b"@\x00",
        b"l\x01@\x00",
        b"c\x00",
        b"s\x80\x00",
        b"s\x01\xff",
        b"m\x03abc",
        b"qi\x01\x01i\x01\x00",
        b"gi\x01\x00i\x01\x00i\x01\x00",
        b"D\x00\x00\x00\x00",
        b"M" + b"\xff" * 12 + b"-",
        b"H" + b"\x00" * 8 + b"?",
        b"H" + b"\x00" * 8 + b"z\x0a../../etc/",
        b"y\x02NN",
        b"y\x01l\x00",
        b"y\x01t\x01B\x00",
        b"d\x02NNNN",
        b"y\x01" + b"t\x01" * 100_000 + b"N",
        b"/?\x00",
        b"e\x01xN",
        b"Axd\x00",
        b"Alx\x00",
    ],
    ids=lambda body: repr(body)[:30],
)
def test_bodies_that_mean_nothing_are_refused(body):
    with pytest.raises(CorruptedValueError):
        read_plain(body)
