"""The time before a durable run begins: whoever waits in it for another owner says so, and may be stopped."""

from __future__ import annotations

import asyncio
import logging
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from cascade.runtime.events import RunBlocked
from cascade.runtime.waiter import Waiter, wake
from cascade.spec.exceptions import RunCancelledError

if TYPE_CHECKING:
    from collections.abc import Generator

    from cascade.runtime.bus import MessageBus
    from cascade.spec.exceptions import RunTimeoutError
    from cascade.spec.protocols import Clock

    Over = tuple[float, RunTimeoutError]
    """When the time of a run is over, by the clock, and what it is stopped with then."""

_log: Final = logging.getLogger("cascade.store")


class Opening:
    """The time before one run begins."""

    def __init__(self, run_id: str, bus: MessageBus, clock: Clock) -> None:
        self.run_id = run_id
        self._bus = bus
        self._clock = clock
        self._error: BaseException | None = None
        self._waiter: Waiter | None = None

    def tell_blocked(self, owner: str, seconds: float) -> None:
        """Say that an owner elsewhere may be alive; in Python's logs where nobody listens.

        Args:
            owner: who has the run, in words.
            seconds: for how long it is waited for at most.
        """
        if self._bus.wants(RunBlocked):
            told = RunBlocked(run_id=self.run_id, timestamp=self._clock.now(), owner=owner, seconds=seconds)
            self._bus.publish(told)
        else:
            _log.info(
                "run %r waits %.1f s at most, until the lease of its owner has run out: %s, which may be alive",
                *(self.run_id, seconds, owner),
            )

    def stop(self, error: BaseException) -> None:
        """End the wait, now or when it begins, with an error; the first one counts. From any thread."""
        if self._error is None:
            self._error = error
            if self._waiter is not None:
                wake((self._waiter,))

    async def wait(self, seconds: float) -> None:
        """Let this long pass; raises what the wait was stopped with."""
        # First it can be woken, then it looks: whoever stops it does that the other way round.
        self._waiter = waiter = Waiter()
        if self._error is None:
            timer = self._clock.call_at(self._clock.monotonic() + seconds, waiter.stop_waiting, loop=waiter.loop)
            try:
                await waiter.woken()
            finally:
                timer.cancel()
        if self._error is not None:
            raise self._error


class Openings:
    """The runs of an engine that are about to begin, and those that are to be cancelled when they do.

    Args:
        bus: where it is told that a run waits.
        clock: what time is taken from.
    """

    def __init__(self, bus: MessageBus, clock: Clock) -> None:
        self._bus = bus
        self._clock = clock
        self._under_way: set[Opening] = set()
        self._reasons: dict[str, str] = {}

    @contextmanager
    def begun(self, run_id: str, over: Over | None) -> Generator[Opening]:
        """For its time, a run that another process has can be waited for, and the wait be stopped."""
        opening = Opening(run_id, self._bus, self._clock)
        alarm = None
        if over is not None:
            moment, error = over
            alarm = self._clock.call_at(moment, lambda: opening.stop(error), loop=asyncio.get_running_loop())
        # First it can be found, then it looks: whoever cancels it does that the other way round.
        self._under_way.add(opening)
        reason = self._reasons.get(run_id)
        if reason is not None:
            opening.stop(RunCancelledError(reason))
        try:
            yield opening
        except BaseException:
            # What was to be cancelled has ended.
            self.take_reason(run_id)
            raise
        finally:
            self._under_way.discard(opening)
            if alarm is not None:
                alarm.cancel()

    def has(self, run_id: object) -> bool:
        """Whether a run is about to begin, and may be waiting for another owner; from any thread."""
        return any(opening.run_id == run_id for opening in list(self._under_way))

    def cancel(self, run_id: str, reason: str) -> None:
        """Stop a run that is about to begin, or when it does; from any thread."""
        self._reasons[run_id] = reason
        for opening in list(self._under_way):
            if opening.run_id == run_id:
                opening.stop(RunCancelledError(reason))

    def take_reason(self, run_id: str) -> str | None:
        """Why a run is to be cancelled that has begun now, or has ended before it did; once."""
        return self._reasons.pop(run_id, None)
