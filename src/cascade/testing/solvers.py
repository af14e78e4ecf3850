"""A spy and a fake for the port that plans."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from cascade.adapters.solvers.native import NativeSolver

if TYPE_CHECKING:
    from cascade.graph.model import Graph, Node
    from cascade.spec.protocols import ExecutionPlan, Solver


class SpySolver:
    """Notes every graph and has another solver plan it.

    Engines keep plans of small graphs, so that a graph of the same shape need not come here again.

    Args:
        inner: who plans; a `NativeSolver` by default.

    >>> import asyncio
    >>> import cascade as cs
    >>> double = cs.task(lambda x: 2 * x, name="double")
    >>> spy = SpySolver()
    >>> async def main() -> int:
    ...     async with cs.create_engine(solver=spy) as engine:
    ...         return await engine.run(double(double(1)))
    >>> asyncio.run(main())
    4
    >>> [[node.id for node in graph.nodes] for graph in spy.graphs]
    [['double#0', 'double#1']]
    """

    def __init__(self, inner: Solver | None = None) -> None:
        self._inner: Solver = inner or NativeSolver()
        self._lock = threading.Lock()
        self._planned: list[tuple[Graph, ExecutionPlan]] = []

    @property
    def graphs(self) -> list[Graph]:
        """All graphs that were planned so far; a list of its own."""
        with self._lock:
            return [graph for graph, _ in self._planned]

    @property
    def plans(self) -> list[ExecutionPlan]:
        """All plans so far; a list of its own."""
        with self._lock:
            return [plan for _, plan in self._planned]

    def resolve(self, graph: Graph) -> ExecutionPlan:
        """Note a graph and have it planned."""
        plan = self._inner.resolve(graph)
        with self._lock:
            self._planned.append((graph, plan))
        return plan


class _Preferred:
    """The stages of the native solver, each in an order of preference."""

    def __init__(self, graph: Graph, preference: Callable[[Node], Any]) -> None:
        self.stages: Sequence[Sequence[Node]] = tuple(
            tuple(sorted(stage, key=preference)) for stage in NativeSolver().resolve(graph).stages
        )

    @property
    def order(self) -> Sequence[int]:
        """The indices of all nodes, the most preferred first."""
        return [node.index for stage in self.stages for node in stage]


class FakeSolver:
    """Prefers the nodes that a test wants first, as far as what they need allows it.

    Args:
        preference: the smallest first; the last declared first by default, against the native order.

    >>> import cascade as cs
    >>> from cascade.graph.build import build_graph
    >>> double = cs.task(lambda x: 2 * x, name="double")
    >>> graph, _ = build_graph([double(1), double(2)])
    >>> [[node.id for node in stage] for stage in FakeSolver().resolve(graph).stages]
    [['double#1', 'double#0'], ['container#2']]
    """

    def __init__(self, preference: Callable[[Node], Any] = lambda node: -node.index) -> None:
        self._preference = preference

    def resolve(self, graph: Graph) -> ExecutionPlan:
        """Plan a graph."""
        return _Preferred(graph, self._preference)
