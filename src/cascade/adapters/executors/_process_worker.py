"""What runs in a worker process: takes calls from a socket one by one, and writes back what came of each.

A worker loads this file by its path, before and without the package around it, so that it starts at once;
it therefore imports little, and nothing of Cascade. The process that started it imports the same module for
the frames and for the functions that pickles name.

Three channels join a worker to its parent. `data` is a socket: a frame with a call goes down, a frame with
the outcome comes back, never two calls at once. `control` is a pipe with the numbers of calls that shall
stop. `life` is a pipe that nobody writes to: it ends when the parent does.
"""

from __future__ import annotations

import os
import pickle
import signal
import struct
import sys
import threading
from types import FunctionType, ModuleType

TYPE_CHECKING = False  # the module `typing` would make every worker start later
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any, Final

    Part = bytes | bytearray | memoryview

RETURNED: Final = b"returned"
RAISED: Final = b"raised"
MISSING: Final = b"missing"
UNREADABLE: Final = b"unreadable"
UNPICKLABLE: Final = b"unpicklable"
STARTED: Final = b"started"
LOGGED: Final = b"logged"
PRINTED: Final = b"printed"

current_context: Mapping[str, Any] = {}
"""What the parent said about the call that runs here; empty between calls and outside a worker."""

cancel_requested: threading.Event = threading.Event()
"""Set when the call that runs here shall stop; each call has its own."""

importing = False
"""Whether a worker is loading a call's function or arguments, so that the top level of a module runs here."""

_HEAD: Final = struct.Struct("<IQ")
_SMALL: Final = 1 << 16
_MOST_FUNCTIONS: Final = 64
_LARGEST_FUNCTION: Final = 1 << 20
_LONGEST_CHAIN: Final = 20

_state = threading.Lock()
_writing = threading.Lock()
_data = -1
_running = 0
_asked_to_stop = 0
_terminated = False
NOT: Final = 0
TOO: Final = 1
INSTEAD: Final = 2
"""Whether the parent is told what calls print, and whether it prints that itself."""
_tells_prints = NOT
_telling = 0
_is_postponed = False
_functions: dict[bytes, Callable[..., Any]] = {}


def frame(parts: Sequence[Part]) -> list[Part]:
    """Parts as they are written: how many, how many bytes in all, the size of each, and then the parts."""
    sizes = [len(part) for part in parts]
    total = sum(sizes)
    head = _HEAD.pack(len(parts), total) + struct.pack(f"<{len(parts)}Q", *sizes)
    # One write for what is small; what is large is not copied once more.
    return [b"".join((head, *parts))] if total <= _SMALL else [head, *parts]


def write_all(fd: int, pieces: Sequence[Part]) -> None:
    """Write every byte.

    Raises:
        OSError: the other side is gone.
    """
    for piece in pieces:
        rest = memoryview(piece)
        while rest:
            rest = rest[os.write(fd, rest) :]


def read_frame(fd: int) -> list[memoryview] | None:
    """The parts of the next frame, writable and without copies; `None` when the other side is gone."""
    head = _read_exactly(fd, _HEAD.size)
    if head is None:
        return None
    count, total = _HEAD.unpack(head)
    body = _read_exactly(fd, 8 * count + total)
    if body is None:
        return None
    start = 8 * count
    parts: list[memoryview] = []
    for size in struct.unpack_from(f"<{count}Q", body):
        parts.append(body[start : start + size])
        start += size
    return parts


def _read_exactly(fd: int, size: int) -> memoryview | None:
    whole = memoryview(bytearray(size))
    rest = whole
    while rest:
        try:
            read = os.readv(fd, (rest,))
        except ConnectionError:
            return None
        if not read:
            return None
        rest = rest[read:]
    return whole


def resolve(module: str, qualname: str, wrapped: bool) -> Any:
    """What `module:qualname` names, or the function in it where a task stands in the function's place.

    Raises:
        ModuleNotFoundError: there is no such module here.
        AttributeError: the module has no such name.
    """
    __import__(module)
    found: Any = sys.modules[module]
    for name in qualname.split("."):
        found = getattr(found, name)
    return found.function if wrapped else found


