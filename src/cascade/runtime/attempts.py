"""One attempt at a call: what it takes, the call itself within its time, and giving everything back."""

from __future__ import annotations

import asyncio
import dataclasses
from contextvars import copy_context
from functools import partial
from typing import TYPE_CHECKING, Any

from cascade.runtime.admission import Admission
from cascade.runtime.affine_thread import is_abandoned
from cascade.runtime.mapping import MapExecution
from cascade.runtime.run import current_caller
from cascade.runtime.scheduler import Scheduler
from cascade.runtime.threading_calls import NotBegun, call_may_begin
from cascade.spec.context import CallContext, current_call
from cascade.spec.exceptions import TaskTimeoutError
from cascade.spec.resource import Inject

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from cascade.graph.model import Node
    from cascade.runtime.affine_thread import AffineThread
    from cascade.runtime.capacity import Demand
    from cascade.runtime.resource_container import ResourceContainer
    from cascade.runtime.scheduler import Continuation
    from cascade.runtime.strategies.graph import GraphExecutionStrategy
    from cascade.spec.lazy_types import LazyResult
    from cascade.spec.policy import Policy
    from cascade.spec.protocols import Timer
    from cascade.spec.task import Task


@dataclasses.dataclass(slots=True)
class Outcome:
    """How a call ended after its last attempt: a value, more work, an error, or cancelled."""

    value: Any = None
    more: LazyResult[Any] | None = None
    error: BaseException | None = None
    cancelled: bool = False
    attempt: int = 0
    began: float = 0.0


