"""One attempt at a call: what it takes, the call itself within its time, and giving everything back."""

from __future__ import annotations

import asyncio
import dataclasses
from contextvars import copy_context
from functools import partial
from typing import TYPE_CHECKING, Any

from cascade.runtime.affine_thread import is_abandoned
from cascade.runtime.mapping import MapExecution
from cascade.runtime.run import current_attempt
from cascade.runtime.scheduler import Scheduler
from cascade.runtime.threading_calls import call_began
from cascade.spec.context import CallContext, current_call
from cascade.spec.exceptions import TaskTimeoutError
from cascade.spec.resource import Inject

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from cascade.graph.model import Node
    from cascade.runtime.capacity import Demand, Grant
    from cascade.runtime.constraints.manager import Permit
    from cascade.runtime.constraints.scopes import Subject
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


class Attempt:
    """Takes leave and capacity, sets up resources, makes the call, and gives everything back exactly once.

    Attributes:
        parent: whose call it is, with `place`.
        permit: the leave that limits gave the call, while it has one.
        grant: the capacity that the call holds, while it does.
    """

    def __init__(
        self,
        strategy: GraphExecutionStrategy,
        parent: Continuation,
        place: int,
        task: Task[..., Any],
        policy: Policy,
        number: int,
    ) -> None:
        self._strategy = strategy
        self.parent = parent
        self.place = place
        self._task = task
        self._policy = policy
        self._number = number
        self.permit: Permit | None = None
        self.grant: Grant | None = None
        self._resources: ResourceContainer | None = None
        self._asked_to_stop = False
        self._abandoned = False
        self._calls = False
        strategy.attempts.add(self)

    async def enter(self, subject: Subject, demand: Demand | None, blocked: Callable[[str], None]) -> None:
        """Wait until limits and capacities allow the call."""
        engine, run = self._strategy.engine, self._strategy.run
        if engine.constraints.active:
            self.permit = await engine.constraints.admit(subject, blocked)
        if demand is not None:
            self.grant = await engine.capacities.acquire(
                demand,
                holder=self,
                on_wait=lambda names: blocked(f"waiting for {', '.join(names)}"),
                held=run.held_by_callers(),
            )

    async def call(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        """Make the call within its time."""
        self._calls = True
        args, kwargs = await self._injected(args, kwargs)
        context = copy_context()
        context.run(current_call.set, self._context())
        context.run(current_attempt.set, self)
        context.run(is_abandoned.set, lambda: self._abandoned or self._strategy.run.abandoned)
        coroutine = self._execute(args, kwargs)
        if self._policy.timeout is None:
            task: asyncio.Task[Any] = self._strategy.run.loop.create_task(coroutine, context=context)
            return await self._outlasting(task)
        return await self._within(self._policy.timeout, coroutine, context)

    async def _outlasting(self, task: asyncio.Task[Any]) -> Any:
        """Wait for the call; being cancelled cancels it, and the cancellation goes on when it has ended."""
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            if task.done():
                return task.result()
            await self._cancel(task)
            raise

    def _context(self) -> CallContext:
        run, parent, place = self._strategy.run, self.parent, self.place
        return CallContext(
            run.id,
            parent.place_id(place),
            parent.name_of(place),
            self._number + run.earlier_attempts(parent, place),
            lambda: self._asked_to_stop or run.asked_to_stop(),
            partial(run.idempotency_key, parent, place),
        )

    def _node(self) -> Node:
        if isinstance(self.parent, Scheduler):
            return self.parent.graph.nodes[self.place]
        assert isinstance(self.parent, MapExecution)
        return self.parent.scheduler.graph.nodes[self.parent.index]

    def _execute(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        if self._task.is_async:
            return self._strategy.engine.executor_of(self._task).execute(self._node(), args, kwargs)
        return self._off_the_loop(args, kwargs)

    async def _off_the_loop(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        """Make a call that the clock cannot see, as it can see a coroutine that waits on the loop."""
        clock = self._strategy.run.clock
        clock.busy()
        try:
            resources = self._resources
            if resources is not None and resources.used_affine:
                return await resources.thread.call(copy_context(), self._task.function, *args, **kwargs)
            return await self._strategy.engine.executor_of(self._task).execute(self._node(), args, kwargs)
        finally:
            clock.idle()

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

        if strategy.engine.pool is not None and not self._task.is_async:
            # The wait for a free thread or process is none of the call's time.
            context.run(call_began.set, begin)
        else:
            set_timer(run.clock.monotonic() + seconds)
        call: asyncio.Task[Any] = run.loop.create_task(coroutine, context=context)
        try:
            await asyncio.wait([call, over], return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            await self._cancel(call)
            raise
        finally:
            for timer in timers:
                timer.cancel()
        if call.done():
            return call.result()
        self._asked_to_stop = True
        error = TaskTimeoutError(self.parent.place_id(self.place), self.parent.name_of(self.place), seconds)
        if strategy.engine.runs_on_thread(self._task):
            self._leave_behind(call, seconds)
        else:
            call.cancel()
            if not await self._ended_or_grace(call):
                self._leave_behind(call, seconds)
        raise error

    async def _cancel(self, call: asyncio.Task[Any]) -> None:
        """Ask a call to stop, cancel it, and wait; a coroutine that ignores that is left behind after the grace."""
        self._asked_to_stop = True
        call.cancel()
        if not await self._ended_or_grace(call):
            self._leave_behind(call, self._strategy.engine.grace)

    async def _ended_or_grace(self, call: asyncio.Task[Any]) -> bool:
        """Wait for a call that was cancelled; coroutines that ignore it get no more than the grace."""
        strategy = self._strategy
        stoppable = not strategy.engine.runs_on_thread(self._task)
        over = strategy.run.loop.create_future()
        timer = (
            strategy.run.clock.call_at(
                strategy.run.clock.monotonic() + strategy.engine.grace, partial(_resolve, over), loop=strategy.run.loop
            )
            if stoppable and self._task.is_async
            else None
        )
        while not call.done() and not over.done() and not strategy.run.abandoned:
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
        on_thread = strategy.engine.runs_on_thread(self._task)
        pool = strategy.engine.pool
        if on_thread and pool is not None:
            pool.lend()
        strategy.run.teller.left_behind(self.parent, self.place, self.parent.name_of(self.place), timeout)

        def ended(call: asyncio.Task[Any]) -> None:
            if not call.cancelled():
                call.exception()
            if on_thread and pool is not None:
                pool.take_back()
            self._give_back()

        call.add_done_callback(ended)

    def enlist(self) -> None:
        """Count the call, if it runs, against limits that were not there when it began."""
        if self._calls and self.permit is None:
            subject = self._strategy.places.subject_of(self.parent, self.place)
            self.permit = self._strategy.engine.constraints.enlist(subject)

    def _give_back(self) -> None:
        self._calls = False
        self._strategy.attempts.discard(self)
        if self.permit is not None:
            self.permit.release()
            self.permit = None
        if self.grant is not None:
            self.grant.release()
            self.grant = None

    async def leave(self, error: BaseException | None) -> list[BaseException]:
        """Tear down the attempt's resources and give back what it took; what teardowns raised."""
        problems: list[BaseException] = []
        try:
            if self._resources is not None:
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
                self._give_back()
        return problems


def _resolve(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