def adopt(module: str, qualname: str, make: Callable[..., Any], *args: Any) -> Any:
    """Make something that came by value, and bind it where it stands in the parent.

    So what a call returns can name it, and the parent finds its own.
    """
    made = make(*args)
    if "." not in qualname:
        setattr(sys.modules.setdefault(module, ModuleType(module)), qualname, made)
    return made


def rebuild(kind: type[BaseException], args: tuple[Any, ...], state: Mapping[str, Any] | None) -> BaseException:
    """An exception as it was, without an `__init__` written in Python: it may take other arguments."""
    error = kind.__new__(kind, *args)
    for base in kind.__mro__:
        init = base.__dict__.get("__init__")
        if init is not None and not isinstance(init, FunctionType):
            init(error, *args)
            break
    error.__dict__.update(state or {})
    return error


def say(record: Mapping[str, Any]) -> None:
    """Have the parent log something for the call that runs here; a process that a task forked has no parent to tell."""
    _tell([LOGGED, pickle.dumps(record)])


def _can_tell() -> bool:
    """Whether there is a parent to tell, and this thread is not at that already, as when a finalizer prints."""
    return _data >= 0 and _telling != threading.get_ident()


def _tell(parts: Sequence[Part]) -> None:
    """Write a frame about the call that runs, whole even if SIGTERM comes meanwhile."""
    global _telling, _is_postponed
    if not _can_tell():
        return
    with _writing:
        _telling = threading.get_ident()
        try:
            write_all(_data, frame(parts))
        finally:
            _telling = 0
    if _is_postponed and threading.current_thread() is threading.main_thread():
        _is_postponed = False
        raise _Terminated(128 + signal.SIGTERM)


def _tell_prints() -> None:
    """Have the parent know what calls print, if it wants to."""

    def wrapped(channel: bytes, write: Callable[[str], int]) -> Callable[[str], int]:
        def passing(text: str) -> int:
            tells = _tells_prints if isinstance(text, str) and _can_tell() else NOT
            written = len(text) if tells == INSTEAD else write(text)
            if tells:
                _tell([PRINTED, channel, text.encode("utf-8", "surrogatepass")])
            return written

        return passing

    for channel in ("stdout", "stderr"):
        stream: Any = getattr(sys, channel)
        if stream is not None:
            stream.write = wrapped(channel.encode(), stream.write)


def main(data: int, control: int, life: int) -> None:
    """Answer calls until the parent hangs up."""
    global _data
    _data = data
    channels = [data, control, life]
    for fd in channels:
        os.set_inheritable(fd, False)
    os.register_at_fork(after_in_child=lambda: _leave(channels))
    # What arrives from the parent's main program by value is bound in this stand-in. It has no file, so
    # nothing can run that program a second time, `multiprocessing` in a task included.
    sys.modules["__main__"] = ModuleType("__main__")
    signal.signal(signal.SIGTERM, _terminate)
    _tell_prints()
    threading.Thread(target=_watch, args=(control,), name="cascade-watch", daemon=True).start()
    _die_with(life)
    process = os.getpid()
    try:
        write_all(data, frame([STARTED]))
        while (request := read_frame(data)) is not None:
            reply = frame(_answer(request))
            _flush()
            if os.getpid() != process:
                os._exit(0)
            with _writing:
                write_all(data, reply)
            del reply
            if _terminated:
                break
    except (_Terminated, KeyboardInterrupt, OSError):
        pass
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if _terminated:
        _flush()
        os.kill(process, signal.SIGTERM)


def _leave(channels: list[int]) -> None:
    """Close the channels in a process that a task forked: while they are open the parent sees no end."""
    global _data
    _data = -1
    while channels:
        os.close(channels.pop())


class _Terminated(SystemExit):
    """SIGTERM as an exception, so that a task's `finally` clauses run before the end."""


