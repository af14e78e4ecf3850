"""Tasks: functions whose call gives a lazy value."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Concatenate, Final, Generic, NoReturn, ParamSpec, TypeVar, overload

from cascade.spec.containers import PLAIN, Shape, may_hold_lazy, pack_arguments, shape_of
from cascade.spec.exceptions import DeclarationError, LazyValueError, TaskArgumentError
from cascade.spec.lazy_types import Call, LazyResult, MappedLazyResult
from cascade.spec.policy import (
    DEFAULT,
    Fluent,
    Policy,
    Retry,
    checked_cache,
    checked_condition,
    checked_predecessors,
    checked_timeout,
)
from cascade.spec.resource import Inject
from cascade.spec.secret import mask

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from typing import Protocol, Self, TypedDict, Unpack

    from cascade.spec.protocols import CachePolicy

    class TaskOptions(TypedDict, total=False):
        """What `task` can be told beside the function; its docstring tells what each means."""

        name: str | None
        pure: bool
        executor: str | None
        version: str | None
        tags: Iterable[str]
        run_if: LazyResult[Any] | None
        after: Iterable[LazyResult[Any]]
        retry: Retry | int | None
        timeout: float | None
        cache: CachePolicy | None
        constraints: Mapping[str, Any] | None

    class TaskDecorator(Protocol):
        """What `task(...)` without a function gives."""

        @overload
        def __call__(self, function: Callable[P, Coroutine[Any, Any, LazyResult[R]]], /) -> Task[P, R]: ...
        @overload
        def __call__(self, function: Callable[P, Coroutine[Any, Any, LazyResult[R] | R]], /) -> Task[P, R]: ...
        @overload
        def __call__(self, function: Callable[P, LazyResult[R]], /) -> Task[P, R]: ...
        @overload
        def __call__(self, function: Callable[P, LazyResult[R] | R], /) -> Task[P, R]: ...


P = ParamSpec("P")
Q = ParamSpec("Q")
R = TypeVar("R")

_NO_ARGUMENTS: Final[Mapping[str, Any]] = {}
_DIRECT: Final = PLAIN | {Call, LazyResult, MappedLazyResult}
_MOST_CALL_FORMS: Final = 64


class Task(Fluent, Generic[P, R]):
    """A function whose call runs nothing and gives a lazy value; made by `task`.

    Attributes:
        function: the function itself, for calling it at once.
        name: how events, errors and scopes name it.
        pure: whether equal inputs give equal values, so that one computation may serve several calls.
        executor: the name of the executor that it wants, or `None` for the engine's choice.
        version: what the author says of the function's behaviour; part of its identity.
        tags: words by which limits can name it.
        is_async: whether it runs on the engine's loop.
    """

    __slots__ = (
        "__dict__",
        "__weakref__",
        "_bound_args",
        "_bound_kwargs",
        "_forms",
        "_least",
        "_most",
        "_signature",
        "executor",
        "function",
        "is_async",
        "name",
        "policy",
        "pure",
        "tags",
        "version",
    )

    checks_calls: ClassVar[bool] = False
    """Whether `check_call` is asked at every call."""

    def __init__(
        self,
        function: Callable[..., Any],
        *,
        name: str,
        pure: bool = False,
        executor: str | None = None,
        version: str | None = None,
        tags: tuple[str, ...] = (),
        policy: Policy | None = None,
    ) -> None:
        self.function = function
        self.name = mask(name)
        self.pure = pure
        self.executor = executor
        self.version = version
        self.tags = tags
        self.policy = policy
        self.is_async = _is_async(function)
        self._bound_args: tuple[Any, ...] = ()
        self._bound_kwargs: Mapping[str, Any] = _NO_ARGUMENTS
        self._signature: inspect.Signature | None = None
        # The forms of call that were found right, with the arguments by name that can as well be given by position.
        self._forms: dict[tuple[Any, ...], tuple[str, ...]] = {}
        # How many positional arguments alone are certainly right; read off the signature at the first call.
        self._least = 1
        self._most = 0
        functools.update_wrapper(self, function, updated=())

    @overload
    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> LazyResult[R]: ...
    @overload
    def __call__(self, *args: Any, **kwargs: Any) -> LazyResult[R]: ...
    def __call__(self, *args: Any, **kwargs: Any) -> LazyResult[R]:
        """Declare one call; nothing runs.

        Raises:
            TaskArgumentError: the arguments do not fit the function's signature.
        """
        if kwargs or not self._least <= len(args) <= self._most:
            args, kwargs = self._checked(args, kwargs)
        for value in args:
            if type(value) not in _DIRECT and may_hold_lazy(value):
                return Call(self, args, kwargs, pack_arguments(args, kwargs))
        if kwargs:
            for value in kwargs.values():
                if type(value) not in _DIRECT and may_hold_lazy(value):
                    return Call(self, args, kwargs, pack_arguments(args, kwargs))
        return Call(self, args, kwargs, None)

    def partial(self, *args: Any, **kwargs: Any) -> Task[..., R]:
        """Fix some arguments: the result is called, mapped and given policies like any task.

        >>> import cascade as cs
        >>> @cs.task
        ... def power(base: int, exponent: int) -> int:
        ...     return base**exponent
        >>> cs.run(power.partial(exponent=2).map(base=[1, 2, 3]))
        [1, 4, 9]
        """
        bound = self._bound_args + args, {**self._bound_kwargs, **kwargs}
        signature = self.signature
        if signature is not None:
            try:
                signature.bind_partial(*bound[0], **bound[1])
            except TypeError as error:
                raise self._misfit(error) from None
        twin = self._twin()
        twin._bound_args, twin._bound_kwargs = bound
        twin._forms = {}
        twin._least, twin._most = 1, 0
        return twin

    def map(
        self, *inputs: Iterable[Any] | LazyResult[Any], **named: Iterable[Any] | LazyResult[Any]
    ) -> MappedLazyResult[R]:
        """Call the task once per item, concurrently; the lazy value of the list of results, in order.

        Args:
            inputs: an iterable, or a lazy value of one, for each parameter from the first on.
            named: the same by the name of the parameter.

        Raises:
            TaskArgumentError: there is nothing to map over, or the inputs do not fit the signature.
            LazyValueError: an input is text or bytes, which would be mapped letter by letter.
        """
        if not inputs and not named:
            raise TaskArgumentError(
                self.name, self._shown_signature(), f"map needs an input: {self.name}.map(item=[1, 2, 3])"
            )
        mapped: dict[str, Any] = {}
        for place, value in enumerate(inputs):
            mapped[str(place)] = value
        mapped.update(named)
        for label, value in mapped.items():
            self._check_map_input(label, value)
        positional = len(self._bound_args)
        args = self._bound_args
        # As in a call, what is given here replaces what was fixed before.
        kwargs = {name: value for name, value in self._bound_kwargs.items() if name not in named}
        by_place: dict[str, Any] = dict(named)
        signature = self.signature
        if signature is not None:
            try:
                signature.bind(*args, *inputs, **kwargs, **named)
            except TypeError as error:
                by_place, problem = self._positional_only_by_name(named, len(inputs))
                if problem:
                    raise self._misfit(error) from None
        ordered = {str(place): value for place, value in enumerate(inputs)}
        ordered.update(by_place)
        return MappedLazyResult(self, args, kwargs, ordered, positional)

    def _positional_only_by_name(self, named: Mapping[str, Any], taken: int) -> tuple[dict[str, Any], bool]:
        """Inputs of builtins come by name although the parameter has no name for callers: give them places."""
        assert self.signature is not None
        names = [
            parameter.name
            for parameter in self.signature.parameters.values()
            if parameter.kind is inspect.Parameter.POSITIONAL_ONLY
        ][len(self._bound_args) + taken :]
        placed: dict[str, Any] = {}
        for place, name in enumerate(names):
            if name not in named:
                break
            placed[str(taken + place)] = named[name]
        rest = {name: value for name, value in named.items() if name not in names}
        try:
            self.signature.bind(*self._bound_args, *range(taken), *placed.values(), **{**self._bound_kwargs, **rest})
        except TypeError:
            return {}, True
        return {**placed, **rest}, False

    def _check_map_input(self, label: str, value: Any) -> None:
        if isinstance(value, (str, bytes, bytearray)):
            raise LazyValueError(
                f"{self.name}.map({label}={value!r}): a {type(value).__name__} would be mapped letter by letter; "
                f"write  {label}=[{value!r}]  for one item or  {label}=list(...)  if letters are meant"
            )
        if shape_of(type(value)) is Shape.LAZY or hasattr(type(value), "__iter__"):
            return
        raise LazyValueError(
            f"{self.name}.map({label}=...) takes an iterable or a lazy value of one, got {type(value).__name__} "
            f"{value!r}; an argument that is the same for all items is fixed first:  "
            f"{self.name}.partial({label}=...).map(...)"
        )

    @property
    def signature(self) -> inspect.Signature | None:
        """The parameters of the function; `None` for builtins that tell none."""
        if self._signature is None and self._least != -1:
            try:
                self._signature = inspect.signature(self.function)
            except (ValueError, TypeError):
                self._least = -1
        return self._signature

    @property
    def injected(self) -> Mapping[str, Inject]:
        """The parameters whose default is a resource to inject."""
        cached: Mapping[str, Inject] | None = self.__dict__.get("_injected")
        if cached is None:
            signature = self.signature
            cached = {}
            if signature is not None:
                cached = {
                    parameter.name: parameter.default
                    for parameter in signature.parameters.values()
                    if isinstance(parameter.default, Inject)
                }
            self.__dict__["_injected"] = cached
        return cached

    def given_names(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> set[str]:
        """The parameters that finished arguments are for."""
        given = set(kwargs)
        if self.signature is not None:
            given.update(name for name, _ in zip(self.signature.parameters, args, strict=False))
        return given

    def arguments_by_name(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """Finished arguments by the names of their parameters, defaults included and injected ones left out."""
        signature = self.signature
        if signature is None:
            named: dict[str, Any] = {str(place): value for place, value in enumerate(args)}
            named.update(kwargs)
        else:
            bound = signature.bind(*args, **kwargs)
            bound.apply_defaults()
            named = dict(bound.arguments)
        return {name: value for name, value in named.items() if not isinstance(value, Inject)}

    @overload
    def __get__(self, instance: None, owner: type) -> Self: ...
    @overload
    def __get__(self: Task[Concatenate[Any, Q], R], instance: object, owner: type | None = None) -> Task[Q, R]: ...
    def __get__(self, instance: object, owner: type | None = None) -> Any:
        if instance is None:
            return self
        return self.partial(instance)

    def __getstate__(self) -> dict[str, Any]:
        """What makes a task in another process: what is remembered for speed is found out again there."""
        state = {slot: getattr(self, slot) for slot in Task.__slots__ if slot not in _REMEMBERED}
        state["__dict__"] = {name: value for name, value in self.__dict__.items() if name not in _REMEMBERED}
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state.pop("__dict__"))
        for slot, value in state.items():
            setattr(self, slot, value)
        self._signature, self._forms, self._least, self._most = None, {}, 1, 0

    def __repr__(self) -> str:
        return f"<task {self.name}>"

    def _checked(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The way of calls that are not just a right number of positional arguments."""
        if self._bound_args:
            args = self._bound_args + args
        if self._bound_kwargs:
            kwargs = {**self._bound_kwargs, **kwargs}
        form = (len(args), *kwargs)
        movable = self._forms.get(form)
        if movable is None:
            movable = ()
            signature = self.signature
            if signature is not None:
                try:
                    signature.bind(*args, **kwargs)
                except TypeError as error:
                    raise self._misfit(error, kwargs) from None
                if not self._bound_args and not self._bound_kwargs and not self.checks_calls:
                    self._least, self._most = _positional_range(signature)
                movable = _movable(self.function, signature, len(args), kwargs)
            if len(self._forms) < _MOST_CALL_FORMS:
                self._forms[form] = movable
        if self.checks_calls:
            self.check_call(args, kwargs)
        if movable:
            # By position where that says the same: then the call is a plain one for the graph, the plan and the run.
            args = (*args, *[kwargs[name] for name in movable])
            kwargs = {name: value for name, value in kwargs.items() if name not in movable}
        return args, kwargs

    def check_call(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        """Refuse arguments that fit the signature but cannot mean anything; for subclasses with `checks_calls`.

        Args:
            args: the positional arguments, lazy or not.
            kwargs: the arguments by name.
        """

    def _misfit(self, error: TypeError, kwargs: Mapping[str, Any] = _NO_ARGUMENTS) -> TaskArgumentError:
        problem = str(error)
        parameters = self.signature.parameters if self.signature is not None else {}
        unknown = [name for name in kwargs if name not in parameters]
        takes_any = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
        if unknown and not takes_any and unknown[0] not in problem:
            # `bind` tells what is missing first, although what is misspelt is the cause of it.
            problem += f", and got an unexpected one: '{unknown[0]}'"
        return TaskArgumentError(self.name, self._shown_signature(), problem)

    def _shown_signature(self) -> str:
        """The parameters with their defaults; what types they are is told where they are declared."""
        signature = self.signature
        if signature is None:
            return "(...)"
        bare = [parameter.replace(annotation=parameter.empty) for parameter in signature.parameters.values()]
        return str(signature.replace(parameters=bare, return_annotation=signature.empty))

    def _with_policy(self, policy: Policy) -> Self:
        twin = self._twin()
        twin.policy = policy
        if policy.name is not None:
            twin.name = policy.name
        return twin

    def _twin(self) -> Self:
        twin = object.__new__(type(self))
        for slot in Task.__slots__:
            if slot not in ("__dict__", "__weakref__"):
                setattr(twin, slot, getattr(self, slot))
        twin.__dict__.update(self.__dict__)
        return twin


_REMEMBERED: Final = frozenset(
    {
        "__dict__",
        "__weakref__",
        "_bare",
        "_forms",
        "_injected",
        "_least",
        "_most",
        "_plain",
        "_signature",
        "_warned_of_timeout",
    }
)


def _positional_range(signature: inspect.Signature) -> tuple[int, int]:
    """The least and the most positional arguments with which a call needs no further check."""
    least = most = 0
    for parameter in signature.parameters.values():
        if parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD):
            most += 1
            if parameter.default is parameter.empty:
                least = most
        elif parameter.kind is parameter.VAR_POSITIONAL:
            most = 1_000_000_000
        elif parameter.kind is parameter.KEYWORD_ONLY and parameter.default is parameter.empty:
            return 1, 0
    return least, most


