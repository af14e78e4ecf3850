"""The first graph of a run as boxes in columns: by what needs what if the graph is known, otherwise by time."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from typing import TYPE_CHECKING, Final, NamedTuple

from cascade.tools.picture_text import title_of
from cascade.tools.report_page.model import named, seconds_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from cascade.graph.model import Graph
    from cascade.tools.command.journal_tree import Place

MOST_SINGLE: Final = 60
"""Boxes beyond which those of one name in one column are drawn as one."""
MOST_BOXES: Final = 300
_SWEEPS: Final = 4
_STATES: Final = ("failed", "goes on", "not ended", "done", "skipped")


class _Item(NamedTuple):
    title: str
    kind: str
    place: Place | None
    layer: int


class Box:
    """One or several nodes of one name.

    Attributes:
        kind: what the nodes do, as in a graph.
        layer: the number of its column.
        row: where in its column it stands, from 0 on.
        states: how its nodes stand.
        places: what is known of them.
    """

    __slots__ = ("kind", "layer", "places", "row", "states", "title")

    def __init__(self, title: str, kind: str, layer: int) -> None:
        self.title = title
        self.kind = kind
        self.layer = layer
        self.row = 0.0
        self.states: Counter[str] = Counter()
        self.places: list[Place] = []

    @property
    def state(self) -> str:
        """The state that matters most of those its nodes have."""
        return next((state for state in _STATES if self.states[state]), "no record")

    @property
    def count(self) -> int:
        """How many nodes it stands for."""
        return self.states.total()


class Picture(NamedTuple):
    """Boxes and the lines between them.

    Attributes:
        lines: from box to box by their numbers, with the kind and what for.
        left_out: how many boxes there are no room for.
        by_time: whether columns tell what came after what, and not what needed what.
    """

    boxes: list[Box]
    lines: list[tuple[int, int, str, str]]
    left_out: int
    by_time: bool


def picture_by_time(places: Sequence[Place]) -> Picture:
    """Columns by time: a box stands right of all those that had ended when it began."""
    timed = sorted((place for place in places if place.record is not None), key=_began)
    ended = sorted((place.record.ended, number) for number, place in enumerate(timed) if place.record is not None)
    moments = [moment for moment, _ in ended]
    layers = [0] * len(timed)
    passed, next_layer = 0, 0
    for number, place in enumerate(timed):
        # What ended before this one began also began before it, so its layer is known.
        while passed < bisect_left(moments, _began(place)):
            next_layer = max(next_layer, layers[ended[passed][1]] + 1)
            passed += 1
        layers[number] = next_layer
    items = [
        _Item(named(place.title if place.record is None else place.record.name or place.title), "call", place, layer)
        for place, layer in zip(timed, layers, strict=True)
    ]
    return _picture(items, (), by_time=True)


def picture_of(graph: Graph, places: Iterable[Place]) -> Picture:
    """Columns by need: a box stands right of all that it depends on.

    Args:
        graph: the graph that the run began with.
        places: the places of that graph.
    """
    by_key = {place.record.node: place for place in places if place.record is not None}
    layers = [0] * len(graph)
    before: dict[int, set[int]] = {}
    lines: list[tuple[int, int, str, str]] = []
    for edge in graph.edges:
        source, target = edge.source.index, edge.target.index
        before.setdefault(target, set()).add(source)
        lines.append((source, target, edge.edge_type.value.replace(" ", "-"), named(edge.label)))
    for index in _in_order(len(graph), before):
        layers[index] = max((layers[source] + 1 for source in before.get(index, ())), default=0)
    keys = graph.identities.keys
    items = [
        _Item(named(title_of(node)), node.kind.value, by_key.get(keys[node.index]), layers[node.index])
        for node in graph.nodes
    ]
    return _picture(items, lines, by_time=False)


def _in_order(count: int, before: dict[int, set[int]]) -> list[int]:
    """Nodes after all that they need; a graph that can be run has no circles."""
    missing = [len(before.get(index, ())) for index in range(count)]
    after: dict[int, list[int]] = {}
    for target, sources in before.items():
        for source in sources:
            after.setdefault(source, []).append(target)
    order = [index for index in range(count) if not missing[index]]
    for index in order:
        for target in after.get(index, ()):
            missing[target] -= 1
            if not missing[target]:
                order.append(target)
    return order


def _picture(items: Sequence[_Item], lines: Iterable[tuple[int, int, str, str]], *, by_time: bool) -> Picture:
    box_of = _shared_boxes(items)
    boxes: list[Box] = []
    for number, item in zip(box_of, items, strict=True):
        if number == len(boxes):
            boxes.append(Box(item.title, item.kind, item.layer))
        box = boxes[number]
        box.layer = min(box.layer, item.layer)
        box.states["no record" if item.place is None else item.place.state] += 1
        if item.place is not None:
            box.places.append(item.place)
    kept = boxes[:MOST_BOXES]
    joined = {
        (box_of[source], box_of[target], kind): label
        for source, target, kind, label in lines
        if box_of[source] != box_of[target] and max(box_of[source], box_of[target]) < len(kept)
    }
    told = [(source, target, kind, label) for (source, target, kind), label in joined.items()]
    _arrange(kept, told)
    return Picture(kept, told, len(boxes) - len(kept), by_time)


def _shared_boxes(items: Sequence[_Item]) -> list[int]:
    """The number of the box of each item: its own if there is room, or that of its name and column, or of its name."""
    if len(items) <= MOST_SINGLE:
        return list(range(len(items)))
    by_column = _numbered([(item.title, item.kind, item.layer) for item in items])
    return by_column if max(by_column) < MOST_SINGLE else _numbered([(item.title, item.kind) for item in items])


def _numbered(keys: Sequence[object]) -> list[int]:
    """Equal keys have one number, the first key has 0."""
    numbers: dict[object, int] = {}
    return [numbers.setdefault(key, len(numbers)) for key in keys]


def _arrange(boxes: Sequence[Box], lines: Sequence[tuple[int, int, str, str]]) -> None:
    """Give boxes their rows: near the middle of what they are joined with, as in Sugiyama, Tagawa and Toda (1981)."""
    # Columns that nothing stands in any more are closed.
    order = {layer: number for number, layer in enumerate(sorted({box.layer for box in boxes}))}
    columns: list[list[int]] = [[] for _ in order]
    for number, box in enumerate(boxes):
        box.layer = order[box.layer]
        columns[box.layer].append(number)
    beside: list[list[int]] = [[] for _ in boxes]
    for source, target, _, _ in lines:
        beside[source].append(target)
        beside[target].append(source)
    for column in columns:
        _put(boxes, column)
    for sweep in range(_SWEEPS if lines else 0):
        for column in columns if sweep % 2 == 0 else reversed(columns):
            column.sort(key=lambda number: _middle(boxes, beside[number], boxes[number].row))
            _put(boxes, column)


def _put(boxes: Sequence[Box], column: Sequence[int]) -> None:
    """Rows of a column, with its middle at 0."""
    for row, number in enumerate(column):
        boxes[number].row = row - (len(column) - 1) / 2


def _middle(boxes: Sequence[Box], neighbors: Sequence[int], otherwise: float) -> float:
    if not neighbors:
        return otherwise
    return sum(boxes[number].row for number in neighbors) / len(neighbors)


def _began(place: Place) -> float:
    record = place.record
    assert record is not None
    return record.began if seconds_of(record) else record.ended
