"""What nobody can know of a run before it goes on: the nodes about which something decides that is tried again."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING, Any, Final

from cascade.graph.model import KIND_OF, NodeKind
from cascade.runtime.flow import PRUNED
from cascade.spec.routing import Router
from cascade.spec.walk import dependencies_of

if TYPE_CHECKING:
    from cascade.graph.model import Graph
    from cascade.spec.lazy_types import LazyResult
    from cascade.spec.records import Record

AFTER_FAILURE: Final = frozenset({"UpstreamFailed", "ConditionMissing", "RunStopped"})
"""Reasons of skips that are not final: they came of a failure, which is tried again."""

CALLS: Final = (NodeKind.CALL, NodeKind.MAP)


def undecided_nodes(graph: Graph, records: list[Record | None]) -> dict[int, int | None]:
    """The nodes of which it is not known what becomes of them, as what is tried again decides about it.

    Each has what decides about it among the nodes that are undecided themselves, if there is such a node.

    Args:
        graph: the first graph of a run, as it is declared now.
        records: how each of its nodes stands.
    """
    found: dict[int, int | None] = {}
    for index, (node, record) in enumerate(zip(graph.nodes, records, strict=True)):
        source = next((at for at in map(graph.index_of.get, _deciding(node.lazy, record)) if at in found), None)
        if _is_undecided(node.kind, record, source):
            found[index] = source
    wanted = _perhaps_wanted(graph, records, found)
    found.update((index, source) for index, source in wanted.items() if _is_pruned(records[index]))
    return found


def _perhaps_wanted(graph: Graph, records: list[Record | None], undecided: Collection[int]) -> dict[int, int]:
    """The nodes that may turn out to be wanted though they were not, each with the node that decides about it.

    That is decided by what uses them, which has been declared after them.
    """
    found: dict[int, int] = {}
    for index in reversed(range(len(graph))):
        lazy, record = graph.lazies[index], records[index]
        decider = found.get(index)
        if decider is None and record is None and KIND_OF[type(lazy)] in CALLS:
            # If it is new, nobody knew that it wants them.
            decider = index
        if decider is not None and (record is None or _is_pruned(record)):
            found.update((graph.index_of[source], decider) for source in dependencies_of(lazy))
        elif isinstance(lazy, Router):
            before = () if lazy.policy is None else (lazy.policy.run_if, *lazy.policy.after)
            asked = (graph.index_of[source] for source in (lazy.selector, *before) if source is not None)
            decider = next((source for source in asked if source in undecided), None)
            if decider is not None:
                found.update((graph.index_of[route], decider) for route in lazy.routes.values())
    return found


def _is_pruned(record: Record | None) -> bool:
    return record is not None and record.detail == PRUNED and record.kind == "skipped"


def _deciding(lazy: LazyResult[Any], record: Record | None) -> Iterable[LazyResult[Any]]:
    """What a node depends on; where its condition was false, that comes before all else.

    Where nothing wanted it, what it depends on decided nothing.
    """
    if _is_pruned(record):
        return ()
    condition = None if lazy.policy is None else lazy.policy.run_if
    if condition is not None and record is not None and record.detail == "ConditionFalse":
        return (condition,)
    return dependencies_of(lazy)


def _is_undecided(kind: NodeKind, record: Record | None, source: int | None) -> bool:
    """Whether what becomes of a node is not known, going by what it depends on.

    Args:
        source: what is undecided itself among what the node refers to.
    """
    if record is None:
        return kind in CALLS or source is not None
    if record.kind == "skipped":
        return record.detail in AFTER_FAILURE or source is not None
    return record.kind in ("failed", "volatile", "continues")
