"""Inputs: the values that a workflow is given when it is run, by parameters and from the environment."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, ClassVar, Final, TypeVar, overload

from cascade.spec.containers import may_hold_lazy, pack
from cascade.spec.convert import kind_of, scalar_type_of
from cascade.spec.exceptions import DeclarationError, ParameterError
from cascade.spec.kinds import Kind, Misfit, shown
from cascade.spec.lazy_types import LazyResult
from cascade.spec.policy import is_lazy

R = TypeVar("R")


class Required(Enum):
    """What stands for the default of an input that has none."""

    REQUIRED = "required"

    def __repr__(self) -> str:
        return self.name


REQUIRED: Final = Required.REQUIRED


@dataclass(frozen=True, slots=True, eq=False)
class InputSpec:
    """The declaration of one input: equal to another one that says the same.

    Attributes:
        name: what it is called by.
        default: its value when none is given, or `REQUIRED`.
        type: the type of its values; `None` for values as they come.
        description: what it means, for people.
    """

    function: ClassVar[str]
    word: ClassVar[str]

    name: str
    default: Any = REQUIRED
    type: Any = None
    description: str = ""

    @property
    def required(self) -> bool:
        return self.default is REQUIRED

    @property
    def kind(self) -> Kind:
        """How values are read and checked."""
        return kind_of(self.type)

    def agrees_with(self, other: InputSpec) -> bool:
        """Whether both mean the same value; descriptions are for people and may differ."""
        return (
            type(self) is type(other)
            and self.name == other.name
            and (self.type is other.type or bool(self.type == other.type))
            and _same(self.default, other.default)
        )

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        return isinstance(other, InputSpec) and self.agrees_with(other) and self.description == other.description

    def __hash__(self) -> int:
        return hash((type(self), self.name))

    def __str__(self) -> str:
        default = "" if self.required else f", default={shown(self.default)}"
        return f"{self.function}({self.name!r}{default}{self._shown_type()})"

    def _shown_type(self) -> str:
        if self.type is None:
            return ""
        return f", type={self.type.__name__ if isinstance(self.type, type) else self.type}"


class ParamSpec(InputSpec):
    """The declaration of a parameter; made by `Param`."""

    __slots__ = ()

    function = "Param"
    word = "parameter"


class EnvSpec(InputSpec):
    """The declaration of an environment variable; made by `Env`."""

    __slots__ = ()

    function = "Env"
    word = "environment variable"

    def _shown_type(self) -> str:
        return "" if self.type is str else super()._shown_type()


class Input(LazyResult[R]):
    """A value that is given when the workflow is run; made by `Param` and `Env`.

    Attributes:
        spec: what was declared.
    """

    __slots__ = ("spec",)

    spec: ParamSpec | EnvSpec

    def __init__(self, spec: ParamSpec | EnvSpec) -> None:
        self.spec = spec
        self.policy = None
        self._place(2)

    def _own_name(self) -> str:
        return self.spec.name


@overload
def Param(name: str, *, description: str = ...) -> LazyResult[Any]: ...
@overload
def Param(name: str, default: None, type: None = ..., description: str = ...) -> LazyResult[Any]: ...
@overload
def Param(name: str, default: None, type: type[R], description: str = ...) -> LazyResult[R | None]: ...
@overload
def Param(name: str, default: R, type: type[R] | None = ..., description: str = ...) -> LazyResult[R]: ...
@overload
def Param(name: str, *, type: type[R], description: str = ...) -> LazyResult[R]: ...
@overload
def Param(name: str, default: Any = ..., type: Any = ..., description: str = ...) -> LazyResult[Any]: ...
def Param(  # noqa: N802 - reads as the declaration of a thing, like Router; a class would be one more kind
    name: str, default: Any = REQUIRED, type: Any = None, description: str = ""
) -> LazyResult[Any]:
    """Declare a parameter of the workflow; the lazy value of what it is given at the run.

    Text is converted to the type: numbers, `true` or `no`, ISO dates, names of members, lists with commas or
    as JSON, dicts as JSON. Any other value must be of the type already.

    Args:
        name: how it is given: `cs.run(..., params={"name": ...})`, on a command line `--name`.
        default: its value when none is given; without one it is required. `None` is a default.
        type: `int`, `float`, `bool`, `str`, `Path`, an `Enum`, a `Literal`, `date`, `datetime`, `cs.Secret`,
            `list[...]`, `dict`, or `X | None` of one of them. By default the type of the default if that is no list or
            dict; otherwise values are taken as they come.
        description: what it means, for `--help`.

    Raises:
        DeclarationError: the name is empty, the type is not supported, or the default is of another type.

    At the run, `ParameterError` tells everything that is missing, unknown or ill-typed, before anything runs.

    >>> import cascade as cs
    >>> @cs.task
    ... def repeat(word: str, times: int) -> str:
    ...     return word * times
    >>> cs.run(repeat("ha", cs.Param("times", default=2)), params={"times": "3"})
    'hahaha'
    """
    _check_name(name, "Param", "a parameter")
    declared = scalar_type_of(default) if type is None and default is not REQUIRED else type
    try:
        kind = kind_of(declared)
    except DeclarationError as error:
        raise DeclarationError(f"Param({name!r}): {error}") from None
    if default is not REQUIRED and default is not None:
        default = _checked_default(name, default, kind)
    return Input(ParamSpec(name, default, declared, _checked_description(name, description)))


@overload
def Env(name: str, *, description: str = ...) -> LazyResult[str]: ...
@overload
def Env(name: str, default: str, description: str = ...) -> LazyResult[str]: ...
@overload
def Env(name: str, default: None, description: str = ...) -> LazyResult[str | None]: ...
@overload
def Env(name: str, default: None, description: str = ..., *, type: type[R]) -> LazyResult[R | None]: ...
@overload
def Env(name: str, default: R = ..., description: str = ..., *, type: type[R]) -> LazyResult[R]: ...
@overload
def Env(name: str, default: Any = ..., description: str = ..., *, type: Any) -> LazyResult[Any]: ...
def Env(  # noqa: N802 - see Param
    name: str, default: Any = REQUIRED, description: str = "", *, type: Any = str
) -> LazyResult[Any]:
    """Declare an environment variable as an input; the lazy value of what it says when the run starts.

    Args:
        name: the variable.
        default: its value when the variable is not set; without one it is required. `None` is a default.
        description: what it means, for `--help`.
        type: what its text is converted to, as for `Param`: `cs.Secret` for what must not be shown.

    Raises:
        DeclarationError: the name cannot be that of a variable, the type is not supported, or the default is of another
            type.

    >>> import cascade as cs
    >>> cs.run(cs.Env("A_VARIABLE_THAT_NOBODY_SETS", default="unset"))
    'unset'
    """
    _check_name(name, "Env", "an environment variable")
    if "=" in name or "\0" in name:
        raise DeclarationError(f"Env({name!r}): no environment variable can have this name")
    if type is str and not isinstance(default, str) and default is not None and default is not REQUIRED:
        raise DeclarationError(
            f"Env({name!r}): variables are text, so the default must be text or None, "
            f"got {default.__class__.__name__} {shown(default)}; say  type={default.__class__.__name__}"
        )
    try:
        kind = kind_of(type)
    except DeclarationError as error:
        raise DeclarationError(f"Env({name!r}): {error}") from None
    if default is not REQUIRED and default is not None:
        default = _checked_default(name, default, kind, "Env")
    return Input(EnvSpec(name, default, type, _checked_description(name, description)))


def collect(specs: Iterable[InputSpec]) -> dict[tuple[type[InputSpec], str], InputSpec]:
    """The declarations by their class and name, in their order.

    Raises:
        ParameterError: one name is declared in two ways.
    """
    found, problems = _collected(specs)
    if problems:
        raise ParameterError(*problems)
    return found


def resolve_inputs(
    specs: Iterable[ParamSpec | EnvSpec],
    given: Mapping[str, Any],
    environ: Mapping[str, str],
    *,
    refuse_unknown: bool = True,
    label: Callable[[InputSpec], str] | None = None,
) -> dict[ParamSpec | EnvSpec, Any]:
    """The value of each declared input.

    Args:
        specs: the declarations, in any order and as often as they come.
        given: the values of parameters, by name.
        environ: the environment.
        refuse_unknown: whether a given name that is not declared is an error; not for what is declared later,
            inside a graph that a task returns.
        label: how messages name an input.

    Raises:
        ParameterError: lists everything that is missing, ill-typed, unknown, or declared in two ways.
    """
    if not _is_mapping(given):
        raise ParameterError(
            f"params: expected a mapping from names to values, got {type(given).__name__} {shown(given)}"
        )
    label = label or (lambda spec: f"{spec.word} {spec.name!r}")
    distinct = dict.fromkeys(specs)
    found, problems = _collected(distinct, label)
    values: dict[ParamSpec | EnvSpec, Any] = {}
    for spec in distinct:
        source = given if isinstance(spec, ParamSpec) else environ
        try:
            values[spec] = _resolve(spec, source)
        except Misfit as error:
            if found[type(spec), spec.name] is spec:
                problems.append(f"{label(spec)}: {error}")
        except KeyError:
            if found[type(spec), spec.name] is spec:
                problems.append(f"{label(spec)}: required, expected {spec.kind.expected}, got nothing")
    if refuse_unknown:
        problems += _unknown(given, found)
    if problems:
        raise ParameterError(*problems)
    return values


def _is_mapping(value: object) -> bool:
    return isinstance(value, Mapping)


def _collected(
    specs: Iterable[InputSpec], label: Callable[[InputSpec], str] | None = None
) -> tuple[dict[tuple[type[InputSpec], str], InputSpec], list[str]]:
    found: dict[tuple[type[InputSpec], str], InputSpec] = {}
    problems: dict[str, None] = {}
    for spec in specs:
        first = found.setdefault((type(spec), spec.name), spec)
        if not first.agrees_with(spec):
            named = label(spec) if label else f"{spec.word} {spec.name!r}"
            problems[
                f"{named}: declared in two ways, {first} and {spec}; "
                "declare it once, and use that lazy value in both places"
            ] = None
    return found, list(problems)


def _resolve(spec: ParamSpec | EnvSpec, source: Mapping[Any, Any]) -> Any:
    if spec.name in source:
        value = source[spec.name]
        if is_lazy(value):
            raise Misfit(spec.kind.expected, value, "parameters are given as values, not as lazy values")
        # `None` says the same as a default of `None`, whatever the type.
        return None if value is None and spec.default is None else spec.kind.accept(value)
    if spec.required:
        raise KeyError(spec.name)
    # A task may change a list that it was given; the next run must not see that.
    return copy.deepcopy(spec.default) if type(spec.default) in (list, dict, set) else spec.default


def _unknown(given: Mapping[Any, Any], found: Mapping[tuple[type[InputSpec], str], InputSpec]) -> Iterable[str]:
    names = [name for kind, name in found if kind is ParamSpec]
    # A mistyped name may have been meant for a secret.
    hides = any(spec.kind.hides for spec in found.values())
    for name, value in given.items():
        if (ParamSpec, name) in found:
            continue
        if (EnvSpec, name) in found:
            hint = "it is an environment variable: set it there"
        elif not names:
            hint = "the workflow has no parameters"
        else:
            import difflib

            close = difflib.get_close_matches(str(name), names, n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"the parameters are {', '.join(names)}"
        yield f"parameter {name!r}: unknown, got {'***' if hides else shown(value)}; {hint}"


def _check_name(name: Any, function: str, what: str) -> None:
    if not isinstance(name, str) or not name.strip():
        raise DeclarationError(
            f"the name of {what} must be a text that is not empty, got {shown(name)}: cs.{function}('name')"
        )


def _checked_description(name: str, description: Any) -> str:
    if not isinstance(description, str):
        raise DeclarationError(
            f"the description of {name!r} must be text, got {type(description).__name__} {shown(description)}"
        )
    return description


def _checked_default(name: str, default: Any, kind: Kind, function: str = "Param") -> Any:
    if is_lazy(default) or (may_hold_lazy(default) and pack(default) is not None):
        raise DeclarationError(
            f"{function}({name!r}): the default must be a plain value, got {shown(default)} with a lazy value in "
            "it; choose between lazy values with cs.Router, or in a task"
        )
    if isinstance(default, type):
        raise DeclarationError(
            f"{function}({name!r}): the default is the class {default.__name__}; write  type={default.__name__}"
        )
    try:
        return kind.check_default(default)
    except Misfit as error:
        raise DeclarationError(
            f"{function}({name!r}): the default is not of the type: {error}; a default is not converted"
        ) from None


def _same(one: object, other: object) -> bool:
    """Equal and of one type: `1` and `True` are two defaults."""
    if one is other:
        return True
    try:
        return type(one) is type(other) and bool(one == other)
    except Exception:  # the equality of arrays and the like has no single answer
        return False
