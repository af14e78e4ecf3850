"""What a task returned: a value, or more work."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from cascade.graph.build import LAZY_TYPES, is_bare
from cascade.runtime.scheduler import id_of
from cascade.spec.containers import EXACT, PLAIN, Shape, pack, shape_of
from cascade.spec.exceptions import TaskResultError
from cascade.spec.lazy_types import Call, Gathered, LazyResult
from cascade.spec.resource import Inject

if TYPE_CHECKING:
    from cascade.runtime.scheduler import Continuation, Due, Ending

_MOST_TYPES_REMEMBERED: Final = 1024
_final: set[type] = set()
"""Opaque types that cannot be awaited, so that their values need no look at all."""


def continuation_of(name: str, value: Any) -> LazyResult[Any] | None:
    """The lazy value that a task's result stands for, or `None` if it is a value.

    Args:
        name: the task, for the message.
        value: what it returned, not of a plain type.

    Raises:
        TaskResultError: it returned an awaitable, which nobody would await.
    """
    kind = type(value)
    if kind in _final:
        return None
    if kind in LAZY_TYPES:
        return value  # type: ignore[no-any-return]
    if kind in EXACT:
        packed = pack(value, exact=True)
        return None if packed is None else Gathered(packed)
    if hasattr(kind, "__await__") and shape_of(kind) is Shape.OPAQUE:
        close = getattr(value, "close", None)
        if callable(close):
            close()
        raise TaskResultError(
            f"task '{name}' returned {kind.__name__}, which nobody would await; "
            f"declare it with  async def {name}(...)  and await inside"
        )
    if len(_final) >= _MOST_TYPES_REMEMBERED:
        _final.clear()
    _final.add(kind)
    return None


def is_direct(lazy: LazyResult[Any]) -> bool:
    """Whether a returned lazy value is one plain call of literals, which needs no graph: the hot turn of a loop."""
    if type(lazy) is not Call or lazy.packed is not None or lazy.policy is not None:
        return False
    for value in lazy.args:
        kind = type(value)
        if kind not in PLAIN and (kind in LAZY_TYPES or kind is Inject):
            return False
    for value in lazy.kwargs.values():
        kind = type(value)
        if kind not in PLAIN and (kind in LAZY_TYPES or kind is Inject):
            return False
    return is_bare(lazy.task)


class Turn:
    """One turn of a loop that needed no graph, for telling about it.

    Attributes:
        parent: who waits for the loop's value, with the place of the value there.
        call: the call that this turn makes.
        number: which turn it is, from 1 on.
    """

    __slots__ = ("call", "number", "parent", "place")

    def __init__(self, parent: Continuation, place: int, call: Call[Any], number: int) -> None:
        self.parent = parent
        self.place = place
        self.call = call
        self.number = number

    def place_id(self, place: int) -> str:
        """The id of the turn's only call."""
        return id_of(self, place)

    def step_to(self, place: int) -> tuple[str, Continuation | None, int]:
        """The turn and its call; the place that waits for the loop comes before it."""
        return f"@{self.number}/{self.call.name}#{place}", self.parent, self.place

    def name_of(self, place: int) -> str:
        """The name of the turn's task."""
        return self.call.name

    def key_of(self, place: int) -> tuple[bytes, bytes]:
        """What a durable run calls the place of the loop."""
        return self.parent.key_of(self.place)

    def label_of(self, place: int) -> str:
        """What people call the turn's call."""
        return f"{self.call.name}#{place}"

    def end_with(self, place: int, ending: Ending, due: Due) -> None:
        """Pass an ending on to who waits for the loop."""
        self.parent.end_with(self.place, ending, due)
