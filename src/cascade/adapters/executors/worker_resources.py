"""Resources that each worker process makes for itself, once, and tears down when it ends."""

from __future__ import annotations

import atexit
import inspect
from collections.abc import Callable, Mapping
from typing import Any, Final

from cascade.spec.exceptions import ResourceError
from cascade.spec.resource import Outcome, WorkerRecipe

_live: Final[dict[str, Any]] = {}
_generators: Final[list[Any]] = []


def call_with_resources(function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """Call a function with this process's own resources in the places of their recipes."""
    return function(*(_resolved(value) for value in args), **{name: _resolved(value) for name, value in kwargs.items()})


def _resolved(value: Any) -> Any:
    return _made(value) if type(value) is WorkerRecipe else value


def _made(recipe: WorkerRecipe) -> Any:
    if recipe.name in _live:
        return _live[recipe.name]
    function = recipe.function
    if inspect.isasyncgenfunction(function) or inspect.iscoroutinefunction(function):
        raise ResourceError(
            f"resource '{recipe.name}' is asynchronous, and a worker process has no loop; "
            "make it a plain generator, or inject it into tasks that run in this process"
        )
    inner = {name: _made(other) for name, other in recipe.inner}
    value = function(**inner)
    if inspect.isgenerator(value):
        generator = value
        try:
            value = next(generator)
        except StopIteration:
            raise ResourceError(f"resource '{recipe.name}' ended without yielding") from None
        _generators.append(generator)
    _live[recipe.name] = value
    return value


@atexit.register
def _tear_down() -> None:
    while _generators:
        try:
            _generators.pop().send(Outcome())
        except StopIteration:
            continue
