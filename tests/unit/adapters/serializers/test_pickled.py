"""What is no plain data is pickled; what cannot be is named, and so is what has changed since."""

from __future__ import annotations

import sys
import threading
import types
from typing import Any

import pytest

from cascade.adapters.serializers import ChangedCodeError, SignedSerializer, UnserializableValueError
from cascade.spec.exceptions import CascadeError
from tests.unit.adapters.serializers.registered_classes import Frozen, Link, Unregistered

SERIALIZER = SignedSerializer(bytes(32))


def fail(value: Any) -> UnserializableValueError:
    with pytest.raises(UnserializableValueError) as caught:
        SERIALIZER.dumps(value, context=b"")
    return caught.value


class Refusing:
    def __reduce__(self):
        raise ZeroDivisionError("no, thank you")

    def __repr__(self):
        raise ValueError

    def __hash__(self):
        return 1


class Slotted:
    __slots__ = ("empty", "lock")

    def __init__(self, lock: Any) -> None:
        self.lock = lock


LOCK = threading.Lock()


@pytest.mark.parametrize(
    ("value", "path"),
    [
        (LOCK, "result"),
        ({"model": [0, 1, 2, LOCK]}, "result['model'][3]"),
        ((1, {2: LOCK}), "result[1][2]"),
        (Unregistered([LOCK]), "result.x[0]"),
        (Frozen(1, {"a": LOCK}), "result.y['a']"),
        (Slotted(LOCK), "result.lock"),
        ({LOCK: 1}, f"result's key {LOCK!r}"[:46] + "..."),
        ({Refusing(): LOCK}, "result[a Refusing]"),
        ({1, LOCK}, "result's member"),
        ({"x" * 99: LOCK}, "result['" + "x" * 36 + "...]"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_what_cannot_be_kept_is_named_with_its_place(value, path):
    error = fail(value)
    assert error.value_type is type(LOCK)
    if "key" not in path:
        assert error.path == path
    else:
        assert error.path.startswith("result's key <")
    assert f"cannot keep {error.path}: a _thread.lock (cannot pickle '_thread.lock' object)" in str(error)
    assert "register it with cs.register_type" in str(error)


def test_the_error_takes_the_name_of_the_task():
    error = fail(LOCK)
    assert isinstance(error, CascadeError)
    assert isinstance(error, TypeError)
    assert error.task_name is None
    error.task_name = "train"
    assert str(error).startswith("task 'train': cannot keep result: a _thread.lock")


def test_whatever_a_class_raises_is_the_reason():
    error = fail([Refusing()])
    assert error.path == "result[0]"
    assert error.problem == "no, thank you"
    assert isinstance(error.__cause__, ZeroDivisionError)


@pytest.mark.parametrize("value", [lambda: 1, (item for item in "ab"), sys], ids=["lambda", "generator", "module"])
def test_live_objects_are_refused(value):
    assert fail([value]).path == "result[0]"


def test_what_is_too_deep_for_pickle_says_so():
    value: Any = Unregistered(1)
    for _ in range(100_000):
        value = [value]
    error = fail(value)
    assert "nested deeper than pickle can follow" in str(error)


def test_a_circle_comes_back():
    link = Link(None)
    link.following = [link]
    loaded: Any = SERIALIZER.loads(SERIALIZER.dumps(link, context=b""), context=b"")
    assert loaded.following[0] is loaded


def test_a_circle_with_something_live_ends():
    circle: list[Any] = [LOCK]
    circle.insert(0, circle)
    assert fail(circle).path == "result[1]"


class Treacherous(dict):
    def items(self):
        raise ZeroDivisionError


def test_a_part_that_cannot_be_asked_is_named_as_a_whole():
    error = fail([Treacherous(lock=LOCK)])
    assert (error.path, error.value_type) == ("result[0]", Treacherous)


class Selective:
    def __init__(self, lock: Any) -> None:
        self.lock = lock

    def __getstate__(self) -> Any:
        raise OSError("the disk is gone")


def test_attributes_that_are_not_pickled_are_not_blamed():
    error = fail([Selective(LOCK)])
    assert (error.path, error.problem) == ("result[0]", "the disk is gone")


@pytest.fixture
def shop(monkeypatch):
    shop = types.ModuleType("shop")
    exec(
        "class Sale:\n"
        "    def __setstate__(self, state): self.__dict__.update(state)\n"
        "class Odd(Exception):\n"
        "    pass\n",
        shop.__dict__,
    )
    monkeypatch.setitem(sys.modules, "shop", shop)
    return shop


def test_a_class_that_is_gone_is_named(shop, monkeypatch):
    sale = shop.Sale()
    sale.x = 1
    payload = SERIALIZER.dumps(sale, context=b"")
    del shop.Sale
    with pytest.raises(ChangedCodeError, match="needs 'shop:Sale', which cannot be imported") as caught:
        SERIALIZER.loads(payload, context=b"")
    assert caught.value.name == "shop:Sale"
    monkeypatch.delitem(sys.modules, "shop")
    with pytest.raises(ChangedCodeError, match="No module named 'shop'"):
        SERIALIZER.loads(payload, context=b"")


def test_a_class_that_no_longer_takes_its_state_is_named(shop):
    sale = shop.Sale()
    sale.x = 1
    payload = SERIALIZER.dumps(sale, context=b"")

    def refuse(self: Any, state: Any) -> None:
        raise KeyError("y")

    shop.Sale.__setstate__ = refuse
    with pytest.raises(ChangedCodeError, match=r"'shop:Sale', which does not take what was stored \(KeyError: 'y'\)"):
        SERIALIZER.loads(payload, context=b"")
