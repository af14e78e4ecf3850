"""The plan of a workflow, made and checked without running anything."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from cascade.app import create_engine
from cascade.graph.build import build_graph
from cascade.graph.model import EdgeType, NodeKind
from cascade.graph.validate import validate
from cascade.runtime.preview import preview
from cascade.runtime.resource_container import ResourceRegistry, context_overrides
from cascade.spec.exceptions import DeclarationError
from cascade.spec.input import EnvSpec
from cascade.tools.picture_text import notes_on, shortened, title_of

if TYPE_CHECKING:
    from cascade.graph.model import Edge, Graph, Node
    from cascade.runtime.engine import Engine
    from cascade.spec.resource import ResourceDefinition

_MOST_STAGES: Final = 100
_MOST_NODES: Final = 50
_MOST_SOURCES: Final = 8


@dataclass(frozen=True, eq=False)
class DryRun:
    """What a run would do: made by `dry_run`.

    Its text shows the plan stage by stage; of a very large one the beginning, while the attributes have everything.

    Attributes:
        graph: everything that the target needs.
        stages: the solver's plan: nodes that may run together, after all those of the stages before.
        inputs: the values of parameters by name, and of environment variables by `$` and name.
    """

    graph: Graph
    stages: tuple[tuple[Node, ...], ...]
    inputs: Mapping[str, Any]

    @property
    def nodes(self) -> tuple[Node, ...]:
        """All nodes in the order of the plan."""
        return tuple(node for stage in self.stages for node in stage)

    @property
    def target(self) -> Node:
        """The node of what was asked for."""
        return self.graph.nodes[self.graph.target]

    def __str__(self) -> str:
        return "\n".join(_Text(self).lines())

    __repr__ = __str__


def dry_run(
    target: Any,
    params: Mapping[str, Any] | None = None,
    *,
    system_resources: Mapping[str, Any] | None = None,
    resources: Iterable[ResourceDefinition] = (),
    engine: Engine | None = None,
) -> DryRun:
    """Build, check and plan what a run would do, and run nothing of it.

    What tasks return, which routes are taken and which conditions hold is only known in a run: the plan shows what
    may happen.

    Args:
        target: a lazy value, a container of them, or a plain value.
        params: the values of parameters, by name.
        system_resources: the capacities of the system, by resource.
        resources: what can be injected by name.
        engine: the one that would run it, with its solver, its resources and its capacities; the default one
            otherwise.

    Raises:
        ValidationError: something is wrong that can be known before anything runs; the same as for the run.
        DeclarationError: both an engine and capacities are given.

    >>> import cascade as cs
    >>> @cs.task
    ... def fetch(url: str) -> str: ...
    >>> @cs.task
    ... def count(page: str) -> int: ...
    >>> dry_run(count(fetch(cs.Param("url", type=str))), params={"url": "https://a"})
    3 nodes in 3 stages; nothing was run
    inputs
      url = 'https://a'
    stage 1
      url#0  input
    stage 2
      fetch#1  url from url#0
    stage 3
      count#2  page from fetch#1; target
    """
    if engine is None:
        # It makes neither threads nor processes before its first call, so there is nothing to close.
        engine = create_engine(system_resources=system_resources)
    elif system_resources is not None:
        raise DeclarationError("an engine has its own capacities: pass system_resources to create_engine")
    graph, _ = build_graph(target)
    registry = ResourceRegistry(resources, engine.resources)
    for name, provider in context_overrides.get().items():
        registry.override(name, provider)
    values = validate(graph, engine, registry, params or {}, os.environ)
    inputs = {f"${spec.name}" if isinstance(spec, EnvSpec) else spec.name: value for spec, value in values.items()}
    stages = tuple(tuple(stage) for stage in engine.solver.resolve(graph).stages)
    return DryRun(graph, stages, inputs)


class _Text:
    """Writes a plan down, stage by stage."""

    def __init__(self, plan: DryRun) -> None:
        self._plan = plan
        self._wants: dict[int, list[Edge]] = {}
        self._wanted: dict[int, list[Edge]] = {}
        for edge in plan.graph.edges:
            self._wants.setdefault(edge.target.index, []).append(edge)
            self._wanted.setdefault(edge.source.index, []).append(edge)

    def lines(self) -> Iterator[str]:
        """The whole, within bounds."""
        plan = self._plan
        yield f"{_counted(len(plan.graph), 'node')} in {_counted(len(plan.stages), 'stage')}; nothing was run"
        if plan.inputs:
            yield "inputs"
        for name, value in plan.inputs.items():
            # The environment is where secrets are, and what is shown here may end in a log.
            yield f"  {shortened(name)} is given" if name.startswith("$") else f"  {shortened(name)} = {preview(value)}"
        for number, stage in enumerate(plan.stages[:_MOST_STAGES], 1):
            yield f"stage {number}"
            for node in stage[:_MOST_NODES]:
                yield f"  {_id(node)}  {'; '.join(self._told_of(node))}".rstrip()
            if len(stage) > _MOST_NODES:
                yield f"  and {_counted(len(stage) - _MOST_NODES, 'more node')}"
        if len(plan.stages) > _MOST_STAGES:
            yield f"and {_counted(len(plan.stages) - _MOST_STAGES, 'more stage')}"

    def _told_of(self, node: Node) -> Iterator[str]:
        """What a node is, what it is made from, and on what it depends whether and when it runs."""
        if node.kind is not NodeKind.CALL:
            yield node.kind.value
        if node.kind in (NodeKind.CONSTANT, NodeKind.DERIVED):
            yield shortened(title_of(node))
        edges = self._wants.get(node.index, [])
        for edge_types, write in _SENTENCES:
            yield from _listed([write(edge) for edge in edges if edge.edge_type in edge_types])
        wanted = self._wanted.get(node.index, [])
        is_target = node.index == self._plan.graph.target
        if wanted and not is_target and all(edge.edge_type is EdgeType.ROUTER_ROUTE for edge in wanted):
            yield from _listed([f"only for route {shortened(edge.label)} of {_id(edge.target)}" for edge in wanted])
        yield from map(shortened, notes_on(node.lazy))
        if is_target:
            yield "target"


_SENTENCES: Final[tuple[tuple[tuple[EdgeType, ...], Callable[[Edge], str]], ...]] = (
    ((EdgeType.DATA, EdgeType.IMPLICIT), lambda edge: f"{shortened(edge.label)} from {_id(edge.source)}"),
    ((EdgeType.CONDITION,), lambda edge: f"only if {_id(edge.source)}"),
    ((EdgeType.ROUTER_ROUTE,), lambda edge: f"route {shortened(edge.label)}: {_id(edge.source)}"),
    ((EdgeType.SEQUENCE,), lambda edge: f"after {_id(edge.source)}"),
    ((EdgeType.CONSTRAINT,), lambda edge: f"{shortened(edge.label)} from {_id(edge.source)}"),
)


def _counted(number: int, word: str) -> str:
    return f"{number:,} {word}" + ("" if number == 1 else "s")


def _listed(parts: list[str]) -> list[str]:
    if len(parts) <= _MOST_SOURCES:
        return parts
    return [*parts[:_MOST_SOURCES], f"and {len(parts) - _MOST_SOURCES} more"]


def _id(node: Node) -> str:
    return shortened(node.id)
