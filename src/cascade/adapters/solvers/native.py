"""The solver that needs no help: nodes in the order in which they were declared."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING

from cascade.spec.exceptions import GraphCycleError
from cascade.spec.routing import Router

if TYPE_CHECKING:
    from cascade.graph.model import Graph, Node


class DeclaredOrder:
    """A plan that prefers nodes in the order of their declaration.

    A value can only depend on values declared before it, so this order already puts everything behind what it needs;
    only sequences may ask for another, which the engine waits for in any case.
    """

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._stages: list[list[Node]] | None = None

    @property
    def order(self) -> Sequence[int]:
        """The indices of all nodes as they are."""
        return range(len(self._graph))

    @property
    def stages(self) -> Sequence[Sequence[Node]]:
        """Nodes by the length of the longest way to them: those of one stage do not depend on each other."""
        if self._stages is None:
            self._stages = self._find_stages()
        return self._stages

    def _find_stages(self) -> list[list[Node]]:
        graph = self._graph
        needs = [list(sources) for sources in graph.needs]
        for index in graph.special:
            lazy = graph.lazies[index]
            if isinstance(lazy, Router):
                needs[index].extend(graph.index_of[route] for route in lazy.routes.values())
        followers: list[list[int]] = [[] for _ in needs]
        waits = [0] * len(needs)
        for index, sources in enumerate(needs):
            waits[index] = len(set(sources))
            for source in set(sources):
                followers[source].append(index)
        depth = [0] * len(needs)
        ready = deque(index for index, count in enumerate(waits) if not count)
        stages: list[list[Node]] = []
        seen = 0
        while ready:
            index = ready.popleft()
            seen += 1
            if depth[index] == len(stages):
                stages.append([])
            stages[depth[index]].append(graph.nodes[index])
            for follower in followers[index]:
                depth[follower] = max(depth[follower], depth[index] + 1)
                waits[follower] -= 1
                if not waits[follower]:
                    ready.append(follower)
        if seen < len(needs):
            raise GraphCycleError("the graph has a circle, so it has no stages; validation shows it")
        for stage in stages:
            stage.sort(key=lambda node: node.index)
        return stages


class NativeSolver:
    """Prefers nodes in the order of their declaration, at no cost.

    >>> from cascade.graph.build import build_graph
    >>> import cascade as cs
    >>> double = cs.task(lambda x: 2 * x, name="double")
    >>> graph, _ = build_graph([double(double(1)), double(2)])
    >>> [[node.id for node in stage] for stage in NativeSolver().resolve(graph).stages]
    [['double#0', 'double#2'], ['double#1'], ['container#3']]
    """

    def resolve(self, graph: Graph) -> DeclaredOrder:
        """Plan a graph."""
        return DeclaredOrder(graph)
