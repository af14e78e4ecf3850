"""Lazy values: what calling a task gives, and what can be derived from it before anything has run."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from itertools import count
from typing import TYPE_CHECKING, Any, ClassVar, Final, Generic, NoReturn, TypeVar

from cascade.spec.containers import PLAIN, Packed, Shape, may_hold_lazy, pack, pack_arguments, shape_of
from cascade.spec.exceptions import DeclarationError, LazyAttributeError, LazyValueError
from cascade.spec.policy import Fluent, Policy, is_lazy

if TYPE_CHECKING:
    from types import CodeType
    from typing import Self

    from cascade.spec.task import Task

R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)

_order = count()
next_order = _order.__next__
"""Numbers lazy values in the order of their creation: what a value depends on always has a smaller number."""


class LazyResult(Fluent, Generic[R_co]):
    """A value that will be computed when a run asks for it.

    Immutable, compared and hashed by identity, free of any state of a run: one lazy value may be run many times.

    Attributes:
        policy: what was asked for this computation, or `None`.
        order: its place in the order of creation.
    """

    __slots__ = ("__weakref__", "code", "instruction", "order", "policy")
    __cascade_lazy__: ClassVar[bool] = True

    policy: Policy | None
    order: int
    code: CodeType | None
    instruction: int

    def _place(self, depth: int) -> None:
        """Remember where in the user's code this value was made, without keeping the frame alive."""
        frame = sys._getframe(depth + 1)  # pyright: ignore[reportPrivateUsage]
        self.code = frame.f_code
        self.instruction = frame.f_lasti
        self.order = next_order()

    @property
    def name(self) -> str:
        """The name for events, errors and scopes."""
        if self.policy is not None and self.policy.name is not None:
            return self.policy.name
        return self._own_name()

    def _own_name(self) -> str:
        raise NotImplementedError

    @property
    def origin(self) -> tuple[str, int] | None:
        """File and line where this value was made."""
        if self.code is None:
            return None
        line = self.code.co_firstlineno
        for start, end, number in self.code.co_lines():
            if start <= self.instruction < end and number is not None:
                line = number
        return self.code.co_filename, line

    def _with_policy(self, policy: Policy) -> Self:
        self._refuse(policy)
        twin = object.__new__(type(self))
        for slot in _slots_of(type(self)):
            object.__setattr__(twin, slot, getattr(self, slot))
        twin.policy = policy
        twin._place(3)
        return twin

    def _refuse(self, policy: Policy) -> None:
        """Only a call can be repeated, timed, cached or given resources."""
        if policy.governs_call:
            raise DeclarationError(
                f"{self!r} makes no call of its own, so it takes run_if, after and named only; "
                "ask for retries, timeouts, caches and constraints on the task that it is made from"
            )

    def __getitem__(self, key: Any) -> LazyResult[Any]:
        if type(key) not in PLAIN:
            for part in key if type(key) is tuple else (key,):
                if type(part) is slice and any(is_lazy(end) for end in (part.start, part.stop, part.step)):
                    _misused(self, "cannot be sliced by a lazy value", "x[:n]", "a task that slices:  first(x, n)")
            if may_hold_lazy(key):
                key = as_lazy(key)
        return Derived("getitem", _get_item, (self, key))

    def unpack(self, n: int) -> tuple[LazyResult[Any], ...]:
        """Take a result of exactly `n` items apart.

        Args:
            n: how many items there will be; the run fails if there are more or fewer.
        """
        if isinstance(n, bool) or not isinstance(n, int) or n < 0:
            raise DeclarationError(f"unpack takes the number of items, an int of at least 0, got {n!r}")
        items: LazyResult[Any] = Derived("unpack", _unpack, (self, n))
        return tuple(Derived("getitem", _get_item, (items, index)) for index in range(n))

    if not TYPE_CHECKING:
        # Hidden from type checkers, for whom every attribute would be there.
        def __getattr__(self, name: str) -> NoReturn:
            if name.startswith("__"):
                raise AttributeError(name)
            raise LazyAttributeError(
                f"{self!r} has no attribute '{name}' yet: it is computed when a run asks for it.\n"
                f"  wrong: x.{name}\n"
                f"  right: cs.task(operator.attrgetter({name!r}))(x)  or a task that uses it"
            )

    def __repr__(self) -> str:
        return f"<lazy {self.name}>"

    def __str__(self) -> NoReturn:
        _misused(self, "has no text yet", 'f"{x}" or str(x)', 'cs.format("{x}", x=x)  or a task that makes the text')

    def __format__(self, spec: str) -> NoReturn:
        _misused(self, "has no text yet", 'f"{x}"', 'cs.format("{x}", x=x)  or a task that makes the text')

    if TYPE_CHECKING:
        # What is refused at run time is an error for checkers too: `len(x)`, `for item in x`, `x < y`, ...
        __len__: None
        __contains__: None
        __iter__: None
        __lt__: None
        __le__: None
        __gt__: None
        __ge__: None

        # pyright refuses a condition that gives no bool; after NoReturn mypy would take the code for dead.
        def __bool__(self) -> object: ...

    else:

        def __bool__(self) -> NoReturn:
            _misused(
                self,
                "has no truth value yet",
                "if x: y()",
                "y().run_if(x)  or  cs.Router(x, {True: y(), False: z()})",
            )

        def __len__(self) -> NoReturn:
            _misused(self, "has no length yet", "len(x)", "cs.task(len)(x)")

        def __contains__(self, item: object) -> NoReturn:
            _misused(self, "has no members yet", "item in x", "a task that looks:  contains(x, item)")

        def __iter__(self) -> NoReturn:
            _misused(self, "cannot be iterated yet", "for item in x: f(item)", "f.map(item=x)  or  a, b = x.unpack(2)")

        def __lt__(self, other: object) -> NoReturn:
            _misused(self, "cannot be compared yet", "x < y", "a task that compares:  less(x, y)")

        __le__ = __gt__ = __ge__ = __lt__

    def __reduce__(self) -> tuple[Any, ...]:
        """Lazy values travel between processes as what a task returned; the line of their making stays behind."""
        state = {slot: getattr(self, slot) for slot in _travelling_slots(type(self))}
        return _remade, (type(self), state)


