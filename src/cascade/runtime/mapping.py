"""A map under way: its items are rows that are pulled as workers get to them, not nodes."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence, Sized
from typing import TYPE_CHECKING, Any

from cascade.runtime.map_inputs import QuickRows, SlowRows, are_quick, by_position
from cascade.runtime.preview import describe_error
from cascade.runtime.scheduler import MISSING, id_of
from cascade.spec.exceptions import DependencyMissingError
from cascade.spec.lazy_types import MappedLazyResult

if TYPE_CHECKING:
    from cascade.runtime.scheduler import Continuation, Due, Ending, Scheduler
    from cascade.spec.records import Record

Item = tuple[int, Sequence[Any], Mapping[str, Any]]


class MapExecution:
    """Pulls the rows of a map, keeps its results, and knows when all have ended.

    Items are under way from `pull` to `store` or `fail`. A helper that calls items of a quick map one after another
    does without: it takes rows from `rows.numbered` and puts values into `results` itself, between `enter` and `leave`,
    and only opens items that outlast its hand (`open`).

    Attributes:
        lazy: the map as it was declared.
        items: the arguments of items that were pulled for the loop, until they are called.
        is_sized: whether the number of rows is known.
        window: how many items may be under way on worker threads.
        on_room: called whenever an item has ended.
        is_quick: whether pulling a row runs no code of users.
        rows: where rows are pulled from.
        is_plain: whether the values of a row are all the arguments of a call, by position.
        exhausted: whether no further row will be pulled.
        total: how many rows there are, if that is known.
        failures: how many items have failed.
        scope: what a durable run calls the map's items together.
        recalled: the items that have ended before, in a durable run that goes on.
    """

    __slots__ = (
        "_args",
        "_ended",
        "_error",
        "_failed_at",
        "_inside",
        "_kwargs",
        "_labels",
        "_lock",
        "_open",
        "_waiting",
        "began",
        "exhausted",
        "failures",
        "index",
        "is_plain",
        "is_quick",
        "is_sized",
        "items",
        "lazy",
        "on_room",
        "recalled",
        "results",
        "returned",
        "rows",
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
        self.exhausted = False
        self.began = 0.0
        self.items: dict[int, tuple[Sequence[Any], Mapping[str, Any]]] = {}
        self.results: list[Any] = []
        self.returned: dict[int, Ending] = {}
        self.scope = b""
        self.recalled: dict[int, Record] = {}
        self._lock = threading.Lock()
        self._open = 0
        self._inside = 0
        self._waiting: Callable[[], object] | None = None
        self._ended = False
        self._error: BaseException | None = None
        self._failed_at = -1
        self.failures = 0
        self._args = tuple(args)
        self._kwargs = kwargs
        self._labels, ordered = by_position(lazy, inputs)
        self.is_quick = are_quick(inputs)
        self.is_plain = not self._labels and not args and not kwargs
        self.rows = QuickRows(ordered) if self.is_quick else SlowRows(lazy, ordered)
        if isinstance(self.rows, QuickRows):
            self.results = [MISSING] * self.rows.total
        self.total = next((len(value) for value in inputs.values() if isinstance(value, Sized)), None)

    @property
    def pulled(self) -> int:
        """How many rows have been pulled."""
        return self.rows.pulled if isinstance(self.rows, QuickRows) else len(self.results)

    @property
    def done(self) -> int:
        """How many items have ended; of those in the hands of helpers each counts as one that has not."""
        return max(0, self.pulled - self._open - self._inside)

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
        rows = self.rows
        if isinstance(rows, QuickRows):
            with self._lock:
                row = None if self.exhausted else next(rows.numbered, None)
                if row is None:
                    self.exhausted = True
                    return None
                self._open += 1
            return row[-1], *self.arguments(row[:-1])
        if self.exhausted:
            return None
        # What this raises leaves the map open until `fail_pulling`: an item that ends meanwhile does not end the map.
        row = rows.next_row()
        with self._lock:
            if row is None or self.exhausted:
                self.exhausted = True
                return None
            place = len(self.results)
            self.results.append(MISSING)
            self._open += 1
        return place, *self.arguments(row)

    def enter(self) -> None:
        """Begin to take rows of a quick map by oneself; the map does not end before `leave`."""
        with self._lock:
            self._inside += 1

    def leave(self) -> bool:
        """Take no more rows by oneself; tell whether every row was pulled and has ended."""
        with self._lock:
            self._inside -= 1
            return self._ends()

    def open(self) -> None:
        """Note an item that a helper does not end itself: it returned a graph, or fails."""
        with self._lock:
            self._open += 1

    def arguments(self, row: tuple[Any, ...]) -> tuple[Sequence[Any], Mapping[str, Any]]:
        """What the call of a row gets."""
        if not self._labels:
            return (*self._args, *row) if self._args else row, self._kwargs
        count = len(row) - len(self._labels)
        named = dict(zip(self._labels, row[count:], strict=True))
        return (*self._args, *row[:count]), {**self._kwargs, **named}

    def has_room(self) -> bool:
        """Whether another item may be under way: those that returned graphs are, until these have ended."""
        return self._open < self.window

    def waits_for_room(self, offer: Callable[[], object]) -> bool:
        """Have `offer` called, once, when an item has ended; false if there is room by now."""
        with self._lock:
            if self.has_room():
                return False
            self._waiting = offer
            return True

    def store(self, place: int, value: Any) -> bool:
        """Keep an item's value; tell whether it was the last to end."""
        with self._lock:
            self.results[place] = value
            self._open -= 1
            ends = self._ends()
            offer, self._waiting = self._waiting, None
        self._tell_room(offer)
        return ends

    def fail(self, place: int, error: BaseException) -> bool:
        """Note that an item failed, and pull no more; the lowest index counts. Tell whether it was the last to end."""
        with self._lock:
            if self._failed_at < 0 or place < self._failed_at:
                self._failed_at, self._error = place, error
            self.failures += 1
            self._open -= 1
            self.exhausted = True
            ends = self._ends()
            offer, self._waiting = self._waiting, None
        self._tell_room(offer)
        return ends

    def _tell_room(self, offer: Callable[[], object] | None) -> None:
        on_room = self.on_room
        if on_room is not None:
            on_room()
        if offer is not None:
            offer()

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
        if self._ended or self._open or self._inside or not self.exhausted:
            return False
        self._ended = True
        # Fewer than there were places for, if somebody has taken items out of an input meanwhile.
        del self.results[self.pulled :]
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
        problem = self.rows.close() if isinstance(self.rows, SlowRows) else None
        if problem is None:
            return
        if self._error is None:
            self._error = problem
        else:
            self._error.add_note(f"and closing an input of map '{self.lazy.name}' raised {describe_error(problem)}")
