"""Calling something on a thread of a pool and waiting for it on a loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextvars import ContextVar, copy_context
from typing import TYPE_CHECKING, Any, Final

from cascade.runtime.affine_thread import first_of_two, outlasting_cancellation, settle_from_thread

if TYPE_CHECKING:
    from cascade.spec.protocols import WorkerPool


call_began: Final[ContextVar[Callable[[], object]]] = ContextVar("cascade_call_began", default=bool)
"""Called, from any thread, when a call has got the thread or process that it waited for."""


async def call_on(pool: WorkerPool | None, function: Callable[[], Any]) -> Any:
    """Call a function on a thread and return what it returns.

    A call that has begun does so also when it is cancelled; one that has not then never begins.

    Args:
        pool: the threads; `None` for those of the running loop.
        function: sees a copy of the context here.
    """
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[Any] = loop.create_future()
    context = copy_context()
    began = call_began.get()
    decides = first_of_two()

    def job() -> None:
        if not decides():
            return
        began()
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
