"""A map under way: its items are rows that are pulled as workers get to them, not nodes."""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence, Sized
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakSet

from cascade.graph.edges import input_name
from cascade.runtime.scheduler import MISSING, id_of
from cascade.spec.exceptions import DependencyMissingError, MapInputError
from cascade.spec.lazy_types import MappedLazyResult

if TYPE_CHECKING:
    from cascade.runtime.scheduler import Continuation, Due, Ending, Scheduler

_QUICK: Final = frozenset({list, tuple, range, dict, set, frozenset})
"""Inputs that can be pulled anywhere, since none of their code is a user's."""
_spent: WeakSet[Any] = WeakSet()

Item = tuple[int, Sequence[Any], Mapping[str, Any]]


class MapExecution:
    """Pulls the rows of a map, keeps its results, and knows when all have ended.

    Attributes:
        lazy: the map as it was declared.
        items: the arguments of items that were pulled for the loop, until they are called.
        is_sized: whether the number of rows is known.
        on_stored: called when an item has ended, by whoever feeds the map.
        is_quick: whether pulling a row runs no code of users.
        exhausted: whether no further row will be pulled.
    """

    __slots__ = (
        "_args",
        "_ended",
        "_error",
        "_failed_at",
        "_kwargs",
        "_labels",
        "_lock",
        "_open",
        "_rows",
        "began",
        "exhausted",
        "index",
        "is_quick",
        "is_sized",
        "items",
        "lazy",
        "on_stored",
        "results",
        "returned",
        "scheduler",
    )

    def __init__(
        self,
        scheduler: Scheduler,
        index: int,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        inputs: Mapping[str, Any],
    ) -> None:
        lazy = scheduler.graph.lazies[index]
        assert isinstance(lazy, MappedLazyResult)
        self.scheduler = scheduler
        self.index = index
        self.lazy = lazy
        self.is_sized = all(isinstance(value, Sized) for value in inputs.values())
        self.on_stored: Callable[[], object] | None = None
        self.is_quick = all(type(value) in _QUICK for value in inputs.values())
        self.exhausted = False
        self.began = 0.0
        self.items: dict[int, tuple[Sequence[Any], Mapping[str, Any]]] = {}
        self.results: list[Any] = []
        self.returned: dict[int, Ending] = {}
        self._lock = threading.Lock()
        self._open = 0
        self._ended = False
        self._error: BaseException | None = None
        self._failed_at = -1
        self._args = tuple(args)
        self._kwargs = kwargs
        _check_inputs(lazy, inputs)
        self._labels, ordered = _by_position(lazy, inputs)
        self._rows = _Rows(lazy, ordered)

    def place_id(self, place: int) -> str:
        """The id of an item, unique within the run."""
        return id_of(self, place)

    def step_to(self, place: int) -> tuple[str, Continuation | None, int]:
        """The item; the map comes before it."""
        return f"[{place}]", self.scheduler, self.index

    def name_of(self, place: int) -> str:
        """The name of the item's task."""
        return self.lazy.name

    def pull(self) -> Item | None:
        """Take the next row, with the arguments of its call; `None` if there is none.

        Raises whatever pulling raises: the map fails by it.
        """
        with self._lock:
            if self.exhausted:
                return None
            try:
                row = self._rows.next_row()
            except BaseException:
                self.exhausted = True
                raise
            if row is None:
                self.exhausted = True
                return None
            place = len(self.results)
            self.results.append(MISSING)
            self._open += 1
        if self._labels is None:
            return place, (*self._args, *row) if self._args else row, self._kwargs
        return place, self._args, {**self._kwargs, **dict(zip(self._labels, row, strict=True))}

    def store(self, place: int, value: Any) -> bool:
        """Keep an item's value; tell whether it was the last to end."""
        with self._lock:
            self.results[place] = value
            self._open -= 1
            ends = self._ends()
        if self.on_stored is not None:
            self.on_stored()
        return ends

    def fail(self, place: int, error: BaseException) -> bool:
        """Note that an item failed, and pull no more; the lowest index counts. Tell whether it was the last to end."""
        with self._lock:
            if self._failed_at < 0 or place < self._failed_at:
                self._failed_at, self._error = place, error
            self._open -= 1
            self.exhausted = True
            ends = self._ends()
        if self.on_stored is not None:
            self.on_stored()
        return ends

    def fail_pulling(self, error: BaseException) -> bool:
        """Note that an input raised; true if no item is under way."""
        with self._lock:
            if self._error is None:
                self._error = error
            self.exhausted = True
            return self._ends()

    def is_over(self) -> bool:
        """Whether every row was pulled and has ended; true once, for the one who then ends the map."""
        with self._lock:
            return self._ends()

    def _ends(self) -> bool:
        if self._ended or self._open or not self.exhausted:
            return False
        self._ended = True
        return True

    def ending(self) -> Ending:
        """How the whole map ended."""
        if self._error is not None:
            return ("failed", self._error)
        return ("value", self.results)

    def missing(self, place: int, reason: str) -> DependencyMissingError:
        """The failure of a map one of whose items was skipped in its place."""
        return DependencyMissingError(self.scheduler.place_id(self.index), f"[{place}]", self.place_id(place), reason)

    def end_with(self, place: int, ending: Ending, due: Due) -> None:
        """Hear how the graph ended that an item returned."""
        self.returned[place] = ending
        due.append((self, place))

    def close(self) -> None:
        """Pull no more, and close a generator that is not spent."""
        with self._lock:
            self.exhausted = True
            self._rows.close()


