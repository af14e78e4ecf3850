"""The graph of a workflow: columns for the engine, nodes and edges for everybody who wants to look at it.

A graph of a million values is a few lists. `Node` and `Edge` are made when somebody asks for them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import cached_property
from typing import TYPE_CHECKING, Any

from cascade.spec.flow import Fallback
from cascade.spec.flow import Sequence as SequenceValue
from cascade.spec.input import Input
from cascade.spec.lazy_types import Call, Constant, Derived, Gathered, LazyResult, MappedLazyResult
from cascade.spec.routing import Router

if TYPE_CHECKING:
    from cascade.graph.hashing import Identities
    from cascade.graph.registry import NodeRegistry
    from cascade.spec.task import Task


class EdgeType(Enum):
    """What the end of an edge wants of its beginning."""

    DATA = "data"
    CONDITION = "condition"
    CONSTRAINT = "constraint"
    IMPLICIT = "implicit"
    SEQUENCE = "sequence"
    ROUTER_ROUTE = "router route"


class NodeKind(Enum):
    """What a node does."""

    CALL = "call"
    MAP = "map"
    DERIVED = "derived"
    INPUT = "input"
    ROUTER = "router"
    SEQUENCE = "sequence"
    PIPELINE = "pipeline"
    CONTAINER = "container"
    CONSTANT = "constant"


KIND_OF: dict[type, NodeKind] = {
    Call: NodeKind.CALL,
    MappedLazyResult: NodeKind.MAP,
    Derived: NodeKind.DERIVED,
    Input: NodeKind.INPUT,
    Router: NodeKind.ROUTER,
    SequenceValue: NodeKind.SEQUENCE,
    Fallback: NodeKind.PIPELINE,
    Gathered: NodeKind.CONTAINER,
    Constant: NodeKind.CONSTANT,
}


class Wiring:
    """Where the results of other nodes go among the arguments of a call that is not plain.

    Attributes:
        positional: the node for each positional argument, or -1 for a literal.
        named: name and node of each lazy argument by name.
        packed: the nodes for the lazy values inside containers; `None` if there are no such containers.
        injects: whether the call names resources itself.
    """

    __slots__ = ("injects", "named", "packed", "positional")

    def __init__(
        self,
        positional: tuple[int, ...],
        named: tuple[tuple[str, int], ...],
        packed: tuple[int, ...] | None,
        injects: bool = False,
    ) -> None:
        self.positional = positional
        self.named = named
        self.packed = packed
        self.injects = injects


Reference = None | int | tuple[int, ...] | Wiring
"""Where a call's arguments come from: all literal, one node for the only argument, a node or -1 for each, or more."""


class Node:
    """One computation of a graph.

    Two nodes of different graphs are one object if they were built with the same registry and have the same structure.
    """

    __slots__ = ("__weakref__", "graph", "index")

    def __init__(self, graph: Graph, index: int) -> None:
        self.graph = graph
        self.index = index

    @property
    def lazy(self) -> LazyResult[Any]:
        """The lazy value that was declared."""
        return self.graph.lazies[self.index]

    @property
    def id(self) -> str:
        """A short name for this node, unique within its graph."""
        return self.graph.node_id(self.index)

    @property
    def name(self) -> str:
        """The name of its task, or what it is."""
        return self.lazy.name

    @property
    def kind(self) -> NodeKind:
        """What it does."""
        return KIND_OF[type(self.lazy)]

    @property
    def task(self) -> Task[..., Any] | None:
        """The task that it calls; `None` for nodes that call none."""
        return getattr(self.lazy, "task", None)

    @property
    def structural_id(self) -> str:
        """A digest of the whole computation, the same in every process for the same workflow.

        Raises:
            CascadeError: a literal cannot be digested.
        """
        return self.graph.identities.structural[self.index]

    @property
    def template_id(self) -> str:
        """A digest of the computation without its literals."""
        return self.graph.identities.template[self.index]

    def __repr__(self) -> str:
        return f"<node {self.id}>"


@dataclass(frozen=True, slots=True)
class Edge:
    """One thing that a node wants of another.

    Attributes:
        source: the node that has it.
        target: the node that wants it.
        edge_type: what for.
        label: the argument, the route's key or the resource.
    """

    source: Node
    target: Node
    edge_type: EdgeType
    label: str = ""


