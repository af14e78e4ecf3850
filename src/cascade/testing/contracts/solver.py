"""What every `Solver` must do, as tests for whoever writes one."""

from __future__ import annotations

import asyncio
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from cascade.app import create_engine
from cascade.graph.build import build_graph
from cascade.spec.flow import pipeline, sequence
from cascade.spec.input import Param
from cascade.spec.protocols import Solver
from cascade.spec.routing import Router
from cascade.spec.task import task

if TYPE_CHECKING:
    from cascade.graph.model import Graph
    from cascade.spec.protocols import ExecutionPlan


@task
def _one() -> int:
    return 1


@task
def _add(x: int, y: int = 1) -> int:
    return x + y


@task
def _sum(values: list[int]) -> int:
    return sum(values)


@task
def _even(x: int) -> bool:
    return x % 2 == 0


def _constant() -> tuple[Any, Any]:
    return 7, 7


def _chain(length: int = 5) -> tuple[Any, Any]:
    value = _one()
    for _ in range(length):
        value = _add(value)
    return value, length + 1


def _diamond() -> tuple[Any, Any]:
    top = _one()
    return _add(_add(top, 1), _add(top, 2)), 5


def _fan(width: int = 20) -> tuple[Any, Any]:
    return _sum([_add(place) for place in range(width)]), width * (width + 1) // 2


def _layers() -> tuple[Any, Any]:
    left, right = _one(), _one()
    for _ in range(20):
        left, right = _add(left, right), _add(right, left)
    return _add(left, right), 2**21


def _router() -> tuple[Any, Any]:
    top = _add(1)
    return Router(_even(top), {True: _add(top, 10), False: _add(top, 20)}), 12


def _condition() -> tuple[Any, Any]:
    return _add(1, _one()).run_if(_even(_add(1))).after(_add(5)), 2


def _sequence() -> tuple[Any, Any]:
    late, early = _add(1), _add(2)
    return sequence([early, late, _add(late)]), 3


def _pipeline() -> tuple[Any, Any]:
    return pipeline(_one(), [_add, _add.partial(y=10)]), 12


def _map() -> tuple[Any, Any]:
    return _sum(_add.map(x=[1, 2, 3])), 9


def _containers() -> tuple[Any, Any]:
    return {"a": [_one(), (_add(1),)], "b": Param("x", default=3)}, {"a": [1, (2,)], "b": 3}


_WORKFLOWS: list[Callable[[], tuple[Any, Any]]] = [
    _constant, _chain, _diamond, _fan, _layers, _router, _condition, _sequence, _pipeline, _map, _containers,
]  # fmt: skip


class SolverContract(ABC):
    """Tests of a solver; inherit from it in a test module, as a class whose name begins with `Test`."""

    @abstractmethod
    def make_solver(self) -> Solver:
        """A new solver."""

    def test_it_has_the_method_of_the_port(self) -> None:
        assert isinstance(self.make_solver(), Solver)

    @pytest.mark.parametrize("workflow", _WORKFLOWS)
    def test_the_order_names_every_node_once(self, workflow: Callable[[], tuple[Any, Any]]) -> None:
        graph = _graph_of(workflow()[0])
        assert sorted(self.make_solver().resolve(graph).order) == list(range(len(graph)))

    @pytest.mark.parametrize("workflow", _WORKFLOWS)
    def test_the_stages_hold_every_node_once_and_after_all_that_it_depends_on(
        self, workflow: Callable[[], tuple[Any, Any]]
    ) -> None:
        graph = _graph_of(workflow()[0])
        _check_stages(graph, self.make_solver().resolve(graph))

    @pytest.mark.parametrize("workflow", _WORKFLOWS)
    def test_planning_is_pure(self, workflow: Callable[[], tuple[Any, Any]]) -> None:
        solver = self.make_solver()
        target = workflow()[0]
        graph, twin = _graph_of(target), _graph_of(target)
        before = _columns(graph)
        plan = _shown(solver.resolve(graph))
        assert _shown(solver.resolve(graph)) == plan
        assert _shown(solver.resolve(twin)) == plan
        assert _shown(self.make_solver().resolve(twin)) == plan
        assert _columns(graph) == before

    @pytest.mark.parametrize("workflow", _WORKFLOWS)
    def test_an_engine_with_it_computes_what_is_expected(self, workflow: Callable[[], tuple[Any, Any]]) -> None:
        async def scenario(target: Any) -> Any:
            async with create_engine(self.make_solver()) as engine:
                return await engine.run(target)

        target, expected = workflow()
        assert asyncio.run(scenario(target)) == expected

    @pytest.mark.parametrize("target", [_chain(10_000)[0], _fan(10_000)[0]], ids=["deep", "wide"])
    def test_graphs_of_ten_thousand_nodes_are_planned(self, target: Any) -> None:
        graph = _graph_of(target)
        plan = self.make_solver().resolve(graph)
        assert len(plan.order) == len(graph)
        _check_stages(graph, plan)

    def test_several_threads_plan_one_graph_at_once(self) -> None:
        solver, graph = self.make_solver(), _graph_of(_fan(500)[0])
        expected = _shown(solver.resolve(graph))
        found: list[object] = []
        together = threading.Barrier(4)

        def work() -> None:
            together.wait()
            found.append(_shown(solver.resolve(graph)))

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert found == [expected] * 4


def _graph_of(target: Any) -> Graph:
    graph, _ = build_graph(target)
    return graph


def _columns(graph: Graph) -> object:
    order_edges = {index: list(before) for index, before in graph.order_edges.items()}
    return graph.target, list(graph.lazies), list(graph.needs), list(graph.special), order_edges


def _shown(plan: ExecutionPlan) -> object:
    return list(plan.order), [[node.id for node in stage] for stage in plan.stages]


def _check_stages(graph: Graph, plan: ExecutionPlan) -> None:
    stage_of: dict[int, int] = {}
    for number, stage in enumerate(plan.stages):
        assert len(stage), "a stage without nodes"
        for node in stage:
            assert node.index not in stage_of, f"{node!r} is planned twice"
            stage_of[node.index] = number
    assert sorted(stage_of) == list(range(len(graph)))
    for edge in graph.edges:
        assert stage_of[edge.source.index] < stage_of[edge.target.index], f"{edge!r} goes back"