def _terminate(*_: object) -> None:
    global _terminated, _is_postponed
    _terminated = True
    if _telling == threading.get_ident():
        # Until the frame is whole.
        _is_postponed = True
        return
    raise _Terminated(128 + signal.SIGTERM)


def _watch(control: int) -> None:
    """Take requests to stop, and end with the parent even in the middle of a call."""
    global _asked_to_stop
    while number := int.from_bytes(os.read(control, 8), "little"):
        with _state:
            _asked_to_stop = number
            if number == _running:
                cancel_requested.set()
    os.killpg(os.getpgrp(), signal.SIGKILL)


def _die_with(life: int) -> None:
    """Have the kernel kill this process group with the parent: a call that holds the GIL keeps `_watch` out.

    Only Linux lets the signal be chosen; elsewhere `_watch` does it as soon as it gets its turn.
    """
    import fcntl

    if not hasattr(fcntl, "F_SETSIG"):
        return
    fcntl.fcntl(life, fcntl.F_SETSIG, signal.SIGKILL)
    fcntl.fcntl(life, fcntl.F_SETOWN, -os.getpgrp())
    fcntl.fcntl(life, fcntl.F_SETFL, os.O_ASYNC | os.O_NONBLOCK)


def _begin(number: int, context: Mapping[str, Any], *, tells_prints: int = NOT) -> None:
    global _running, _tells_prints, cancel_requested, current_context
    with _state:
        _running = number
        cancel_requested = threading.Event()
        if _asked_to_stop == number:
            cancel_requested.set()
    current_context, _tells_prints = context, tells_prints


def _answer(request: list[memoryview]) -> list[Part]:
    head, arguments, *buffers = request
    request.clear()
    number, shipped, context, surroundings, directory, tells_prints = pickle.loads(head)
    _begin(number, context, tells_prints=tells_prints)
    try:
        try:
            function, args, kwargs = _load(shipped, arguments, buffers, surroundings, directory)
        except ModuleNotFoundError as error:
            return [MISSING, (error.name or "").encode(), pickle.dumps(describe(error))]
        except _Unnamed as error:
            return [MISSING, str(error.args[0]).encode(), pickle.dumps(describe(error))]
        except _Terminated:
            raise
        except BaseException as error:
            return [UNREADABLE, pickle.dumps(describe(error))]
        del arguments, buffers
        try:
            result = function(*args, **kwargs)
        except _Terminated:
            raise
        except BaseException as error:
            if error.__traceback__ is not None:
                error.__traceback__ = error.__traceback__.tb_next
            return [RAISED, pickle.dumps(describe(error))]
        return _returned(result)
    finally:
        _begin(0, {})


class _Unnamed(LookupError):
    """A module is here, but has not the name under which the parent knows a function."""


def _load(
    shipped: bytes | tuple[str, str, bool],
    arguments: memoryview,
    buffers: list[memoryview],
    surroundings: tuple[list[str], list[str]] | None,
    directory: str | None,
) -> tuple[Callable[..., Any], tuple[Any, ...], Mapping[str, Any]]:
    """The function and its arguments, found and rebuilt in surroundings like the parent's."""
    global importing
    importing = True
    try:
        if surroundings is not None:
            sys.path[:], sys.argv[:] = surroundings
        if directory is not None and directory != _directory():
            os.chdir(directory)
        function: Callable[..., Any]
        if isinstance(shipped, tuple):
            try:
                function = resolve(*shipped)
            except AttributeError:
                if shipped[0] not in sys.modules:
                    raise
                raise _Unnamed(shipped[0], f"the worker found no {shipped[1]} in {shipped[0]}") from None
        else:
            function = _functions.get(shipped) or _keep(shipped, pickle.loads(shipped))
        args, kwargs = pickle.loads(arguments, buffers=buffers)
        return function, args, kwargs
    finally:
        importing = False


def _directory() -> str | None:
    try:
        return os.getcwd()
    except OSError:
        return None


