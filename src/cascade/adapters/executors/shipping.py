"""How a call goes to another process, and how what came of it is read."""

from __future__ import annotations

import functools
import inspect
import io
import pickle
import sys
import threading
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from types import FunctionType
from typing import TYPE_CHECKING, Any

from cascade.adapters.executors import _process_worker as worker
from cascade.spec.exceptions import CascadeError, MissingExtraError, RunError

if TYPE_CHECKING:
    from cascade.adapters.executors._process_worker import Part

Shipped = bytes | tuple[str, str, bool]
"""A function: its pickle, or its module, its qualified name, and whether a task stands in its place there."""


class ShippingError(CascadeError, TypeError):
    """A function, an argument or a result cannot go from one process to another.

    Attributes:
        task_name: the task whose call it is.
        what: what cannot go, as "argument 'x' (position 0)" or "the result".
    """

    def __init__(self, task_name: str, what: str, problem: str) -> None:
        super().__init__(task_name, what, problem)
        self.task_name = task_name
        self.what = what
        self.problem = problem

    def __str__(self) -> str:
        return f"task '{self.task_name}' runs in another process, and {self.what} {self.problem}"


class RemoteTaskError(RunError, RuntimeError):
    """A task in another process raised an exception that cannot be rebuilt here.

    Attributes:
        task_name: the task.
        type_name: the exception's class, with its module.
        message: its text.
    """

    def __init__(self, task_name: str, type_name: str, message: str) -> None:
        super().__init__(task_name, type_name, message)
        self.task_name = task_name
        self.type_name = type_name
        self.message = message

    def __str__(self) -> str:
        return f"{self.type_name}: {self.message}"


@dataclass(slots=True)
class Outcome:
    """What came of a call: a value, or an error; `missing` is a module that the worker cannot import."""

    value: Any = None
    error: BaseException | None = None
    missing: str | None = None


