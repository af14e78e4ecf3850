"""A graph and a solver's order as flat arrays, which any number of runs can share."""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING, Any, Final

from cascade.graph.build import injects
from cascade.spec.flow import Fallback, Sequence
from cascade.spec.input import Input
from cascade.spec.lazy_types import Call, Constant, Derived, Gathered, MappedLazyResult
from cascade.spec.routing import Router

if TYPE_CHECKING:
    from cascade.graph.model import Graph, Reference
    from cascade.spec.lazy_types import LazyResult


class Lane(IntEnum):
    """Where a node that is ready goes."""

    THREAD = 0
    """A plain call of a sync function: any worker thread."""
    MAP = 1
    """A map of such calls: its items are taken by worker threads."""
    LOOP = 2
    """A plain call of a coroutine function: the loop, together with its like."""
    PROCESSOR = 3
    """A call with policies, resources or an executor of its own: one asyncio task."""
    AT_ONCE = 4
    """No call at all: whoever made it ready finishes it."""
    DECIDE = 5
    """Whether it runs must be decided first."""


THREAD: Final = int(Lane.THREAD)
MAP: Final = int(Lane.MAP)
LOOP: Final = int(Lane.LOOP)
PROCESSOR: Final = int(Lane.PROCESSOR)
AT_ONCE: Final = int(Lane.AT_ONCE)
DECIDE: Final = int(Lane.DECIDE)


class Plan:
    """What does not change while a graph runs.

    Attributes:
        size: how many nodes there are.
        calls: how many of them are calls; a map is none, its items are.
        target: the node whose value is asked for.
        references: for each node where its arguments come from.
        needs: for each node the nodes that it waits for, each once.
        successors: for each node the nodes that wait for it.
        pending: for each node how many it waits for.
        uses: for each node how many still need its value.
        needs_threads_only: whether none of its nodes has anything to do on the loop.
        lanes: for each node where it goes when it may run.
        entries: for each node where it goes when it is ready: its lane, or to a decision first.
        routers: the routers; a plan without any needs no counting of demand.
        wake_of: for each router the slot behind the nodes that its routes wake: a route may end before its router is
            decided or after, so a router does not simply wait for its routes.
        router_of: the router of each such slot.
    """

    __slots__ = (
        "calls",
        "entries",
        "lanes",
        "needs",
        "needs_threads_only",
        "order_edges",
        "pending",
        "references",
        "roots",
        "router_of",
        "routers",
        "size",
        "successors",
        "target",
        "uses",
        "wake_of",
    )

    def __init__(self, graph: Graph, lends_threads: bool) -> None:
        size = len(graph.lazies)
        self.size = size
        self.target = graph.target
        self.references: list[Reference] = graph.references
        self.needs = graph.needs
        self.order_edges = graph.order_edges
        self.lanes = bytearray(size)
        self.entries = self.lanes
        self.routers: list[int] = []
        if not lends_threads:
            for index in range(size):
                self.lanes[index] = PROCESSOR
        elif graph.coroutines:
            for index in graph.coroutines:
                self.lanes[index] = LOOP
        if graph.special:
            self._classify(graph, lends_threads)
        self.calls = size - self.lanes.count(AT_ONCE) - self.lanes.count(MAP)
        self.needs_threads_only = LOOP not in self.lanes and PROCESSOR not in self.lanes
        successors: list[list[int]] = [[] for _ in range(size)]
        pending = [0] * size
        roots: list[int] = []
        for index, needs in enumerate(graph.needs):
            if needs:
                pending[index] = len(needs)
                for source in needs:
                    successors[source].append(index)
            else:
                roots.append(index)
        self.successors = successors
        self.pending = pending
        self.roots = roots
        self.uses = [len(followers) for followers in successors]
        self.uses[self.target] += 1
        self.wake_of: dict[int, int] = {}
        self.router_of: dict[int, int] = {}
        if self.routers:
            self._connect_routes(graph)

    def _classify(self, graph: Graph, lends_threads: bool) -> None:
        lanes = self.lanes
        decisions = []
        for index in graph.special:
            lazy = graph.lazies[index]
            lanes[index] = _lane_of(lazy, lends_threads)
            if type(lazy) is Router:
                self.routers.append(index)
            policy = lazy.policy
            if policy is not None and policy.run_if is not None:
                decisions.append(index)
        self.entries = bytearray(lanes)
        for index in decisions:
            self.entries[index] = DECIDE

    def _connect_routes(self, graph: Graph) -> None:
        """Let each route wake its router, and count that the router wants it."""
        self.entries = bytearray(self.entries)
        for slot, router in enumerate(self.routers, start=self.size):
            lazy = graph.lazies[router]
            assert isinstance(lazy, Router)
            self.wake_of[router] = slot
            self.router_of[slot] = router
            self.entries.append(AT_ONCE)
            self.pending.append(0)
            routes = [graph.index_of[route] for route in lazy.routes.values()]
            for route in routes:
                self.uses[route] += 1
            for route in dict.fromkeys(routes):
                self.successors[route].append(slot)


def _lane_of(lazy: LazyResult[Any], lends_threads: bool) -> int:
    if type(lazy) is Call:
        policy = lazy.policy
        task = lazy.task
        if not lends_threads or (policy is not None and policy.governs_call) or task.injected or injects(lazy):
            return PROCESSOR
        if task.executor is None:
            return LOOP if task.is_async else THREAD
        return (
            LOOP
            if task.executor == "inline"
            else THREAD
            if task.executor == "thread" and not task.is_async
            else PROCESSOR
        )
    if type(lazy) is MappedLazyResult:
        return MAP
    if type(lazy) in (Derived, Input, Router, Sequence, Fallback, Gathered, Constant):
        return AT_ONCE
    raise TypeError(f"{type(lazy).__name__} is no kind of lazy value that can be planned")