def _movable(
    function: Callable[..., Any], signature: inspect.Signature, taken: int, kwargs: Mapping[str, Any]
) -> tuple[str, ...]:
    """Which arguments by name can as well be given by position: those of the next parameters, without a gap."""
    names: list[str] = []
    if takes_what_it_tells(function):
        for parameter in list(signature.parameters.values())[taken:]:
            if parameter.kind is not parameter.POSITIONAL_OR_KEYWORD or parameter.name not in kwargs:
                break
            names.append(parameter.name)
    return tuple(names)


def takes_what_it_tells(function: Callable[..., Any]) -> bool:
    """Whether a signature is the function's own: a decorator's may be that of what it wraps, and take names only."""
    while isinstance(function, functools.partial):
        function = function.func
    return (
        inspect.isroutine(function) and not hasattr(function, "__wrapped__") and not hasattr(function, "__signature__")
    )


def _is_async(function: Callable[..., Any]) -> bool:
    return inspect.iscoroutinefunction(function) or (
        not inspect.isroutine(function)
        and not isinstance(function, functools.partial)
        and inspect.iscoroutinefunction(getattr(type(function), "__call__", None))  # noqa: B004 - is it a coroutine function?
    )


def _refuse_generator(function: Callable[..., Any]) -> NoReturn:
    name, asynchronous = _default_name(function), inspect.isasyncgenfunction(function)
    raise DeclarationError(
        f"'{name}' is {'an async' if asynchronous else 'a'} generator function: a call of it would give a generator "
        "and run nothing of it.\n"
        f"  wrong: @cs.task on a function that yields\n"
        f"  right: collect the items and return the list;  @cs.resource  for what has a teardown;  or give a generator "
        "to map:  handle.map(item=items())"
    )


