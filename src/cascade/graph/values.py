"""How each kind of value is taken apart.

Kinds with a content of their own are listed here; every other object is what it tells `pickle` about itself,
without pickling: its class, what that is called with, its state. What refuses to tell, or has nothing but its
identity, is refused here too.
"""

from __future__ import annotations

import copyreg
import enum
import functools
import types
from collections.abc import Callable, Iterable, Mapping, Sequence
from pickle import PickleBuffer
from typing import Any, cast

from cascade.graph.atoms import ATOMS, integer, sized, text
from cascade.graph.callables import (
    NEW_OBJECT,
    class_parts,
    code_token,
    function_parts,
    is_local,
    module_name,
    module_parts,
    qualified_name,
)
from cascade.graph.parts import Attributes, Parts, Refusal, Step, shown
from cascade.spec.policy import is_lazy

_LIVE = frozenset({
    "_queue", "_thread", "_weakref", "_weakrefset", "asyncio", "concurrent", "contextvars", "multiprocessing",
    "queue", "selectors", "socket", "ssl", "threading", "weakref",
})  # fmt: skip
"""Modules whose objects are tied to their process, also where they tell `pickle` otherwise."""

_IDENTITY_ONLY = "it has no content, only its identity, which no other process knows"
_BY_IDENTITY_HINT = (
    "make it an Enum member, give its class an __eq__, or give it a __reduce__ that returns its global name"
)


def take_apart(value: object) -> Parts:
    """The parts of a value that is no atom; `Refusal` where its content is not sure."""
    try:
        return _taken_apart(value, type(value))
    except Refusal:
        raise
    except Exception as error:
        # Methods of any class are called here.
        raise Refusal(f"reading its content failed with {type(error).__name__}: {error}") from error


def _taken_apart(value: Any, kind: type[Any]) -> Parts:
    known = _KINDS.get(kind)
    if known is not None:
        return known(value)
    late = _LATE_KINDS.get((kind.__module__.partition(".")[0], kind.__name__))
    if late is not None:
        return late(value)
    if is_lazy(value):
        raise Refusal("it is a lazy value, which has no value yet; run it first, or let the call depend on it")
    if isinstance(value, type):
        return class_parts(value)
    if isinstance(value, enum.Enum):
        return _enum_member(value)
    if isinstance(value, set | frozenset):
        return _set_of_own_kind(value, kind)
    return _reduced(value, kind)


def _mapping(value: Mapping[Any, Any]) -> Parts:
    """Insertion order counts: who iterates over a dict sees it, and a wrong hit is worse than a miss."""
    keys = list(value)
    children = [part for pair in value.items() for part in pair]
    return Parts(b"dict", children, _key_steps(keys))


def _set_of_own_kind(value: Any, kind: type) -> Parts:
    # What it would tell `pickle` has its members in an order that changes from process to process.
    return Parts(b"set of", (*_type_parts(kind), frozenset(value), _state(value.__getstate__(), kind)), _no_step)


def _enum_member(member: enum.Enum) -> Parts:
    # A value such as `object()` is no content; the name is, as a member is found by it.
    content = member._value_ if type(member._value_) in ATOMS else None
    return Parts(b"enum", (*_type_parts(type(member)), member._name_, content), ("", "", ".value", "").__getitem__)


def _date(value: Any) -> Parts:
    return Parts(b"date", (value.year, value.month, value.day))


def _time(value: Any) -> Parts:
    clock = (value.hour, value.minute, value.second, value.microsecond, value.fold)
    return Parts(b"time", (*clock, value.tzinfo), lambda index: ".tzinfo")


def _datetime(value: Any) -> Parts:
    clock = (value.hour, value.minute, value.second, value.microsecond, value.fold)
    return Parts(b"datetime", (value.year, value.month, value.day, *clock, value.tzinfo), lambda index: ".tzinfo")


def _zone_info(value: Any) -> Parts:
    if value.key is None:
        raise Refusal("a ZoneInfo read from a file has no name; use ZoneInfo(key)")
    return Parts(b"ZoneInfo", (value.key,))


def _buffer(value: memoryview) -> Parts:
    return Parts(b"memoryview" + sized(b"b", value.tobytes()), (value.format, *(value.shape or ())))


def _pickle_buffer(value: PickleBuffer) -> Parts:
    with memoryview(value) as view:
        return Parts(b"buffer" + sized(b"b", view.cast("B") if view.c_contiguous else view.tobytes()), ())


