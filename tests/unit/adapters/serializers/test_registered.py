"""Registered classes are kept without pickle, by name and by the names of their fields."""

from __future__ import annotations

import enum
import subprocess
import sys
from collections import namedtuple
from dataclasses import dataclass, make_dataclass
from typing import Any

import pytest

from cascade.adapters.serializers import ChangedCodeError, SignedSerializer, register_type, registry
from cascade.adapters.serializers.reading import read_plain
from cascade.adapters.serializers.source import NotPlain
from cascade.adapters.serializers.writing import write_plain
from cascade.spec.exceptions import DeclarationError
from tests.unit.adapters.serializers.registered_classes import (
    Access,
    Box,
    Color,
    Empty,
    Frozen,
    Level,
    Link,
    Order,
    Point,
    Unregistered,
)


@pytest.fixture(autouse=True)
def _registry_as_before(monkeypatch):
    for name in ("_composites", "_enums", "_by_name"):
        monkeypatch.setattr(registry, name, dict(getattr(registry, name)))


@pytest.mark.parametrize(
    "value",
    [
        Order(2, [Point(1, 2)], scale=5),
        Frozen(1, Frozen("inner")),
        Empty(),
        Box([1]),
        Point(Color.RED, {Color.GREEN: 1}),
        [Color.ROUGE, Level.LOW, Access.READ, Access.READ | Access.WRITE, Access(0)],
        {Color.RED, Access.READ, Level.LOW, (Color.GREEN,)},
    ],
    ids=lambda value: type(value).__name__,
)
def test_instances_come_back(value):
    loaded = read_plain(write_plain(value))
    assert loaded == value
    assert type(value) is set or repr(loaded) == repr(value)
    assert type(loaded) is type(value)


def test_the_state_comes_back_and_not_what_init_would_make_of_it():
    order = Order(2, [])
    order.total = 99
    assert read_plain(write_plain(order)).total == 99


def test_shared_instances_are_shared_again_and_named_once():
    link = Link(None)
    loaded = read_plain(write_plain([link, link, Link(link)]))
    assert loaded[0] is loaded[1] is loaded[2].following
    assert write_plain([Link(1), Link(2)]).count(b"following") == 1


def test_links_may_be_100000_long():
    value = None
    for _ in range(100_000):
        value = Link(value)
    loaded: Any = read_plain(write_plain(value))
    length = 0
    while loaded is not None:
        # Taken apart from the front, because Python itself would end a long chain by recursion.
        loaded, length = loaded.following, length + 1
    while value is not None:
        value = value.following
    assert length == 100_000


def test_an_instance_that_is_more_than_its_fields_is_left_to_pickle():
    order = Order(3, [])
    assert order.doubled == 6
    with pytest.raises(NotPlain):
        write_plain(order)
    less = Order(3, [])
    del less.number
    with pytest.raises(NotPlain):
        write_plain(less)
    generic = Box[int](1)
    with pytest.raises(NotPlain):
        write_plain(generic)
    circle = Link(None)
    circle.following = circle
    with pytest.raises(NotPlain):
        write_plain(circle)


def test_what_is_not_registered_is_pickled():
    serializer = SignedSerializer(bytes(32))
    payload = serializer.dumps([Unregistered(1)], context=b"")
    assert payload[1:2] == b"K"
    assert serializer.loads(payload, context=b"") == [Unregistered(1)]


def module_class(name: str, *fields: str) -> type:
    """A dataclass as it would be at the top level of a module."""
    cls = make_dataclass(name, fields)
    cls.__module__, cls.__qualname__ = "shop", name
    return cls


def test_a_name_that_nobody_registered_is_told_and_not_imported():
    written = write_plain(register_type(module_class("Sale", "x"))(1))
    registry._by_name.clear()
    with pytest.raises(ChangedCodeError, match="'shop:Sale', which no class is registered as") as caught:
        read_plain(written)
    assert caught.value.name == "shop:Sale"
    assert "shop" not in sys.modules