class Attempt(Admission):
    """One attempt at a call: sets up resources, makes the call, and gives everything back exactly once.

    Attributes:
        making: makes the call, once that is let go.
        is_queued: whether the call waits for a free thread or process.
    """

    def __init__(
        self,
        strategy: GraphExecutionStrategy,
        parent: Continuation,
        place: int,
        task: Task[..., Any],
        policy: Policy,
        number: int,
        demand: Demand | None,
        *,
        tell_blocked: Callable[[str], object],
        tell_begun: Callable[[], object],
    ) -> None:
        super().__init__(strategy, parent, place, demand, tell_blocked)
        self._parent = parent
        self._strategy = strategy
        self._task = task
        self._policy = policy
        self._number = number
        self._resources: ResourceContainer | None = None
        self._asked_to_stop = False
        self._abandoned = False
        self._calls = False
        self._tell_begun = tell_begun
        self._begin_time: Callable[[], object] = bool
        self.making: asyncio.Task[Any] | None = None
        self.is_queued = False
        strategy.attempts.add(self)

    async def call(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        """Make the call within its time; where limits have changed before it begins, only when they allow it."""
        args, kwargs = await self._injected(args, kwargs)
        while True:
            try:
                return await self._made(args, kwargs)
            except NotBegun:
                if self.run.stopping:
                    raise asyncio.CancelledError from None
                self.is_queued = False
                self.making = None
                self.withdraw()
                await self.enter()

    async def _made(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        context = copy_context()
        context.run(current_call.set, self._context())
        context.run(current_caller.set, self)
        context.run(is_abandoned.set, lambda: self._abandoned or self._strategy.run.abandoned)
        if self._waits_for_worker():
            self.is_queued = True
            context.run(call_may_begin.set, self._begin)
        elif not self._begin():
            raise NotBegun
        coroutine = self._execute(args, kwargs)
        if self._policy.timeout is None:
            self.making = task = self._strategy.run.loop.create_task(coroutine, context=context)
            return await self._outlasting(task)
        return await self._within(self._policy.timeout, coroutine, context)

    async def _outlasting(self, task: asyncio.Task[Any]) -> Any:
        """Wait for the call; being cancelled cancels it, and the cancellation goes on when it has ended."""
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            if await self._ends_all_the_same(task):
                return task.result()
            raise

    def _context(self) -> CallContext:
        run, parent, place = self._strategy.run, self._parent, self.place
        return CallContext(
            run.id,
            parent.place_id(place),
            parent.name_of(place),
            self._number + run.earlier_attempts(parent, place),
            lambda: self._asked_to_stop or run.asked_to_stop(),
            partial(run.idempotency_key, parent, place),
        )

    def _node(self) -> Node:
        if isinstance(self._parent, Scheduler):
            return self._parent.graph.nodes[self.place]
        assert isinstance(self._parent, MapExecution)
        return self._parent.scheduler.graph.nodes[self._parent.index]

    def _execute(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        if self._task.is_async:
            return self._strategy.engine.executor_of(self._task).execute(self._node(), args, kwargs)
        return self._off_the_loop(args, kwargs)

    async def _off_the_loop(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        """Make a call that the clock cannot see, as it can see a coroutine that waits on the loop."""
        clock = self._strategy.run.clock
        clock.busy()
        try:
            thread = self._affine_thread()
            if thread is not None:
                return await thread.call(copy_context(), _begun, self._task.function, *args, **kwargs)
            return await self._strategy.engine.executor_of(self._task).execute(self._node(), args, kwargs)
        finally:
            clock.idle()

    def _affine_thread(self) -> AffineThread | None:
        """The thread on which the call has to be made, because a resource that it uses lives there."""
        resources = self._resources
        return None if self._task.is_async or resources is None or not resources.used_affine else resources.thread

    def _waits_for_worker(self) -> bool:
        """Whether the call has to wait for a free thread or process, and is told when it has got it."""
        return self._affine_thread() is not None or self._strategy.engine.reports_beginning(self._task)

    def _begin(self) -> bool:
        """Whether the call shall begin, now that it has got its thread or process, or needs none; from any thread."""
        if self._calls:
            return True
        if not self.may_begin():
            return False
        self._calls = True
        self.is_queued = False
        if self.permit is None and self._strategy.engine.constraints.active:
            # Set by another thread just after it had been let go without.
            self.enlist_call()
        self._tell_begun()
        self._begin_time()
        return True

    def _runs_on_thread(self) -> bool:
        """Whether the call occupies a thread, which nothing can stop."""
        return self._affine_thread() is not None or self._strategy.engine.runs_on_thread(self._task)

    async def _injected(
        self, args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> tuple[Sequence[Any], Mapping[str, Any]]:
        """Put live resources in the places of what is injected."""
        wanted: dict[str | int, Inject] = {place: value for place, value in enumerate(args) if type(value) is Inject}
        wanted.update((name, value) for name, value in kwargs.items() if type(value) is Inject)
        if self._task.injected:
            given = self._task.given_names(args, kwargs)
            wanted.update((name, value) for name, value in self._task.injected.items() if name not in given)
        if not wanted:
            return args, kwargs
        self._resources = self._strategy.run.resources.child()
        if self._strategy.engine.runs_in_process(self._task):
            found: dict[str | int, Any] = dict(self._resources.recipes(wanted))
        else:
            found = await self._resources.values(wanted)
        args = [found.get(place, value) for place, value in enumerate(args)]
        return args, {**kwargs, **{name: value for name, value in found.items() if isinstance(name, str)}}

    async def _within(self, seconds: float, coroutine: Any, context: Any) -> Any:
        """Make the call and wait no longer than its time: ask, cancel, and leave behind what cannot be stopped."""
        strategy = self._strategy
        run = strategy.run
        over = run.loop.create_future()
        timers: list[Timer] = []

        def set_timer(at: float) -> None:
            timers.append(run.clock.call_at(at, partial(_resolve, over), loop=run.loop))

        def begin() -> None:
            # In the thread that has the call, so that what the loop is late with is none of the call's time either.
            strategy.on_loop(partial(set_timer, run.clock.monotonic() + seconds))

        if self.is_queued:
            # The wait for a free thread or process is none of the call's time.
            self._begin_time = begin
        else:
            set_timer(run.clock.monotonic() + seconds)
        self.making = call = run.loop.create_task(coroutine, context=context)
        try:
            await asyncio.wait([call, over], return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            if await self._ends_all_the_same(call):
                return call.result()
            raise
        finally:
            for timer in timers:
                timer.cancel()
        if call.done():
            return call.result()
        self._asked_to_stop = True
        error = TaskTimeoutError(self._parent.place_id(self.place), self._parent.name_of(self.place), seconds)
        if self._runs_on_thread():
            self._leave_behind(call, seconds)
        else:
            call.cancel()
            if not await self._ended_or_grace(call):
                self._leave_behind(call, seconds)
        raise error

    async def _ends_all_the_same(self, call: asyncio.Task[Any]) -> bool:
        """Ask a call to stop, cancel it, and wait; one that ignores that is left behind after the grace.

        Returns:
            Whether it has come to an end of its own: what it gave need not be made again when the run goes on.
        """
        if not call.done():
            self._asked_to_stop = True
            call.cancel()
            if not await self._ended_or_grace(call):
                self._leave_behind(call, self._strategy.engine.grace)
        return call.done() and not call.cancelled()

    async def _ended_or_grace(self, call: asyncio.Task[Any]) -> bool:
        """Wait for a call that was cancelled; whoever ignores it gets no more than the grace.

        A thread cannot hear of it. The engine's own executor ends processes by itself, after the same grace, and at
        once when the run is abandoned, so that none is left behind.
        """
        strategy = self._strategy
        runs_on_thread = self._runs_on_thread()
        is_ended = not runs_on_thread and strategy.engine.reports_beginning(self._task)
        limited = not runs_on_thread and not is_ended
        over = strategy.run.loop.create_future()
        timer = (
            strategy.run.clock.call_at(
                strategy.run.clock.monotonic() + strategy.engine.grace, partial(_resolve, over), loop=strategy.run.loop
            )
            if limited
            else None
        )
        while not call.done() and not over.done() and (is_ended or not strategy.run.abandoned):
            try:
                await asyncio.wait([call, over], return_when=asyncio.FIRST_COMPLETED)
            except asyncio.CancelledError:
                continue
        if timer is not None:
            timer.cancel()
        if call.done() and not call.cancelled():
            call.exception()
        return call.done()

    def _leave_behind(self, call: asyncio.Task[Any], timeout: float) -> None:
        """Nobody waits for this call any more, but what it holds stays taken until it ends."""
        self._abandoned = True
        strategy = self._strategy
        pool = strategy.engine.pool if self._affine_thread() is None and self._runs_on_thread() else None
        if pool is not None:
            pool.lend()
        strategy.run.teller.left_behind(self._parent, self.place, self._parent.name_of(self.place), timeout)

        def ended(call: asyncio.Task[Any]) -> None:
            if not call.cancelled():
                call.exception()
            if pool is not None:
                pool.take_back()
            self._end()
            if self._resources is not None:
                self._resources.close_left()

        call.add_done_callback(ended)

    def abandon(self) -> None:
        """Cancel the call once more, for whoever has the means to end it at once."""
        if self.making is not None:
            self.making.cancel()

    def enlist_call(self) -> None:
        """Count the call, if it runs, against limits that were not there when it began."""
        if self._calls:
            self.enlist(self._subject, lambda: self._calls)

    def _end(self) -> None:
        self._calls = False
        # A task that has ended holds its result, which nobody else may want any more.
        self.making = None
        self._strategy.attempts.discard(self)
        self.give_back()

    async def leave(self, error: BaseException | None) -> list[BaseException]:
        """Tear down the attempt's resources and give back what it took; what teardowns raised."""
        problems: list[BaseException] = []
        try:
            if self._resources is not None and self._abandoned:
                self._resources.leave_to_run(error)
            elif self._resources is not None:
                closing = self._strategy.run.loop.create_task(self._resources.close(error))
                while not closing.done() and not self._strategy.run.abandoned:
                    try:
                        await asyncio.wait([closing])
                    except asyncio.CancelledError:
                        # Teardown is not cut short. Who cancels stops the run, which has its own error by then.
                        continue
                problems = closing.result() if closing.done() else []
        finally:
            if not self._abandoned:
                self._end()
        return problems


def _begun(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Make a call on the thread that it waited for."""
    if not call_may_begin.get()():
        raise NotBegun
    return function(*args, **kwargs)


def _resolve(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
