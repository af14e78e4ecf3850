"""The one place that reads time: a port, so that tests turn hours into microseconds."""

from __future__ import annotations

import asyncio
import heapq
import itertools
import logging
import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from cascade.spec.protocols import Timer

logger = logging.getLogger("cascade")


class SystemClock:
    """The time of this machine.

    One clock may serve any number of threads and event loops. It has a thread of its own only while a timer
    without a loop is pending.

    >>> clock = SystemClock()
    >>> before = clock.monotonic()
    >>> clock.monotonic() >= before
    True
    """

    def __init__(self) -> None:
        # Re-entrant: a garbage collection inside the critical section may end a coroutine that cancels its
        # timer.
        self._changed = threading.Condition(threading.RLock())
        self._alarms: list[tuple[float, int, Alarm]] = []
        self._order = itertools.count()
        self._thread: threading.Thread | None = None

    # Each event reads the clock twice: these are the functions themselves, which saves a call each.
    now = staticmethod(time.time)
    """Wall time, in seconds since the epoch."""
    monotonic = staticmethod(time.monotonic)
    """Seconds that never go back; only differences mean anything."""

    async def sleep(self, seconds: float) -> None:
        """Let this long pass."""
        await asyncio.sleep(seconds)

    def call_at(
        self, when: float, callback: Callable[[], object], *, loop: asyncio.AbstractEventLoop | None = None
    ) -> Timer:
        """Call something once, at a moment of `monotonic()`.

        Args:
            when: the moment; one that has passed means as soon as possible, never within this call.
            callback: short, and raises nothing; without a loop it is called on a thread of the clock's
                choosing.
            loop: call it there; then this method must be called on that loop's thread.
        """
        if loop is not None:
            return loop.call_later(max(0.0, when - time.monotonic()), callback)
        alarm = Alarm(callback, self._cancelled)
        with self._changed:
            heapq.heappush(self._alarms, (when, next(self._order), alarm))
            if self._thread is None:
                self._thread = threading.Thread(target=self._ring, name="cascade-clock", daemon=True)
                self._thread.start()
            elif self._alarms[0][2] is alarm:
                self._changed.notify()
        return alarm

    def busy(self, calls: int = 1) -> None:
        """Say that calls began off the loop; only a clock that jumps cares."""

    def idle(self, calls: int = 1) -> None:
        """Say that results of such calls have reached their loop."""

    def _cancelled(self) -> None:
        with self._changed:
            self._changed.notify()

    def _ring(self) -> None:
        while (alarm := self._next_due()) is not None:
            alarm.ring()

    def _next_due(self) -> Alarm | None:
        with self._changed:
            while True:
                while self._alarms and self._alarms[0][2].callback is None:
                    heapq.heappop(self._alarms)
                if not self._alarms:
                    self._thread = None
                    return None
                wait = self._alarms[0][0] - time.monotonic()
                if wait <= 0.0:
                    return heapq.heappop(self._alarms)[2]
                self._changed.wait(min(wait, threading.TIMEOUT_MAX))


class Alarm:
    """A timer that belongs to no loop."""

    __slots__ = ("_on_cancel", "callback")

    def __init__(self, callback: Callable[[], object], on_cancel: Callable[[], object]) -> None:
        self.callback: Callable[[], object] | None = callback
        self._on_cancel = on_cancel

    def cancel(self) -> None:
        """Do not call; without effect after the call."""
        if self.callback is not None:
            self.callback = None
            self._on_cancel()

    def ring(self) -> None:
        """Call once; what the callback raises is logged, since nobody waits for it."""
        callback, self.callback = self.callback, None
        if callback is None:
            return
        try:
            callback()
        except Exception:
            logger.exception("a timer's callback raised")
