"""What a node is called with, and what it needs of the system."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cascade.graph.model import Wiring
from cascade.spec.lazy_types import Call, Derived, MappedLazyResult
from cascade.spec.policy import is_lazy

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from cascade.runtime.scheduler import Scheduler


class ArgumentResolver:
    """Puts results in the places of lazy values."""

    def resolve(self, scheduler: Scheduler, index: int) -> tuple[Sequence[Any], Mapping[str, Any]]:
        """The finished arguments of a call; injected resources still stand as `Inject`."""
        lazy = scheduler.graph.lazies[index]
        assert isinstance(lazy, (Call, Derived))
        kwargs: Mapping[str, Any] = lazy.kwargs if isinstance(lazy, Call) else {}
        reference = scheduler.plan.references[index]
        values = scheduler.values
        if reference is None:
            return lazy.args, kwargs
        if type(reference) is int:
            return (values[reference],), kwargs
        if type(reference) is tuple:
            return [
                values[source] if source >= 0 else literal for source, literal in zip(reference, lazy.args, strict=True)
            ], kwargs
        assert isinstance(reference, Wiring)
        if reference.packed is not None:
            assert isinstance(lazy, Call)
            assert lazy.packed is not None
            args, kwargs = lazy.packed.fill([values[source] for source in reference.packed])
            return args, kwargs
        args = [
            values[source] if source >= 0 else literal
            for source, literal in zip(reference.positional, lazy.args, strict=True)
        ]
        if reference.named:
            kwargs = {**kwargs, **{name: values[source] for name, source in reference.named}}
        return args, kwargs

    def resolve_map(
        self, scheduler: Scheduler, index: int
    ) -> tuple[Sequence[Any], Mapping[str, Any], Mapping[str, Any]]:
        """The fixed arguments of a map, by place and by name, and its inputs."""
        lazy = scheduler.graph.lazies[index]
        assert isinstance(lazy, MappedLazyResult)
        reference = scheduler.plan.references[index]
        assert isinstance(reference, Wiring)
        values = scheduler.values
        if reference.packed is not None:
            assert lazy.packed is not None
            args, kwargs, inputs = lazy.packed.fill([values[source] for source in reference.packed])
            return args, kwargs, inputs
        args = [
            values[source] if source >= 0 else literal
            for source, literal in zip(reference.positional, lazy.args, strict=True)
        ]
        found = {name: values[source] for name, source in reference.named}
        return (
            args,
            {name: found[name] if is_lazy(value) else value for name, value in lazy.kwargs.items()},
            {name: found[name] if is_lazy(value) else value for name, value in lazy.inputs.items()},
        )


class ConstraintResolver:
    """Puts results in the places of lazy amounts."""

    def resolve(self, scheduler: Scheduler, index: int) -> Mapping[str, Any]:
        """The amounts that a call takes, by resource; empty if it takes none."""
        lazy = scheduler.graph.lazies[index]
        if lazy.policy is None or not lazy.policy.constraints:
            return {}
        return {
            resource: scheduler.values[scheduler.graph.index_of[amount]] if is_lazy(amount) else amount
            for resource, amount in lazy.policy.constraints.items()
        }
