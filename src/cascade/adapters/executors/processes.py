"""A pool of worker processes."""

from __future__ import annotations

import asyncio
import atexit
import os
import threading
import weakref
from collections import deque
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from cascade.adapters.executors import _process_worker
from cascade.adapters.executors.shipping import Shipper
from cascade.adapters.executors.worker_process import (
    TERMINATE_PATIENCE,
    Call,
    Roster,
    WorkerDiedError,
    WorkerProcess,
    wake,
)
from cascade.runtime.affine_thread import is_abandoned
from cascade.runtime.threading_calls import NotBegun
from cascade.spec.exceptions import CascadeError, NestedRunError, RunError

if TYPE_CHECKING:
    from cascade.spec.protocols import Clock

_NOTHING: Mapping[str, Any] = {}


class PoolClosedError(RunError, RuntimeError):
    """A call was made on a pool that is closed, or it still ran when the pool closed.

    Attributes:
        task_name: the task that was called.
    """

    def __init__(self, task_name: str) -> None:
        super().__init__(task_name)
        self.task_name = task_name

    def __str__(self) -> str:
        return f"task '{self.task_name}': the pool of worker processes is closed"


class ProcessPool:
    """Makes calls in worker processes, which start as they are needed and stay for the next call.

    Coroutines on any number of event loops and threads may call at the same time.

    Args:
        max_workers: how many processes there may be at a time; one a usable processor by default.
        grace: seconds that a call has for stopping by itself before its process is killed.
        clock: what measures the grace; the event loop by default.

    >>> async def main() -> float:
    ...     pool = ProcessPool(1)
    ...     try:
    ...         return await pool.call(pow, (2, 10), {}, name="power")
    ...     finally:
    ...         await pool.close()
    >>> asyncio.run(main())
    1024
    """

    def __init__(self, max_workers: int | None = None, *, grace: float = 5.0, clock: Clock | None = None) -> None:
        if os.name != "posix":
            raise CascadeError('executor="process" needs Linux, macOS or another POSIX system')
        self._max_workers = usable_processors() if max_workers is None else max_workers
        if self._max_workers < 1:
            raise ValueError(f"max_workers must be at least 1, got {max_workers}")
        self._grace = grace
        self._sleep: Callable[[float], Any] = asyncio.sleep if clock is None else clock.sleep
        self._shipper = Shipper()
        self._closed = False
        self._start_empty()
        _pools.add(self)

    async def call(
        self,
        function: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        *,
        name: str,
        context: Mapping[str, Any] = _NOTHING,
        may_begin: Callable[[], bool] | None = None,
    ) -> Any:
        """Call a function in a worker process: return what it returns, or raise what it raises.

        When cancelled, the call is asked to stop, and after the grace its process is killed with all that it
        started; only then the cancellation goes on.

        Args:
            function: goes as `module:qualname` where that finds it, by value where not.
            args: positional arguments.
            kwargs: arguments by name.
            name: the task's name, for errors.
            may_begin: called when there is a process for the call; whether it shall begin. All do by default.
            context: what the worker shows as `_process_worker.current_context` during the call.

        Raises:
            NotBegun: it was not to begin any more.
            WorkerDiedError: the process died in the middle of the call.
            ShippingError: the function, an argument or the result cannot go from one process to another.
            MissingExtraError: something has to go by value, and cloudpickle is not installed.
            RemoteTaskError: what the function raised cannot be rebuilt here.
            PoolClosedError: the pool is closed.
        """
        if _process_worker.importing:
            raise NestedRunError(
                f"task '{name}' was called by a module that a worker process imports; what runs a workflow "
                'at the top level of a module belongs under  if __name__ == "__main__":'
            )
        loop = asyncio.get_running_loop()
        while True:
            worker = await self._acquire(name, loop)
            call: Call | None = None
            try:
                if may_begin is not None and not may_begin():
                    raise NotBegun
                shipped = self._shipper.pack_function(function, name)
                arguments = self._shipper.pack_arguments(function, args, kwargs, name)
                call = Call(name, loop)
                if not worker.begin(call, shipped, arguments, context):
                    call = None
                    continue
                del shipped, arguments
                try:
                    await call.woken
                except asyncio.CancelledError:
                    await self._stop(worker, call)
                    raise
            finally:
                if call is not None and call.outcome is None:
                    # The call never began, or its loop ended before it did and nobody is left to wait.
                    worker.kill()
                self._release(worker)
            assert call is not None
            outcome = call.outcome
            assert outcome is not None
            if outcome.missing is not None and self._shipper.send_by_value(outcome.missing):
                continue
            if outcome.error is None:
                return outcome.value
            error = outcome.error
            if self._closed and isinstance(error, WorkerDiedError):
                error = PoolClosedError(name)
            try:
                raise error
            finally:
                del error, outcome, call

    async def close(self) -> None:
        """End all processes: idle ones at once, busy ones like cancelled calls. May be called twice."""
        loop = asyncio.get_running_loop()
        ended = loop.create_future()

        def end() -> None:
            self.shutdown()
            wake(loop, ended)

        # A thread of its own: an idle one of the loop's would stay behind.
        thread = threading.Thread(target=end, name="cascade-process-close", daemon=True)
        thread.start()
        await ended
        thread.join()

    def shutdown(self) -> None:
        """Do what `close` does, and wait for it without an event loop."""
        with self._lock:
            self._closed = True
            refused = list(self._waiting)
            self._waiting.clear()
            for ticket in refused:
                ticket.refuse()
        self._roster.end(self._grace)

    def _start_empty(self) -> None:
        # Re-entrant: a garbage collection inside the critical section may end an abandoned call, which gives
        # its worker back. `_match` stands that at every point.
        self._lock = threading.RLock()
        self._idle: list[WorkerProcess] = []
        self._busy: set[WorkerProcess] = set()
        self._waiting: deque[_Ticket] = deque()
        self._count = 0
        self._roster = Roster()
        _rosters.add(self._roster)
        # Without waiting, since a garbage collection must not wait; at interpreter exit `_end_all` does.
        weakref.finalize(self, self._roster.dismiss).atexit = False

    def forget_workers(self) -> None:
        """Begin anew in a forked process, without the workers: these are the parent's."""
        for worker in list(self._roster.workers):
            worker.forget()
        self._roster.workers.clear()
        self._start_empty()

    async def _acquire(self, name: str, loop: asyncio.AbstractEventLoop) -> WorkerProcess:
        ticket = _Ticket(loop)
        with self._lock:
            if self._closed:
                raise PoolClosedError(name)
            self._waiting.append(ticket)
            self._match()
            if not ticket.granted:
                ticket.woken = loop.create_future()
        try:
            if ticket.woken is not None:
                await ticket.woken
            with self._lock:
                if self._closed:
                    raise PoolClosedError(name)
                if ticket.worker is None:
                    ticket.worker = WorkerProcess(self._roster, self._shipper)
                    self._busy.add(ticket.worker)
                return ticket.worker
        except BaseException:
            self._give_up(ticket)
            raise

    def _match(self) -> None:
        """Give what is free to those who wait, first come first served."""
        while self._waiting:
            worker: WorkerProcess | None = None
            if self._idle:
                worker = self._idle.pop()
                if not worker.alive:
                    self._count -= 1
                    continue
            elif self._count < self._max_workers:
                self._count += 1
            elif not self._reclaim():
                return
            else:
                continue
            while self._waiting:
                if self._waiting.popleft().grant(worker):
                    if worker is not None:
                        self._busy.add(worker)
                    break
            else:
                self._put_back(worker)

    def _reclaim(self) -> bool:
        """Kill the calls of event loops that were closed meanwhile: nobody gives those workers back."""
        lost = [worker for worker in self._busy if worker.is_abandoned()]
        for worker in lost:
            self._busy.discard(worker)
            self._count -= 1
            worker.kill()
        return bool(lost)

    def _put_back(self, worker: WorkerProcess | None) -> None:
        if worker is None or worker.doomed or not worker.alive or self._closed:
            self._count -= 1
            if worker is not None and worker.doomed:
                worker.kill()
        else:
            self._idle.append(worker)

    def _release(self, worker: WorkerProcess | None) -> None:
        with self._lock:
            if worker is not None:
                if worker not in self._busy:
                    return
                self._busy.discard(worker)
            self._put_back(worker)
            self._match()

    def _give_up(self, ticket: _Ticket) -> None:
        with self._lock:
            if ticket.granted:
                self._release(ticket.worker)
            elif ticket in self._waiting:
                self._waiting.remove(ticket)

    async def _stop(self, worker: WorkerProcess, call: Call) -> None:
        """End a call whose caller was cancelled; back when the worker is idle or dead.

        Being cancelled again means that there is no more patience; for a call of a run that was abandoned there is none
        at all.
        """
        for act, patience in ((worker.ask_to_stop, self._grace), (worker.terminate, TERMINATE_PATIENCE)):
            if call.outcome is not None:
                return
            if is_abandoned.get()():
                break
            act()
            await self._has_ended(call, patience)
        if call.outcome is None:
            worker.kill()
        while call.outcome is None:
            await self._has_ended(call, None)

    async def _has_ended(self, call: Call, patience: float | None) -> None:
        ended = call.wait_again()
        if ended is None:
            return
        waited: list[asyncio.Future[Any]] = [ended]
        if patience is not None:
            waited.append(asyncio.ensure_future(self._sleep(patience)))
        try:
            await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            pass
        finally:
            for future in waited:
                future.cancel()


class _Ticket:
    """A call that waits for a worker, or for the right to start one."""

    __slots__ = ("granted", "loop", "woken", "worker")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.woken: asyncio.Future[None] | None = None
        self.granted = False
        self.worker: WorkerProcess | None = None

    def grant(self, worker: WorkerProcess | None) -> bool:
        """Hand over a worker, or with `None` the right to start one; false if the loop has ended."""
        if self.woken is not None and not wake(self.loop, self.woken):
            return False
        self.worker = worker
        self.granted = True
        return True

    def refuse(self) -> None:
        if self.woken is not None:
            wake(self.loop, self.woken)


def usable_processors() -> int:
    """How many processors this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


_pools: weakref.WeakSet[ProcessPool] = weakref.WeakSet()
_rosters: weakref.WeakSet[Roster] = weakref.WeakSet()


def _forget_all() -> None:
    _rosters.clear()
    for pool in list(_pools):
        pool.forget_workers()


def _end_all() -> None:
    for roster in list(_rosters):
        roster.end(grace=1.0)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_all)
atexit.register(_end_all)
