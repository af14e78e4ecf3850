"""What the plain format does not have, as a pickle; only what was signed by this program is ever unpickled."""

from __future__ import annotations

import importlib
import io
import pickle
import sys
from types import FunctionType
from typing import Any

from cascade.adapters.serializers.blame import find_culprit
from cascade.graph.callables import is_local, qualified_name
from cascade.graph.callables import module_name as name_of_module
from cascade.spec.exceptions import ChangedCodeError, UnserializableValueError
from cascade.spec.secret import NOT_KEPT, Secret
from cascade.spec.task import Task

PROTOCOL = 5


def write_pickle(value: object) -> bytes:
    """The value as a pickle.

    Raises:
        UnserializableValueError: names the type and the place of what cannot be pickled.
    """
    target = io.BytesIO()
    try:
        _Pickler(target, PROTOCOL).dump(value)
        return target.getvalue()
    except Exception as error:
        # Any class says itself how it is pickled, and may fail in its own way.
        culprit, path, problem = find_culprit(value, error)
        raise UnserializableValueError(type(culprit), path, problem) from error


def read_pickle(data: bytes, start: int) -> object:
    """The value of the pickle at `start`, which has been found to be signed.

    Raises:
        ChangedCodeError: a class is not where it was, or does not take what was stored.
    """
    source = io.BytesIO(data)
    source.seek(start)
    unpickler = _Unpickler(source)
    try:
        return unpickler.load()
    except ChangedCodeError:
        raise
    except Exception as error:
        problem = f"which does not take what was stored ({type(error).__name__}: {error})"
        raise ChangedCodeError(unpickler.last_name, problem) from error


class _Pickler(pickle.Pickler):
    """Writes functions, tasks and a script's classes by the names that they have in every process.

    A task stands where its function is looked up, so that pickle would not find the function. A script is the main
    module of one process and may be imported by another, so it goes by the name of its file.
    """

    def reducer_override(self, obj: Any, /) -> Any:
        named: Any
        wanted: Any
        if isinstance(obj, Task):
            named, wanted = obj.function, obj
        elif type(obj) is FunctionType or (isinstance(obj, type) and obj.__module__ == "__main__"):
            named = wanted = obj
        elif isinstance(obj, Secret):
            raise TypeError(NOT_KEPT)
        else:
            return NotImplemented
        if not isinstance(named, (FunctionType, type)) or is_local(named):
            return NotImplemented
        if _is_at_hand(named, wanted):
            # Most are: the same as below in a third of the time, which loops feel at every turn.
            is_for_pickle = wanted is named and named.__module__ != "__main__"
            return NotImplemented if is_for_pickle else (look_up, (qualified_name(named),))
        name = qualified_name(named)
        try:
            found = look_up(name)
        except ChangedCodeError:
            return NotImplemented
        if found is wanted:
            # Pickle's own way is the better one for what is an importable module's.
            return NotImplemented if wanted is named and named.__module__ != "__main__" else (look_up, (name,))
        if isinstance(found, Task) and found.function is wanted:
            return function_of, (name,)
        return NotImplemented


def _is_at_hand(named: Any, wanted: Any) -> bool:
    """Whether the module that a definition is from has it, or the task made of it, under its plain name."""
    module = sys.modules.get(named.__module__)
    if module is None or named.__module__ == name_of_module("__main__") != "__main__":
        return False
    return module.__dict__.get(named.__qualname__) is wanted


def look_up(name: str) -> Any:
    """What a module has under a name, as `module:qualname`; a script goes by the name of its file.

    Raises:
        ChangedCodeError: it has no such thing.
    """
    module_name, _, qualified = name.partition(":")
    main = sys.modules["__main__"]
    in_main = module_name == name_of_module("__main__")
    try:
        found: Any = main if in_main else importlib.import_module(module_name)
        for part in qualified.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError) as error:
        raise ChangedCodeError(name, f"which cannot be found ({error})") from error
    return found


def function_of(name: str) -> Any:
    """The function of the task that a module has under a name."""
    return look_up(name).function


class _Unpickler(pickle.Unpickler):
    """Tells which name was looked up last, as it is that which has changed.

    Attributes:
        last_name: as `module:qualname`.
    """

    last_name = "pickle"

    def find_class(self, module_name: str, global_name: str, /) -> Any:
        self.last_name = f"{module_name}:{global_name}"
        try:
            return super().find_class(module_name, global_name)
        except (ImportError, AttributeError) as error:
            raise ChangedCodeError(self.last_name, f"which cannot be imported ({error})") from error
