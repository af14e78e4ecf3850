"""Routers: one of several values, chosen by another value while the workflow runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar, overload

from cascade.spec.exceptions import DeclarationError, LazyValueError
from cascade.spec.lazy_types import LazyResult, as_lazy
from cascade.spec.policy import is_lazy

R = TypeVar("R")


class Router(LazyResult[R]):
    """Stands for one of several values; what only the others need is never computed.

    Args:
        selector: a lazy value that gives the key of the route to take.
        routes: a value, lazy or not, for each key. Any hashable key will do, `None` and `False` included.

    Raises:
        LazyValueError: the selector is no lazy value.
        DeclarationError: the routes are not a mapping, or there are none.

    At the run, a selector whose value is no key raises `UnknownRouteError`.

    >>> import cascade as cs
    >>> @cs.task
    ... def kind(name: str) -> str:
    ...     return name.rsplit(".", 1)[-1]
    >>> cs.run(cs.Router(kind("notes.txt"), {"txt": "text", "py": "source"}))
    'text'
    """

    __slots__ = ("routes", "selector")

    selector: LazyResult[Any]
    routes: Mapping[Any, LazyResult[Any]]

    # The first two say the same; mypy infers R for routes that are all lazy from the first alone.
    @overload
    def __init__(self, selector: LazyResult[Any], routes: Mapping[Any, LazyResult[R]]) -> None: ...
    @overload
    def __init__(self, selector: LazyResult[Any], routes: Mapping[Any, LazyResult[R] | R]) -> None: ...
    @overload
    def __init__(self: Router[Any], selector: LazyResult[Any], routes: Mapping[Any, Any]) -> None: ...
    def __init__(self, selector: LazyResult[Any], routes: Mapping[Any, Any]) -> None:
        if not is_lazy(selector):
            raise LazyValueError(
                f"the selector of a Router must be a lazy value, got {type(selector).__name__} {selector!r}. "
                "For a choice that is given at the run:  cs.Router(cs.Param('kind'), {...});  "
                "for one that is known now:  routes[choice]"
            )
        if not isinstance(routes, Mapping) or not routes:
            raise DeclarationError(f"a Router takes a mapping with at least one route, got {routes!r}")
        self.selector = selector
        self.routes = {key: as_lazy(route) for key, route in routes.items()}
        self.policy = None
        self._place(1)

    def _own_name(self) -> str:
        return "router"
