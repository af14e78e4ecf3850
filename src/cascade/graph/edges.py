"""The edges of a graph with their kinds and labels, for pictures, validation and messages."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from cascade.graph.model import Edge, EdgeType
from cascade.spec.flow import Fallback, Sequence
from cascade.spec.kinds import shown
from cascade.spec.lazy_types import Call, Derived, Gathered, LazyResult, MappedLazyResult
from cascade.spec.policy import is_lazy
from cascade.spec.routing import Router

if TYPE_CHECKING:
    from cascade.graph.model import Graph


def edges_of(graph: Graph) -> Iterator[Edge]:
    """All edges of a graph, by their targets in the order of declaration."""
    nodes = graph.nodes
    for index, lazy in enumerate(graph.lazies):
        for source, kind, label in wants_of(lazy):
            yield Edge(nodes[graph.index_of[source]], nodes[index], kind, label)
        for before in graph.order_edges.get(index, ()):
            yield Edge(nodes[before], nodes[index], EdgeType.SEQUENCE, "")


def wants_of(lazy: LazyResult[Any]) -> Iterator[tuple[LazyResult[Any], EdgeType, str]]:
    """What one lazy value wants: each value, what for, and the argument, key or resource."""
    yield from _inputs_of(lazy)
    policy = lazy.policy
    if policy is None:
        return
    if policy.run_if is not None:
        yield policy.run_if, EdgeType.CONDITION, "run_if"
    for earlier in policy.after:
        yield earlier, EdgeType.SEQUENCE, "after"
    for resource, amount in (policy.constraints or {}).items():
        if is_lazy(amount):
            yield amount, EdgeType.CONSTRAINT, resource


def _inputs_of(lazy: LazyResult[Any]) -> Iterator[tuple[LazyResult[Any], EdgeType, str]]:
    if isinstance(lazy, Router):
        yield lazy.selector, EdgeType.DATA, "selector"
        for key, route in lazy.routes.items():
            yield route, EdgeType.ROUTER_ROUTE, shown(key)
    elif isinstance(lazy, Sequence):
        for place, member in enumerate(lazy.members):
            last = place == len(lazy.members) - 1
            yield member, EdgeType.DATA if last else EdgeType.IMPLICIT, f"[{place}]"
    elif isinstance(lazy, Fallback):
        yield lazy.step, EdgeType.DATA, "step"
        yield lazy.before, EdgeType.DATA, "before"
    elif isinstance(lazy, Gathered):
        yield from (
            (value, EdgeType.DATA, path) for value, path in zip(lazy.packed.lazies, lazy.packed.paths, strict=True)
        )
    elif isinstance(lazy, Derived):
        for value in lazy.args:
            if is_lazy(value):
                yield value, EdgeType.DATA, "value" if value is lazy.args[0] else "key"
    elif isinstance(lazy, (Call, MappedLazyResult)):
        yield from _arguments_of(lazy)


def _arguments_of(lazy: Call[Any] | MappedLazyResult[Any]) -> Iterator[tuple[LazyResult[Any], EdgeType, str]]:
    if lazy.packed is not None:
        for value, path in zip(lazy.packed.lazies, lazy.packed.paths, strict=True):
            yield value, EdgeType.DATA, _argument_path(lazy, path)
        return
    names = positional_names(lazy)
    for place, value in enumerate(lazy.args):
        if is_lazy(value):
            yield value, EdgeType.DATA, names[place] if place < len(names) else f"[{place}]"
    for name, value in lazy.kwargs.items():
        if is_lazy(value):
            yield value, EdgeType.DATA, name
    if isinstance(lazy, MappedLazyResult):
        for name, value in lazy.inputs.items():
            if is_lazy(value):
                yield value, EdgeType.DATA, input_name(lazy, name)


def positional_names(lazy: Call[Any] | MappedLazyResult[Any]) -> list[str]:
    """The names of a task's parameters that can be given by position."""
    signature = lazy.task.signature
    if signature is None:
        return []
    return [
        parameter.name
        for parameter in signature.parameters.values()
        if parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD)
    ]


def input_name(lazy: MappedLazyResult[Any], label: str) -> str:
    """The name of a map's input, also where it came by position."""
    if not label.isdigit():
        return label
    names = positional_names(lazy)
    place = lazy.positional + int(label)
    return names[place] if place < len(names) else f"[{place}]"


def _argument_path(lazy: Call[Any] | MappedLazyResult[Any], path: str) -> str:
    """From a path through `(args, kwargs, ...)` as they were packed to the name of the argument."""
    head, _, rest = path[1:].partition("]")
    place, _, tail = rest[1:].partition("]")
    if head == "0":
        names = positional_names(lazy)
        number = int(place)
        return (names[number] if number < len(names) else f"[{number}]") + tail
    name = place.strip("'\"")
    if head == "2" and isinstance(lazy, MappedLazyResult):
        return input_name(lazy, name) + tail
    return name + tail
