"""Sequences, which run values one after another, and pipelines, which feed each step the value before it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from cascade.spec.exceptions import DeclarationError, LazyValueError
from cascade.spec.lazy_types import Constant, LazyResult, as_lazy
from cascade.spec.policy import is_lazy

if TYPE_CHECKING:
    from typing import TypeAlias

    Member: TypeAlias = LazyResult[Any] | list[Any] | tuple[Any, ...] | set[Any] | frozenset[Any] | Mapping[Any, Any]
    """What a sequence may have as a member: anything else is surely a task that somebody forgot to call."""


class Sequence(LazyResult[Any]):
    """Values that run one after another; made by `sequence`."""

    __slots__ = ("members",)

    members: tuple[LazyResult[Any], ...]

    def __init__(self, members: tuple[LazyResult[Any], ...]) -> None:
        self.members = members
        self.policy = None
        self._place(2)

    def _own_name(self) -> str:
        return "sequence"


class Fallback(LazyResult[Any]):
    """A pipeline's step, or, if its condition skipped it, the value before it."""

    __slots__ = ("before", "step")

    step: LazyResult[Any]
    before: LazyResult[Any]

    def __init__(self, step: LazyResult[Any], before: LazyResult[Any]) -> None:
        self.step = step
        self.before = before
        self.policy = None
        self._place(2)

    def _own_name(self) -> str:
        return "pipeline"


def sequence(members: Iterable[Member]) -> LazyResult[Any]:
    """Run values one after another; the value of the last one, or `None` if one of them was skipped.

    The order holds for these very values, whoever else uses them. A failure raises as usual.

    Args:
        members: lazy values, or containers of them.

    Raises:
        DeclarationError: there are no members.
        LazyValueError: a member is no lazy value.

    >>> import cascade as cs
    >>> said = []
    >>> say = cs.task(said.append)
    >>> cs.run(cs.sequence([say("one"), say("two")]))
    >>> said
    ['one', 'two']
    """
    if is_lazy(members):
        raise LazyValueError(
            f"the members of a sequence are a list, got {members!r}; write  cs.sequence([first(), second()])"
        )
    lazies = tuple(as_lazy(member) for member in members)
    if not lazies:
        raise DeclarationError("a sequence needs at least one member: cs.sequence([first, second])")
    for lazy in lazies:
        if isinstance(lazy, Constant):
            raise LazyValueError(
                f"a member of a sequence must be a lazy value, got {type(lazy.value).__name__} {lazy.value!r}; "
                "call the task:  cs.sequence([first(), second()])"
            )
    return Sequence(lazies)


def pipeline(value: Any, steps: Iterable[Callable[[Any], Any]]) -> LazyResult[Any]:
    """Feed a value through steps; a step that its condition skips lets the value before it through.

    Args:
        value: where it starts, lazy or not.
        steps: tasks, partials, or functions from a lazy value to a lazy value.

    Raises:
        LazyValueError: a step cannot be called or does not return a lazy value.

    >>> import cascade as cs
    >>> @cs.task
    ... def double(x: int) -> int:
    ...     return 2 * x
    >>> cs.run(cs.pipeline(5, [double, double.run_if(cs.Param("again", default=False, type=bool))]))
    10
    """
    if not isinstance(steps, Iterable):
        raise LazyValueError(f"the steps of a pipeline are a list, got {steps!r}; write  cs.pipeline(x, [clean, save])")
    current = as_lazy(value)
    for step in steps:
        if not callable(step):
            raise LazyValueError(
                f"a step of a pipeline is a task, a partial or a function of a lazy value, got {step!r}; "
                "write  cs.pipeline(x, [clean, save.partial(path=p)])"
            )
        # A constant is handed over as itself, so that the step's node carries the literal.
        result = step(current.value if isinstance(current, Constant) else current)
        if not is_lazy(result):
            raise LazyValueError(
                f"the step {step!r} of a pipeline returned {type(result).__name__} {result!r} where a lazy value "
                "was expected; make it a task:  @cs.task"
            )
        current = Fallback(result, current)
    return current
