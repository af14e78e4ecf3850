"""Plans that were made before, for graphs of the same shape."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Final

from cascade.runtime.plan import Plan

if TYPE_CHECKING:
    from cascade.graph.model import Graph
    from cascade.spec.protocols import Solver

_MOST_PLANS: Final = 256
_LARGEST_GRAPH: Final = 64


class PlanCache:
    """Plans graphs, and remembers plans of small graphs: those that come again and again as turns of loops.

    Two graphs share a plan when they differ in literals only. Large graphs are rarely built twice, and comparing them
    costs as much as planning.
    """

    def __init__(self, solver: Solver) -> None:
        self._solver = solver
        self._plans: dict[object, tuple[Plan, list[int] | None]] = {}
        self._lock = threading.Lock()

    def plan_for(self, graph: Graph, *, lends_threads: bool) -> tuple[Plan, Graph]:
        """The plan of a graph, and the graph in the order of that plan."""
        if len(graph) > _LARGEST_GRAPH:
            return self._plan(graph, lends_threads)[:2]
        key = graph.shape_key()
        found = self._plans.get(key)
        if found is None:
            plan, ordered, order = self._plan(graph, lends_threads)
            with self._lock:
                if len(self._plans) >= _MOST_PLANS:
                    self._plans.pop(next(iter(self._plans)))
                self._plans[key] = (plan, order)
            return plan, ordered
        plan, order = found
        return plan, graph if order is None else graph.reordered(order)

    def _plan(self, graph: Graph, lends_threads: bool) -> tuple[Plan, Graph, list[int] | None]:
        order = list(self._solver.resolve(graph).order)
        declared = list(range(len(graph)))
        if order == declared:
            return Plan(graph, lends_threads), graph, None
        if sorted(order) != declared:
            raise ValueError(
                f"the solver {type(self._solver).__name__} must order every node exactly once: expected a permutation "
                f"of 0..{len(graph) - 1}, got {order[:20]}"
            )
        ordered = graph.reordered(order)
        return Plan(ordered, lends_threads), ordered, order
