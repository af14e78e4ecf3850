"""From `FILE.py:NAME` or `module:NAME` to the target of a run."""

from __future__ import annotations

import inspect
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from cascade.adapters.telemetry.wording import harmless
from cascade.runtime.preview import preview
from cascade.spec.containers import may_hold_lazy, pack
from cascade.spec.exceptions import TaskArgumentError
from cascade.spec.policy import is_lazy
from cascade.spec.resource import ResourceDefinition
from cascade.spec.task import Task
from cascade.tools.command.endings import CommandError
from cascade.tools.command.loading import call_users, load_file, load_module
from cascade.tools.command.suggestions import did_you_mean
from cascade.tools.program import Program as CliProgram

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from types import ModuleType

_EXPECTED: Final = "a lazy value, a container of them, or a function that returns one"
_MOST_NAMES: Final = 8


class Located(NamedTuple):
    """A target, and where it was found.

    Attributes:
        target: what can be run.
        file: the file that was named, `None` where a module was.
        module: the name of the module.
        name: the name of the target in it.
        resources: the resources at the top level of that module, and of the function's.
    """

    target: Any
    file: Path | None
    module: str
    name: str
    resources: tuple[ResourceDefinition, ...]


def locate(text: str) -> Located:
    """Find a target.

    Args:
        text: `FILE.py:NAME` or `module:NAME`; in a module, dots lead to what is inside a class or an object.

    Raises:
        CommandError: there is none; the message says what was expected and what is there instead.
    """
    place, colon, name = text.rpartition(":")
    if not colon:
        place, name = text, ""
    if not place:
        raise CommandError(f"expected FILE.py:NAME or module:NAME, got '{harmless(text)}'")
    file = Path(place) if place.endswith(".py") or os.sep in place else None
    return locate_in(load_module(place) if file is None else load_file(file), file, name)


def locate_in(module: ModuleType, file: Path | None, name: str) -> Located:
    """Find a target in a module that is loaded; `CommandError` as for `locate`."""
    shown = harmless(str(file) if file is not None else module.__name__)
    if not name:
        raise CommandError(f"name what to run, as in  {shown}:NAME{_there_is(module)}")
    found: Any = module
    for part in name.split("."):
        try:
            found = getattr(found, part)
        except AttributeError:
            meant = did_you_mean(name, _targets_in(module))
            hint = f"; {meant}" if meant else _there_is(module)
            raise CommandError(f"{shown} has no '{harmless(name)}'{hint}") from None
    target = _target_of(found, f"{shown}:{harmless(name)}")
    resources = _resources_in(vars(module), _globals_of(found))
    return Located(target, None if file is None else file.resolve(), module.__name__, name, resources)


def _target_of(found: Any, shown: str) -> Any:
    if is_lazy(found):
        return found
    if isinstance(found, CliProgram):
        raise CommandError(
            f"{shown} is a program that cs.cli made; run its file with python, or name its lazy value here"
        )
    if isinstance(found, Task):
        return _called_task(found, shown)
    if may_hold_lazy(found) and pack(found) is not None:
        return found
    if not callable(found) or isinstance(found, type):
        raise CommandError(f"{shown} is no workflow: expected {_EXPECTED}, got {harmless(preview(found))}")
    if inspect.iscoroutinefunction(found) or inspect.isgeneratorfunction(found) or inspect.isasyncgenfunction(found):
        raise CommandError(
            f"{shown} is an async or generator function; expected {_EXPECTED}. To run it, make it a task: @cs.task"
        )
    missing = _required_parameters(found)
    if missing:
        raise CommandError(
            f"{shown} is a function that needs {', '.join(missing)}, but arguments of functions are no inputs of a "
            f"workflow; take them out and write  cs.Param({missing[0]!r})  where they are used"
        )
    target = call_users(found, f"{shown} failed before anything was run")
    if target is None:
        raise CommandError(f"{shown} returned None; expected {_EXPECTED}: is a return missing?")
    return target


def _called_task(task: Task[..., Any], shown: str) -> Any:
    try:
        return task()
    except TaskArgumentError as error:
        raise CommandError(
            f"{shown} is a task that was not called, and cannot be without arguments: {error}; name a lazy value, as "
            f"in  NAME = {task.name}(cs.Param(...))"
        ) from None


def _required_parameters(function: Any) -> list[str]:
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return []
    return [
        parameter.name
        for parameter in parameters
        if parameter.default is parameter.empty
        and parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
    ]


def _there_is(module: ModuleType) -> str:
    names = list(_targets_in(module))
    if not names:
        return f"; there is {_EXPECTED} nowhere at its top level"
    more = "" if len(names) <= _MOST_NAMES else f" and {len(names) - _MOST_NAMES} more"
    return f"; there is {', '.join(map(harmless, names[:_MOST_NAMES]))}{more}"


def _targets_in(module: ModuleType) -> Iterator[str]:
    """The names at the top level that can be run: values first, then the module's own functions."""
    public = {name: value for name, value in vars(module).items() if not name.startswith("_")}
    for name, value in public.items():
        if is_lazy(value) or (may_hold_lazy(value) and pack(value) is not None):
            yield name
    for name, value in public.items():
        own = getattr(value, "__module__", None) == module.__name__
        if own and inspect.isfunction(value) and not _required_parameters(value):
            yield name


def _resources_in(*modules: Mapping[str, Any]) -> tuple[ResourceDefinition, ...]:
    # By identity: one definition may stand under several names, and in several modules.
    found = {
        id(value): value
        for module in modules
        for value in list(module.values())
        if isinstance(value, ResourceDefinition)
    }
    return tuple(found.values())


def _globals_of(found: Any) -> Mapping[str, Any]:
    inner = found.function if isinstance(found, Task) else found
    return getattr(inspect.unwrap(inner), "__globals__", {}) if callable(inner) and not is_lazy(inner) else {}
