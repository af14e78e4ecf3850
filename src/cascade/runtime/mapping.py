"""A map under way: its items are rows that are pulled as workers get to them, not nodes."""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence, Sized
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakKeyDictionary, WeakSet

from cascade.graph.edges import input_name
from cascade.runtime.preview import describe_error, preview
from cascade.runtime.scheduler import MISSING, id_of
from cascade.spec.exceptions import DependencyMissingError, MapInputError
from cascade.spec.lazy_types import MappedLazyResult

if TYPE_CHECKING:
    from cascade.runtime.scheduler import Continuation, Due, Ending, Scheduler
    from cascade.spec.records import Record

_QUICK: Final = frozenset({list, tuple, range, dict, set, frozenset})
"""Inputs that can be pulled anywhere, since none of their code is a user's."""
_pulled: Final[WeakSet[Any]] = WeakSet()
"""The generators that a run has begun to pull from."""
_pulled_by: Final[WeakKeyDictionary[MappedLazyResult[Any], set[int]]] = WeakKeyDictionary()
"""Other iterators among the inputs of maps that a run has begun to pull from, by their identity."""

Item = tuple[int, Sequence[Any], Mapping[str, Any]]


class MapExecution:
    """Pulls the rows of a map, keeps its results, and knows when all have ended.

    Attributes:
        lazy: the map as it was declared.
        items: the arguments of items that were pulled for the loop, until they are called.
        is_sized: whether the number of rows is known.
        window: how many items may be under way on worker threads.
        on_room: called when an item has ended, while somebody waits for room.
        is_quick: whether pulling a row runs no code of users.
        exhausted: whether no further row will be pulled.
        total: how many rows there are, if that is known.
        scope: what a durable run calls the map's items together.
        recalled: the items that have ended before, in a durable run that goes on.
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
        "on_room",
        "recalled",
        "results",
        "returned",
        "scheduler",
        "scope",
        "total",
        "window",
    )

    def __init__(
        self,
        scheduler: Scheduler,
        index: int,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        inputs: Mapping[str, Any],
        window: int,
    ) -> None:
        lazy = scheduler.graph.lazies[index]
        assert isinstance(lazy, MappedLazyResult)
        self.scheduler = scheduler
        self.index = index
        self.lazy = lazy
        self.is_sized = all(isinstance(value, Sized) for value in inputs.values())
        self.window = window
        self.on_room: Callable[[], object] | None = None
        self.is_quick = all(type(value) in _QUICK for value in inputs.values())
        self.exhausted = False
        self.began = 0.0
        self.items: dict[int, tuple[Sequence[Any], Mapping[str, Any]]] = {}
        self.results: list[Any] = []
        self.returned: dict[int, Ending] = {}
        self.scope = b""
        self.recalled: dict[int, Record] = {}
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
        self.total = next((len(value) for value in inputs.values() if isinstance(value, Sized)), None)

    @property
    def done(self) -> int:
        """How many items have ended."""
        return len(self.results) - self._open

    def place_id(self, place: int) -> str:
        """The id of an item, unique within the run."""
        return id_of(self, place)

    def step_to(self, place: int) -> tuple[str, Continuation | None, int]:
        """The item; the map comes before it."""
        return f"[{place}]", self.scheduler, self.index

    def name_of(self, place: int) -> str:
        """The name of the item's task."""
        return self.lazy.name

    def key_of(self, place: int) -> tuple[bytes, bytes]:
        """What a durable run calls an item."""
        return self.scope, place.to_bytes(8, "big")

    def label_of(self, place: int) -> str:
        """What people call an item within its map."""
        return f"[{place}]"

    def pull(self) -> Item | None:
        """Take the next row, with the arguments of its call; `None` if there is none.

        Where `is_quick` is false this runs code of users, so that only one may pull at a time, and nobody else is kept
        waiting. Raises whatever pulling raises: the map fails by it.
        """
        if not self.is_quick:
            return self._pull_slowly()
        with self._lock:
            if self.exhausted:
                return None
            row = self._rows.next_row()
            if row is None:
                self.exhausted = True
                return None
            place = self._open_place()
        return self._item(place, row)

    def _pull_slowly(self) -> Item | None:
        if self.exhausted:
            return None
        # What this raises leaves the map open until `fail_pulling`: an item that ends meanwhile does not end the map.
        row = self._rows.next_row()
        with self._lock:
            if row is None or self.exhausted:
                self.exhausted = True
                return None
            place = self._open_place()
        return self._item(place, row)

    def _open_place(self) -> int:
        place = len(self.results)
        self.results.append(MISSING)
        self._open += 1
        return place

    def _item(self, place: int, row: tuple[Any, ...]) -> Item:
        if not self._labels:
            return place, (*self._args, *row) if self._args else row, self._kwargs
        count = len(row) - len(self._labels)
        named = dict(zip(self._labels, row[count:], strict=True))
        return place, (*self._args, *row[:count]), {**self._kwargs, **named}

    def has_room(self) -> bool:
        """Whether another item may be under way: those that returned graphs are, until these have ended."""
        return self._open < self.window

    def store(self, place: int, value: Any) -> bool:
        """Keep an item's value; tell whether it was the last to end."""
        with self._lock:
            self.results[place] = value
            self._open -= 1
            ends = self._ends()
        if self.on_room is not None:
            self.on_room()
        return ends

    def fail(self, place: int, error: BaseException) -> bool:
        """Note that an item failed, and pull no more; the lowest index counts. Tell whether it was the last to end."""
        with self._lock:
            if self._failed_at < 0 or place < self._failed_at:
                self._failed_at, self._error = place, error
            self._open -= 1
            self.exhausted = True
            ends = self._ends()
        if self.on_room is not None:
            self.on_room()
        return ends

    def fail_pulling(self, error: BaseException) -> bool:
        """Note that an input raised, and pull no more; tell whether no item is under way."""
        with self._lock:
            self._error = self._error or error
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
        """Pull no more, and close generators that are not spent; what that raises is noted on the map's error."""
        self.exhausted = True
        problem = self._rows.close()
        if problem is None:
            return
        if self._error is None:
            self._error = problem
        else:
            self._error.add_note(f"and closing an input of map '{self.lazy.name}' raised {describe_error(problem)}")


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


