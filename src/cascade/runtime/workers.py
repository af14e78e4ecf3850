"""The worker threads' side of a run: plain calls, one after another, with as little as possible between them."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Final

from cascade.runtime.plain_calls import PlainCalls
from cascade.runtime.plan import MAP
from cascade.runtime.run import Helper, here
from cascade.runtime.scheduler import MISSING

if TYPE_CHECKING:
    from cascade.runtime.scheduler import Due, Scheduler
    from cascade.runtime.strategies.graph import GraphExecutionStrategy
    from cascade.spec.protocols import WorkerPool

_SLOW_ARRIVAL: Final = 0.002
"""Seconds: an idle thread wakes up in a tenth of it, and must wait for twice of it where others compute."""
_LOOK_AT_CROWD: Final = 0.01
"""Seconds."""
_MANY_CALLS: Final = 100
"""Calls of one helper between two looks, which then take less than a tenth of a millisecond each."""


class WorkerLane:
    """Lets threads of a pool help with a run.

    A helper takes the most preferred node, calls it, makes its followers ready and goes on with the next, so that a
    chain never changes its thread. A helper that finds more than it takes asks for one more helper, and that one, once
    it has arrived, for the next: calls that block get all the threads there are within moments. Where a helper is slow
    to arrive while calls go on ending, these compute and keep the interpreter's lock, and more threads would only be in
    each other's way: then it leaves again, and for a moment no more are asked for, as long as any is there. Where calls
    end after microseconds all helpers that make them leave but one: two would hand the run's lock to and fro, at three
    times the cost.

    Attributes:
        taken: about how many calls were taken so far: whether it grows tells whether the helpers get on.
    """

    def __init__(self, strategy: GraphExecutionStrategy, pool: WorkerPool | None) -> None:
        self._strategy = strategy
        self._pool = pool
        self._calls = PlainCalls(strategy, self)
        self._helpers = 0
        self._at_work = 0
        self._present: set[Helper] = set()
        self._asked = False
        self._asked_at = 0.0
        self._taken_when_asked = 0
        self._crowded = False
        self._one_is_enough = False
        self._latest: Helper | None = None
        self.taken = 0
        self._taken_before = 0

    def are_gone(self) -> bool:
        """Whether no thread works on the run."""
        with self._strategy.lock:
            return self._helpers == 0

    def callers(self) -> list[Helper]:
        """The threads that work on the run; from any thread."""
        return list(self._present)

    def enlist(self) -> None:
        """Count the calls that run now against limits that were not there when they began."""
        places = self._strategy.places
        for helper in list(self._present):
            parent, place = helper.parent, helper.place
            where = helper.where()
            # Asked again, since the thread may have gone on to another call meanwhile.
            if parent is not None and where is not None and helper.is_at(parent, place):
                helper.enlist(places.subject_of(*where), partial(helper.is_at, parent, place))

    def ensure(self) -> None:
        """Ask for a helper if something is ready that nobody is on the way for; without the lock."""
        if not self._strategy.dispatcher.sources or self._asked:
            return
        with self._strategy.lock:
            asks = self._asks_locked()
        if asks:
            self._ask()

    def ensure_others(self) -> None:
        """The same, unless this is a helper of the run, which takes what is ready next; without the lock."""
        helper = here.helper
        if helper is None or helper.lane is not self:
            self.ensure()

    def _asks_locked(self) -> bool:
        pool = self._pool
        if self._asked or pool is None or self._at_work >= (1 if self._crowded else pool.max_workers):
            return False
        for source in self._strategy.dispatcher.sources:
            if source.ready:
                self._asked = True
                return True
        return False

    def _ask(self) -> None:
        assert self._pool is not None
        clock = self._strategy.run.clock
        clock.busy()
        self._asked_at = clock.monotonic()
        self._taken_when_asked = self.taken
        self._pool.submit(self._help)

    def _is_welcome_locked(self) -> bool:
        """Note that a helper is here; whether it shall stay, and not leave the interpreter to those that compute."""
        self._asked = False
        self._helpers += 1
        self._at_work += 1
        run = self._strategy.run
        if self._pool is not None and self._at_work > self._pool.max_workers:
            # While it was on its way one has come back that waited for a nested run.
            return False
        if self._at_work == 1 or run.clock.monotonic() - self._asked_at < _SLOW_ARRIVAL:
            return True
        if self.taken - self._taken_when_asked <= 1:
            # Nobody has got on meanwhile, but for the call of the one who asked: they block, or compute for long.
            return True
        if not self._crowded:
            self._crowded = True
            self._taken_before = self.taken
            self._strategy.on_loop(self._watch_crowd)
        return False

    def _watch_crowd(self) -> None:
        """Look again in a moment whether the helpers get on; on the loop."""
        clock = self._strategy.run.clock
        clock.call_at(clock.monotonic() + _LOOK_AT_CROWD, self._look_at_crowd, loop=self._strategy.run.loop)

    def _look_at_crowd(self) -> None:
        taken, before = self.taken, self._taken_before
        self._taken_before = taken
        if self._helpers and taken - before > _MANY_CALLS * self._helpers:
            self._one_is_enough = True
            self._watch_crowd()
            return
        # Calls take longer now, or block: the next helper that is asked for finds out.
        self._crowded = self._one_is_enough = False
        self.ensure()

    def others_wait(self) -> bool:
        """Whether the pool has jobs of other runs for which no thread is free."""
        return not self._asked and self._pool is not None and self._pool.is_waited_for()

    def must_yield(self) -> bool:
        """Whether something else is ready that no thread is free for."""
        if self.others_wait():
            return True
        pool = self._pool
        return bool(self._strategy.dispatcher.sources) and pool is not None and self._at_work >= pool.max_workers

    def one_goes_away(self) -> None:
        """Hear that a helper waits in its call for a run that it has started, and does nothing for this one."""
        with self._strategy.lock:
            self._at_work -= 1
        self.ensure()

    def one_comes_back(self, helper: Helper) -> None:
        """Hear that it goes on; where another has come in its place it leaves when it has made its call."""
        with self._strategy.lock:
            self._at_work += 1
            helper.is_surplus = self._pool is not None and self._at_work > self._pool.max_workers

    def _help(self) -> None:
        """What a thread of the pool does: take and call until nothing is ready."""
        strategy = self._strategy
        places, dispatcher, lock = strategy.places, strategy.dispatcher, strategy.lock
        helper = here.helper = Helper(strategy.run, self)
        with lock:
            self._present.add(helper)
            unit = dispatcher.take_locked() if self._is_welcome_locked() else None
            asks = unit is not None and self._asks_locked()
        try:
            while unit is not None:
                if asks:
                    self._ask()
                self.taken += 1
                scheduler, index = unit
                value: Any = MISSING
                due: Due = []
                if scheduler.plan.lanes[index] == MAP:
                    self._calls.call_items(helper, scheduler, index, due)
                else:
                    value = self._calls.call(helper, scheduler, index, due)
                helper.parent = None
                if helper.permit is not None:
                    helper.give_permit_back()
                # Taking the value and the next node is one hold of the lock, unless something is due in between.
                with lock:
                    if value is not MISSING:
                        places.complete_locked(scheduler, index, value, due)
                    if not due:
                        unit, asks = self._next_locked(helper)
                if due:
                    helper.wake_writer()
                    places.advance(due)
                    with lock:
                        unit, asks = self._next_locked(helper)
                if helper.unwritten is not None:
                    unit, asks = self._next_written(helper, unit, asks)
        except BaseException as defect:
            # Nothing of users is called outside their own handlers: better a run that fails than one that hangs.
            strategy.stop(defect)
        helper.has_called()
        helper.wake_writer(goes_on=False)
        here.helper = None
        with lock:
            self._helpers -= 1
            if self._latest is helper:
                self._latest = None
            if not helper.is_leaving:
                self._at_work -= 1
            self._present.discard(helper)
            gone = self._helpers == 0
        self.ensure()
        if gone and strategy.settling:
            strategy.has_become_quiet()
        strategy.run.clock.idle()

    def _next_written(
        self, helper: Helper, unit: tuple[Scheduler, int] | None, asks: bool
    ) -> tuple[tuple[Scheduler, int] | None, bool]:
        """The next node, with the value of the last one still to be committed: if there is none, it comes of that."""
        journal = helper.unwritten
        goes_on = unit is not None
        if goes_on or journal is None or self._is_to_leave(helper):
            helper.wake_writer(goes_on=goes_on)
            return unit, asks
        helper.unwritten = None
        journal.write_here()
        with self._strategy.lock:
            return self._next_locked(helper)

    def _next_locked(self, helper: Helper) -> tuple[tuple[Scheduler, int] | None, bool]:
        """The next node for a helper, if it stays, and whether another helper shall be asked for."""
        # Not for the sake of one that has been in its call all the time since this one took the last.
        if self._one_is_enough and self._at_work > 1 and self._latest not in (None, helper) and not helper.is_leaving:
            helper.is_leaving = True
            self._at_work -= 1
        if self._is_to_leave(helper):
            return None, False
        self._latest = helper
        unit = self._strategy.dispatcher.take_locked()
        return unit, unit is not None and self._asks_locked()

    def _is_to_leave(self, helper: Helper) -> bool:
        """Whether a helper makes no more calls, whatever is ready."""
        pool = self._pool
        return helper.is_leaving or helper.is_surplus or (not self._asked and pool is not None and pool.is_waited_for())