class Graph:
    """All computations that a target needs, in the order of their declaration.

    Attributes:
        lazies: the lazy values; the index here is the index everywhere.
        target: the index of what was asked for.
        needs: for each node the nodes that it depends on, each once.
        references: for each node where its arguments come from.
        order_edges: for nodes in sequences, those that come before them for no other reason.
        special: the nodes that are more than a plain call, in order.
        coroutines: the plain calls of coroutine functions, in order.
    """

    __slots__ = (
        "__dict__",
        "coroutines",
        "index_of",
        "lazies",
        "needs",
        "order_edges",
        "references",
        "registry",
        "special",
        "target",
    )

    def __init__(
        self,
        lazies: list[LazyResult[Any]],
        index_of: dict[LazyResult[Any], int],
        target: int,
        needs: list[tuple[int, ...]],
        references: list[Reference],
        special: list[int],
        coroutines: list[int],
        order_edges: dict[int, list[int]],
    ) -> None:
        self.lazies = lazies
        self.index_of = index_of
        self.target = target
        self.needs = needs
        self.references = references
        self.special = special
        self.coroutines = coroutines
        self.order_edges = order_edges
        self.registry: NodeRegistry | None = None

    def __len__(self) -> int:
        return len(self.lazies)

    def node_id(self, index: int) -> str:
        """The id of a node: its name and its place in the order of declaration."""
        return f"{self.lazies[index].name}#{index}"

    def shape_key(self) -> object:
        """What two graphs have in common that may share a plan: all but literals, and which tasks they call.

        A task is no part of it, so that plans keep no tasks, nor what methods are bound to.
        """
        return (
            self.target,
            tuple(
                (type(lazy), _way_of(lazy), _asked(lazy), _comparable(reference), needs)
                for lazy, reference, needs in zip(self.lazies, self.references, self.needs, strict=True)
            ),
            tuple(
                tuple(self.index_of[route] for route in lazy.routes.values())
                for index in self.special
                if isinstance(lazy := self.lazies[index], Router)
            ),
            tuple((index, tuple(before)) for index, before in self.order_edges.items()),
        )

    def reordered(self, order: Sequence[int]) -> Graph:
        """The same graph with its nodes in another order.

        Args:
            order: the present indices, in the order to come.
        """
        place_of = [0] * len(order)
        for place, index in enumerate(order):
            place_of[index] = place
        return Graph(
            [self.lazies[index] for index in order],
            {lazy: place_of[index] for lazy, index in self.index_of.items()},
            place_of[self.target],
            [tuple(place_of[source] for source in self.needs[index]) for index in order],
            [_moved(self.references[index], place_of) for index in order],
            sorted(place_of[index] for index in self.special),
            sorted(place_of[index] for index in self.coroutines),
            {place_of[index]: [place_of[source] for source in before] for index, before in self.order_edges.items()},
        )

    @cached_property
    def nodes(self) -> Sequence[Node]:
        """All nodes, in the order of declaration."""
        if self.registry is None:
            return tuple(Node(self, index) for index in range(len(self.lazies)))
        return tuple(self.registry.shared(Node(self, index)) for index in range(len(self.lazies)))

    @cached_property
    def edges(self) -> Sequence[Edge]:
        """All edges, by their targets in the order of declaration."""
        from cascade.graph.edges import edges_of

        return tuple(edges_of(self))

    @cached_property
    def identities(self) -> Identities:
        """The structural and the template ids of all nodes."""
        from cascade.graph.hashing import identities_of

        return identities_of(self)


def _way_of(lazy: LazyResult[Any]) -> object:
    """What the way of a call through a run depends on of its task."""
    task: Task[..., Any] | None = getattr(lazy, "task", None)
    return task and (task.is_async, task.executor, bool(task.injected))


def _asked(lazy: LazyResult[Any]) -> object:
    """What plans depend on of a policy."""
    policy = lazy.policy
    return policy and (policy.governs_call, policy.run_if is not None)


def _comparable(reference: Reference) -> object:
    if not isinstance(reference, Wiring):
        return reference
    return reference.positional, reference.named, reference.packed, reference.injects


def _moved(reference: Reference, place_of: list[int]) -> Reference:
    if reference is None:
        return None
    if isinstance(reference, int):
        return place_of[reference]
    if isinstance(reference, tuple):
        return tuple(place_of[source] if source >= 0 else -1 for source in reference)
    return Wiring(
        tuple(place_of[source] if source >= 0 else -1 for source in reference.positional),
        tuple((name, place_of[source]) for name, source in reference.named),
        None if reference.packed is None else tuple(place_of[source] for source in reference.packed),
        reference.injects,
    )


class InstanceMap(Mapping[LazyResult[Any], Node]):
    """From the lazy values of a target to their nodes; pure calls with equal inputs share one."""

    __slots__ = ("_graph",)

    def __init__(self, graph: Graph) -> None:
        self._graph = graph

    def __getitem__(self, lazy: LazyResult[Any]) -> Node:
        return self._graph.nodes[self._graph.index_of[lazy]]

    def __iter__(self) -> Iterator[LazyResult[Any]]:
        return iter(self._graph.index_of)

    def __len__(self) -> int:
        return len(self._graph.index_of)
