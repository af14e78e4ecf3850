"""Calling something on a thread of a pool and waiting for it on a loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextvars import ContextVar, copy_context
from typing import TYPE_CHECKING, Any, Final

from cascade.runtime.affine_thread import first_of_two, outlasting_cancellation, settle_from_thread

if TYPE_CHECKING:
    from cascade.spec.protocols import WorkerPool


class NotBegun(Exception):
    """A call has got the thread or process that it waited for, and must not begin any more."""


def _always() -> bool:
    return True


call_may_begin: Final[ContextVar[Callable[[], bool]]] = ContextVar("cascade_may_begin", default=_always)
"""Called, from any thread, when a call has got the thread or process that it waited for: whether it shall begin."""


async def call_on(pool: WorkerPool | None, function: Callable[[], Any]) -> Any:
    """Call a function on a thread and return what it returns.

    A call that has begun does so also when it is cancelled; one that has not then never begins.

    Raises:
        NotBegun: when its turn had come it was not to begin any more.

    Args:
        pool: the threads; `None` for those of the running loop.
        function: sees a copy of the context here.
    """
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[Any] = loop.create_future()
    context = copy_context()
    begins = call_may_begin.get()
    decides = first_of_two()

    def job() -> None:
        if not decides():
            return
        if not begins():
            settle_from_thread(loop, ended, None, NotBegun())
            return
        try:
            value = context.run(function)
        except BaseException as error:
            settle_from_thread(loop, ended, None, error)
        else:
            settle_from_thread(loop, ended, value, None)

    if pool is None:
        loop.run_in_executor(None, job)
    else:
        pool.submit(job)
    return await outlasting_cancellation(ended, decides)