class Shipper:
    """Packs calls for worker processes.

    What an importable module has under a name goes by that name. What the program's main module defines,
    lambdas and local functions go by value, and so does what comes from a module that a worker did not find.
    """

    def __init__(self) -> None:
        self._foreign: tuple[str, ...] = ("__main__",)

    def send_by_value(self, module: str) -> bool:
        """Ship what a module has by value from now on.

        Returns:
            Whether that may help: this process has the module, and it was not shipped by value before.
        """
        known = any(name == module or name.startswith(f"{module}.") for name in list(sys.modules))
        if not module or not known or module in self._foreign:
            return False
        self._foreign = (*self._foreign, module)
        return True

    def pack_function(self, function: Callable[..., Any], task_name: str) -> Shipped:
        """Name a function, or pickle it.

        Raises:
            MissingExtraError: it has to go by value, and cloudpickle is not installed.
            ShippingError: it cannot be pickled; the message says what in it is to blame.
        """
        place = _place(function)
        if place is not None and not self._is_foreign(place[0]):
            return place
        try:
            return b"".join(self._dump(function, buffers=False))
        except _NeedsValue as need:
            raise _missing_cloudpickle(task_name, f"its function {need}") from need.__cause__
        except Exception as error:
            raise ShippingError(
                task_name,
                f"its function {_name(function)}",
                f"cannot be pickled: {_short(error)}{self._captured(function)}; "
                'make what it needs inside of it, or run the task with executor="thread"',
            ) from error

    def pack_arguments(
        self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any], task_name: str
    ) -> list[Part]:
        """Pickle the arguments of a call; large buffers stay beside the pickle.

        Raises:
            MissingExtraError: an argument has to go by value, and cloudpickle is not installed.
            ShippingError: an argument cannot be pickled; the message names it.
        """
        try:
            return self._dump((args, dict(kwargs)))
        except Exception as error:
            for label, value in _labelled(function, args, kwargs):
                try:
                    self._dump(value)
                except _NeedsValue as need:
                    raise _missing_cloudpickle(task_name, f"{label} has {need}") from need.__cause__
                except Exception as cause:
                    raise ShippingError(
                        task_name,
                        f"{label} of type {type(value).__qualname__}",
                        f"cannot be pickled: {_short(cause)}; pass what it is made from and make it inside "
                        'the task, or run the task with executor="thread"',
                    ) from cause
            problem = f"cannot be pickled: {_short(error)}"
            raise ShippingError(task_name, "its arguments", problem) from error

    def read(self, parts: list[memoryview], task_name: str) -> Outcome:
        """What a worker's answer says."""
        kind, rest = bytes(parts[0]), parts[1:]
        if kind == worker.RETURNED:
            try:
                return Outcome(pickle.loads(rest[0], buffers=rest[1:]))
            except Exception as error:
                failure = ShippingError(task_name, "the result", f"cannot be read here: {_short(error)}")
                failure.__cause__ = error
                return Outcome(error=failure)
        if kind == worker.RAISED:
            return Outcome(error=_raised(pickle.loads(rest[0]), task_name))
        if kind == worker.UNPICKLABLE:
            return Outcome(error=_unpicklable_result(task_name, *pickle.loads(rest[0])))
        cause = _raised(pickle.loads(rest[-1]), task_name)
        failure = ShippingError(
            task_name,
            "its function or an argument",
            f"cannot be loaded there: {_short(cause)}; what a worker process imports must neither fail nor "
            "run the program",
        )
        failure.__cause__ = cause
        return Outcome(error=failure, missing=str(rest[0], "utf-8") if kind == worker.MISSING else None)

    def _is_foreign(self, module: str) -> bool:
        return any(module == name or module.startswith(f"{name}.") for name in self._foreign)

    def _dump(self, value: Any, *, buffers: bool = True) -> list[Part]:
        parts: list[Part] = [b""]
        collect = worker.collector(parts) if buffers else None
        foreign = self._foreign
        try:
            data = pickle.dumps(value, 5, buffer_callback=collect)
        except Exception:
            plain = False
        else:
            # A pickle holds the names of modules as they are: where none occurs, nothing refers to them.
            plain = not any(name.encode() in data for name in foreign)
            parts[0] = data
        if plain:
            return parts
        del parts[1:]
        stream = io.BytesIO()
        try:
            cloudpickle: Any = __import__("cloudpickle")
        except ImportError:
            _NamePickler(stream, self._is_foreign, collect).dump(value)
        else:
            pickler = _value_pickler(cloudpickle.Pickler)(stream, 5, buffer_callback=collect)
            pickler.is_foreign = self._is_foreign
            with _by_value(cloudpickle, foreign):
                pickler.dump(value)
        parts[0] = stream.getbuffer()
        return parts

    def _captured(self, function: Callable[..., Any]) -> str:
        """Which of the variables that a function takes from around it cannot be pickled."""
        if not isinstance(function, FunctionType):
            return ""
        around = inspect.getclosurevars(function)
        for name, value in (*around.nonlocals.items(), *around.globals.items()):
            try:
                self._dump(value)
            except Exception:
                return f" (it uses '{name}' from around it, which is of type {type(value).__qualname__})"
        return ""


class _NeedsValue(Exception):
    """Something has to go by value, and nothing can do that."""


class _NamePickler(pickle.Pickler):
    """A pickler that finds functions behind tasks, and refuses what would have to go by value."""

    def __init__(
        self,
        stream: io.BytesIO,
        is_foreign: Callable[[str], bool],
        collect: Callable[[pickle.PickleBuffer], bool] | None,
    ) -> None:
        super().__init__(stream, 5, buffer_callback=collect)
        self._is_foreign = is_foreign

    def reducer_override(self, obj: Any) -> Any:
        if not isinstance(obj, (FunctionType, type)):
            return NotImplemented
        place = _place(obj)
        if place is None or self._is_foreign(place[0]):
            raise _NeedsValue(f"{_name(obj)}, {_why(obj)}")
        return (worker.resolve, place) if place[2] else NotImplemented


class _ValueReducer:
    """What turns cloudpickle's pickler into one that keeps names where the other side knows them.

    `is_foreign` tells of a module whether the other side cannot import it.
    """

    is_foreign: Callable[[str], bool]

    def reducer_override(self, obj: Any) -> Any:
        by_value: Any = super()
        place = _place(obj) if hasattr(obj, "__qualname__") else None
        if place is None:
            return by_value.reducer_override(obj)
        is_definition = isinstance(obj, (FunctionType, type))
        if not self.is_foreign(place[0]):
            if is_definition and not place[2]:
                return by_value.reducer_override(obj)
            return worker.resolve, place
        reduced = by_value.reducer_override(obj) if is_definition else object.__reduce_ex__(obj, 5)
        if place[2] or isinstance(reduced, str) or reduced is NotImplemented:
            return reduced
        make, args, *state = reduced
        return worker.adopt, (place[0], place[1], make, *args), *state