def test_other_fields_are_told():
    written = write_plain(register_type(module_class("Sale", "x", "y"))(1, 2))
    register_type(module_class("Sale", "x", "z"))
    with pytest.raises(ChangedCodeError, match="with the fields x, y and now has the fields x, z"):
        read_plain(written)


def test_a_class_that_is_loaded_again_takes_the_place_of_the_first():
    earlier = register_type(module_class("Sale", "x"))
    written = write_plain(earlier(1))
    later = register_type(module_class("Sale", "x"))
    assert type(read_plain(written)) is later
    with pytest.raises(NotPlain):
        write_plain(earlier(1))


def test_members_and_kinds_that_are_gone_are_told():
    def color(*names: str) -> type[enum.Enum]:
        return register_type(enum.Enum("Paint", list(names), module="shop", qualname="Paint"))

    paint = write_plain(color("RED").RED)
    color("BLUE")
    with pytest.raises(ChangedCodeError, match="'shop:Paint', which has no member 'RED' now"):
        read_plain(paint)
    register_type(module_class("Paint", "x"))
    with pytest.raises(ChangedCodeError, match="was an enum and is none now"):
        read_plain(paint)
    sale = write_plain(register_type(module_class("Sale", "x"))(1))
    register_type(enum.Enum("Sale", ["x"], module="shop", qualname="Sale"))
    with pytest.raises(ChangedCodeError, match="now has no fields"):
        read_plain(sale)


def test_local_classes_cannot_be_registered():
    @dataclass
    class Local:
        x: int

    with pytest.raises(DeclarationError, match="is defined in a function"):
        register_type(Local)


class Plain:
    pass


@dataclass
class PickledByHand:
    x: int

    def __getstate__(self) -> Any:
        return {}


@dataclass
class ListWithFields(list):
    x: int


@dataclass
class MadeByHand:
    x: int

    def __new__(cls, *arguments: Any) -> Any:
        return super().__new__(cls)


class MoreSlots:
    __slots__ = ("hidden",)


@dataclass
class WithMoreSlots(MoreSlots):
    x: int


class Computed:
    @property
    def x(self) -> int:
        return 1

    @x.setter
    def x(self, value: int) -> None:
        pass


@dataclass
class WithComputed(Computed):
    x: int


@pytest.mark.parametrize(
    ("cls", "problem"),
    [
        (Plain, "no dataclass, no NamedTuple and no enum; wrong: `@dataclass` above"),
        (PickledByHand, "says with __getstate__ how it is pickled"),
        (ListWithFields, "has a __new__ of its own"),
        (MadeByHand, "has a __new__ of its own"),
        (WithMoreSlots, "'MoreSlots' has the slots hidden"),
        (WithComputed, "computes 'x'"),
        (7, "register_type takes a class, not 7"),
    ],
)
def test_classes_that_are_more_than_their_fields_are_refused(cls, problem):
    with pytest.raises(DeclarationError, match=problem):
        register_type(cls)


def test_old_named_tuples_are_taken():
    Pair = namedtuple("Pair", "a b")  # noqa: PYI024 - what this makes is taken too
    Pair.__module__ = "shop"
    register_type(Pair)
    assert read_plain(write_plain(Pair(1, 2))) == (1, 2)


def test_a_class_of_a_script_has_one_name_in_every_process(tmp_path):
    source = (
        "from dataclasses import dataclass\n"
        "from cascade.adapters.serializers import register_type\n"
        "from cascade.adapters.serializers.writing import write_plain\n"
        "@register_type\n@dataclass\nclass Sale:\n    x: int\n"
        "print(write_plain(Sale(1)).hex())\n"
    )
    (tmp_path / "shop_script.py").write_text(source)
    written = {
        subprocess.run([sys.executable, *how], check=True, capture_output=True, cwd=tmp_path).stdout
        for how in (["shop_script.py"], ["-m", "shop_script"], ["-c", "import shop_script"])
    }
    assert len(written) == 1
