"""What a function does, all of it: its own code, and the first-party code and constants that it uses.

From a function's code the global names that it uses are followed: functions, classes with their bases and methods,
tasks, what decorators and partials hold, what imports inside the code bring, and so on from there, through first-party
modules only (see `first_party`). All else is named, and its code is not looked at. Names with other values are
constants, and count by their content. These count by their type alone:

- what has no content that is sure, as a lock, an open file, a client of a server;
- generators of random numbers, whose content changes with every use, and loggers;
- what the code itself changes, as `seen.add(x)` or `global total`: it is what the code leaves behind, and not what it
  is given.

What cannot be seen is found by computed names (a module that is used as a value counts whole, for `getattr` on it),
through methods of objects whose class shows only when the code runs, and changed under other names.

A function's uses are remembered, and looked up again only when a name is bound to another object, a function has got
other code, or a value that can change has changed.
"""

from __future__ import annotations

import functools
import threading
import types
import weakref
from collections.abc import Callable, Mapping
from typing import Any, Final, cast

from cascade.graph.atoms import ATOMS
from cascade.graph.callables import qualified_name
from cascade.graph.code import task_identity
from cascade.graph.digest import combine
from cascade.graph.first_party import is_first_party
from cascade.graph.use_walk import MISSING, Walk, content_in

_MOST_REMEMBERED: Final = 2_000
_FUNCTIONS: Final = frozenset({types.FunctionType, types.MethodType, functools.partial, type(functools.lru_cache(len))})


class Uses:
    """What a function does.

    Attributes:
        identity: the task that it is, as `task_identity` names it.
        parts: a digest for each thing that it uses, by names such as `function flow:clean`.
        loosely: why those constants that count by their type alone do so, by the same names.
        digest: 16 bytes that stand for all of it.
    """

    __slots__ = ("digest", "identity", "loosely", "parts")

    def __init__(self, identity: str, parts: Mapping[str, bytes], loosely: Mapping[str, str]) -> None:
        self.identity = identity
        self.parts = parts
        self.loosely = loosely
        named = [part for name in sorted(parts) for part in (name.encode("utf-8", "surrogatepass"), parts[name])]
        self.digest = combine("uses", *named)


def uses_of(definition: Callable[..., Any]) -> Uses:
    """What a function, method, partial, class or callable object does.

    Raises:
        UndigestibleError: it closes over, or is bound to, something without a sure content.

    >>> uses_of(len).identity
    'builtins:len'
    """
    found = _remembered.get(id(definition))
    if found is not None and found.stands_for(definition):
        return found.uses
    walk = Walk(definition)
    uses = Uses(task_identity(definition), walk.parts, walk.loosely)
    try:
        weak = weakref.ref(definition, functools.partial(_forget, _remembered, id(definition)))
    except TypeError:
        return uses
    with _lock:
        while len(_remembered) >= _MOST_REMEMBERED:
            _remembered.pop(next(iter(_remembered)))
        _remembered[id(definition)] = _Remembered(uses, walk, weak)
    return uses


def uses_within(value: object) -> list[Uses]:
    """What the first-party code does that comes with an argument: of its class, or of the function that it is.

    Of an exact list, tuple, set or dict the items are looked at too, and no further.
    """
    kind = type(value)
    if kind in ATOMS:
        return []
    items: list[object] = [value]
    if kind in (list, tuple, set, frozenset):
        items = cast(list[object], value)
    elif kind is dict:
        items = cast(list[object], cast(dict[object, object], value).values())
    kinds = set(map(type, items)) - ATOMS.keys()
    found: list[object] = [item for item in items if type(item) in _FUNCTIONS] if kinds & _FUNCTIONS else []
    found.extend(sorted((kind for kind in kinds if is_first_party(kind)), key=qualified_name))
    return [uses_of(cast(Any, definition)) for definition in found]


class _Remembered:
    """Uses, and by what it is known that they still hold."""

    __slots__ = ("_bindings", "_cells", "_functions", "_own", "_watched", "_weak", "uses")

    def __init__(self, uses: Uses, walk: Walk, weak: weakref.ref[Any]) -> None:
        self.uses = uses
        self._weak = weak
        root = weak()
        # Not the function itself, which could then never be gone.
        self._own = _state(root) if type(root) is types.FunctionType else None
        self._functions = [(found, _state(found)) for found in walk.functions if found is not root]
        self._bindings = walk.bindings
        self._cells = [(cell, value) for cell, value in walk.cells if value is not root]
        self._watched = walk.watched

    def stands_for(self, definition: Any) -> bool:
        if self._weak() is not definition or not (self._own is None or _has_state(definition, self._own)):
            return False
        for names, name, value in self._bindings:
            if names.get(name, MISSING) is not value:
                return False
        for function, state in self._functions:
            if not _has_state(function, state):
                return False
        for cell, value in self._cells:
            if content_in(cell) is not value:
                return False
        return all(watched.is_as_it_was() for watched in self._watched)


_lock: Final = threading.Lock()
_remembered: Final[dict[int, _Remembered]] = {}
"""By the id of the function, until the function is gone; the longest known go first when there are too many."""


def _forget(remembered: dict[int, _Remembered], identity: int, _: object) -> None:
    remembered.pop(identity, None)


def _state(function: Any) -> tuple[object, object, object]:
    return (function.__code__, function.__defaults__, function.__kwdefaults__)


def _has_state(function: Any, state: tuple[object, object, object]) -> bool:
    code, positional, keywords = state
    return function.__code__ is code and function.__defaults__ is positional and function.__kwdefaults__ is keywords
