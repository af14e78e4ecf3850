"""The ready set over one plan: who waits for how many, who can start, whose result nobody needs any more."""

from __future__ import annotations

from heapq import heappush
from typing import TYPE_CHECKING, Any, Final, Literal, Protocol

from cascade.runtime.plan import DECIDE, LOOP, THREAD, Plan

if TYPE_CHECKING:
    from cascade.graph.hashing import Identities
    from cascade.graph.model import Graph
    from cascade.runtime.flow import FlowManager
    from cascade.runtime.mapping import MapExecution
    from cascade.spec.records import Record


class _Missing:
    __slots__ = ()

    def __repr__(self) -> str:
        return "<no value>"


MISSING: Final = _Missing()
"""Stands where there is no value: `None` is a value like any other."""

Ending = tuple[Literal["value", "skipped", "failed"], Any]
"""How something ended: with a value, a reason or an error."""


class Continuation(Protocol):
    """Whatever has places that wait for an ending: nodes of a graph, items of a map."""

    def end_with(self, place: int, ending: Ending, due: Due) -> None:
        """Hear how the graph ended that the call at a place returned."""
        ...

    def place_id(self, place: int) -> str:
        """The id of a place, unique within the run."""
        ...

    def step_to(self, place: int) -> tuple[str, Continuation | None, int]:
        """The last part of a place's id, and the place whose id is the part before that."""
        ...

    def name_of(self, place: int) -> str:
        """The name of the task at a place."""
        ...

    def key_of(self, place: int) -> tuple[bytes, bytes]:
        """What a durable run calls a place: its scope, and its key in that."""
        ...

    def label_of(self, place: int) -> str:
        """What people call a place within its scope."""
        ...


Due = list[tuple[Continuation, int]]
"""Places that can be settled: whoever made them ready does it, after giving up the lock."""


def id_of(continuation: Continuation, place: int) -> str:
    """The id of a place, put together from the places around it; graphs may be nested to any depth."""
    parts: list[str] = []
    outer: Continuation | None = continuation
    while outer is not None:
        part, outer, place = outer.step_to(place)
        parts.append(part)
    return "".join(reversed(parts))