def _array(value: Any) -> Parts:
    """A numpy array by its dtype, shape and elements, in whatever order they lie in memory."""
    if value.dtype.hasobject:
        return Parts(b"array", (value.dtype, value.shape, value.tolist()), ("", "", "").__getitem__)
    flat = value if value.flags.c_contiguous else value.copy(order="C")
    content = flat.reshape(-1).view("u1").data if flat.nbytes else b""
    return Parts(b"array" + sized(b"b", content), (value.dtype, value.shape))


def _moments(value: Any) -> Parts:
    kind: str = type(value).__name__
    return Parts(kind.encode(), (value.dtype, value._ndarray, getattr(value, "freq", None)), _no_step)


def _bound_method(value: types.MethodType) -> Parts:
    return Parts(b"method", (value.__self__, value.__func__), (".__self__", "").__getitem__)


def _builtin(value: Any) -> Parts:
    owner = getattr(value, "__self__", None)
    if owner is None or isinstance(owner, types.ModuleType):
        return Parts(b"builtin" + text(qualified_name(value)), ())
    return Parts(b"builtin of" + text(value.__name__), (owner,), lambda index: ".__self__")


def _descriptor(value: Any) -> Parts:
    return Parts(b"descriptor" + text(qualified_name(value.__objclass__)) + text(value.__name__), ())


def _cached_function(value: Any) -> Parts:
    return Parts(b"lru_cache" + text(qualified_name(value)), (value.__wrapped__,), ("",).__getitem__)


def _reduced(value: Any, kind: type) -> Parts:
    """An object by what it would tell `pickle`."""
    if kind.__module__.partition(".")[0] in _LIVE and not isinstance(value, BaseException):
        raise Refusal("it lives in this process only; inject it as a resource")
    if hasattr(kind, "__next__") and getattr(kind, "__getstate__", None) is object.__getstate__:
        raise Refusal("an iterator is used up by reading; pass a list of its items, or what it is made from")
    reduced = _ask(value, kind)
    if isinstance(reduced, str):
        module = getattr(value, "__module__", None) or kind.__module__
        return Parts(b"global" + text(f"{module_name(module)}:{reduced}"), ())
    function, arguments, state, items, pairs = (*reduced, None, None, None)[:5]
    if type(state) is dict and not state:
        # Whether that is said or left out differs between versions of Python.
        state = None
    if function is NEW_OBJECT and arguments:
        function, *arguments = arguments
        label, made_by = b"object", _type_parts(function)
    elif isinstance(function, type):
        label, made_by = b"called", _type_parts(function)
    elif isinstance(function, types.FunctionType) and not is_local(function):
        # How a value is put together again is named, and not the code: that is no part of the value.
        label, made_by = b"made by", (qualified_name(function),)
    else:
        label, made_by = b"made by", (function,)
    if function is kind and not arguments and state is None and items is None and pairs is None:
        _refuse_mere_identity(kind)
    listed: list[object] | None = None if items is None else list(items)
    mapped = None if pairs is None else _Items(pairs)
    children: tuple[object, ...] = (
        *made_by,
        *map(_nameless, arguments or ()),
        _state(state, kind),
        listed,
        mapped,
    )
    return Parts(label + integer(len(children)), children, _no_step)


def _ask(value: Any, kind: type) -> Any:
    registered = copyreg.dispatch_table.get(kind)
    try:
        reduced: Any = registered(value) if registered is not None else value.__reduce_ex__(5)
    except Exception as error:
        raise Refusal(f"{error}; pass what it is made from, or inject it as a resource") from error
    shape = cast(type[object], type(reduced))
    if shape is str or (shape is tuple and 2 <= len(reduced) <= 6):
        return reduced
    raise Refusal(f"its __reduce_ex__ returned a {shape.__name__}, expected a str or a tuple of 2 to 6")


def _refuse_mere_identity(kind: type) -> None:
    """Two objects without state are one value only if nothing but their class makes them what they are.

    An `__eq__` says so. So does behaviour (a parser, a strategy), as then it is the class that a task uses; a
    marker that is only ever compared with `is` has none.
    """
    own_equality: Any = kind.__eq__
    if own_equality is not object.__eq__ or kind.__module__ == "dataclasses":
        return
    if any(callable(value) and (not name.startswith("_") or name == "__call__")
           for base in kind.__mro__[:-1] for name, value in vars(base).items()):  # fmt: skip
        return
    raise Refusal(f"{_IDENTITY_ONLY}; {_BY_IDENTITY_HINT}")


def _type_parts(kind: type) -> tuple[object, ...]:
    """The class of an instance; a local one with its body, as its name would not tell it from another."""
    return (qualified_name(kind), kind if is_local(kind) else None)


