"""Everything that can be known to be wrong before anything runs, all of it at once."""

from __future__ import annotations

import warnings
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol

from cascade.graph.edges import wants_of
from cascade.spec.exceptions import (
    CapacityError,
    GraphCycleError,
    ParameterError,
    ThreadTimeoutWarning,
    UnknownResourceError,
    ValidationError,
)
from cascade.spec.input import REQUIRED, Input, ParamSpec, collect, resolve_inputs
from cascade.spec.lazy_types import Call, MappedLazyResult
from cascade.spec.policy import is_lazy
from cascade.spec.resource import Inject

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from cascade.graph.model import Graph
    from cascade.spec.input import InputSpec
    from cascade.spec.resource import ResourceDefinition


class System(Protocol):
    """What validation must know of the engine that will run the graph."""

    def check_amounts(self, amounts: Mapping[str, Any]) -> None:
        """Raise `CapacityError` for amounts that the system can never give."""
        ...

    def executor_names(self) -> Collection[str] | None:
        """The executors that tasks may name; `None` if every name will do."""
        ...

    def runs_on_thread(self, task: Any) -> bool:
        """Whether calls of a task occupy a thread, which nothing can stop."""
        ...

    def runs_in_process(self, task: Any) -> bool:
        """Whether calls of a task are shipped to another process."""
        ...


class Recipes(Protocol):
    """What validation must know of the resources that can be injected."""

    def find(self, inject: Inject) -> ResourceDefinition | None:
        """The recipe for what is injected, or `None`."""
        ...

    def is_affine(self, definition: ResourceDefinition) -> bool:
        """Whether a resource must be used on one thread."""
        ...

    def check(self, injects: Iterable[tuple[Inject, str]]) -> Iterable[ValidationError]:
        """Everything that is wrong with what is injected, and by whom."""
        ...


def validate(
    graph: Graph,
    system: System,
    recipes: Recipes,
    params: Mapping[str, Any],
    environ: Mapping[str, str],
    *,
    known: Collection[Any] | None = None,
) -> Mapping[Any, Any]:
    """Check a graph against the engine, its resources and the given parameters.

    Args:
        known: for a graph inside a run, the inputs declared before; parameters for others are no error there.

    Returns:
        The values of the graph's inputs, by their specifications.

    Raises:
        ValidationError: of the class that fits, or the root where problems are of several; lists everything.
    """
    problems: list[ValidationError] = []
    inputs: Mapping[Any, Any] = {}
    specs = [lazy.spec for lazy in _special(graph) if isinstance(lazy, Input)]
    if specs or (params and known is None):
        try:
            if known is not None:
                collect(_as_given(spec, params) for spec in (*known, *specs))
            inputs = resolve_inputs(specs, params, environ, refuse_unknown=known is None)
        except ParameterError as error:
            problems.append(error)
    if graph.special:
        problems.extend(recipes.check(_injections(graph)))
        problems.extend(_call_problems(graph, system, recipes))
    if graph.order_edges:
        problems.extend(_circles(graph))
    _raise(problems)
    return inputs


def _as_given(spec: InputSpec, params: Mapping[str, Any]) -> InputSpec:
    """An input whose default means nothing where there is a value: it may have changed since its run began."""
    return replace(spec, default=REQUIRED) if isinstance(spec, ParamSpec) and spec.name in params else spec


def _special(graph: Graph) -> Iterator[Any]:
    return (graph.lazies[index] for index in graph.special)


def _raise(problems: list[ValidationError]) -> None:
    if not problems:
        return
    lines = tuple(dict.fromkeys(line for problem in problems for line in problem.problems))
    kinds = {type(problem) for problem in problems}
    if len(problems) == 1:
        raise problems[0]
    if len(kinds) == 1:
        raise kinds.pop()(*lines)
    # A name that nobody knows stays a NameError, whatever else is wrong.
    raise (UnknownResourceError if UnknownResourceError in kinds else ValidationError)(*lines)


def _injections(graph: Graph) -> Iterator[tuple[Inject, str]]:
    for lazy in _special(graph):
        if isinstance(lazy, (Call, MappedLazyResult)):
            wanted_by = f"task '{lazy.name}'"
            for inject in _injects(lazy):
                yield inject, wanted_by


