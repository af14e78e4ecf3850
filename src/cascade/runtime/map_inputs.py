"""The inputs of maps: what can be mapped over, and how its rows are pulled."""

from __future__ import annotations

import inspect
import sys
import threading
from collections.abc import Iterator, Mapping, Sized
from operator import length_hint
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakKeyDictionary, WeakSet

from cascade.graph.edges import input_name
from cascade.runtime.preview import preview
from cascade.runtime.scheduler import MISSING
from cascade.spec.exceptions import MapInputError
from cascade.spec.task import takes_what_it_tells

if TYPE_CHECKING:
    from cascade.spec.lazy_types import MappedLazyResult

_QUICK: Final = frozenset({list, tuple, range, dict, set, frozenset})
_MOST_ITERATORS_KEPT: Final = 1024
_STEPS_ARE_ATOMIC: Final[bool] = getattr(sys, "_is_gil_enabled", lambda: True)()
_pulled: Final[WeakSet[Any]] = WeakSet()
"""The generators that a run has begun to pull from."""
_pulled_by: Final[WeakKeyDictionary[MappedLazyResult[Any], set[int]]] = WeakKeyDictionary()
"""Other iterators among the inputs of maps that a run has begun to pull from, by their identity."""


class BegunIterators:
    """The iterators that the maps of one run have begun to pull from: they give their items once.

    The last of them are kept alive, so that their identity is theirs alone; a loop may begin any number.
    """

    __slots__ = ("_iterators", "_lock")

    def __init__(self) -> None:
        self._iterators: dict[int, Iterator[Any]] = {}
        self._lock = threading.Lock()

    def begin(self, iterator: Iterator[Any]) -> bool:
        """Note an iterator; whether no other map has it."""
        with self._lock:
            if id(iterator) in self._iterators:
                return False
            if len(self._iterators) >= _MOST_ITERATORS_KEPT:
                del self._iterators[next(iter(self._iterators))]
            self._iterators[id(iterator)] = iterator
            return True


def are_quick(inputs: Mapping[str, Any]) -> bool:
    """Whether rows can be pulled anywhere at any time, since none of the inputs' code is a user's."""
    return all(type(value) in _QUICK for value in inputs.values())


def check_inputs(lazy: MappedLazyResult[Any], inputs: Mapping[str, Any], begun: BegunIterators) -> None:
    """Refuse inputs that cannot be mapped over together.

    Raises:
        MapInputError: one is text or no iterable, has been used up, or they differ in length.
    """
    lengths: dict[str, int | None] = {}
    for label, value in inputs.items():
        name = input_name(lazy, label)
        if isinstance(value, (str, bytes, bytearray)) or not hasattr(type(value), "__iter__"):
            raise MapInputError(
                lazy.name,
                {},
                f"{name} must be an iterable that is not text, got {type(value).__name__} {preview(value)}",
            )
        lengths[name] = len(value) if isinstance(value, Sized) else None
        if isinstance(value, Iterator):
            _refuse_spent(lazy, name, value, begun)
    known = {name: length for name, length in lengths.items() if length is not None}
    if len(set(known.values())) > 1:
        told = ", ".join(f"{name} has {length}" for name, length in known.items())
        raise MapInputError(lazy.name, lengths, f"inputs differ in length: {told}")


def _refuse_spent(lazy: MappedLazyResult[Any], name: str, value: Iterator[Any], begun: BegunIterators) -> None:
    """An iterator gives its items once: whoever comes second would silently map nothing."""
    closed = inspect.isgenerator(value) and inspect.getgeneratorstate(value) == inspect.GEN_CLOSED
    if inspect.isgenerator(value):
        used = value in _pulled
        _pulled.add(value)
    else:
        # Other iterators cannot be remembered after the run without being kept alive; the map that holds them can.
        known = _pulled_by.setdefault(lazy, set())
        used = id(value) in known and any(value is held for held in lazy.inputs.values())
        known.add(id(value))
    if not begun.begin(value) or closed or used:
        raise MapInputError(
            lazy.name,
            {name: None},
            f"{name} is a {type(value).__name__} that has been used up; pass a list, or make a new one for each map "
            "and each run",
        )


