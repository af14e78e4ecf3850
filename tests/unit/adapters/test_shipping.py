"""How functions, arguments and outcomes are turned into bytes, without processes."""

from __future__ import annotations

import functools
import math
import os
import pickle
import sys
import threading
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest

from cascade.adapters.executors import _process_worker as inside
from cascade.adapters.executors.shipping import RemoteTaskError, Shipper, ShippingError
from cascade.spec.exceptions import MissingExtraError


class Task:
    """What a decorator puts in the place of a function."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function
        functools.update_wrapper(self, function)


@Task
def triple(x: int) -> int:
    return 3 * x


def double(x: int) -> int:
    return 2 * x


class Outer:
    class Inner:
        @staticmethod
        def deep() -> str:
            return "deep"


def load(shipped: Any) -> Any:
    return inside.resolve(*shipped) if isinstance(shipped, tuple) else pickle.loads(shipped)


def described(error: BaseException) -> list[memoryview]:
    """The answer of a worker whose call raised this."""
    return [memoryview(inside.RAISED), memoryview(pickle.dumps(inside.describe(error)))]


# S6
def test_what_a_module_has_goes_by_its_name() -> None:
    shipper = Shipper()
    assert shipper.pack_function(double, "t") == (__name__, "double", False)
    assert shipper.pack_function(Outer.Inner.deep, "t") == (__name__, "Outer.Inner.deep", False)
    assert shipper.pack_function(math.sqrt, "t") == ("math", "sqrt", False)
    assert shipper.pack_function(int, "t") == ("builtins", "int", False)


# S6
def test_a_function_behind_a_task_goes_by_the_tasks_name() -> None:
    shipped = Shipper().pack_function(triple.function, "t")
    assert shipped == (__name__, "triple", True)
    assert load(shipped) is triple.function


# S6
def test_a_function_behind_a_task_goes_by_name_wherever_it_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    shipper = Shipper()
    for cloudpickle in ("as it is", None):
        if cloudpickle is None:
            monkeypatch.setitem(sys.modules, "cloudpickle", None)
        bound = functools.partial(triple.function, 2)
        assert load(shipper.pack_function(bound, "t")).func is triple.function
        arguments = shipper.pack_arguments(double, ([triple.function],), {}, "t")
        assert pickle.loads(arguments[0]) == (([triple.function],), {})


# S6
def test_a_patched_name_does_not_send_another_function(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cloudpickle", None)
    original = double
    monkeypatch.setattr(sys.modules[__name__], "double", lambda x: x)
    with pytest.raises(MissingExtraError, match=r"its function double \(.*cannot import from"):
        Shipper().pack_function(original, "t")


# S6, S30
@pytest.mark.parametrize(
    ("function", "reason"),
    [(lambda: 1, "which is a lambda"), (functools.partial(lambda: 1), "which is a lambda")],
)
def test_without_cloudpickle_the_error_names_the_extra(
    function: Callable[..., Any], reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "cloudpickle", None)
    with pytest.raises(MissingExtraError, match=rf"'job'.*{reason}.*pip install 'cascade-py\[process\]'") as caught:
        Shipper().pack_function(function, "job")
    assert caught.value.extra == "process"

    def local() -> None: ...

    with pytest.raises(MissingExtraError, match=r"argument 'x' \(position 0\) has .*defined inside a function"):
        Shipper().pack_arguments(double, (local,), {}, "job")


# S6
@pytest.mark.needs_extra("process")
def test_a_module_can_be_sent_by_value_from_now_on(monkeypatch: pytest.MonkeyPatch) -> None:
    import cloudpickle

    module = ModuleType("cascade_test_flow")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    exec("def inner(): return 5\ndef outer(): return inner()", module.__dict__)
    shipper = Shipper()
    assert shipper.pack_function(module.outer, "t") == (module.__name__, "outer", False)
    assert shipper.send_by_value(module.__name__)
    assert not shipper.send_by_value(module.__name__)
    assert not shipper.send_by_value("a_module_that_nobody_has")
    shipped = shipper.pack_function(module.outer, "t")
    assert isinstance(shipped, bytes)
    assert module.__name__ not in cloudpickle.list_registry_pickle_by_value()
    monkeypatch.delitem(sys.modules, module.__name__)
    outer = load(shipped)
    assert outer() == 5
    # What arrived is bound under its name, so that answers can refer to it.
    assert sys.modules[module.__name__].outer is outer
    del sys.modules[module.__name__]


def test_large_buffers_stay_beside_the_pickle() -> None:
    payload = bytearray(b"x" * 1_000_000)
    parts = Shipper().pack_arguments(double, (pickle.PickleBuffer(payload),), {}, "t")
    assert [len(part) > 1000 for part in parts] == [False, True]
    (received,), _ = pickle.loads(parts[0], buffers=parts[1:])
    assert received == payload


def test_frames_carry_parts_of_any_size() -> None:
    for parts in ([b""], [b"a", b"", b"bc"], [b"x" * 70_000, bytearray(5), memoryview(b"yz")]):
        read, write = os.pipe()
        with open(read, "rb") as reader:
            writer = threading.Thread(target=inside.write_all, args=(write, inside.frame(parts)))
            writer.start()
            received = inside.read_frame(reader.fileno())
            writer.join()
            assert received is not None
            assert [bytes(part) for part in received] == [bytes(part) for part in parts]
            os.close(write)
            assert inside.read_frame(reader.fileno()) is None


class SlottedError(ValueError):
    def __init__(self, *, key: str) -> None:
        super().__init__(f"no {key}")
        self.key = key


class OwnWayError(Exception):
    def __init__(self, number: int) -> None:
        super().__init__(f"number {number}")
        self.number = number

    def __reduce__(self) -> Any:
        return OwnWayError, (self.number,)


class SystemFailure(OSError):
    def __init__(self, path: str) -> None:
        super().__init__(2, "gone", path)


# S15
@pytest.mark.parametrize(
    "error",
    [
        ValueError("plain"), KeyError("key"), StopIteration(5), SystemExit(3), SlottedError(key="k"),
        OwnWayError(7), SystemFailure("some/path"), FileNotFoundError(2, "gone", "a", None, "b"),
        ImportError("x", name="n"),
        UnicodeDecodeError("ascii", b"\xff", 0, 1, "bad"), SyntaxError("odd", ("f", 1, 2, "text")),
        RemoteTaskError("t", "m.E", "text"),
    ],
    ids=lambda error: type(error).__name__,
)  # fmt: skip
def test_an_exception_arrives_as_it_was(error: BaseException) -> None:
    error.add_note("kept")
    arrived = Shipper().read(described(error), "t").error
    assert arrived is not None
    assert type(arrived) is type(error)
    assert arrived.args == error.args
    assert str(arrived) == str(error)
    assert arrived.__notes__[0] == "kept"
    assert arrived.__notes__[1].startswith("In the worker process:\n")
    assert {**vars(arrived), "__notes__": 0} == {**vars(error), "__notes__": 0}
    for name in ("errno", "filename", "filename2", "code", "value", "name", "lineno"):
        assert getattr(arrived, name, None) == getattr(error, name, None)


# S15
def test_causes_arrive_and_endless_chains_end() -> None:
    error: BaseException = ValueError(0)
    for number in range(1, 100):
        following = ValueError(number)
        following.__cause__ = error
        error = following
    arrived = Shipper().read(described(error), "t").error
    depth = 0
    while arrived is not None:
        depth += 1
        arrived = arrived.__cause__
    assert 2 < depth < 50
    circle = ValueError("circle")
    circle.__context__ = other = ValueError("other")
    other.__context__ = circle
    assert str(Shipper().read(described(circle), "t").error) == "circle"


# S15
def test_groups_keep_their_members() -> None:
    inner = ExceptionGroup("in", [OwnWayError(1)])
    group = BaseExceptionGroup("all", [SlottedError(key="a"), inner, SystemExit(1)])
    arrived = Shipper().read(described(group), "t").error
    assert isinstance(arrived, BaseExceptionGroup)
    first, second, third = arrived.exceptions
    assert isinstance(first, SlottedError)
    assert first.key == "a"
    assert isinstance(second, ExceptionGroup)
    assert isinstance(second.exceptions[0], OwnWayError)
    assert isinstance(third, SystemExit)


# S30
def test_a_result_that_cannot_be_read_is_an_error_that_says_so() -> None:
    outcome = Shipper().read([memoryview(inside.RETURNED), memoryview(b"garbage")], "job")
    assert isinstance(outcome.error, ShippingError)
    assert "the result cannot be read here" in str(outcome.error)
    assert pickle.loads(pickle.dumps(outcome.error)).args == outcome.error.args
