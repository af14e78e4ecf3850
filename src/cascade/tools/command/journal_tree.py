"""The records of a run as a tree: what is inside a place stands under it. Made without recursion, from any records."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Final

from cascade.runtime.durability.keys import RESULT, ROOT_GRAPH, TARGET, scope_of_items
from cascade.spec.records import ROOT

if TYPE_CHECKING:
    from cascade.spec.records import Record

_TURN: Final = re.compile(r"@\d+(?=/)")


class Place:
    """A place of a run, with the places inside it.

    Attributes:
        record: how it stands; `None` for one that has not ended, of which only what is inside is known.
        path: its id within the run, without the numbers of turns.
        title: what it is called where it stands.
        inside: the places of the graph that it returned, or the items that it maps.
    """

    __slots__ = ("inside", "path", "record", "title")

    def __init__(self, record: Record | None, path: str, title: str) -> None:
        self.record = record
        self.path = path
        self.title = title
        self.inside: list[Place] = []

    @property
    def state(self) -> str:
        """How it stands, in a word or two."""
        return "not ended" if self.record is None else STATES[self.record.kind]


STATES: Final = {
    "value": "done",
    "mapped": "done",
    "volatile": "done",
    "skipped": "skipped",
    "failed": "failed",
    "continues": "goes on",
}
"""How a place stands, by the kind of its record."""


def tree_of(records: Iterable[Record]) -> list[Place]:
    """The places of a run's first graph and of what that went on with, in the order in which they ended first."""
    by_scope: dict[bytes, list[Record]] = {}
    for record in records:
        by_scope.setdefault(record.scope, []).append(record)
    about_run = by_scope.pop(ROOT, [])
    first = by_scope.pop(ROOT_GRAPH, [])
    tail = [record for record in about_run if record.node == TARGET]
    roots = [Place(record, record.label, record.label) for record in (*first, *tail)]
    _fill(roots, by_scope)
    while by_scope:
        # What is around it has not ended, so it has no record; it can be the place of others that have none.
        scope, inner = next(iter(by_scope.items()))
        del by_scope[scope]
        kind = "a map" if inner[0].label.startswith("[") else "a graph"
        name = inner[0].name if kind == "a map" else ""
        around = Place(None, name or kind, name or kind)
        around.inside = [_inside(around, record) for record in inner]
        _fill(around.inside, by_scope)
        roots.append(around)
    return roots


def result_of(records: Iterable[Record]) -> Record | None:
    """What a finished run gave."""
    return next((record for record in records if record.scope == ROOT and record.node == RESULT), None)


def all_places(roots: Sequence[Place]) -> Iterator[Place]:
    """Every place, each before what is inside it."""
    stack = list(reversed(roots))
    while stack:
        place = stack.pop()
        yield place
        stack.extend(reversed(place.inside))


def places_called(roots: Sequence[Place], name: str) -> list[Place]:
    """The places that a name means.

    Args:
        name: an id within the run or the end of one, as `fetch#3`, `pages#1[17]`, `main#0@5/step#1`; the name of a
            task; or the beginning of a structural id, in hexadecimal digits.
    """
    path = _TURN.sub("", name)
    places = [place for place in all_places(roots) if place.record is not None]
    found = [place for place in places if place.path == path]
    found = found or [place for place in places if place.path.endswith(f"/{path}")]
    found = found or [place for place in places if place.title == path.rpartition("/")[2]]
    found = found or [place for place in places if place.title.rpartition("#")[0] == path]
    if not found and re.fullmatch(r"[0-9a-f]{6,32}", name):
        found = [place for place in places if place.record is not None and place.record.node.hex().startswith(name)]
    return found


def _fill(places: Sequence[Place], by_scope: dict[bytes, list[Record]]) -> None:
    """Put what is inside of places under them; each scope once, so that records in a circle come to an end."""
    stack = list(places)
    while stack:
        place = stack.pop()
        record = place.record
        if record is None or not by_scope:
            continue
        inner = by_scope.pop(record.inner, None) if record.inner is not None else None
        if inner is None and record.kind != "value":
            # The items of a map that failed, or goes on, are known by its place.
            inner = by_scope.pop(scope_of_items(record.scope, record.node), None)
        if inner:
            place.inside = [_inside(place, one) for one in inner]
            stack.extend(place.inside)


def _inside(around: Place, record: Record) -> Place:
    is_item = record.label.startswith("[")
    return Place(record, f"{around.path}{'' if is_item else '/'}{record.label}", record.label)
