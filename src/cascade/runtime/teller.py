"""Telling what happens in a run: events are built for those who listen, and delivered in order on the run's loop."""

from __future__ import annotations

from collections import deque
from contextvars import Context
from typing import TYPE_CHECKING, Any, Final

from cascade.runtime.events import (
    Event,
    ResourceAcquired,
    ResourceReleased,
    Status,
    TaskAbandoned,
    TaskBlocked,
    TaskExecutionFinished,
    TaskExecutionStarted,
    TaskRetrying,
    TaskSkipped,
)
from cascade.runtime.plan import AT_ONCE
from cascade.runtime.preview import describe_error, preview
from cascade.runtime.scheduler import Scheduler

if TYPE_CHECKING:
    import asyncio
    from typing import Literal

    from cascade.runtime.bus import MessageBus
    from cascade.runtime.scheduler import Continuation
    from cascade.spec.protocols import Clock


_MOST_INPUTS: Final = 100


class Teller:
    """Builds the events of one run and hands them to the bus, in the order in which they happened.

    Args:
        keeps_track: whether the ends of nodes are to be known although nobody listens.

    Attributes:
        outer: the teller of the run that started this one.
        close: ends the looking for new listeners.
        tells: whether anybody wants to know how nodes begin or end: where nobody does, hot paths skip all of this.
    """

    def __init__(
        self, run_id: str, bus: MessageBus, clock: Clock, loop: asyncio.AbstractEventLoop, *, keeps_track: bool
    ) -> None:
        self._run_id = run_id
        self._bus = bus
        self._clock = clock
        self._loop = loop
        self.outer: Teller | None = None
        self._outbox: deque[Event] = deque()
        self._delivery_is_due = False
        self._keeps_track = keeps_track
        self._look()
        self.close = bus.watch(self._look)

    def _look(self) -> None:
        """Find out what anybody wants to know; also while the run is under way."""
        bus = self._bus
        self._tells_start = bus.wants(TaskExecutionStarted)
        self._tells_finish = bus.wants(TaskExecutionFinished)
        self._tells_skip = bus.wants(TaskSkipped)
        self._takes_time = self._tells_finish or self._keeps_track
        self.tells = self._tells_start or self._tells_finish or self._tells_skip or self._keeps_track

    def tell(self, event: Event) -> None:
        """Deliver an event soon, after those told before; from any thread."""
        self._outbox.append(event)
        if not self._delivery_is_due:
            self._delivery_is_due = True
            self._deliver_soon()

    def deliver(self) -> None:
        """Hand over all events told so far, and before them those of the run that started this one."""
        if self.outer is not None:
            self.outer.deliver()
        self._delivery_is_due = False
        # Nothing that a handler prints or logs belongs to the call whose event it is told.
        Context().run(self._bus.publish_all, self._outbox)

    def _deliver_soon(self) -> None:
        try:
            self._loop.call_soon_threadsafe(self.deliver)
        except RuntimeError:
            # The loop has been closed under an abandoned call; nobody listens any more.
            self._delivery_is_due = True

    def started(self, parent: Continuation, place: int, name: str) -> float:
        """Tell that a call starts; the moment, for its duration."""
        if self._tells_start:
            self.tell(
                TaskExecutionStarted(
                    run_id=self._run_id,
                    timestamp=self._clock.now(),
                    task_id=parent.place_id(place),
                    task_name=name,
                    inputs=_inputs(parent, place),
                )
            )
        return self._clock.monotonic() if self._takes_time else 0.0

    def finished(
        self,
        parent: Continuation,
        place: int,
        name: str,
        began: float,
        *,
        result: Any = None,
        error: BaseException | None = None,
        continues_as: str | None = None,
        status: Status | None = None,
    ) -> None:
        """Tell that a call has ended, one way or another."""
        if not self.tells:
            return
        if isinstance(parent, Scheduler):
            parent.told[place] = True
        if not self._tells_finish:
            return
        has_result = error is None and continues_as is None and status is None
        clock = self._clock
        self.tell(
            TaskExecutionFinished(
                run_id=self._run_id,
                timestamp=clock.now(),
                task_id=parent.place_id(place),
                task_name=name,
                status=status or ("Succeeded" if error is None else "Failed"),
                duration=clock.monotonic() - began,
                result_preview=preview(result) if has_result else None,
                error=None if error is None else describe_error(error),
                continues_as=continues_as,
            )
        )

    def skipped(self, parent: Continuation, place: int, name: str, reason: str) -> None:
        """Tell that a node will not run, or came from a cache."""
        if self.tells and isinstance(parent, Scheduler):
            parent.told[place] = True
        if self._tells_skip:
            self.tell(
                TaskSkipped(
                    run_id=self._run_id,
                    timestamp=self._clock.now(),
                    task_id=parent.place_id(place),
                    task_name=name,
                    reason=reason,
                )
            )

    def retrying(
        self,
        parent: Continuation,
        place: int,
        name: str,
        attempt: int,
        most: int,
        delay: float,
        error: BaseException,
    ) -> None:
        """Tell that an attempt has failed and another follows."""
        if self._bus.wants(TaskRetrying):
            self.tell(
                TaskRetrying(
                    **self._about(parent, place, name),
                    attempt=attempt,
                    max_attempts=most,
                    delay=delay,
                    error=describe_error(error),
                )
            )

    def blocked(self, parent: Continuation, place: int, name: str, reason: str) -> None:
        """Tell that a call is held back."""
        if self._bus.wants(TaskBlocked):
            self.tell(
                TaskBlocked(
                    **self._about(parent, place, name),
                    reason=reason,
                )
            )

    def left_behind(self, parent: Continuation, place: int, name: str, timeout: float) -> None:
        """Tell that a call goes on although nobody waits for it."""
        if self._bus.wants(TaskAbandoned):
            self.tell(
                TaskAbandoned(
                    **self._about(parent, place, name),
                    timeout=timeout,
                )
            )

    def resource(self, kind: Literal["acquired", "released"], name: str) -> None:
        """Tell that an injected resource was set up or torn down."""
        event = ResourceAcquired if kind == "acquired" else ResourceReleased
        if self._bus.wants(event):
            self.tell(event(run_id=self._run_id, timestamp=self._clock.now(), resource_name=name))

    def _about(self, parent: Continuation, place: int, name: str) -> dict[str, Any]:
        return {
            "run_id": self._run_id,
            "timestamp": self._clock.now(),
            "task_id": parent.place_id(place),
            "task_name": name,
        }


def _inputs(parent: Continuation, place: int) -> tuple[str, ...]:
    """The ids of what a node comes after, through all that only connects."""
    if not isinstance(parent, Scheduler):
        return ()
    needs, lanes = parent.graph.needs, parent.plan.lanes
    if not needs[place]:
        return ()
    found: list[str] = []
    due = list(needs[place])
    for index in due:
        if lanes[index] != AT_ONCE:
            found.append(parent.place_id(index))
        elif len(due) < _MOST_INPUTS:
            due.extend(needs[index])
            route = None if parent.flow is None else parent.flow.choice_of(index)
            if route is not None:
                # A router needs only its selector until it is decided.
                due.append(route)
        if len(found) == _MOST_INPUTS:
            break
    return tuple(dict.fromkeys(found))