def by_position(lazy: MappedLazyResult[Any], inputs: Mapping[str, Any]) -> tuple[tuple[str, ...], Mapping[str, Any]]:
    """Which inputs go by name, and the inputs in the order of their rows: those by position come first.

    Inputs by name are handed over by position where that says the same, since it is the cheaper call.
    """
    labels = tuple(label for label in inputs if not label.isdigit())
    signature = lazy.task.signature
    if not labels or signature is None or not takes_what_it_tells(lazy.task.function):
        return labels, inputs
    if len(labels) == len(inputs):
        free = [
            parameter.name
            for parameter in signature.parameters.values()
            if parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD)
        ][lazy.positional :]
        wanted = free[: len(inputs)]
        if set(wanted) == set(inputs):
            return (), {name: inputs[name] for name in wanted}
    return labels, inputs


class QuickRows:
    """Rows of builtin containers of one length: any number of threads may pull them, each gets its own.

    Attributes:
        total: how many rows there are; fewer, if somebody takes items out of an input meanwhile.
        numbered: gives each row with its number behind its values. One `next` of it is one step of the interpreter,
            since all that it does is written in C and frees nothing: the inputs still hold the items.
    """

    __slots__ = ("_numbers", "numbered", "total")

    def __init__(self, inputs: Mapping[str, Any]) -> None:
        self.total = min(map(len, inputs.values()))
        self._numbers = iter(range(self.total))
        # The number comes last, so that none is taken for a row that there is not.
        rows = zip(*map(iter, inputs.values()), self._numbers, strict=False)
        self.numbered: Iterator[tuple[Any, ...]] = rows if _STEPS_ARE_ATOMIC else _OneAtATime(rows)

    @property
    def pulled(self) -> int:
        """How many rows have been pulled."""
        return self.total - length_hint(self._numbers)


class _OneAtATime:
    """An iterator that only one thread pulls from at a time, for interpreters whose threads run at once."""

    __slots__ = ("_iterator", "_lock")

    def __init__(self, iterator: Iterator[Any]) -> None:
        self._iterator = iterator
        self._lock = threading.Lock()

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        with self._lock:
            return next(self._iterator)


class SlowRows:
    """Rows of any iterables, whose code may be a user's: one thread may pull at a time."""

    __slots__ = ("_iterators", "_lazy", "_names", "_zipped")

    def __init__(self, lazy: MappedLazyResult[Any], inputs: Mapping[str, Any]) -> None:
        self._lazy = lazy
        self._names = tuple(inputs)
        self._iterators: tuple[Iterator[Any], ...] = tuple(iter(value) for value in inputs.values())
        # Sized inputs have been found to be of one length, so that `zip` cannot drop a value unnoticed.
        are_sized = all(isinstance(value, Sized) for value in inputs.values())
        self._zipped = zip(*self._iterators, strict=False) if are_sized else None

    def next_row(self) -> tuple[Any, ...] | None:
        """The next value of each input, or `None` at the end."""
        if self._zipped is not None:
            return next(self._zipped, None)
        row: list[Any] = []
        ended: list[str] = []
        for name, iterator in zip(self._names, self._iterators, strict=True):
            value = next(iterator, MISSING)
            if value is MISSING:
                ended.append(name)
            else:
                row.append(value)
        if not ended:
            return tuple(row)
        if row:
            shown = [input_name(self._lazy, name) for name in ended]
            others = [input_name(self._lazy, name) for name in self._names if name not in ended]
            raise MapInputError(
                self._lazy.name,
                dict.fromkeys(self._names),
                f"{', '.join(shown)} ended before {', '.join(others)}; inputs must have the same number of items",
            )
        return None

    def close(self) -> BaseException | None:
        """Close generators; the first error that one of them raises."""
        problem: BaseException | None = None
        for iterator in self._iterators:
            if inspect.isgenerator(iterator):
                try:
                    iterator.close()
                except BaseException as error:
                    problem = problem or error
        return problem