def _misused(lazy: LazyResult[Any], problem: str, wrong: str, right: str) -> NoReturn:
    raise LazyValueError(
        f"{lazy!r} {problem}: it is computed when a run asks for it.\n  wrong: {wrong}\n  right: {right}"
    )


def _refuse_operator(symbol: str) -> Callable[..., NoReturn]:
    def refuse(self: LazyResult[Any], *_: object) -> NoReturn:
        _misused(self, "cannot be calculated with yet", symbol.format("x"), "a task that calculates:  add(x, 1)")

    return refuse


# Not written as methods, so that type checkers refuse what cannot work.
for _name, _symbol in {
    "add": "{} + 1", "sub": "{} - 1", "mul": "{} * 2", "truediv": "{} / 2", "floordiv": "{} // 2", "mod": "{} % 2",
    "pow": "{} ** 2", "and": "{} & y", "or": "{} | y", "xor": "{} ^ y", "matmul": "{} @ y",
}.items():  # fmt: skip
    setattr(LazyResult, f"__{_name}__", _refuse_operator(_symbol))
    setattr(LazyResult, f"__r{_name}__", _refuse_operator(_symbol))
for _name in ("neg", "int", "float", "index"):
    setattr(LazyResult, f"__{_name}__", _refuse_operator("-{}" if _name == "neg" else _name + "({})"))


_OWN_TO_A_PROCESS: Final = frozenset({"code", "instruction", "order"})


_travelling: Final[dict[type, list[str]]] = {}


def _slots_of(kind: type) -> list[str]:
    return [slot for base in kind.__mro__ for slot in getattr(base, "__slots__", ()) if slot != "__weakref__"]


def _travelling_slots(kind: type) -> list[str]:
    found = _travelling.get(kind)
    if found is None:
        found = _travelling[kind] = [slot for slot in _slots_of(kind) if slot not in _OWN_TO_A_PROCESS]
    return found