class _Rows:
    """Pulls one value from each input at a time."""

    __slots__ = ("_iterators", "_lazy", "_names", "_zipped")

    def __init__(self, lazy: MappedLazyResult[Any], inputs: Mapping[str, Any]) -> None:
        self._lazy = lazy
        self._names = tuple(inputs)
        self._iterators: tuple[Iterator[Any], ...] = tuple(iter(value) for value in inputs.values())
        # Sized inputs have been found to be of one length, so that `zip` cannot drop a value unnoticed.
        self._zipped = (
            zip(*self._iterators) if all(isinstance(value, Sized) for value in inputs.values()) else None  # noqa: B905
        )

    def next_row(self) -> tuple[Any, ...] | None:
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

    def close(self) -> None:
        for iterator in self._iterators:
            if inspect.isgenerator(iterator):
                iterator.close()


def _check_inputs(lazy: MappedLazyResult[Any], inputs: Mapping[str, Any]) -> None:
    lengths: dict[str, int | None] = {}
    for label, value in inputs.items():
        name = input_name(lazy, label)
        if isinstance(value, (str, bytes, bytearray)) or not hasattr(type(value), "__iter__"):
            raise MapInputError(
                lazy.name,
                {},
                f"{name} must be an iterable that is not text, got {type(value).__name__} {value!r:.80}",
            )
        lengths[name] = len(value) if isinstance(value, Sized) else None
        if isinstance(value, Iterator):
            _refuse_spent(lazy, name, value)
    known = {name: length for name, length in lengths.items() if length is not None}
    if len(set(known.values())) > 1:
        told = ", ".join(f"{name} has {length}" for name, length in known.items())
        raise MapInputError(lazy.name, lengths, f"inputs differ in length: {told}")


def _refuse_spent(lazy: MappedLazyResult[Any], name: str, value: Iterator[Any]) -> None:
    """An iterator gives its items once: a second run over it would silently map nothing."""
    closed = inspect.isgenerator(value) and inspect.getgeneratorstate(value) == inspect.GEN_CLOSED
    try:
        used = value in _spent
        _spent.add(value)
    except TypeError:
        used = False
    if closed or used:
        raise MapInputError(
            lazy.name,
            {name: None},
            f"{name} is a {type(value).__name__} that has been used up; pass a list, or make a new one for each run",
        )


def _by_position(
    lazy: MappedLazyResult[Any], inputs: Mapping[str, Any]
) -> tuple[tuple[str, ...] | None, Mapping[str, Any]]:
    """Let inputs be handed over by position where that says the same: it is the cheaper call."""
    labels = tuple(inputs)
    if all(label.isdigit() for label in labels):
        return None, inputs
    signature = lazy.task.signature
    if signature is None:
        return labels, inputs
    free = [
        parameter.name
        for parameter in signature.parameters.values()
        if parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD)
    ][lazy.positional :]
    by_name = {input_name(lazy, label): value for label, value in inputs.items()}
    wanted = free[: len(by_name)]
    if set(wanted) == set(by_name):
        return None, {name: by_name[name] for name in wanted}
    places = {label for label in labels if label.isdigit()}
    if places:
        return tuple(input_name(lazy, label) for label in labels), inputs
    return labels, inputs
