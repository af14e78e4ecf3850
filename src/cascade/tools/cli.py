"""`cs.cli`: a workflow as a program with a command line."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final

from cascade.spec.exceptions import DeclarationError, MissingExtraError, TaskArgumentError
from cascade.spec.policy import is_lazy
from cascade.spec.resource import ResourceDefinition
from cascade.spec.task import Task

if TYPE_CHECKING:
    import typer

_KEPT_APART: Final = re.compile(r"\s|[-*+•] |\d+[.)] |>>> |\.\. ")


def cli(
    target: Any,
    *,
    name: str | None = None,
    resources: Iterable[ResourceDefinition] = (),
    **options: Any,
) -> typer.Typer:
    """Make a program of a workflow: its parameters become the options of a command line.

    The program is a Typer application: call it, test it with `typer.testing.CliRunner`, or add it to another
    one. It prints the result to stdout (text as it is, what JSON can say as JSON, the rest as its `repr`,
    `None` not at all) and everything else to stderr. It exits with 0, with 1 if the workflow failed, 2 if the
    input was bad, and 130 after Ctrl-C. Bad input is told before anything runs; a task that finds some later
    raises `ParameterError` with one line for each thing that is wrong.

    Args:
        target: a lazy value, a container of them, or a function without parameters that returns one; the
            function is called when the program is, and its docstring is what `--help` says.
        name: the name of the command where it is one of several.
        resources: what tasks inject. Those at the top level of the caller's and of the function's file are
            found by themselves; one given here comes before one found by the same name.
        options: what `cs.run` takes besides; `log_level` and `log_format` are the defaults of the options of
            that name.

    Raises:
        MissingExtraError: Typer or Rich is not installed.
        DeclarationError: the function has parameters, or, once called, two parameters would be one option.
        TypeError: `cs.run` has no such option.

    >>> import cascade as cs
    >>> @cs.task
    ... def greet(name: str) -> str:
    ...     return f"hello {name}"
    >>> program = cs.cli(greet(cs.Param("name", type=str)))
    >>> program(["--name", "world"], standalone_mode=False)
    hello world
    """
    try:
        from cascade.tools.program import Program
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in ("typer", "rich"):
            raise
        raise MissingExtraError("cs.cli", "Typer and Rich", "cli") from None
    from cascade.app import run

    _check_options(run, options)
    frame = inspect.currentframe()
    caller = frame.f_back.f_globals if frame is not None and frame.f_back is not None else {}
    given = tuple(resources)
    function = target if callable(target) and not is_lazy(target) else None
    if function is not None:
        _check_function(function)

    def run_target(target: Any, **choices: Any) -> Any:
        found = _with_found(given, caller, _globals_of(function))
        return run(target, resources=found, **{**options, **choices})

    return Program(
        lambda: target if function is None else _called(function),
        run_target,
        name=name,
        description=_description(function, caller),
        log_level=options.get("log_level", "INFO"),
        log_format=options.get("log_format", "human"),
    )


def _check_options(run: Callable[..., Any], options: Mapping[str, Any]) -> None:
    """What `run` would refuse is refused now, on the caller's line."""
    if "params" in options:
        raise TypeError("cs.cli takes no params: they come from the command line; give a Param a default instead")
    try:
        inspect.signature(run).bind(None, resources=(), **options)
    except TypeError as error:
        raise TypeError(f"cs.cli passes its options on to cs.run: {error}") from None


def _check_function(function: Callable[..., Any]) -> None:
    shown = _name_of(function)
    if isinstance(function, Task):
        return
    if inspect.iscoroutinefunction(function) or inspect.isgeneratorfunction(function):
        raise DeclarationError(
            f"cs.cli({shown}): expected a plain function that returns a lazy value, got an async or "
            f"generator function; make it a task and call it:  cs.cli({shown}())"
        )
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return
    for parameter in parameters:
        if parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            raise DeclarationError(
                f"cs.cli({shown}): the function has the parameter '{parameter.name}', but parameters of a "
                "function are no inputs of the workflow; take it out and write  "
                f"cs.Param({parameter.name!r})  where it is used"
            )


def _called(function: Callable[..., Any]) -> Any:
    """The workflow that a function returns."""
    try:
        target = function()
    except TaskArgumentError as error:
        if isinstance(function, Task) and error.task_name == function.name:
            raise DeclarationError(
                f"cs.cli({function.name}): {error}; its parameters are no inputs of the workflow: "
                f"call it with them,  cs.cli({function.name}(cs.Param(...)))"
            ) from None
        raise
    if target is None:
        raise DeclarationError(
            f"cs.cli({_name_of(function)}): expected a function that returns a lazy value, got None from it; "
            "is a return missing?"
        )
    return target


def _with_found(given: Iterable[ResourceDefinition], *modules: Mapping[str, Any]) -> tuple[ResourceDefinition, ...]:
    """The given resources and those at the top level of modules, by the time of the run."""
    chosen = list(given)
    taken = {resource.name for resource in chosen}
    # By identity: one definition may stand under several names, and in several modules.
    found = {
        id(value): value
        for module in modules
        for value in list(module.values())
        if isinstance(value, ResourceDefinition) and value.name not in taken
    }
    return (*chosen, *found.values())


def _globals_of(function: Callable[..., Any] | None) -> Mapping[str, Any]:
    inner: Any = function.function if isinstance(function, Task) else function
    return getattr(inspect.unwrap(inner), "__globals__", {}) if inner is not None else {}


def _description(function: Callable[..., Any] | None, caller: Mapping[str, Any]) -> str:
    text = caller.get("__doc__") if function is None else getattr(function, "__doc__", None)
    return _flowing(inspect.cleandoc(text)) if isinstance(text, str) else ""


def _flowing(text: str) -> str:
    """The text with the lines of each paragraph joined, as a terminal has its own width.

    What is indented keeps its lines, and so do the items of a list.
    """
    joined: list[str] = []
    for line in text.splitlines():
        before = joined[-1] if joined else ""
        if before and line and not before.startswith(" ") and not _KEPT_APART.match(line):
            joined[-1] = f"{before} {line}"
        else:
            joined.append(line)
    return "\n".join(joined)


def _name_of(function: Callable[..., Any]) -> str:
    return str(getattr(function, "__name__", type(function).__name__))
