"""The worker threads' side of a run: plain calls, one after another, with as little as possible between them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from cascade.runtime.plan import MAP
from cascade.runtime.returned import Turn, continuation_of, is_direct
from cascade.runtime.run import Helper, here
from cascade.spec.containers import PLAIN

if TYPE_CHECKING:
    from cascade.runtime.scheduler import Continuation, Due, Scheduler
    from cascade.runtime.strategies.graph import GraphExecutionStrategy
    from cascade.spec.lazy_types import LazyResult
    from cascade.spec.protocols import WorkerPool

_TURNS_BETWEEN_LOOKS: Final = 512
_SLOW_ARRIVAL: Final = 0.002
"""Seconds: an idle thread wakes up in a tenth of it, and must wait for twice of it where others compute."""
_LOOK_AT_CROWD: Final = 0.01
"""Seconds."""


class WorkerLane:
    """Lets threads of a pool help with a run.

    A helper takes the most preferred node, calls it, makes its followers ready and goes on with the next, so that a
    chain never changes its thread. A helper that finds more than it takes asks for one more helper, and that one, once
    it has arrived, for the next: calls that block get all the threads there are within moments. Where a helper is slow
    to arrive, calls that compute keep the interpreter's lock, and more threads would only be in each other's way: then
    it leaves again, and no more are asked for as long as calls go on ending.
    """

    def __init__(self, strategy: GraphExecutionStrategy, pool: WorkerPool | None) -> None:
        self._strategy = strategy
        self._pool = pool
        self._helpers = 0
        self._present: set[Helper] = set()
        self._asked = False
        self._asked_at = 0.0
        self._crowded = False
        self._taken = 0
        self._taken_before = 0

    def are_gone(self) -> bool:
        """Whether no thread works on the run."""
        with self._strategy.lock:
            return self._helpers == 0

    def enlist(self) -> None:
        """Count the calls that run now against limits that were not there when they began."""
        places = self._strategy.places
        for helper in list(self._present):
            parent = helper.parent
            if parent is not None and helper.permit is None:
                # A call that ends at this very moment is counted until its thread comes by here again.
                helper.permit = self._strategy.engine.constraints.enlist(places.subject_of(parent, helper.place))

    def ensure(self) -> None:
        """Ask for a helper if something is ready that nobody is on the way for; without the lock."""
        if not self._strategy.dispatcher.sources or self._asked:
            return
        with self._strategy.lock:
            asks = self._asks_locked()
        if asks:
            self._ask()

    def _asks_locked(self) -> bool:
        pool = self._pool
        if self._asked or self._crowded or pool is None or self._helpers >= pool.max_workers:
            return False
        if not any(source.ready for source in self._strategy.dispatcher.sources):
            return False
        self._asked = True
        return True

    def _ask(self) -> None:
        assert self._pool is not None
        clock = self._strategy.run.clock
        clock.busy()
        self._asked_at = clock.monotonic()
        self._pool.submit(self._help)

    def _is_welcome_locked(self) -> bool:
        """Note that a helper is here; whether it shall stay, and not leave the interpreter to those that compute."""
        self._asked = False
        self._helpers += 1
        run = self._strategy.run
        if self._helpers == 1 or run.clock.monotonic() - self._asked_at < _SLOW_ARRIVAL:
            return True
        if not self._crowded:
            self._crowded = True
            self._taken_before = self._taken
            self._strategy.on_loop(self._watch_crowd)
        return False

    def _watch_crowd(self) -> None:
        """Look again in a moment whether the helpers get on; on the loop."""
        clock = self._strategy.run.clock
        clock.call_at(clock.monotonic() + _LOOK_AT_CROWD, self._look_at_crowd, loop=self._strategy.run.loop)

    def _look_at_crowd(self) -> None:
        taken, before = self._taken, self._taken_before
        self._taken_before = taken
        if self._helpers and taken - before > self._helpers:
            self._watch_crowd()
            return
        self._crowded = False
        self.ensure()

    def _others_wait(self) -> bool:
        """Whether the pool has jobs of other runs for which no thread is free."""
        return not self._asked and self._pool is not None and self._pool.is_waited_for()

    def _help(self) -> None:
        """What a thread of the pool does: take and call until nothing is ready."""
        strategy = self._strategy
        run = strategy.run
        lock = strategy.lock
        helper = here.helper = Helper(run)
        with lock:
            self._present.add(helper)
            unit = strategy.dispatcher.take_locked() if self._is_welcome_locked() else None
            asks = unit is not None and self._asks_locked()
        try:
            while unit is not None:
                if asks:
                    self._ask()
                self._taken += 1
                scheduler, index = unit
                due: Due = []
                if scheduler.plan.lanes[index] == MAP:
                    self._call_items(helper, scheduler, index, due)
                else:
                    self._call(helper, scheduler, index, due)
                helper.has_called()
                if due:
                    strategy.places.advance(due)
                with lock:
                    if self._others_wait():
                        break
                    unit = strategy.dispatcher.take_locked()
                    asks = unit is not None and self._asks_locked()
        except BaseException as defect:
            # Nothing of users is called outside their own handlers: better a run that fails than one that hangs.
            strategy.stop(defect)
        helper.has_called()
        here.helper = None
        with lock:
            self._helpers -= 1
            self._present.discard(helper)
            gone = self._helpers == 0
        self.ensure()
        if gone and strategy.settling:
            strategy.has_become_quiet()
        run.clock.idle()

    def _call(self, helper: Helper, scheduler: Scheduler, index: int, due: Due) -> None:
        """Call one node and take its value."""
        strategy = self._strategy
        run = strategy.run
        teller = run.teller
        lazy: Any = scheduler.graph.lazies[index]
        reference = scheduler.plan.references[index]
        kwargs = lazy.kwargs
        if reference is None:
            args = lazy.args
        elif type(reference) is int:
            args = (scheduler.values[reference],)
        else:
            try:
                args, kwargs = strategy.places.arguments.resolve(scheduler, index)
            except BaseException as error:
                strategy.places.fail(scheduler, index, error, due)
                return
        helper.parent, helper.place = scheduler, index
        began = teller.started(scheduler, index, lazy.name) if teller.tells else 0.0
        try:
            if kwargs:
                value = run.context.copy().run(lazy.task.function, *args, **kwargs)
            else:
                value = run.context.copy().run(lazy.task.function, *args)
            more = None if type(value) in PLAIN else continuation_of(lazy.task.name, value)
        except BaseException as error:
            strategy.places.fail(scheduler, index, error, due, began=began)
            return
        if more is not None:
            del args, kwargs, value
            self._continue(scheduler, index, more, began, due)
        elif teller.tells:
            teller.finished(scheduler, index, lazy.name, began, result=value)
            strategy.places.conclude(scheduler, index, value, due, began=began)
        else:
            with strategy.lock:
                strategy.places.complete_locked(scheduler, index, value, due)

    def _continue(self, parent: Continuation, place: int, more: LazyResult[Any], began: float, due: Due) -> None:
        """A call returned a lazy value: while that is one plain call of literals, make it right here, without a graph.

        This is the hot turn of loops: it costs the call and half a microsecond, where a graph costs ten.
        """
        strategy = self._strategy
        run = strategy.run
        teller = run.teller
        speaker: Continuation = parent
        at = place
        turns = 0
        while True:
            call: Any = more
            if (
                not is_direct(more)
                or call.task.is_async
                or strategy.dispatcher.interrupted
                or run.journal is not None
                or (turns % _TURNS_BETWEEN_LOOKS == _TURNS_BETWEEN_LOOKS - 1 and self._must_yield())
            ):
                self._follow(parent, place, more, turns, speaker, at, began, due)
                return
            turns += 1
            if teller.tells:
                turn = Turn(parent, place, call, turns)
                teller.finished(speaker, at, speaker.name_of(at), began, continues_as=turn.place_id(0))
                speaker, at = turn, 0
                began = teller.started(turn, 0, call.name)
            try:
                if call.kwargs:
                    value = run.context.copy().run(call.task.function, *call.args, **call.kwargs)
                else:
                    value = run.context.copy().run(call.task.function, *call.args)
                found = None if type(value) in PLAIN else continuation_of(call.task.name, value)
            except BaseException as error:
                strategy.places.fail(parent, place, error, due, turn=Turn(parent, place, call, turns), began=began)
                return
            if found is None:
                teller.finished(speaker, at, call.name, began, result=value)
                strategy.places.conclude(parent, place, value, due, began=began)
                return
            more = found

    def _follow(
        self,
        parent: Continuation,
        place: int,
        more: LazyResult[Any],
        turns: int,
        speaker: Continuation,
        at: int,
        began: float,
        due: Due,
    ) -> None:
        """Compute what a call returned as a graph of its own."""
        strategy = self._strategy
        run = strategy.run
        teller = run.teller
        try:
            scheduler = strategy.continuation(parent, place, more, turns=turns)
        except BaseException as error:
            turn = speaker if isinstance(speaker, Turn) else None
            strategy.places.fail(parent, place, error, due, began=began, turn=turn)
            return
        if teller.tells:
            teller.finished(speaker, at, speaker.name_of(at), began, continues_as=scheduler.target_id)
        # A loop that has just looked up to let others have their turn goes behind them.
        strategy.begin_returned(scheduler, more, due, last=turns > 0)

    def _must_yield(self) -> bool:
        """Whether something else is ready that no thread is free for."""
        pool = self._pool
        if self._others_wait():
            return True
        return bool(self._strategy.dispatcher.sources) and pool is not None and self._helpers >= pool.max_workers

    def _call_items(self, helper: Helper, scheduler: Scheduler, index: int, due: Due) -> None:
        """Call item after item of a map, until its rows are exhausted or something is preferred."""
        strategy = self._strategy
        run = strategy.run
        teller = run.teller
        mapping = scheduler.maps.get(index)
        if mapping is None:
            # Another helper has ended the map since it was taken.
            return
        task = mapping.lazy.task
        function, name = task.function, mapping.lazy.name
        copy = run.context.copy
        while True:
            try:
                item = mapping.pull() if mapping.is_quick else copy().run(mapping.pull)
            except BaseException as error:
                strategy.places.fail_pulling(mapping, error, due)
                return
            if not mapping.is_quick:
                # The map was this helper's alone while it pulled; now others may go on with it.
                strategy.dispatcher.offer_map(mapping)
            if item is None:
                if mapping.is_over():
                    strategy.places.end_map(mapping, due)
                return
            place, args, kwargs = item
            if mapping.recalled and strategy.places.has_recalled(mapping, place, due):
                continue
            helper.parent, helper.place = mapping, place
            began = teller.started(mapping, place, name) if teller.tells else 0.0
            try:
                value = copy().run(function, *args, **kwargs) if kwargs else copy().run(function, *args)
                more = None if type(value) in PLAIN else continuation_of(name, value)
            except BaseException as error:
                strategy.places.fail(mapping, place, error, due, began=began)
            else:
                if more is not None:
                    self._continue(mapping, place, more, began, due)
                else:
                    if teller.tells:
                        teller.finished(mapping, place, name, began, result=value)
                    if run.keeps_track:
                        strategy.places.conclude(mapping, place, value, due, began=began)
                    elif mapping.store(place, value):
                        strategy.places.end_map(mapping, due)
                        return
            helper.has_called()
            if due or strategy.dispatcher.interrupted or not mapping.is_quick or not mapping.has_room():
                return
            if self._prefers_other(scheduler, index):
                return
            self.ensure()

    def _prefers_other(self, scheduler: Scheduler, index: int) -> bool:
        """Whether a node that is preferred to this map, or another run, waits for a thread."""
        ready = scheduler.ready
        return (bool(ready) and ready[0] != index) or self._others_wait()
