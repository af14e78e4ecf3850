"""An event loop that is kept from one run to the next: making and closing one costs more than running a small task."""

from __future__ import annotations

# What `signal` wraps: that looks for the names of handlers that have none, which takes a tenth of a small run.
import _signal  # type: ignore[import-not-found]  # pyright: ignore[reportMissingImports]
import asyncio
import os
import threading
from collections.abc import Callable, Coroutine, Generator
from contextlib import contextmanager
from signal import SIGINT, default_int_handler
from typing import TYPE_CHECKING, Any, Final, TypeVar

if TYPE_CHECKING:
    from contextvars import Context

R = TypeVar("R")

_MOST_SPARE: Final = 1
_GRACE: Final = 0.1
"""How long what is left in a loop has to end when it is closed, in seconds; runs have waited for it before."""
_spare: Final[list[asyncio.Runner]] = []
_in_use: Final[set[asyncio.AbstractEventLoop]] = set()
_of_parents: Final[list[list[asyncio.Runner]]] = []


def run_on_spare_loop(main: Coroutine[Any, Any, R], context: Context, *, interrupted: Callable[[], object]) -> R:
    """Run a coroutine as `asyncio.run` does, Ctrl-C included, but on the loop of an earlier run if there is one.

    A loop is kept only if the run left nothing in it; otherwise it is closed, with the care that `asyncio.run` takes.

    Args:
        main: the coroutine.
        context: what it runs in.
        interrupted: called at a second Ctrl-C, before the loop is closed and everything in it is waited for.
    """
    try:
        runner = _spare.pop()
    except IndexError:
        runner = asyncio.Runner(loop_factory=asyncio.new_event_loop)
    loop = runner.get_loop()
    _in_use.add(loop)
    try:
        task = loop.create_task(main, context=context)
        with _interrupts(loop, task):
            return loop.run_until_complete(task)
    except KeyboardInterrupt:
        interrupted()
        raise
    finally:
        _in_use.discard(loop)
        if len(_spare) < _MOST_SPARE and _is_unused(loop):
            _spare.append(runner)
        else:
            _end(runner, loop)


def _end(runner: asyncio.Runner, loop: asyncio.AbstractEventLoop) -> None:
    """Close a loop as `asyncio.run` does, but not wait for ever for a coroutine that goes on when it is cancelled."""
    left = asyncio.all_tasks(loop)
    for task in left:
        task.cancel()
    try:
        if left:
            loop.run_until_complete(asyncio.wait(left, timeout=_GRACE))
    finally:
        left = asyncio.all_tasks(loop)
        for task in left:
            # Nobody waits for it any more, and nothing can end it: that was told when it was abandoned.
            unending: Any = task
            unending._log_destroy_pending = False
        if left:
            loop.close()
        else:
            runner.close()


def is_spare(loop: asyncio.AbstractEventLoop) -> bool:
    """Whether a loop is run here, so that nobody uses it but one run."""
    return loop in _in_use


class _Interrupts:
    """The handler of Ctrl-C: the first one cancels the task, the next ones end whatever runs."""

    def __init__(self, loop: asyncio.AbstractEventLoop, task: asyncio.Task[Any]) -> None:
        self._loop = loop
        self._task = task
        self.count = 0

    def __call__(self, *_: object) -> None:
        self.count += 1
        if self.count > 1 or self._task.done():
            raise KeyboardInterrupt
        self._task.cancel()
        # The loop may be waiting for something to happen, and a signal alone does not end that.
        self._loop.call_soon_threadsafe(int)


@contextmanager
def _interrupts(loop: asyncio.AbstractEventLoop, task: asyncio.Task[Any]) -> Generator[None]:
    """Let Ctrl-C cancel a task, unless the program handles it itself or this is not its main thread."""
    on_main_thread = threading.current_thread() is threading.main_thread()
    if not on_main_thread or _signal.getsignal(SIGINT) is not default_int_handler:
        yield
        return
    handler = _Interrupts(loop, task)
    _signal.signal(SIGINT, handler)
    try:
        yield
    except asyncio.CancelledError:
        if handler.count and not task.uncancel():
            raise KeyboardInterrupt from None
        raise
    finally:
        if _signal.getsignal(SIGINT) is handler:
            _signal.signal(SIGINT, default_int_handler)


def _is_unused(loop: asyncio.AbstractEventLoop) -> bool:
    """Whether nothing is left in a loop: no task, callback, timer, reader, async generator, and no thread of its own.

    This looks at how the standard library's loops keep these; of any other loop it knows nothing, and it is closed.
    """
    own: dict[str, Any] = vars(loop) if isinstance(loop, asyncio.BaseEventLoop) else {}
    try:
        return (
            not own["_ready"]
            and not own["_scheduled"]
            and not own["_asyncgens"]
            and own["_default_executor"] is None
            and own["_exception_handler"] is None
            and own["_task_factory"] is None
            and not own["_debug"]
            and len(own["_selector"].get_map()) == 1
            and not asyncio.all_tasks(loop)
        )
    except KeyError:
        return False


def _leave_to_parent() -> None:
    """A forked child must not touch its parent's loops: closing one there would deafen it here."""
    _of_parents.append(_spare.copy())
    _spare.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_leave_to_parent)
