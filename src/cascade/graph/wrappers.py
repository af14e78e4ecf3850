"""The objects by which Python and Cascade wrap functions, and the functions in them."""

from __future__ import annotations

import functools
import types
from typing import Any, Final

from cascade.graph.callables import qualified_name
from cascade.spec.task import Task


def is_code(value: Any) -> bool:
    """Whether a value is a function, or one of the objects by which Python and Cascade wrap functions."""
    return isinstance(value, _KINDS)


_KINDS: Final = (
    types.FunctionType, types.BuiltinFunctionType, types.MethodType, types.MethodWrapperType,
    types.MethodDescriptorType, types.WrapperDescriptorType, types.ClassMethodDescriptorType, functools.partial,
    functools.partialmethod, functools.cached_property, functools.singledispatchmethod, staticmethod, classmethod,
    property, type(functools.lru_cache(len)), Task,
)  # fmt: skip


def held(value: Any) -> tuple[object, ...]:
    """What an object that is no function but wraps some consists of."""
    if isinstance(value, Task):
        return (value.function, value.version, value._bound_args, dict(value._bound_kwargs))  # pyright: ignore[reportPrivateUsage]
    if isinstance(value, functools.partial | functools.partialmethod):
        return (value.func, value.args, value.keywords)
    if isinstance(value, types.MethodType | staticmethod | classmethod):
        owner = getattr(value, "__self__", None)
        return (value.__func__, owner)
    if isinstance(value, property):
        return (value.fget, value.fset, value.fdel)
    if isinstance(value, functools.cached_property):
        return (value.func,)
    if isinstance(value, functools.singledispatchmethod):
        return (value.func, dict(value.dispatcher.registry))
    wrapped = getattr(value, "__wrapped__", None)
    return (qualified_name(value),) if wrapped is None else (wrapped,)
