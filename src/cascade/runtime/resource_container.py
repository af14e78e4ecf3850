"""Injected resources: the recipes that an engine knows, and the live instances of one run or one attempt."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Iterable, Mapping
from contextvars import ContextVar
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from cascade.runtime.affine_thread import AffineThread
from cascade.spec.exceptions import ResourceCycleError, ResourceError, UnknownResourceError
from cascade.spec.resource import Inject, Outcome, ResourceDefinition, WorkerRecipe

if TYPE_CHECKING:
    from cascade.runtime.run import Run


context_overrides: Final[ContextVar[Mapping[str, Any]]] = ContextVar("cascade_overrides", default=MappingProxyType({}))
"""What stands in for resources in runs that are started in this context: for tests that have no engine in hand."""


class ResourceRegistry:
    """Recipes by name, and what stands in for them.

    Args:
        definitions: the recipes; a later one replaces an earlier one of the same name.
        outer: where names are looked up that are not found here.
    """

    def __init__(self, definitions: Iterable[ResourceDefinition] = (), outer: ResourceRegistry | None = None) -> None:
        self._definitions = {definition.name: definition for definition in definitions}
        self._overrides: dict[str, _Override] = {}
        self._outer = outer

    @property
    def has_any(self) -> bool:
        """Whether something can be injected or is overridden."""
        return bool(self._definitions or self._overrides)

    def register(self, definition: ResourceDefinition) -> None:
        """Make a recipe known by its name."""
        self._definitions[definition.name] = definition

    def override(self, name: str, provider: Any) -> Callable[[], None]:
        """Let something else stand in for a name, whoever injects it.

        Args:
            provider: a definition, a function or generator function as for `resource`, or a plain value.

        Returns:
            A function that ends this.
        """
        before = self._overrides.get(name)
        self._overrides[name] = _Override(name, provider)

        def undo() -> None:
            if before is None:
                self._overrides.pop(name, None)
            else:
                self._overrides[name] = before

        return undo

    def find(self, inject: Inject) -> ResourceDefinition | None:
        """The recipe for what is injected, or `None`."""
        found: ResourceDefinition | None
        if isinstance(inject.resource, ResourceDefinition):
            found = inject.resource
        else:
            found = self._definition(inject.resource)
        registry: ResourceRegistry | None = self
        while registry is not None:
            if inject.name in registry._overrides:
                return registry._overrides[inject.name].in_place_of(found)
            registry = registry._outer
        return found

    def _definition(self, name: str) -> ResourceDefinition | None:
        found = self._definitions.get(name)
        return found if found is not None or self._outer is None else self._outer._definition(name)

    def is_affine(self, definition: ResourceDefinition) -> bool:
        """Whether a resource, or anything that it injects, must be used on one thread."""
        seen = {definition}
        stack = [definition]
        while stack:
            current = stack.pop()
            if current.thread_affine:
                return True
            for inject in current.injected.values():
                inner = self.find(inject)
                if inner is not None and inner not in seen:
                    seen.add(inner)
                    stack.append(inner)
        return False

    def names(self) -> list[str]:
        """All names that are known."""
        outer = self._outer.names() if self._outer is not None else []
        return sorted({*self._definitions, *self._overrides, *outer})

    def check(self, injects: Iterable[tuple[Inject, str]]) -> list[UnknownResourceError | ResourceCycleError]:
        """Everything that is wrong with what is injected: unknown names, circles, lives that do not fit.

        Args:
            injects: what is injected, and by whom, for messages.
        """
        problems: dict[str, UnknownResourceError | ResourceCycleError] = {}
        sound: set[str] = set()
        for inject, wanted_by in injects:
            self._check(inject, [wanted_by], sound, problems)
        return list(problems.values())

    def _check(
        self,
        inject: Inject,
        path: list[str],
        sound: set[str],
        problems: dict[str, UnknownResourceError | ResourceCycleError],
    ) -> None:
        """Check one resource and all that it injects, each once however many ways lead to it."""
        name = f"'{inject.name}'"
        shown = " -> ".join([*path, name])
        definition = self.find(inject)
        if definition is None:
            known = ", ".join(self.names()) or "none"
            text = (
                f"{shown}: no resource has the name {name} (known: {known}); "
                "pass it with resources=[...], or inject the definition itself"
            )
            problems.setdefault(text, UnknownResourceError(text))
            return
        if name in path:
            text = f"resources inject each other in a circle: {shown}; make one of them without the other"
            problems.setdefault(text, ResourceCycleError(text))
            return
        if inject.name in sound:
            return
        for inner in definition.injected.values():
            nested = self.find(inner)
            if nested is not None and nested.scope == "task" and definition.scope == "run":
                text = (
                    f"{shown} -> '{inner.name}': a resource of the run cannot hold one of a task, which ends first; "
                    "give both the same scope"
                )
                problems.setdefault(text, ResourceCycleError(text))
            self._check(inner, [*path, name], sound, problems)
        sound.add(inject.name)


class _Override:
    """What stands in for a resource: a definition as it is, anything else with the life of what it replaces."""

    def __init__(self, name: str, provider: Any) -> None:
        self._name = name
        self._provider = provider
        self._function = provider if inspect.isroutine(provider) else lambda: provider
        self._made: dict[ResourceDefinition | None, ResourceDefinition] = {}

    def in_place_of(self, replaced: ResourceDefinition | None) -> ResourceDefinition:
        if isinstance(self._provider, ResourceDefinition):
            return self._provider
        made = self._made.get(replaced)
        if made is None:
            made = self._made[replaced] = ResourceDefinition(
                self._function,
                self._name,
                "run" if replaced is None else replaced.scope,
                thread_affine=replaced is not None and replaced.thread_affine,
                per_worker=replaced is not None and replaced.per_worker,
            )
        return made


class _Live:
    """One live resource and how to end it."""

    __slots__ = ("definition", "generator", "value")

    def __init__(self, definition: ResourceDefinition, generator: Any, value: Any) -> None:
        self.definition = definition
        self.generator = generator
        self.value = value


class ResourceContainer:
    """The live instances of one run, or, as a child of that, of one attempt.

    Resources are made at their first use and torn down in reverse order. Sync ones are made and torn down on one
    thread, which belongs to this container.
    """

    def __init__(self, registry: ResourceRegistry, run: Run, parent: ResourceContainer | None = None) -> None:
        self._registry = registry
        self._run = run
        self._parent = parent
        self._live: list[_Live] = []
        self._making: dict[tuple[str, int], asyncio.Task[Any]] = {}
        self._thread: AffineThread | None = None
        # Of calls that were left behind: they may still use what was made for them.
        self._left: dict[ResourceContainer, BaseException | None] = {}
        self._closing_left: set[asyncio.Task[list[BaseException]]] = set()
        self._raised_late: list[BaseException] = []
        self.used_affine = False

    def child(self) -> ResourceContainer:
        """A container for one attempt."""
        return ResourceContainer(self._registry, self._run, self)

    @property
    def is_empty(self) -> bool:
        """Whether nothing was ever made here."""
        return not (self._making or self._thread or self._left or self._closing_left or self._raised_late)

    @property
    def thread(self) -> AffineThread:
        """The thread on which sync resources of this container live, and users of thread-affine ones run."""
        if self.used_affine and self._parent is not None:
            return self._parent.thread
        if self._thread is None:
            self._thread = AffineThread("cascade-resources")
        return self._thread

    def recipes(self, injects: Mapping[Any, Inject]) -> dict[Any, WorkerRecipe]:
        """How a process makes what is injected for itself."""
        return {key: self._recipe(self._found(inject)) for key, inject in injects.items()}

    def _recipe(self, definition: ResourceDefinition) -> WorkerRecipe:
        inner = tuple((name, self._recipe(self._found(inject))) for name, inject in definition.injected.items())
        return WorkerRecipe(definition.name, definition.function, inner)

    async def values(self, injects: Mapping[Any, Inject]) -> dict[Any, Any]:
        """The live resources for what is injected, made where they are not there yet."""
        definitions = {key: self._found(inject) for key, inject in injects.items()}
        self.used_affine = any(self._registry.is_affine(definition) for definition in definitions.values())
        return {key: await self._get(definition) for key, definition in definitions.items()}

    async def _get(self, definition: ResourceDefinition) -> Any:
        if definition.scope == "run" and self._parent is not None:
            return await self._parent._get(definition)
        key = (definition.name, id(definition.function))
        making = self._making.get(key)
        if making is None:
            making = self._making[key] = asyncio.get_running_loop().create_task(
                self._make(definition), context=self._run.context.copy()
            )
        # Others may wait for the same resource, so that one of them being cancelled must not undo it.
        try:
            return await asyncio.shield(making)
        except BaseException:
            failed = making.done() and (making.cancelled() or making.exception() is not None)
            if failed and self._making.get(key) is making:
                del self._making[key]
            raise

    async def _make(self, definition: ResourceDefinition) -> Any:
        inner = {name: await self._get(self._found(inject)) for name, inject in definition.injected.items()}
        function = definition.function
        generator: Any = None
        if inspect.isasyncgenfunction(function):
            generator = function(**inner)
            try:
                value = await anext(generator)
            except StopAsyncIteration:
                raise _no_yield(definition) from None
        elif inspect.iscoroutinefunction(function):
            value = await function(**inner)
        elif inspect.isgeneratorfunction(function):
            generator = function(**inner)
            value = await self._on_thread(_first, definition, generator)
        else:
            value = await self._on_thread(function, **inner)
        self._live.append(_Live(definition, generator, value))
        self._run.teller.resource("acquired", definition.name)
        return value

    async def _on_thread(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        clock = self._run.clock
        clock.busy()
        try:
            return await self.thread.call(self._run.context.copy(), function, *args, **kwargs)
        finally:
            clock.idle()

    def _found(self, inject: Inject) -> ResourceDefinition:
        definition = self._registry.find(inject)
        assert definition is not None, f"validated before: {inject!r}"
        return definition

    def leave_to_run(self, error: BaseException | None) -> None:
        """Have what was made for an attempt torn down when its call has ended, or at the latest with the run."""
        if self._parent is not None and not self.is_empty:
            self._parent._left[self] = error

    def close_left(self) -> None:
        """Begin to tear down what was left to the run, unless that was done."""
        parent = self._parent
        if parent is not None and self in parent._left:
            error = parent._left.pop(self)
            closing = asyncio.get_running_loop().create_task(self.close(error), context=self._run.context.copy())
            parent._closing_left.add(closing)
            closing.add_done_callback(parent._left_is_closed)

    def _left_is_closed(self, closing: asyncio.Task[list[BaseException]]) -> None:
        self._closing_left.discard(closing)
        if not closing.cancelled():
            self._raised_late += closing.result()

    async def close(self, error: BaseException | None) -> list[BaseException]:
        """Tear everything down, the newest first, each one whatever the others do.

        Args:
            error: what the run or the attempt ended with, for the outcome that resources see.

        Returns:
            What teardowns raised.
        """
        for left in list(self._left):
            left.close_left()
        if self._closing_left:
            await asyncio.wait(self._closing_left)
        raised, self._raised_late = self._raised_late, []
        for making in list(self._making.values()):
            if not making.done():
                await asyncio.wait([making])
        self._making.clear()
        outcome = Outcome(error)
        while self._live:
            live = self._live.pop()
            try:
                await self._tear_down(live, outcome)
            except BaseException as problem:
                raised.append(problem)
            self._run.teller.resource("released", live.definition.name)
        if self._thread is not None:
            self._thread.close()
            self._thread = None
        return raised

    async def _tear_down(self, live: _Live, outcome: Outcome) -> None:
        generator = live.generator
        if generator is None:
            return
        if inspect.isasyncgenfunction(live.definition.function):
            try:
                await generator.asend(outcome)
            except StopAsyncIteration:
                return
            await generator.aclose()
            raise _second_yield(live.definition)
        await self._on_thread(_last, live.definition, generator, outcome)


def _first(definition: ResourceDefinition, generator: Any) -> Any:
    try:
        return next(generator)
    except StopIteration:
        raise _no_yield(definition) from None


def _last(definition: ResourceDefinition, generator: Any, outcome: Outcome) -> None:
    try:
        generator.send(outcome)
    except StopIteration:
        return
    generator.close()
    raise _second_yield(definition)


def _no_yield(definition: ResourceDefinition) -> ResourceError:
    return ResourceError(f"resource '{definition.name}' ended without yielding; a resource yields exactly once")


def _second_yield(definition: ResourceDefinition) -> ResourceError:
    return ResourceError(
        f"resource '{definition.name}' yielded a second time; what follows its one yield is its teardown"
    )
