"""The loop's side of a run: plain coroutine functions and inline calls, many of them in one asyncio task."""

from __future__ import annotations

import asyncio
import types
from collections import deque
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from cascade.runtime.returned import Turn, continuation_of, is_direct
from cascade.runtime.run import Caller, current_caller
from cascade.runtime.scheduler import Scheduler
from cascade.spec.containers import PLAIN

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Generator
    from contextvars import Context

    from cascade.runtime.scheduler import Continuation, Due
    from cascade.runtime.strategies.graph import GraphExecutionStrategy

_SLICE_SECONDS: Final = 0.005
_TURNS_BETWEEN_LOOKS: Final = 64


@types.coroutine
def drive(coroutine: Coroutine[Any, Any, Any], context: Context) -> Generator[Any, Any, Any]:
    """Run a coroutine inside the current asyncio task, but in a context of its own."""
    try:
        waited_for = context.run(coroutine.send, None)
    except StopIteration as stop:
        return stop.value
    return (yield from _steps(coroutine, context, waited_for))


def _steps(coroutine: Coroutine[Any, Any, Any], context: Context, waited_for: Any) -> Generator[Any, Any, Any]:
    """Go on with a coroutine that waits for something."""
    send, throw = coroutine.send, coroutine.throw
    while True:
        step: Callable[[Any], Any] = send
        try:
            given = yield waited_for
        except BaseException as error:
            step, given = throw, error
        try:
            waited_for = context.run(step, given)
        except StopIteration as stop:
            return stop.value
        finally:
            del given


_go_on = types.coroutine(_steps)