def _remade(kind: type[LazyResult[Any]], state: Mapping[str, Any]) -> LazyResult[Any]:
    lazy = object.__new__(kind)
    for slot, value in state.items():
        setattr(lazy, slot, value)
    lazy.code, lazy.instruction, lazy.order = None, 0, next_order()
    return lazy


def _get_item(value: Any, key: Any) -> Any:
    return value[key]


def _unpack(value: Any, n: int) -> tuple[Any, ...]:
    items = tuple(value)
    if len(items) != n:
        raise ValueError(f"unpack expected {n} items, got {len(items)}")
    return items


class Call(LazyResult[R_co]):
    """One call of a task.

    Attributes:
        task: the task.
        args: the positional arguments; those that are lazy stand here themselves.
        kwargs: the arguments by name.
        packed: where containers hold lazy values, the program that makes `(args, kwargs)` in their place.
    """

    __slots__ = ("args", "kwargs", "packed", "task")

    task: Task[..., R_co]
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    packed: Packed | None

    def __init__(
        self, task: Task[..., R_co], args: tuple[Any, ...], kwargs: Mapping[str, Any], packed: Packed | None
    ) -> None:
        # The hottest constructor of all: no call in it but the two that cannot be avoided.
        self.task = task
        self.args = args
        self.kwargs = kwargs
        self.packed = packed
        self.policy = task.policy
        frame = sys._getframe(2)  # pyright: ignore[reportPrivateUsage]
        self.code = frame.f_code
        self.instruction = frame.f_lasti
        self.order = next_order()

    @property
    def name(self) -> str:
        """The name for events, errors and scopes."""
        # As everywhere else, without a call in between: each event asks for it twice.
        policy = self.policy
        return self.task.name if policy is None or policy.name is None else policy.name

    def _refuse(self, policy: Policy) -> None:
        pass


class MappedLazyResult(LazyResult[list[R]]):
    """A task called once per item, giving the results in the order of the items.

    Attributes:
        task: the task.
        args: arguments that are the same for every item, by position.
        kwargs: arguments that are the same for every item, by name.
        inputs: what is mapped over: iterables or lazy values of them, by the name of their parameter.
        packed: where containers hold lazy values, the program that makes `(args, kwargs, inputs)`.
    """

    __slots__ = ("args", "inputs", "kwargs", "packed", "positional", "task")

    def __init__(
        self,
        task: Task[..., R],
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        inputs: Mapping[str, Any],
        positional: int,
    ) -> None:
        self.task = task
        self.args = args
        self.kwargs = kwargs
        self.inputs = inputs
        self.positional = positional
        self.packed = pack_arguments(args, kwargs, inputs)
        self.policy = task.policy
        self._place(2)

    def _own_name(self) -> str:
        return self.task.name

    def _refuse(self, policy: Policy) -> None:
        pass


class Derived(LazyResult[Any]):
    """A cheap step from a value to a part of it, which needs no worker.

    Attributes:
        function: what is called.
        args: its arguments, lazy or not.
    """

    __slots__ = ("args", "function", "title")

    def __init__(self, title: str, function: Callable[..., Any], args: tuple[Any, ...]) -> None:
        self.title = title
        self.function = function
        self.args = args
        self.policy = None
        self._place(2)

    def _own_name(self) -> str:
        return self.title


class Gathered(LazyResult[Any]):
    """A container of lazy values where a single lazy value is wanted: as a target, a route, a member."""

    __slots__ = ("packed",)

    def __init__(self, packed: Packed) -> None:
        self.packed = packed
        self.policy = None
        self._place(2)

    def _own_name(self) -> str:
        return "container"


class Constant(LazyResult[Any]):
    """A plain value where a lazy one is wanted, as the route of a router."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value
        self.policy = None
        self._place(2)

    def _own_name(self) -> str:
        return "constant"


def as_lazy(value: Any) -> LazyResult[Any]:
    """A lazy value as it is, a container with lazy values as one of them, anything else as a constant."""
    if type(value) not in PLAIN:
        shape = shape_of(type(value))
        if shape is Shape.LAZY:
            return value  # type: ignore[no-any-return]
        if shape is not Shape.OPAQUE:
            packed = pack(value)
            if packed is not None:
                return Gathered(packed)
    return Constant(value)