def _state(state: Any, kind: type) -> object:
    """The state of an object: attributes in no order, without what `cached_property` will compute again."""
    shape = cast(type[object], type(state))
    if shape is tuple and len(state) == 2 and type(state[1]) is dict:
        return (_state(state[0], kind), _state(state[1], kind))
    if shape is dict and all(type(name) is str for name in state):
        return Attributes({
            name: value
            for name, value in state.items()
            if not isinstance(getattr(kind, name, None), functools.cached_property)
        })  # fmt: skip
    return state


def _nameless(argument: object) -> object:
    """A class among the arguments of a reconstruction is named, like the class of the value itself."""
    return _Named(argument) if isinstance(argument, type) else argument


class _Named:
    """A class that is meant by its name alone."""

    __slots__ = ("kind",)

    def __init__(self, kind: type) -> None:
        self.kind = kind


class _Items:
    """Pairs as `pickle` gets them from a mapping: a dict, but perhaps with a key twice."""

    __slots__ = ("pairs",)

    def __init__(self, pairs: Iterable[tuple[object, object]]) -> None:
        self.pairs = list(pairs)

    def parts(self) -> Parts:
        children = [part for pair in self.pairs for part in pair]
        keys = [pair[0] for pair in self.pairs]
        return Parts(b"items", children, _key_steps(keys))


def _key_steps(keys: Sequence[object]) -> Step:
    return lambda index: f"[{shown(keys[index // 2])}]" if index % 2 else f" (key {shown(keys[index // 2])})"


def _no_step(_: int) -> str:
    return ""


def _tagged(label: bytes, read: Callable[[Any], tuple[object, ...]]) -> Callable[[Any], Parts]:
    return lambda value: Parts(label, read(value))


_KINDS: dict[type, Callable[[Any], Parts]] = {
    list: lambda value: Parts(b"list", value),
    tuple: lambda value: Parts(b"tuple", value),
    dict: _mapping,
    set: lambda value: Parts(b"set", list(value), lambda index: " (a member)", unordered=True),
    frozenset: lambda value: Parts(b"frozenset", list(value), lambda index: " (a member)", unordered=True),
    Attributes: Attributes.parts,
    _Items: _Items.parts,
    _Named: lambda value: Parts(b"named", _type_parts(value.kind)),
    types.MappingProxyType: lambda value: Parts(b"mappingproxy", (dict(value),), _no_step),
    slice: _tagged(b"slice", lambda value: (value.start, value.stop, value.step)),
    memoryview: _buffer,
    PickleBuffer: _pickle_buffer,
    types.FunctionType: function_parts,
    types.CodeType: lambda value: Parts(b"code" + code_token(value), ()),
    types.MethodType: _bound_method,
    types.BuiltinFunctionType: _builtin,
    types.MethodWrapperType: _builtin,
    types.MethodDescriptorType: _descriptor,
    types.WrapperDescriptorType: _descriptor,
    types.ClassMethodDescriptorType: _descriptor,
    types.ModuleType: module_parts,
    type: class_parts,
    type(functools.lru_cache(len)): _cached_function,
}

_LATE_KINDS: dict[tuple[str, str], Callable[[Any], Parts]] = {
    ("datetime", "date"): _date,
    ("datetime", "time"): _time,
    ("datetime", "datetime"): _datetime,
    ("datetime", "timedelta"): _tagged(b"timedelta", lambda value: (value.days, value.seconds, value.microseconds)),
    ("zoneinfo", "ZoneInfo"): _zone_info,
    ("decimal", "Decimal"): _tagged(b"Decimal", lambda value: (str(value),)),
    ("fractions", "Fraction"): _tagged(b"Fraction", lambda value: (value.numerator, value.denominator)),
    ("uuid", "UUID"): _tagged(b"UUID", lambda value: (value.int,)),
    ("re", "Pattern"): _tagged(b"Pattern", lambda value: (value.pattern, value.flags)),
    ("pathlib", "PosixPath"): _tagged(b"PosixPath", lambda value: (str(value),)),
    ("pathlib", "WindowsPath"): _tagged(b"WindowsPath", lambda value: (str(value),)),
    ("pathlib", "PurePosixPath"): _tagged(b"PurePosixPath", lambda value: (str(value),)),
    ("pathlib", "PureWindowsPath"): _tagged(b"PureWindowsPath", lambda value: (str(value),)),
    ("numpy", "ndarray"): _array,
    # These tell `pickle` also what they have remembered of answers given so far.
    ("pandas", "DatetimeArray"): _moments,
    ("pandas", "TimedeltaArray"): _moments,
}
"""By the top module and the name of the exact type, so that none of these modules is imported for it."""
