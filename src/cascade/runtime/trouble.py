"""Telling people where an error comes from: notes on users' exceptions, and errors about the target."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from cascade.runtime.mapping import MapExecution
from cascade.runtime.scheduler import Scheduler
from cascade.spec.exceptions import DependencyMissingError
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
        for note in _notes(parent, place, attempt, turn):
            error.add_note(note)
    except Exception:
        # An exception whose class forbids attributes stays as it is: its type and message are what counts.
        return


def _notes(parent: Continuation, place: int, attempt: int, turn: Turn | None) -> list[str]:
    tried = f", attempt {attempt}" if attempt > 1 else ""
    if isinstance(parent, MapExecution):
        scheduler, index = parent.scheduler, parent.index
        what = f"item {place} of map '{parent.name_of(place)}' ({parent.place_id(place)}{tried})"
    else:
        assert isinstance(parent, Scheduler)
        scheduler, index = parent, place
        what = f"task '{parent.name_of(place)}' ({parent.place_id(place)}{tried})"
    lazy = scheduler.graph.lazies[index]
    notes = []
    if turn is not None:
        notes.append(f"in task '{turn.call.name}' ({turn.place_id(0)}), turn {turn.number} of what follows")
        lazy = turn.call
    notes.append(f"in {what}")
    origin = lazy.origin
    if origin is not None:
        notes.append(f"declared at {origin[0]}:{origin[1]}")
    path = _path_from_target(scheduler, index)
    if len(path) > 1:
        notes.append("wanted by " + " <- ".join(reversed(path)))
    return notes


def _path_from_target(scheduler: Scheduler, index: int) -> list[str]:
    """The names from a node to the target, by whoever declared first; long paths are cut in the middle."""
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
    if len(path) > _MOST_STEPS_SHOWN:
        half = _MOST_STEPS_SHOWN // 2
        shown = [scheduler.place_id(step) for step in path[:half]]
        return [
            *shown,
            f"({len(path) - 2 * half} more)",
            *(scheduler.place_id(step) for step in path[-half:]),
        ]
    return [scheduler.place_id(step) for step in path]


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