class CoroutineLane:
    """Runs plain coroutines on the loop, without an asyncio task for each.

    A server is an asyncio task that runs one coroutine after another, each from start to end. While a server's
    coroutine waits for something, the next server takes what is ready; coroutines that never wait all run in one.
    """

    def __init__(self, strategy: GraphExecutionStrategy) -> None:
        self._strategy = strategy
        self._units: deque[tuple[Continuation, int]] = deque()
        self._standby: asyncio.Task[None] | None = None
        self._active = False
        self._slice_ends = 0.0
        self._serving: dict[asyncio.Task[None], tuple[Caller, float]] = {}

    def add(self, parent: Continuation, place: int) -> None:
        """Have a server run a place; on the loop."""
        self._units.append((parent, place))
        if not self._active:
            self._ensure_standby()

    def enlist(self) -> None:
        """Count the calls that are under way against limits that were not there when they began; from any thread."""
        places = self._strategy.places
        for server, unit in list(self._serving.items()):
            caller = unit[0]
            where = caller.where()
            assert where is not None
            caller.enlist(places.subject_of(*where), partial(self._is_serving, server, unit))

    def callers(self) -> list[Caller]:
        """The calls that are under way; from any thread."""
        return [caller for caller, _ in list(self._serving.values())]

    def caller_in(self, task: asyncio.Task[Any]) -> Caller | None:
        """The call that a server makes, if the asyncio task is one; from any thread."""
        unit = self._serving.get(task)
        return None if unit is None else unit[0]

    def _is_serving(self, server: asyncio.Task[None], unit: tuple[Caller, float]) -> bool:
        return self._serving.get(server) is unit

    def leave_behind(self) -> set[asyncio.Task[None]]:
        """Give up the calls that go on although they were cancelled; the servers that still wait for them."""
        teller = self._strategy.run.teller
        left = {server: unit for server, unit in self._serving.items() if not server.done()}
        for caller, began in left.values():
            parent, place = caller.parent, caller.place
            assert parent is not None
            name = parent.name_of(place)
            teller.left_behind(parent, place, name, self._strategy.engine.grace)
            teller.finished(parent, place, name, began, status="Cancelled")
        return set(left)

    def _ensure_standby(self) -> None:
        if self._standby is None:
            self._standby = self._strategy.spawn(self._serve())

    async def _serve(self) -> None:
        strategy, units, serving = self._strategy, self._units, self._serving
        run, dispatcher = strategy.run, strategy.dispatcher
        teller, monotonic, journal = run.teller, run.clock.monotonic, run.journal
        server = self._standby
        assert server is not None
        self._standby = None
        self._active = True
        self._slice_ends = monotonic() + _SLICE_SECONDS
        try:
            while units and not run.stopping:
                if monotonic() > self._slice_ends:
                    # What waits for its turn on the loop gets it; the next server goes on behind that.
                    self._ensure_standby()
                    return
                parent, place = units.popleft()
                if dispatcher.interrupted or (journal is not None and journal.may_be_lost()):
                    dispatcher.processor.start(parent, place)
                    continue
                began = teller.started(parent, place, parent.name_of(place)) if teller.tells else 0.0
                caller = Caller(run, parent, place)
                serving[server] = (caller, began)
                due: Due = []
                await self._call(caller, parent, place, began, due)
                del serving[server]
                if caller.permit is not None:
                    caller.give_permit_back()
                if due and not dispatcher.interrupted:
                    self._take_followers(due)
                if due or dispatcher.sources:
                    strategy.places.advance_on_loop(due)
                # Until Python 3.13 `uncancel` leaves the second of these behind; there is no public way to ask for it.
                if server.cancelling() or getattr(server, "_must_cancel", False):
                    # The call has left a cancellation behind, which must not hit the next one: that gets another task.
                    if units:
                        self._ensure_standby()
                    return
        finally:
            self._active = False
            unit = serving.pop(server, None)
            if unit is not None:
                unit[0].give_permit_back()

    def _take_followers(self, due: Due) -> None:
        """Take what has become ready and only has to be called here, without the way through the dispatcher.

        In a chain that is all there is, and the way would be a fifth of a step.
        """
        rest: Due = []
        for unit in due:
            parent, place = unit
            is_ready = isinstance(parent, Scheduler) and parent.only_calls_on_loop(place)
            (self._units if is_ready else rest).append(unit)
        due[:] = rest

    async def _call(self, caller: Caller, parent: Continuation, place: int, began: float, due: Due) -> None:
        """Make a call and, while it returns one plain call of literals, that one too: a loop without graphs."""
        strategy = self._strategy
        run = strategy.run
        teller = run.teller
        speaker, at = parent, place
        name = parent.name_of(place) if teller.tells else ""
        turns = 0
        try:
            task, args, kwargs = strategy.places.call_at(parent, place)
            context = run.context.copy()
            context.run(current_caller.set, caller)
            base: Context | None = None
            while True:
                if task.is_async:
                    coroutine = task.function(*args, **kwargs)
                    try:
                        waited_for = context.run(coroutine.send, None)
                    except StopIteration as stop:
                        # Most that only compute end here, without the way through everything that can wait.
                        value = stop.value
                    else:
                        value = await self._awaited(_go_on(coroutine, context, waited_for))
                else:
                    value = context.run(task.function, *args, **kwargs)
                more: Any = None if type(value) in PLAIN else continuation_of(task.name, value)
                if (
                    more is None
                    or not is_direct(more)
                    or not more.task.is_async
                    or strategy.dispatcher.interrupted
                    or run.journal is not None
                ):
                    break
                turns += 1
                # A turn of a loop must not see what the one before has set.
                if base is None:
                    base = run.context.copy()
                    base.run(current_caller.set, caller)
                context = base.copy()
                task, args, kwargs = more.task, more.args, more.kwargs
                caller.turn = (more, turns)
                if teller.tells:
                    turn = Turn(parent, place, more, turns)
                    teller.finished(speaker, at, name, began, continues_as=turn.place_id(0))
                    speaker, at, name = turn, 0, task.name
                    began = teller.started(turn, 0, name)
                if turns % _TURNS_BETWEEN_LOOKS == 0 and run.clock.monotonic() > self._slice_ends:
                    await self._awaited(asyncio.sleep(0))
                    self._slice_ends = run.clock.monotonic() + _SLICE_SECONDS
            succession = None if more is None else strategy.continuation(parent, place, more, turns=turns)
        except BaseException as error:
            self._active = True
            if isinstance(error, asyncio.CancelledError) and run.stopping:
                teller.finished(speaker, at, name, began, status="Cancelled")
                return
            strategy.places.fail(
                parent, place, error, due, turn=speaker if isinstance(speaker, Turn) else None, began=began
            )
            return
        if succession is not None:
            assert more is not None
            teller.finished(speaker, at, name, began, continues_as=succession.target_id if teller.tells else None)
            strategy.begin_returned(succession, more, due)
        else:
            if teller.tells:
                teller.finished(speaker, at, name, began, result=value)
            if run.keeps_track:
                strategy.places.conclude(parent, place, value, due, began=began)
            else:
                strategy.places.complete(parent, place, value, due)

    async def _awaited(self, waiting: Awaitable[Any]) -> Any:
        """Await something for a call; the next server takes over what is ready."""
        if self._units:
            self._ensure_standby()
        self._active = False
        value = await waiting
        self._active = True
        return value
