"""Telling people where an error comes from: notes on users' exceptions, and errors about the target."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from cascade.runtime.scheduler import Scheduler
from cascade.spec.exceptions import DependencyMissingError, RunCancelledError
from cascade.spec.lazy_types import Gathered

if TYPE_CHECKING:
    from cascade.runtime.returned import Turn
    from cascade.runtime.scheduler import Continuation

_MOST_STEPS_SHOWN: Final = 6


def annotate(
    error: BaseException, parent: Continuation, place: int, *, attempt: int = 1, turn: Turn | None = None
) -> None:
    """Note on an exception which call raised it, at which attempt, where it was declared and who wanted it."""
    try:
        known = getattr(error, "__notes__", ())
        for note in _notes(parent, place, attempt, turn):
            # An exception object that is raised again and again, as one kept in a module, is told about once.
            if note not in known:
                error.add_note(note)
    except Exception:
        # An exception whose class forbids attributes stays as it is: its type and message are what counts.
        return


def _notes(parent: Continuation, place: int, attempt: int, turn: Turn | None) -> list[str]:
    scheduler, index = _node_of(parent, place)
    lazy = scheduler.graph.lazies[index]
    notes = []
    if turn is not None:
        notes.append(f"in task '{turn.call.name}' ({turn.place_id(0)}), turn {turn.number} of what follows")
        lazy = turn.call
    what = "task" if parent is scheduler else f"item {place} of map"
    notes.append(f"in {what} '{parent.name_of(place)}' ({parent.place_id(place)}), attempt {attempt}")
    origin = lazy.origin
    if origin is not None:
        notes.append(f"declared at {origin[0]}:{origin[1]}")
    path = _path_to_target(scheduler, index)
    if len(path) > 1:
        notes.append("wanted by " + " <- ".join(reversed(path)))
    return notes


def declared_at(parent: Continuation, place: int) -> tuple[str, int] | None:
    """The file and the line where the lazy value of a call was made, where that is known."""
    call = getattr(parent, "call", None)
    if call is None:
        scheduler, index = _node_of(parent, place)
        call = scheduler.graph.lazies[index]
    found: tuple[str, int] | None = call.origin
    return found


def _node_of(parent: Continuation, place: int) -> tuple[Scheduler, int]:
    """The node that a place belongs to: itself, or the map of an item."""
    current: Continuation | None = parent
    while not isinstance(current, Scheduler):
        assert current is not None
        _, current, place = current.step_to(place)
    return current, place


def _path_to_target(scheduler: Scheduler, index: int) -> list[str]:
    """The names from a node to the target of the run, through the calls that returned graphs.

    At each node it goes on to who was declared first; long paths are cut in the middle.
    """
    path: list[tuple[Scheduler, int]] = []
    current: Continuation | None = scheduler
    while current is not None:
        scheduler, index = _node_of(current, index)
        path.extend((scheduler, step) for step in _steps_in(scheduler, index))
        current, index = scheduler.parent, scheduler.parent_place
    if len(path) > _MOST_STEPS_SHOWN:
        half = _MOST_STEPS_SHOWN // 2
        shown = [where.graph.node_id(step) for where, step in path[:half]]
        last = [where.graph.node_id(step) for where, step in path[-half:]]
        return [*shown, f"({len(path) - 2 * half} more)", *last]
    return [where.graph.node_id(step) for where, step in path]


def _steps_in(scheduler: Scheduler, index: int) -> list[int]:
    plan = scheduler.plan
    path = [index]
    seen = {index}
    while path[-1] != plan.target:
        followers = [plan.router_of.get(follower, follower) for follower in plan.successors[path[-1]]]
        following = next((follower for follower in followers if follower not in seen), None)
        if following is None:
            break
        seen.add(following)
        path.append(following)
    return path


def is_cancellation(error: BaseException) -> bool:
    """Whether a run that ends with an error was stopped by somebody, and has not failed."""
    return isinstance(error, (asyncio.CancelledError, KeyboardInterrupt, RunCancelledError))


def carried(error: StopIteration, name: str) -> RuntimeError:
    """The error in whose place a task's `StopIteration` arrives: no coroutine lets that through, nor any future."""
    carrier = RuntimeError(
        f"task '{name}' raised StopIteration, which Python does not let through code that waits for the task; "
        "it is the cause of this error. Give next() a default, or return instead"
    )
    carrier.__cause__ = error
    return carrier


def missing_target(scheduler: Scheduler, reason: str) -> DependencyMissingError:
    """The error for a target that was skipped, or that has a skipped member."""
    graph = scheduler.graph
    target = scheduler.plan.target
    lazy = graph.lazies[target]
    if isinstance(lazy, Gathered):
        for value, path in zip(lazy.packed.lazies, lazy.packed.paths, strict=True):
            member = graph.index_of[value]
            if member in scheduler.skipped:
                return DependencyMissingError("target", path, scheduler.place_id(member), scheduler.skipped[member])
    return DependencyMissingError("target", lazy.name, scheduler.place_id(target), reason)
