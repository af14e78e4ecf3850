"""A thread of its own for whatever must always be touched by one and the same thread."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextvars import Context, ContextVar
from functools import partial
from queue import SimpleQueue
from typing import Any, Final

is_abandoned: Final[ContextVar[Callable[[], bool]]] = ContextVar("cascade_abandoned", default=bool)
"""Tells whether the run here has been given up, so that nobody waits for its calls any more."""


class AffineThread:
    """Makes calls one after another on one thread, which starts with the first of them."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._jobs: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._thread: threading.Thread | None = None

    async def call(self, context: Context, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Call a function there and return what it returns.

        A call that has begun does so also when it is cancelled; one that has not then never begins.
        """
        loop = asyncio.get_running_loop()
        ended: asyncio.Future[Any] = loop.create_future()
        decides = first_of_two()

        def job() -> None:
            if not decides():
                return
            try:
                value = context.run(function, *args, **kwargs)
            except BaseException as error:
                settle_from_thread(loop, ended, None, error)
            else:
                settle_from_thread(loop, ended, value, None)

        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name=self._name, daemon=True)
            self._thread.start()
        self._jobs.put(job)
        return await outlasting_cancellation(ended, decides)

    def close(self) -> None:
        """Let the thread end once it has made its calls."""
        if self._thread is not None:
            self._jobs.put(None)
            self._thread = None

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            job()


def first_of_two() -> Callable[[], bool]:
    """Ask whether one is the first to ask: the thread that begins a call, or who does not want it any more."""
    return partial(threading.Lock().acquire, blocking=False)


async def outlasting_cancellation(ended: asyncio.Future[Any], withdraws: Callable[[], bool]) -> Any:
    """Wait for a call on a thread, which nothing can stop once it has begun: then being cancelled has no effect.

    Args:
        ended: what the call will give.
        withdraws: called at a cancellation; whether it has kept the call from beginning at all.
    """
    while not ended.done():
        try:
            await asyncio.wait([ended])
        except asyncio.CancelledError:
            if withdraws() or is_abandoned.get()():
                raise
    return ended.result()


def settle_from_thread(
    loop: asyncio.AbstractEventLoop, ended: asyncio.Future[Any], value: Any, error: BaseException | None
) -> None:
    """Give a future of a loop its result from another thread."""

    def settle() -> None:
        if ended.done():
            return
        if error is None:
            ended.set_result(value)
        elif isinstance(error, StopIteration):
            # A future refuses it, since it would end the generator that waits.
            wrapped = RuntimeError("a call raised StopIteration")
            wrapped.__cause__ = error
            ended.set_exception(wrapped)
        else:
            ended.set_exception(error)

    try:
        loop.call_soon_threadsafe(settle)
    except RuntimeError:
        # The loop was closed under a call that had been abandoned.
        return
