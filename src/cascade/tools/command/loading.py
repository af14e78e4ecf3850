"""Loading the module in which a workflow is declared, so that its tasks have the names that every process knows."""

from __future__ import annotations

import contextlib
import importlib
import importlib.machinery
import importlib.util
import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar

from cascade.adapters.telemetry.wording import harmless
from cascade.tools.command.endings import CommandError
from cascade.tools.command.suggestions import did_you_mean

if TYPE_CHECKING:
    from types import ModuleType

T = TypeVar("T")

_LONGEST: Final = 1_000
_NOT_THE_USERS: Final = (str(Path(__file__).resolve().parents[2]) + os.sep, "<frozen importlib")


def load_file(path: Path) -> ModuleType:
    """Load a file under the name of its stem, with its folder first on the path, as `python FILE` has it.

    Structural ids and stored values name a script by the stem of its file, so a run that was begun by one of both can
    go on with the other. Dots in it become underscores: they would be those of a package, which nobody could import.

    Raises:
        CommandError: there is no such file, another module has its name, or it cannot be loaded.
    """
    shown = shown_path(path)
    if not path.is_file():
        if not path.is_absolute():
            # Without one no such path leads anywhere.
            working_directory()
        raise CommandError(f"there is no file {shown}{_similar_to(path)}")
    file = path.resolve()
    name = file.stem.replace(".", "_")
    known = sys.modules.get(name)
    if known is None:
        other = _imported_elsewhere(name, file)
    else:
        other = getattr(known, "__file__", None) or "a module of Python itself"
        if os.path.realpath(other) == str(file):
            return known
    if other is not None:
        raise CommandError(f"{shown} would be the module {name!r}, which is the name of {other}; rename the file")
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise CommandError(f"{shown} is no file with Python code; expected FILE.py:NAME")
    _put_first(str(file.parent))
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    loader = spec.loader
    try:
        call_users(lambda: loader.exec_module(module), f"{shown} cannot be loaded")
    except BaseException:
        sys.modules.pop(name, None)
        raise
    return module


def load_module(name: str) -> ModuleType:
    """Import a module, with the working directory first on the path, as `python -m` has it.

    Raises:
        CommandError: there is no such module, or it cannot be loaded.
    """
    _put_first(str(working_directory()))
    try:
        return call_users(lambda: importlib.import_module(name), f"the module {harmless(name)} cannot be loaded")
    except CommandError as error:
        cause = error.__cause__
        if isinstance(cause, ModuleNotFoundError) and cause.name and f"{name}.".startswith(f"{cause.name}."):
            meant = f"; did you mean the file {name}.py?" if Path(f"{name}.py").is_file() else ""
            raise CommandError(
                f"there is no module '{harmless(name)}' in the working directory or on Python's path"
                f"{meant or '; a file is written  FILE.py:NAME'}"
            ) from None
        raise


def working_directory() -> Path:
    """Where paths begin.

    Raises:
        CommandError: it has been deleted.
    """
    try:
        return Path.cwd()
    except FileNotFoundError:
        raise CommandError("the working directory has been deleted; go to another one with cd") from None


def call_users(function: Callable[[], T], failure: str) -> T:
    """Call code of the user's before anything is run.

    Args:
        failure: what it means if that fails.

    Raises:
        CommandError: it failed; the message has those lines of the traceback that are the user's.
    """
    try:
        return function()
    except CommandError:
        raise
    except SystemExit as error:
        raise CommandError(
            f"{failure}: it ends the program (SystemExit: {error}); put what only the script does under\n"
            '  if __name__ == "__main__":'
        ) from error
    except Exception as error:
        raise CommandError(f"{failure}\n{_users_traceback(error).rstrip()}") from error


def shown_path(path: Path) -> str:
    """A path for a message."""
    return harmless(str(path), _LONGEST)


def _imported_elsewhere(name: str, file: Path) -> str | None:
    """What other processes would import under the name that a file has here, if that is not the file's own."""
    spec = None if name == file.stem else importlib.machinery.PathFinder.find_spec(name, [str(file.parent)])
    return None if spec is None else spec.origin


def _users_traceback(error: BaseException) -> str:
    """The traceback of an error and of what led to it, without the lines of the engine and of importing."""
    told = traceback.TracebackException.from_exception(error)
    stack = [told]
    while stack:
        one = stack.pop()
        own = [frame for frame in one.stack if not frame.filename.startswith(_NOT_THE_USERS)]
        one.stack = traceback.StackSummary.from_list(own)
        stack += [other for other in (one.__cause__, one.__context__, *(one.exceptions or ())) if other is not None]
    return "".join(told.format())


def _put_first(folder: str) -> None:
    if not sys.path or sys.path[0] != folder:
        with contextlib.suppress(ValueError):
            sys.path.remove(folder)
        sys.path.insert(0, folder)


def _similar_to(path: Path) -> str:
    with contextlib.suppress(OSError):
        names = [other.name for other in path.parent.iterdir() if other.suffix == ".py"]
        meant = did_you_mean(path.name, names)
        if meant:
            return f"; {meant}"
    return ""
