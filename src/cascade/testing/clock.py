"""A clock for tests: hours pass in microseconds, and never while somebody works."""

from __future__ import annotations

import asyncio
import heapq
import itertools
import math
import threading
from typing import TYPE_CHECKING, Any

from cascade.runtime.clock import Alarm, SystemClock

if TYPE_CHECKING:
    from collections.abc import Callable

    from cascade.spec.protocols import Timer

# Real seconds between two looks at a loop that is quiet while another one, or the threshold, is not.
_PATIENCE = 0.0005
# How often in a row a loop that hides its ready queue has to come round before it counts as quiet.
_BLIND_ROUNDS = 20


class MockClock:
    """Time that stands still, and jumps to the next deadline by itself when all wait.

    All wait when no call is announced by `busy` and every running event loop that has ever used this clock
    has nothing to do. Waiting for the world outside (a socket, a child process, a plain `asyncio.sleep`)
    looks like having nothing to do: announce it with `busy`, or set a threshold.

    Args:
        start: the wall time at which this clock stands first, in seconds since the epoch.
        autojump_threshold: how long everything must have been quiet before a jump, in real seconds;
            `math.inf` for a clock that only moves by `advance`.

    >>> import asyncio
    >>> clock = MockClock()
    >>> asyncio.run(clock.sleep(3600.0))
    >>> clock.monotonic()
    3600.0
    """

    def __init__(self, start: float = 1_000_000_000.0, autojump_threshold: float = 0.0) -> None:
        self._start = start
        self._threshold = autojump_threshold
        self._real = SystemClock()
        # Re-entrant: a garbage collection inside the critical section may end a coroutine that cancels its
        # timer.
        self._lock = threading.RLock()
        self._all_held = threading.Condition(self._lock)
        self._elapsed = 0.0
        self._calls = 0
        self._quiet_since = 0.0
        self._alarms: list[tuple[float, int, Alarm]] = []
        self._order = itertools.count()
        self._lookouts: dict[asyncio.AbstractEventLoop, _Lookout] = {}

    def now(self) -> float:
        """Wall time, in seconds since the epoch."""
        self._take_part()
        return self._start + self._elapsed

    def monotonic(self) -> float:
        """Seconds since this clock was made."""
        self._take_part()
        return self._elapsed

    async def sleep(self, seconds: float) -> None:
        """Let this long pass on this clock."""
        if not seconds > 0.0:
            await asyncio.sleep(0)
            return
        loop = asyncio.get_running_loop()
        over: asyncio.Future[None] = loop.create_future()

        def end() -> None:
            if not over.done():
                over.set_result(None)

        timer = self.call_at(self._elapsed + seconds, end, loop=loop)
        try:
            await over
        finally:
            timer.cancel()

    def call_at(
        self, when: float, callback: Callable[[], object], *, loop: asyncio.AbstractEventLoop | None = None
    ) -> Timer:
        """Call something once, when `monotonic()` gets there; never within this call.

        Args:
            when: the moment; one that has passed means as soon as the loop gets to it, or, without a loop, with the
                next move of the clock.
            callback: without a loop it is called in the thread that moves the clock, before anything that
                waits on a loop for the same move.
            loop: call it there.
        """
        if loop is not None and when <= self._elapsed:
            passed = Alarm(callback, _nothing)
            _Summons(loop, passed.ring)()
            return passed
        alarm = Alarm(callback if loop is None else _Summons(loop, callback), _nothing)
        with self._lock:
            heapq.heappush(self._alarms, (when, next(self._order), alarm))
        self._take_part(loop)
        self._look_again()
        return alarm

    def busy(self, calls: int = 1) -> None:
        """Hold the clock: calls began that no event loop knows of, as on worker threads."""
        self._take_part()
        with self._lock:
            self._calls += calls

    def idle(self, calls: int = 1) -> None:
        """Let go of the clock; only after the results of the calls have been handed to their loops."""
        with self._lock:
            self._calls -= calls
        self._look_again()

    def advance(self, seconds: float) -> None:
        """Move on by hand, from any thread, stopping at every deadline on the way.

        Args:
            seconds: how far; coroutines that are woken run only after the whole move.

        Raises:
            ValueError: time was told to go back.
        """
        if not 0.0 <= seconds < math.inf:
            raise ValueError(f"expected a finite number of seconds of at least 0 to advance by, got {seconds!r}")
        self.busy()
        try:
            target = self._elapsed + seconds
            while due := self._move_to_next(target):
                _ring(due)
            self._elapsed = max(self._elapsed, target)
        finally:
            self.idle()

    def _take_part(self, loop: asyncio.AbstractEventLoop | None = None) -> None:
        if loop is None:
            try:
                loop = asyncio.get_running_loop()
            except RuntimeError:
                return
        if loop in self._lookouts:
            return
        with self._lock:
            for known in [known for known in self._lookouts if known.is_closed()]:
                del self._lookouts[known]
            self._lookouts[loop] = _Lookout(loop)
        self._look_again()

    def _look_again(self) -> None:
        """Something happened: nobody counts as quiet any more, and every loop is looked at anew."""
        with self._lock:
            self._quiet_since = self._real.monotonic()
            if self._threshold == math.inf or self._calls or self._next_deadline() is None:
                return
            for lookout in list(self._lookouts.values()):
                lookout.post(self._look)

    def _look(self, lookout: _Lookout) -> None:
        """Runs on a loop: note whether it is quiet, and move the clock if all are."""
        due: list[Alarm] = []
        with self._lock:
            if self._calls or self._next_deadline() is None:
                lookout.posted = False
                return
            if not lookout.sees_quiet():
                lookout.posted = False
                self._quiet_since = self._real.monotonic()
                lookout.post(self._look)
                return
            running = [other for other in self._lookouts.values() if other.loop.is_running()]
            # Loops can wake each other, so one that was seen quiet need not be any more. All are held inside
            # this very callback at one time: whatever one has sent to another by then shows in the other's
            # queue. They stay `posted` meanwhile, since another look that waits in a queue would itself show
            # there.
            lookout.held = True
            if not all(other.held for other in running):
                self._all_held.wait_for(lambda: not lookout.held, _PATIENCE)
                lookout.held = False
                lookout.post_later(self._look, _PATIENCE)
                return
            for other in running:
                other.held = False
            self._all_held.notify_all()
            missing = self._threshold - (self._real.monotonic() - self._quiet_since)
            if missing > 0.0 or not all(other.sees_quiet() for other in running):
                lookout.post_later(self._look, max(_PATIENCE, missing))
                return
            due = self._move_to_next(math.inf)
            lookout.posted = False
            self._calls += 1
        _ring(due)
        self.idle()

    def _next_deadline(self) -> float | None:
        """The next deadline that will ever come; called under the lock."""
        while self._alarms and self._alarms[0][2].callback is None:
            heapq.heappop(self._alarms)
        if not self._alarms or self._alarms[0][0] == math.inf:
            return None
        return self._alarms[0][0]

    def _move_to_next(self, latest: float) -> list[Alarm]:
        with self._lock:
            deadline = self._next_deadline()
            if deadline is None or deadline > latest:
                return []
            self._elapsed = max(self._elapsed, deadline)
            due: list[Alarm] = []
            while self._alarms and self._alarms[0][0] <= self._elapsed:
                due.append(heapq.heappop(self._alarms)[2])
            return due


