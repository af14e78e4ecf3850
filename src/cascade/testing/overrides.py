"""Something else where a resource would be injected."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, overload

from cascade.runtime.engine import Engine
from cascade.runtime.resource_container import context_overrides
from cascade.spec.exceptions import DeclarationError
from cascade.spec.resource import ResourceDefinition

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

_MISSING: Any = object()


@overload
def override_resource(resource: str | ResourceDefinition, provider: Any, /) -> AbstractContextManager[None]: ...
@overload
def override_resource(
    engine: Engine | None, resource: str | ResourceDefinition, provider: Any, /
) -> AbstractContextManager[None]: ...
def override_resource(first: Any, second: Any, third: Any = _MISSING, /) -> AbstractContextManager[None]:
    """Let something else be injected for a resource within a `with` block, as a fake in a test.

    Without an engine it holds for every run that is started in the block, also by the tasks of such a run, and for
    no run that another thread starts meanwhile. With an engine, `override_resource(engine, resource, provider)`, it
    holds for that engine, whoever starts the run.

    Args:
        resource: the name, or the definition that tasks inject.
        provider: a definition, a function or generator function as for `cs.resource`, or a plain value. A function
            that is itself to be injected goes in one that returns it: `lambda: function`.

    Raises:
        DeclarationError: the resource is neither a name nor a definition, or the engine is none.

    >>> import cascade as cs
    >>> @cs.resource
    ... def database():
    ...     raise ConnectionError("not in a test")
    ...     yield
    >>> @cs.task
    ... def count(table: str, database=cs.inject(database)) -> int:
    ...     return len(database[table])
    >>> with override_resource("database", {"people": ["ann", "bob"]}):
    ...     cs.run(count("people"))
    2
    """
    if third is _MISSING:
        return _in_context(_name_of(first), second)
    if first is None:
        return _in_context(_name_of(second), third)
    if not isinstance(first, Engine):
        raise DeclarationError(
            f"override_resource takes an engine before the resource, got {type(first).__name__} {first!r}; write  "
            "override_resource(engine, 'name', provider)  or  override_resource('name', provider)"
        )
    return _on_engine(first, _name_of(second), third)


@contextmanager
def _in_context(name: str, provider: Any) -> Generator[None, None, None]:
    token = context_overrides.set(MappingProxyType({**context_overrides.get(), name: provider}))
    try:
        yield
    finally:
        context_overrides.reset(token)


@contextmanager
def _on_engine(engine: Engine, name: str, provider: Any) -> Generator[None, None, None]:
    undo = engine.override_resource_provider(name, provider)
    try:
        yield
    finally:
        undo()


def _name_of(resource: Any) -> str:
    if isinstance(resource, ResourceDefinition):
        return resource.name
    if isinstance(resource, str) and resource:
        return resource
    raise DeclarationError(
        f"override_resource takes the name of a resource or its definition, got {type(resource).__name__} {resource!r}"
    )
