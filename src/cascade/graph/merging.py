"""Which pure calls are equal, so that one computation may serve them all."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from cascade.graph.code import is_local
from cascade.graph.digest import UndigestibleError, digest
from cascade.spec.policy import is_lazy

if TYPE_CHECKING:
    from cascade.spec.lazy_types import Call, LazyResult


def merge_key(lazy: Call[Any], merged: Mapping[LazyResult[Any], LazyResult[Any]]) -> object | None:
    """What two pure calls must have in common to be one; `None` for a call that never merges.

    Args:
        lazy: the call.
        merged: the calls that were found equal before, by what stands for them.
    """
    function = lazy.task.function
    # Two lambdas or closures are two tasks, whatever their code: only what can be found by name is the same thing.
    task: object = id(function) if is_local(function) else function
    try:
        if lazy.packed is not None:
            inputs: tuple[Any, ...] = tuple(_steps(lazy, merged))
        else:
            named = lazy.task.arguments_by_name(lazy.args, lazy.kwargs)
            inputs = tuple((name, _input(value, merged)) for name, value in named.items())
    except UndigestibleError:
        return None
    return task, lazy.task.name, id(lazy.policy), lazy.task.version, inputs


def _input(value: Any, merged: Mapping[LazyResult[Any], LazyResult[Any]]) -> object:
    if is_lazy(value):
        return merged.get(value, value)
    # What `*args` and `**kwargs` gather is looked into: lazy values stand in it themselves.
    if type(value) is tuple:
        return ("tuple", *(_input(member, merged) for member in value))
    if type(value) is dict:
        return ("dict", *((name, _input(member, merged)) for name, member in value.items()))
    return digest(value)


def _steps(lazy: Call[Any], merged: Mapping[LazyResult[Any], LazyResult[Any]]) -> list[object]:
    assert lazy.packed is not None
    found: list[object] = [merged.get(value, value) for value in lazy.packed.lazies]
    for kind, constants, wiring, names in lazy.packed.shapes():
        found.append((kind, digest(constants), wiring, digest(names)))
    return found