@functools.cache
def _value_pickler(base: type[Any]) -> type[Any]:
    return type("ValuePickler", (_ValueReducer, base), {})


def _place(found: Any) -> tuple[str, str, bool] | None:
    """Where an object can be found by name, and whether a task stands in its place there."""
    module = getattr(found, "__module__", None)
    qualname = getattr(found, "__qualname__", None)
    if not isinstance(module, str) or not isinstance(qualname, str) or module not in sys.modules:
        return None
    there: Any = sys.modules[module]
    for name in qualname.split("."):
        there = getattr(there, name, None)
        if there is None:
            return None
    if there is found:
        return module, qualname, False
    if getattr(there, "function", None) is found:
        return module, qualname, True
    return None


_registering = threading.Lock()


@contextmanager
def _by_value(cloudpickle: Any, modules: tuple[str, ...]) -> Generator[None]:
    """Have cloudpickle take modules by value while a pickle is made, and for no one else after it.

    What is in `__main__` it takes by value without being told.
    """
    if modules == ("__main__",):
        yield
        return
    with _registering:
        known = cloudpickle.list_registry_pickle_by_value()
        added = [sys.modules[name] for name in modules[1:] if name in sys.modules and name not in known]
        for module in added:
            cloudpickle.register_pickle_by_value(module)
        try:
            yield
        finally:
            for module in added:
                cloudpickle.unregister_pickle_by_value(module)


def _labelled(
    function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> Iterator[tuple[str, Any]]:
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):
        parameters = []
    for place, value in enumerate(args):
        named = place < len(parameters) and parameters[place].kind is not inspect.Parameter.VAR_POSITIONAL
        yield (
            (f"argument '{parameters[place].name}' (position {place})" if named else f"argument {place}"),
            value,
        )
    for name, value in kwargs.items():
        yield f"argument '{name}'", value


def _name(found: Any) -> str:
    name = getattr(found, "__qualname__", None) or type(found).__qualname__
    code = getattr(found, "__code__", None)
    return f"{name} ({code.co_filename}:{code.co_firstlineno})" if code is not None else str(name)


def _why(found: Any) -> str:
    """Why an object has no name by which another process could find it."""
    name = getattr(found, "__qualname__", "")
    if "<lambda>" in name:
        return "which is a lambda"
    if "<locals>" in name:
        return "which is defined inside a function"
    if found.__module__ == "__main__":
        return "which the main program defines"
    return f"which a worker process cannot import from {found.__module__}"


def _missing_cloudpickle(task_name: str, what: str) -> MissingExtraError:
    return MissingExtraError(
        f"task '{task_name}' runs in another process, and {what}: sending it there", "cloudpickle", "process"
    )


def _short(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def _unpicklable_result(task_name: str, kind: str, awaitable: bool, reason: str) -> ShippingError:
    if awaitable:
        return ShippingError(
            task_name,
            f"the result is an awaitable ({kind})",
            "that nobody would await there; return what it gives, as with asyncio.run(...)",
        )
    return ShippingError(
        task_name,
        f"the result, of type {kind},",
        f'cannot be pickled: {reason}; return plain data, or run the task with executor="thread"',
    )


def _raised(described: dict[str, Any], task_name: str) -> BaseException:
    """The exception that a worker described, with the notes and the causes that it had."""
    error = _rebuilt(described, task_name)
    if error is None:
        error = RemoteTaskError(task_name, described["type"], described["message"])
    if described["notes"] and not getattr(error, "__notes__", None):
        error.__notes__ = list(described["notes"])
    for link in ("__cause__", "__context__"):
        if link in described:
            setattr(error, link, _raised(described[link], task_name))
    error.__suppress_context__ = described.get("__suppress_context__", False)
    if "traceback" in described:
        error.add_note(f"In the worker process:\n{described['traceback']}")
    return error


def _rebuilt(described: dict[str, Any], task_name: str) -> BaseException | None:
    if "members" in described:
        return BaseExceptionGroup(described["group"], [_raised(member, task_name) for member in described["members"]])
    pickled = described["pickle"]
    if pickled is None:
        return None
    try:
        error = pickle.loads(pickled[0], buffers=pickled[1:])
    except Exception:
        return None
    return error if isinstance(error, BaseException) else None