def _call_problems(graph: Graph, system: System, recipes: Recipes) -> Iterator[ValidationError]:
    known = system.executor_names()
    for lazy in _special(graph):
        if not isinstance(lazy, (Call, MappedLazyResult)):
            continue
        task, policy = lazy.task, lazy.policy
        if task.executor is not None and known is not None and task.executor not in known:
            yield ValidationError(
                f"task '{lazy.name}' asks for the executor '{task.executor}', which this engine does not have; "
                f"it has {', '.join(sorted(known))}: pass executors={{...}} to create_engine, or name one of these"
            )
        if task.is_async and task.executor in ("thread", "process"):
            yield ValidationError(
                f"task '{lazy.name}' is a coroutine function, which runs on the engine's loop, "
                f"but asks for executor='{task.executor}'; make it a plain function, or leave the executor out"
            )
        if task.is_async:
            yield from _affine_objects(lazy, recipes)
        if system.runs_in_process(task):
            yield from _live_objects(lazy, recipes)
        if policy is None:
            continue
        if policy.constraints:
            try:
                system.check_amounts(
                    {name: amount for name, amount in policy.constraints.items() if not is_lazy(amount)}
                )
            except CapacityError as error:
                yield CapacityError(*(f"task '{lazy.name}': {line}" for line in error.problems))
        if policy.timeout is not None:
            if task.executor == "inline" and not task.is_async:
                yield ValidationError(
                    f"task '{lazy.name}' has a timeout but runs inline, where nothing could act on it; "
                    "let it run on a thread or in a process"
                )
            elif system.runs_on_thread(task):
                _warn_once(task, lazy.name, policy.timeout)


def _live_objects(lazy: Call[Any] | MappedLazyResult[Any], recipes: Recipes) -> Iterator[ValidationError]:
    for inject in _injects(lazy):
        definition = recipes.find(inject)
        if definition is not None and not definition.per_worker:
            yield ValidationError(
                f"task '{lazy.name}' runs in another process, where the live resource '{inject.name}' cannot go; "
                "declare it with @cs.resource(per_worker=True) to have each process make its own, "
                "or run the task on a thread"
            )


def _affine_objects(lazy: Call[Any] | MappedLazyResult[Any], recipes: Recipes) -> Iterator[ValidationError]:
    for inject in _injects(lazy):
        definition = recipes.find(inject)
        if definition is not None and recipes.is_affine(definition):
            yield ValidationError(
                f"task '{lazy.name}' is a coroutine function, which runs on the loop's thread, but the resource "
                f"'{inject.name}' may only be used on the thread where it was made; make the task a plain function"
            )


def _injects(lazy: Call[Any] | MappedLazyResult[Any]) -> list[Inject]:
    """Everything that a call injects."""
    named = [value for value in (*lazy.args, *lazy.kwargs.values()) if isinstance(value, Inject)]
    return [*lazy.task.injected.values(), *named]


def _warn_once(task: Any, name: str, timeout: float) -> None:
    if task.__dict__.get("_warned_of_timeout"):
        return
    task.__dict__["_warned_of_timeout"] = True
    warnings.warn(
        f"task '{name}' runs on a thread, which its timeout of {timeout:g} s cannot stop: the call fails in time, but "
        "goes on in the background; make it async, let it run in a process, or let it poll cs.cancelled()",
        ThreadTimeoutWarning,
        stacklevel=2,
    )


def _circles(graph: Graph) -> Iterator[GraphCycleError]:
    """A circle that a sequence makes with what its members depend on."""
    sources: list[list[int]] = [[] for _ in graph.lazies]
    for index, lazy in enumerate(graph.lazies):
        sources[index] = [graph.index_of[source] for source, _, _ in wants_of(lazy)]
    for index, before in graph.order_edges.items():
        sources[index].extend(before)
    followers: list[list[int]] = [[] for _ in sources]
    waits = [len(found) for found in sources]
    for index, found in enumerate(sources):
        for source in found:
            followers[source].append(index)
    ready = deque(index for index, count in enumerate(waits) if not count)
    while ready:
        for follower in followers[ready.popleft()]:
            waits[follower] -= 1
            if not waits[follower]:
                ready.append(follower)
    left = {index for index, count in enumerate(waits) if count}
    if not left:
        return
    path = [min(left)]
    while path.count(path[-1]) == 1:
        path.append(next(source for source in sources[path[-1]] if source in left))
    circle = path[path.index(path[-1]) :]
    shown = " -> ".join(graph.node_id(index) for index in reversed(circle))
    yield GraphCycleError(
        f"the order is a circle: {shown}; a sequence puts a value before one that it depends on, or two sequences "
        "disagree: change the order of the members"
    )
