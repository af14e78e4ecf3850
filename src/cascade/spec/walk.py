"""Walking from a lazy value to all that it depends on, before there is a graph."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from cascade.spec.flow import Fallback, Sequence
from cascade.spec.input import EnvSpec, Input, ParamSpec
from cascade.spec.lazy_types import (
    Call,
    Constant,
    Derived,
    Gathered,
    LazyResult,
    MappedLazyResult,
    as_lazy,
)
from cascade.spec.policy import is_lazy
from cascade.spec.routing import Router


def dependencies_of(lazy: LazyResult[Any]) -> Iterator[LazyResult[Any]]:
    """What a lazy value refers to by itself: arguments, routes, conditions, amounts, what comes before it.

    One value may come several times.
    """
    policy = lazy.policy
    if policy is not None:
        if policy.run_if is not None:
            yield policy.run_if
        yield from policy.after
        if policy.constraints:
            yield from filter(is_lazy, policy.constraints.values())
    if isinstance(lazy, Call):
        if lazy.packed is not None:
            # It was made from all arguments, those that are lazy themselves included.
            yield from lazy.packed.lazies
        else:
            yield from filter(is_lazy, lazy.args)
            yield from filter(is_lazy, lazy.kwargs.values())
    elif isinstance(lazy, MappedLazyResult):
        if lazy.packed is not None:
            yield from lazy.packed.lazies
        else:
            yield from filter(is_lazy, lazy.args)
            yield from filter(is_lazy, lazy.kwargs.values())
            yield from filter(is_lazy, lazy.inputs.values())
    elif isinstance(lazy, Derived):
        yield from filter(is_lazy, lazy.args)
    elif isinstance(lazy, Gathered):
        yield from lazy.packed.lazies
    elif isinstance(lazy, Router):
        yield lazy.selector
        yield from lazy.routes.values()
    elif isinstance(lazy, Sequence):
        yield from lazy.members
    elif isinstance(lazy, Fallback):
        yield lazy.step
        yield lazy.before
    elif not isinstance(lazy, (Input, Constant)):
        raise TypeError(f"what {lazy!r} depends on is not known: {type(lazy).__name__} is no kind of lazy value here")


def reachable(target: Any) -> Iterator[LazyResult[Any]]:
    """Every lazy value that a target may need, itself included, each once; any depth.

    Args:
        target: a lazy value, a container of them, or a plain value.
    """
    root = as_lazy(target)
    seen = {root}
    stack = [root]
    while stack:
        lazy = stack.pop()
        yield lazy
        for dependency in dependencies_of(lazy):
            if dependency not in seen:
                seen.add(dependency)
                stack.append(dependency)


def inputs_of(target: Any) -> list[ParamSpec | EnvSpec]:
    """The inputs of a workflow, those on all routes included, in the order of their declaration.

    Args:
        target: a lazy value, a container of them, or a plain value.
    """
    inputs = [lazy for lazy in reachable(target) if isinstance(lazy, Input)]
    inputs.sort(key=lambda lazy: lazy.order)
    return list(dict.fromkeys(lazy.spec for lazy in inputs))
