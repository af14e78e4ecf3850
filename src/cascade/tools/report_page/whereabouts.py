"""On what the calls of a run were made, as far as the workflow tells: a store keeps nothing of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from cascade.spec.lazy_types import Call, MappedLazyResult
from cascade.spec.task import Task

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cascade.graph.model import Graph

_PLACES: Final = {"thread": "worker threads", "process": "worker processes", "inline": "event loop"}


def whereabouts_of(graph: Graph) -> dict[str, str]:
    """On what calls run, by the names that records have of them.

    What calls return is not known before they are made, so of it those tasks count that stand beside the ones in the
    graph, in the same modules. A name that means several things is left out.

    Args:
        graph: the graph that the run began with.
    """
    found: dict[str, str] = {}
    unclear: set[str] = set()
    for name, task in _tasks_of(graph):
        where = _where(task)
        if found.setdefault(name, where) != where:
            unclear.add(name)
    return {name: where for name, where in found.items() if name not in unclear}


def _tasks_of(graph: Graph) -> Iterator[tuple[str, Task[..., Any]]]:
    modules: dict[int, dict[str, Any]] = {}
    for lazy in graph.lazies:
        if isinstance(lazy, (Call, MappedLazyResult)):
            yield lazy.name, lazy.task
            names = getattr(lazy.task.function, "__globals__", None)
            if names is not None:
                modules[id(names)] = names
    for names in modules.values():
        for value in tuple(names.values()):
            if isinstance(value, Task):
                yield value.name, value


def _where(task: Task[..., Any]) -> str:
    if task.is_async:
        return _PLACES["inline"]
    return _PLACES.get(task.executor or "thread", f"executor {task.executor}")
