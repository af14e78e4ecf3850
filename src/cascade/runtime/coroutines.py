"""The loop's side of a run: plain coroutine functions and inline calls, many of them in one asyncio task."""

from __future__ import annotations

import asyncio
import types
from collections import deque
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from cascade.runtime.returned import Turn, continuation_of, is_direct
from cascade.spec.containers import PLAIN
from cascade.spec.context import current_call

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Generator
    from contextvars import Context

    from cascade.runtime.constraints.manager import Permit
    from cascade.runtime.scheduler import Continuation, Due
    from cascade.runtime.strategies.graph import GraphExecutionStrategy

_SLICE_SECONDS: Final = 0.005
_TURNS_BETWEEN_LOOKS: Final = 64


@types.coroutine
def drive(coroutine: Coroutine[Any, Any, Any], context: Context) -> Generator[Any, Any, Any]:
    """Run a coroutine inside the current asyncio task, but in a context of its own."""
    send, throw = coroutine.send, coroutine.throw
    try:
        waited_for = context.run(send, None)
    except StopIteration as stop:
        return stop.value
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
        self._serving: dict[asyncio.Task[None], tuple[Continuation, int, float]] = {}
        self._permits: dict[asyncio.Task[None], Permit] = {}

    def add(self, parent: Continuation, place: int) -> None:
        """Have a server run a place; on the loop."""
        self._units.append((parent, place))
        if not self._active:
            self._ensure_standby()

    def enlist(self) -> None:
        """Count the calls that are under way against limits that were not there when they began; from any thread."""
        places = self._strategy.places
        for server, (parent, place, _) in list(self._serving.items()):
            if server not in self._permits:
                self._permits[server] = self._strategy.engine.constraints.enlist(places.subject_of(parent, place))

    def _has_called(self, server: asyncio.Task[None]) -> None:
        self._serving.pop(server, None)
        if self._permits and (permit := self._permits.pop(server, None)) is not None:
            permit.release()

    def leave_behind(self) -> set[asyncio.Task[None]]:
        """Give up the calls that go on although they were cancelled; the servers that still wait for them."""
        teller = self._strategy.run.teller
        left = {server: unit for server, unit in self._serving.items() if not server.done()}
        for parent, place, began in left.values():
            name = parent.name_of(place)
            teller.left_behind(parent, place, name, self._strategy.engine.grace)
            teller.finished(parent, place, name, began, status="Cancelled")
        return set(left)

    def _ensure_standby(self) -> None:
        if self._standby is None:
            self._standby = self._strategy.spawn(self._serve())

    async def _serve(self) -> None:
        strategy = self._strategy
        teller = strategy.run.teller
        monotonic = strategy.run.clock.monotonic
        server = self._standby
        assert server is not None
        self._standby = None
        self._active = True
        self._slice_ends = monotonic() + _SLICE_SECONDS
        try:
            while self._units and not strategy.run.stopping:
                if monotonic() > self._slice_ends:
                    # What waits for its turn on the loop gets it; the next server goes on behind that.
                    self._ensure_standby()
                    return
                parent, place = self._units.popleft()
                began = teller.started(parent, place, parent.name_of(place)) if teller.tells else 0.0
                self._serving[server] = (parent, place, began)
                due: Due = []
                await self._call(parent, place, began, due)
                self._has_called(server)
                strategy.places.advance_on_loop(due)
        finally:
            self._active = False
            self._has_called(server)

    async def _call(self, parent: Continuation, place: int, began: float, due: Due) -> None:
        """Make a call and, while it returns one plain call of literals, that one too: a loop without graphs."""
        strategy = self._strategy
        run = strategy.run
        teller = run.teller
        speaker, at = parent, place
        name = parent.name_of(place)
        turns = 0
        try:
            task, args, kwargs = strategy.places.call_at(parent, place)
            base = run.context.copy()
            base.run(current_call.set, partial(run.call_context, parent, place))
            while True:
                if task.is_async:
                    value = await self._awaited(task.function(*args, **kwargs), base.copy())
                else:
                    value = base.copy().run(task.function, *args, **kwargs)
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
                task, args, kwargs = more.task, more.args, more.kwargs
                if teller.tells:
                    turn = Turn(parent, place, more, turns)
                    teller.finished(speaker, at, name, began, continues_as=turn.place_id(0))
                    speaker, at, name = turn, 0, task.name
                    began = teller.started(turn, 0, name)
                if turns % _TURNS_BETWEEN_LOOKS == 0 and run.clock.monotonic() > self._slice_ends:
                    await self._awaited(asyncio.sleep(0), base)
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
            teller.finished(speaker, at, name, began, continues_as=succession.target_id if teller.tells else None)
            strategy.begin_returned(succession, more, due)
        else:
            teller.finished(speaker, at, name, began, result=value)
            strategy.places.conclude(parent, place, value, due, began=began)

    async def _awaited(self, coroutine: Coroutine[Any, Any, Any], context: Context) -> Any:
        """Await a call's coroutine; if it waits, the next server takes over what is ready."""
        if self._units:
            self._ensure_standby()
        self._active = False
        value = await drive(coroutine, context)
        self._active = True
        return value
