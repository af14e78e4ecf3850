"""What a task's function is called in every process, and the digest of what it would do."""

from __future__ import annotations

import functools
import types
from collections.abc import Callable
from typing import Any

from cascade.graph.atoms import ATOMS
from cascade.graph.callables import closed_over, defaults, is_local, is_marker, module_name, qualified_name
from cascade.graph.digest import UndigestibleError, combine, digest

__all__ = ["code_digest", "has_own_name", "is_local", "is_marker_default", "task_identity"]


def code_digest(function: Callable[..., Any]) -> bytes:
    """16 bytes that stand for what a function does: its code, defaults and closed-over values.

    Comments, docstrings and the lines where it stands do not count; what it reaches through global names does
    not either. Minor versions of Python compile to different code and give different digests.

    Args:
        function: a function, method, `functools.partial`, class, builtin or callable object.

    Raises:
        UndigestibleError: it closes over, or is bound to, something without a sure content.

    >>> code_digest(lambda x: x + 1) == code_digest(lambda x: x + 2)
    False
    """
    name = f"function '{getattr(function, '__qualname__', type(function).__qualname__)}'"
    if isinstance(function, functools.partial):
        bound = digest((function.args, function.keywords), name)
        return combine("partial", code_digest(function.func), bound)
    if _is_instance(function):
        return combine("callable", digest(type(function), name), digest(function, name))
    return digest(function, name)


def task_identity(function: Callable[..., Any]) -> str:
    """The name of a task's function, the same in every process; for what can be imported, whatever its code.

    It is `module:qualname`, a script's module by the name of its file. What has no name of its own carries a
    digest: lambdas and local functions of their code, methods of the object they are bound to, partials of
    their arguments, callable objects of themselves. A function that a decorator made in place of a named one
    keeps that name and adds the decorator's.

    Raises:
        UndigestibleError: what would have to tell it from others has no sure content.

    >>> task_identity(sum)
    'builtins:sum'
    """
    if isinstance(function, types.FunctionType):
        name = qualified_name(function)
        if has_own_name(function):
            return name
        return f"{name}#{code_digest(function).hex()}" if is_local(function) else f"{name}@{_decoration(function)}"
    if isinstance(function, types.MethodType):
        return f"{task_identity(function.__func__)}({_owner(function.__self__)})"
    if isinstance(function, functools.partial):
        bound = digest((function.args, function.keywords), "the arguments of a functools.partial")
        return f"partial({task_identity(function.func)},{bound.hex()})"
    if isinstance(function, type):
        name = qualified_name(function)
        return f"{name}#{code_digest(function).hex()}" if is_local(function) else name
    if _is_instance(function):
        return f"{qualified_name(type(function))}({_owner(function)})"
    described: Any = function
    owner = getattr(described, "__self__", None)
    if owner is not None and not isinstance(owner, types.ModuleType):
        return f"{_type_name(owner)}.{described.__name__}({_owner(owner)})"
    defining = getattr(described, "__objclass__", None)
    return qualified_name(described) if defining is None else f"{qualified_name(defining)}.{described.__name__}"


def has_own_name(function: types.FunctionType) -> bool:
    """Whether a function's name is enough to tell it from others: it is neither local nor decorated."""
    # Named like another function, it was made by a decorator: `functools.wraps` was at work.
    return not is_local(function) and function.__code__.co_qualname == function.__qualname__


def is_marker_default(function: Callable[..., Any], name: str, value: object) -> bool:
    """Whether a value without content, as an `object()`, only says that the argument was not given.

    As the function's own default it is covered by `code_digest`.

    >>> not_given = object()
    >>> def work(x, y=not_given): ...
    >>> is_marker_default(work, "y", not_given), is_marker_default(work, "x", not_given)
    (True, False)
    """
    if type(value) in ATOMS:
        return False
    called: Any = function
    while isinstance(called, types.MethodType):
        called = called.__func__
    return isinstance(called, types.FunctionType) and defaults(called).get(name) is value and is_marker(value)


def _is_instance(function: Any) -> bool:
    """Whether it is an object with `__call__`, and not something that has a name of its own."""
    return not isinstance(function, type) and not hasattr(function, "__qualname__")


def _owner(owner: Any) -> str:
    if isinstance(owner, type) and not is_local(owner):
        return qualified_name(owner)
    return digest(owner, f"the {type(owner).__qualname__} that the function belongs to").hex()


def _type_name(owner: Any) -> str:
    return qualified_name(owner if isinstance(owner, type) else type(owner))


def _decoration(function: types.FunctionType) -> str:
    """Which decorator made this function, and with which values; not its code, as for any named function."""
    closure, _ = closed_over(function)
    told = [
        _undecorated(name, value, function)
        for values in (closure, defaults(function))
        for name, value in sorted(values.items())
    ]
    made_by = f"{module_name(function.__globals__.get('__name__', ''))}:{function.__code__.co_qualname}"
    return f"{made_by}({combine('decoration', *told).hex()})"


def _undecorated(name: str, value: object, function: types.FunctionType) -> bytes:
    """A value that a decorator's function holds, where a lock or a cache says nothing but its type."""
    try:
        if value is function:
            return b"itself"
        if isinstance(value, types.FunctionType):
            return combine(name, task_identity(value).encode())
        return combine(name, digest(value))
    except UndigestibleError:
        return combine(name, qualified_name(type(value)).encode())