def _keep(shipped: bytes, function: Callable[..., Any]) -> Callable[..., Any]:
    """Keep what came by value for the next call: its globals then last as long as those of a module would."""
    if len(shipped) <= _LARGEST_FUNCTION:
        if len(_functions) == _MOST_FUNCTIONS:
            del _functions[next(iter(_functions))]
        _functions[shipped] = function
    return function


def _returned(result: Any) -> list[Part]:
    try:
        return [RETURNED, *_dump(result)]
    except Exception as error:
        awaitable = hasattr(result, "__await__")
        if awaitable and hasattr(result, "close"):
            result.close()
        reason = f"{type(error).__name__}: {_text(error)}"
        return [UNPICKLABLE, pickle.dumps((_full_name(result), awaitable, reason))]


def _dump(value: Any) -> list[Part]:
    """A pickle and its buffers; what has no name elsewhere goes by value, if cloudpickle is there."""
    parts: list[Part] = [b""]
    collect = collector(parts)
    try:
        parts[0] = pickle.dumps(value, 5, buffer_callback=collect)
    except Exception as error:
        try:
            cloudpickle: Any = __import__("cloudpickle")
        except ImportError:
            raise error from None
        del parts[1:]
        parts[0] = cloudpickle.dumps(value, 5, buffer_callback=collect)
    return parts


def collector(parts: list[Part]) -> Callable[[pickle.PickleBuffer], bool]:
    """A `buffer_callback` that keeps buffers beside the pickle instead of copying them into it."""

    def collect(buffer: pickle.PickleBuffer) -> bool:
        try:
            parts.append(buffer.raw())
        except BufferError:
            return True
        return False

    return collect


def describe(error: BaseException, depth: int = 0) -> dict[str, Any]:
    """An exception in plain values, with its pickle where it has one that can be read again."""
    described: dict[str, Any] = {
        "type": _full_name(error),
        "message": _text(error),
        "notes": [str(note) for note in getattr(error, "__notes__", ())],
        "pickle": _pickled(error),
    }
    if depth == 0:
        import traceback

        described["traceback"] = "".join(traceback.format_exception(error)).rstrip()
    if depth < _LONGEST_CHAIN:
        if type(error) in (BaseExceptionGroup, ExceptionGroup):
            group: Any = error
            described["group"] = group.message
            described["members"] = [describe(member, depth + 1) for member in group.exceptions]
        for link in ("__cause__", "__context__"):
            linked = getattr(error, link)
            if linked is not None:
                described[link] = describe(linked, depth + 1)
        described["__suppress_context__"] = error.__suppress_context__
    return described


class _Rebuilt:
    """Pickles as an exception that `rebuild` makes."""

    def __init__(self, error: BaseException) -> None:
        self.error = error

    def __reduce__(self) -> tuple[Any, ...]:
        reduced: Any = self.error.__reduce__()
        _, args, *state = reduced
        return rebuild, (type(self.error), args, state[0] if state else None)


def _pickled(error: BaseException) -> list[bytes] | None:
    kind = type(error)
    has_own_way = any(
        isinstance(getattr(kind, name), FunctionType)
        for name in ("__new__", "__reduce__", "__reduce_ex__", "__setstate__")
    )
    plain = has_own_way or not isinstance(kind.__init__, FunctionType)
    try:
        parts = [bytes(part) for part in _dump(error if plain else _Rebuilt(error))]
        # Many exceptions can be pickled but not read: their `__init__` does not take their `args`.
        copy = pickle.loads(parts[0], buffers=parts[1:])
    except Exception:
        return None
    return parts if type(copy) is kind else None


def _full_name(value: object) -> str:
    kind = type(value)
    return f"{kind.__module__}.{kind.__qualname__}".removeprefix("builtins.")


def _text(error: BaseException) -> str:
    try:
        return str(error)
    except Exception as failure:
        return f"<its str() raised {type(failure).__name__}>"


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (AttributeError, OSError, ValueError):
            pass
