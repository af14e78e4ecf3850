"""Injected resources: how they are declared, and how a task asks for one."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, overload

from cascade.spec.exceptions import DeclarationError

Scope = Literal["run", "task"]
_SCOPES: Final = ("run", "task")


class ResourceDefinition:
    """A recipe for a resource; made by `resource`.

    Attributes:
        function: a generator, an async generator or a plain function.
        name: the name by which it is injected.
        scope: `"run"` for one a run, made at its first use; `"task"` for one an attempt.
        thread_affine: whether its users run on the thread where it was made.
        per_worker: whether processes make their own instead of being handed one.
    """

    __slots__ = ("__weakref__", "function", "injected", "name", "per_worker", "scope", "thread_affine")

    scope: Scope

    def __init__(
        self, function: Callable[..., Any], name: str, scope: Scope, thread_affine: bool, per_worker: bool
    ) -> None:
        self.function = function
        self.name = name
        self.scope = scope
        self.thread_affine = thread_affine
        self.per_worker = per_worker
        self.injected: Mapping[str, Inject] = _injections(function, name)

    @property
    def is_async(self) -> bool:
        """Whether it is set up and torn down on the loop."""
        return inspect.isasyncgenfunction(self.function) or inspect.iscoroutinefunction(self.function)

    def __repr__(self) -> str:
        return f"<resource {self.name}>"


@dataclass(frozen=True, slots=True)
class Inject:
    """Stands for a resource among the arguments of a task; made by `inject`."""

    resource: str | ResourceDefinition

    @property
    def name(self) -> str:
        return self.resource if isinstance(self.resource, str) else self.resource.name


@dataclass(frozen=True, slots=True)
class Outcome:
    """How the run or the attempt that used a resource ended: what `yield` gives inside it.

    Attributes:
        error: the exception, or `None` after success.
    """

    error: BaseException | None = None


@dataclass(frozen=True, slots=True)
class WorkerRecipe:
    """A resource that a process makes for itself, with all that it injects: what is shipped in its place."""

    name: str
    function: Callable[..., Any]
    inner: tuple[tuple[str, WorkerRecipe], ...] = ()


@overload
def resource(function: Callable[..., Any], /) -> ResourceDefinition: ...
@overload
def resource(
    *, name: str | None = None, scope: Scope = "run", thread_affine: bool = False, per_worker: bool = False
) -> Callable[[Callable[..., Any]], ResourceDefinition]: ...
def resource(
    function: Callable[..., Any] | None = None,
    /,
    *,
    name: str | None = None,
    scope: Scope = "run",
    thread_affine: bool = False,
    per_worker: bool = False,
) -> Any:
    """Declare a resource: set up before its first use, torn down whatever happens.

    The function yields the resource once, and the code after `yield` is its teardown; a plain function returns it and
    needs none. The yield gives back an `Outcome`.

    Args:
        function: a generator, an async generator, a coroutine function or a plain function.
        name: the name by which it is injected; the function's own by default.
        scope: `"run"`: one a run; `"task"`: one an attempt.
        thread_affine: its users run on the thread where it was made, as SQLite connections ask for.
        per_worker: processes make their own; without it, process tasks refuse live resources.

    Raises:
        DeclarationError: the scope is unknown or the function cannot be called.

    >>> import cascade as cs
    >>> @cs.resource
    ... def greeting():
    ...     yield "hello"
    >>> @cs.task
    ... def greet(name: str, word=cs.inject(greeting)) -> str:
    ...     return f"{word} {name}"
    >>> cs.run(greet("world"))
    'hello world'
    """
    if scope not in _SCOPES:
        raise DeclarationError(f"the scope of a resource is 'run' or 'task', got {scope!r}")

    def declare(function: Callable[..., Any]) -> ResourceDefinition:
        if isinstance(function, ResourceDefinition):
            raise DeclarationError(f"{function!r} is a resource already")
        if not callable(function):
            raise DeclarationError(f"a resource is made from a function, got {function!r}")
        own_name: Any = getattr(function, "__name__", type(function).__name__)
        return ResourceDefinition(function, name or own_name, scope, thread_affine, per_worker)

    return declare if function is None else declare(function)


def inject(resource: str | ResourceDefinition) -> Any:
    """Ask for a resource, as the default of a parameter or as an argument.

    Args:
        resource: its name or the definition itself, which then needs no registration.
    """
    if not isinstance(resource, (str, ResourceDefinition)) or resource == "":
        raise DeclarationError(
            f"inject takes the name of a resource or its definition, got {type(resource).__name__} {resource!r}"
        )
    return Inject(resource)


def _injections(function: Callable[..., Any], name: str) -> Mapping[str, Inject]:
    try:
        parameters = inspect.signature(function).parameters.values()
    except (ValueError, TypeError):
        return {}
    for parameter in parameters:
        required = parameter.default is parameter.empty
        if required and parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            raise DeclarationError(
                f"resource '{name}': parameter '{parameter.name}' has no default, but nobody passes arguments to a "
                f"resource; write  {parameter.name}=cs.inject('{parameter.name}')  to have one injected"
            )
    return {p.name: p.default for p in parameters if isinstance(p.default, Inject)}