class _Lookout:
    """What one event loop was last seen doing."""

    __slots__ = ("_blind_rounds", "held", "loop", "posted")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.held = False
        self.posted = False
        self._blind_rounds = 0

    def post(self, look: Callable[[_Lookout], None]) -> None:
        """Have the loop looked at after what it has to do now; under the clock's lock."""
        if self.posted:
            return
        try:
            self.loop.call_soon_threadsafe(look, self)
        except RuntimeError:
            return
        self.posted = True

    def post_later(self, look: Callable[[_Lookout], None], real_seconds: float) -> None:
        """Have the loop looked at after a while; on its own thread, under the clock's lock."""
        self.loop.call_later(real_seconds, look, self)
        self.posted = True

    def sees_quiet(self) -> bool:
        """Whether the loop has nothing to do, asked while a callback of it runs.

        The loops of asyncio poll for input before they run what is ready, so an empty queue means that
        nothing came in either. A loop written in another language hides its queue: there some rounds must do.
        """
        ready: Any = getattr(self.loop, "_ready", None)
        if ready is not None:
            return not ready
        self._blind_rounds = (self._blind_rounds + 1) % _BLIND_ROUNDS
        return self._blind_rounds == 0


class _Summons:
    """Has something called on a loop; a loop that is closed has nobody left who waits."""

    __slots__ = ("_callback", "_loop")

    def __init__(self, loop: asyncio.AbstractEventLoop, callback: Callable[[], object]) -> None:
        self._loop = loop
        self._callback = callback

    def __call__(self) -> None:
        try:
            self._loop.call_soon_threadsafe(self._callback)
        except RuntimeError:
            return


def _ring(due: list[Alarm]) -> None:
    # What is called right here comes first, whatever was asked for first: only so may it change what a loop
    # finds.
    for on_loop in (False, True):
        for alarm in due:
            if isinstance(alarm.callback, _Summons) is on_loop:
                alarm.ring()


def _nothing() -> None:
    pass