class Scheduler:
    """One plan under way. All methods expect the lock of the run to be held, unless they say otherwise.

    Attributes:
        graph: the graph, whose literals the plan leaves out.
        values: what each node gave, `MISSING` before that and after its last use.
        ready: the indices of nodes for worker threads, as a heap: the order of preference.
        fresh: more of them, which have waited for nothing and come after the first of `ready`, the most preferred last.
        remaining: how many nodes have not ended in any way.
        skipped: why nodes were skipped.
        failed: what nodes raised, in a run that goes on.
        parent: who waits for the target, with the place of the value there; `None` for the run itself.
        base: the id of the run's target, for a graph in tail position of the run itself; otherwise the id begins
            with that of the place that waits.
        turn: how many graphs in tail position came before this one.
        caller: the place of the call in another run that waits for this run, for the graph of a nested run.
        maps: the maps that are under way.
        told: for each node whether its end has been told, in a run that somebody listens to.
        returned: how graphs ended that nodes returned, until the nodes are settled.
        rescue: what turns a skipped target into a value after all; see `FlowManager.tail_of`.
        usual: where each node goes when it is ready and nothing it needs was skipped.
        scope: what a durable run calls the graph.
        identities: what it calls the nodes.
        left: the graph that it is a tail of and that is given up, until it begins.
        recalled: the nodes that have ended before, in a durable run that goes on.
    """

    __slots__ = (
        "base",
        "caller",
        "entries",
        "failed",
        "flow",
        "fresh",
        "graph",
        "identities",
        "keeps_all",
        "left",
        "listed",
        "maps",
        "parent",
        "parent_place",
        "pending",
        "plan",
        "ready",
        "recalled",
        "remaining",
        "rescue",
        "returned",
        "scope",
        "skipped",
        "told",
        "turn",
        "uses",
        "usual",
        "values",
    )

    def __init__(
        self,
        plan: Plan,
        graph: Graph,
        parent: Continuation | None = None,
        parent_place: int = 0,
        base: str = "",
        turn: int = 0,
        keeps_all: bool = False,
    ) -> None:
        self.plan = plan
        self.graph = graph
        self.parent = parent
        self.parent_place = parent_place
        self.base = base
        self.turn = turn
        self.keeps_all = keeps_all
        self.values: list[Any] = [MISSING] * plan.size
        self.pending = plan.pending.copy()
        self.uses = plan.uses.copy()
        self.usual = plan.entries
        self.entries = plan.entries
        self.ready: list[int] = []
        self.fresh: list[int] = []
        self.remaining = plan.size
        self.skipped: dict[int, str] = {}
        self.failed: dict[int, BaseException] = {}
        self.flow: FlowManager | None = None
        self.listed = False
        self.caller: tuple[Continuation, int] | None = None
        self.maps: dict[int, MapExecution] = {}
        self.told = bytearray(plan.size)
        self.returned: dict[int, Ending] = {}
        self.rescue: tuple[tuple[Any, ...], ...] = ()
        self.scope = b""
        self.identities: Identities | None = None
        self.left: Scheduler | None = None
        self.recalled: dict[int, Record] = {}

    def place_id(self, place: int) -> str:
        """The id of a node, unique within the run."""
        # Most graphs are the run's own, whose nodes need no path: each event asks for this.
        return id_of(self, place) if self.turn or self.parent is not None else self.graph.node_id(place)

    def step_to(self, place: int) -> tuple[str, Continuation | None, int]:
        """The node and the turn in which it is; what is before that has the value that this graph is for."""
        node_id = self.graph.node_id(place)
        return (f"{self.base}@{self.turn}/{node_id}" if self.turn else node_id), self.parent, self.parent_place

    @property
    def target_id(self) -> str:
        """The id of the node whose value this graph is for."""
        return self.place_id(self.plan.target)

    def name_of(self, place: int) -> str:
        """The name of a node's task."""
        return self.graph.lazies[place].name

    def key_of(self, place: int) -> tuple[bytes, bytes]:
        """What a durable run calls a node."""
        assert self.identities is not None
        return self.scope, self.identities.keys[place]

    def label_of(self, place: int) -> str:
        """What people call a node within its graph."""
        return self.graph.node_id(place)

    def only_calls_on_loop(self, index: int) -> bool:
        """Whether nothing is to be decided or remembered about a node that is due: it is a plain call on the loop."""
        return (
            self.flow is None
            and not self.returned
            and not self.recalled
            and index < self.plan.size
            and self.entries[index] == LOOP
        )

    def recall(self, records: dict[int, Record]) -> None:
        """Know nodes that have ended before: when they are ready they are settled, and not called. Before the start."""
        self.recalled = records
        self.usual = self.entries = bytearray(self.usual)
        for index in records:
            self.usual[index] = DECIDE

    def end_with(self, place: int, ending: Ending, due: Due) -> None:
        """Hear how the graph ended that a node returned."""
        self.returned[place] = ending
        due.append((self, place))

    def start(self, due: Due) -> None:
        """Make ready what waits for nothing."""
        entries = self.entries
        if self.flow is not None:
            self.flow.start()
            entries = self.entries
        fresh = self.fresh
        for index in self.plan.roots:
            if entries[index] == THREAD:
                fresh.append(index)
            else:
                due.append((self, index))
        fresh.reverse()
        self.refill()

    def refill(self) -> None:
        """Have the most preferred node among `ready`; whoever takes it away calls this.

        A heap of a million nodes takes microseconds to take one from, so those that wait for nothing stay in their
        order until it is their turn.
        """
        fresh, ready = self.fresh, self.ready
        if fresh and (not ready or fresh[-1] < ready[0]):
            heappush(ready, fresh.pop())

    def complete(self, index: int, value: Any, due: Due) -> None:
        """Take the value of a node, and make ready what waited for it last."""
        self.values[index] = value
        self.remaining -= 1
        pending = self.pending
        for follower in self.plan.successors[index]:
            left = pending[follower] - 1
            pending[follower] = left
            if not left:
                if self.entries[follower] == THREAD:
                    heappush(self.ready, follower)
                else:
                    due.append((self, follower))
        uses = self.uses
        for source in self.plan.needs[index]:
            left = uses[source] - 1
            uses[source] = left
            if not left and not self.keeps_all:
                self.values[source] = MISSING

    def skip(self, index: int, reason: str, due: Due) -> None:
        """Note that a node will not run; what waits for it must decide what to do without."""
        self.skipped[index] = reason
        self._end_without_value(index, due)

    def fail(self, index: int, error: BaseException, due: Due) -> None:
        """Note what a node raised, in a run that goes on after failures."""
        self.failed[index] = error
        self._end_without_value(index, due)

    def _end_without_value(self, index: int, due: Due) -> None:
        self.remaining -= 1
        if self.entries is self.usual:
            self.entries = bytearray(self.usual)
        for follower in self.plan.successors[index]:
            self.entries[follower] = DECIDE
            left = self.pending[follower] - 1
            self.pending[follower] = left
            if not left:
                due.append((self, follower))
        self.release(index)

    def release(self, index: int) -> None:
        """Let go of the values that a node would have used."""
        for source in self.plan.needs[index]:
            self.drop_use(source)

    def drop_use(self, source: int) -> None:
        """One consumer less for a value; the last one takes it away."""
        left = self.uses[source] - 1
        self.uses[source] = left
        if not left and not self.keeps_all:
            self.values[source] = MISSING

    def forget_values(self) -> None:
        """Keep no value alive; whether there was one can still be told."""
        self.values = [value if value is MISSING else None for value in self.values]

    def has_ended(self, index: int) -> bool:
        """Whether a node has a value, was skipped or has failed; for values that something still uses."""
        return self.values[index] is not MISSING or index in self.skipped or index in self.failed