def _check_inputs(lazy: MappedLazyResult[Any], inputs: Mapping[str, Any]) -> None:
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
            _refuse_spent(lazy, name, value)
    known = {name: length for name, length in lengths.items() if length is not None}
    if len(set(known.values())) > 1:
        told = ", ".join(f"{name} has {length}" for name, length in known.items())
        raise MapInputError(lazy.name, lengths, f"inputs differ in length: {told}")


def _refuse_spent(lazy: MappedLazyResult[Any], name: str, value: Iterator[Any]) -> None:
    """An iterator gives its items once: a second run over it would silently map nothing."""
    closed = inspect.isgenerator(value) and inspect.getgeneratorstate(value) == inspect.GEN_CLOSED
    if inspect.isgenerator(value):
        used = value in _pulled
        _pulled.add(value)
    else:
        # Other iterators cannot be remembered without being kept alive; the map that holds them can.
        known = _pulled_by.setdefault(lazy, set())
        used = id(value) in known and any(value is held for held in lazy.inputs.values())
        known.add(id(value))
    if closed or used:
        raise MapInputError(
            lazy.name,
            {name: None},
            f"{name} is a {type(value).__name__} that has been used up; pass a list, or make a new one for each run",
        )


def _by_position(lazy: MappedLazyResult[Any], inputs: Mapping[str, Any]) -> tuple[tuple[str, ...], Mapping[str, Any]]:
    """Which inputs go by name, and the inputs in the order of their rows: those by position come first.

    Inputs by name are handed over by position where that says the same, since it is the cheaper call.
    """
    labels = tuple(label for label in inputs if not label.isdigit())
    signature = lazy.task.signature
    if not labels or signature is None:
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