def _default_name(function: Callable[..., Any]) -> str:
    while isinstance(function, functools.partial):
        function = function.func
    name = getattr(function, "__name__", None)
    return name if isinstance(name, str) else type(function).__name__


# `LazyResult[R]` has an overload of its own: mypy cannot infer R for it from `LazyResult[R] | R`.
@overload
def task(function: Callable[P, Coroutine[Any, Any, LazyResult[R]]], **options: Unpack[TaskOptions]) -> Task[P, R]: ...
@overload
def task(
    function: Callable[P, Coroutine[Any, Any, LazyResult[R] | R]], **options: Unpack[TaskOptions]
) -> Task[P, R]: ...
@overload
def task(function: Callable[P, LazyResult[R]], **options: Unpack[TaskOptions]) -> Task[P, R]: ...
@overload
def task(function: Callable[P, LazyResult[R] | R], **options: Unpack[TaskOptions]) -> Task[P, R]: ...
@overload
def task(function: None = None, **options: Unpack[TaskOptions]) -> TaskDecorator: ...
def task(
    function: Callable[..., Any] | None = None,
    *,
    name: str | None = None,
    pure: bool = False,
    executor: str | None = None,
    version: str | None = None,
    tags: Iterable[str] = (),
    run_if: LazyResult[Any] | None = None,
    after: Iterable[LazyResult[Any]] = (),
    retry: Retry | int | None = None,
    timeout: float | None = None,
    cache: CachePolicy | None = None,
    constraints: Mapping[str, Any] | None = None,
) -> Any:
    """Turn a function into a task: calling it then gives a lazy value.

    Args:
        function: a function, coroutine function, method, lambda, builtin or `functools.partial`.
        name: its name in events, errors and scopes; the function's own by default.
        pure: equal inputs give equal values, so calls with equal inputs in one graph may share one computation.
        executor: where it runs: `"thread"` (default), `"process"`, `"inline"`, or a name the engine knows.
        version: part of the task's identity; change it when the function behaves differently.
        tags: words by which limits can name the task.
        run_if: see `LazyResult.run_if`; likewise `after`.
        after: lazy values that come first.
        retry: a `Retry`, or the number of attempts in all.
        timeout: the time for one attempt, in seconds.
        cache: a cache policy, as `InputsCache()`.
        constraints: amounts of the system's resources that a call takes.

    Raises:
        DeclarationError: the function cannot be a task.

    >>> import cascade as cs
    >>> @cs.task
    ... def double(x: int) -> int:
    ...     return 2 * x
    >>> cs.run(double(double(5)))
    20
    """
    if function is None:
        return functools.partial(
            task, name=name, pure=pure, executor=executor, version=version, tags=tags, run_if=run_if, after=after,
            retry=retry, timeout=timeout, cache=cache, constraints=constraints,
        )  # fmt: skip
    if isinstance(function, Task):
        raise DeclarationError(f"{function!r} is a task already; use its fluent methods to give it policies")
    if not callable(function):
        raise DeclarationError(f"a task is made from something callable, got {type(function).__name__} {function!r}")
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        _refuse_generator(function)
    policy = Policy(
        run_if=None if run_if is None else checked_condition(run_if),
        after=checked_predecessors(tuple(after)),
        retry=Retry(max_attempts=retry) if isinstance(retry, int) else retry,
        timeout=None if timeout is None else checked_timeout(timeout),
        cache=None if cache is None else checked_cache(cache),
        constraints=None if constraints is None else dict(constraints),
    )
    return Task(
        function,
        name=name or _default_name(function),
        pure=pure,
        executor=executor,
        version=version,
        tags=tuple(tags),
        policy=None if policy == DEFAULT else policy,
    )
