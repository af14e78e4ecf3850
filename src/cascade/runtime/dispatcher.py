"""Where places that are ready go: to worker threads, to the loop, or to be processed one by one."""

from __future__ import annotations

from collections import deque
from functools import partial
from heapq import heappop, heappush
from typing import TYPE_CHECKING, Any

from cascade.graph.build import injects
from cascade.runtime.coroutines import CoroutineLane
from cascade.runtime.plan import LOOP, MAP, PROCESSOR, THREAD
from cascade.runtime.processor import NodeProcessor
from cascade.runtime.scheduler import Scheduler
from cascade.runtime.workers import WorkerLane

if TYPE_CHECKING:
    from cascade.runtime.mapping import MapExecution
    from cascade.runtime.scheduler import Continuation
    from cascade.runtime.strategies.graph import GraphExecutionStrategy
    from cascade.spec.lazy_types import MappedLazyResult


class Dispatcher:
    """Hands ready places of one run to their lanes. Methods that end in `_locked` expect the lock of the run.

    Attributes:
        sources: the graphs that have something ready for worker threads, the newest last: depth first, so that
            recursion needs memory for its depth and not for its width.
        interrupted: whether workers must look up before the next call: the run stops, or limits are in force.
    """

    def __init__(self, strategy: GraphExecutionStrategy) -> None:
        self._strategy = strategy
        self._run = strategy.run
        self._engine = strategy.engine
        self._journal = strategy.run.journal
        self.sources: list[Scheduler] = []
        self.interrupted = False
        self.workers = WorkerLane(strategy, strategy.engine.pool)
        self.coroutines = CoroutineLane(strategy)
        self.processor = NodeProcessor(strategy)
        self._units: deque[tuple[Continuation, int]] = deque()
        self._pump_asked = False

    def look_up(self) -> None:
        """Hear that the run stops or that limits have changed."""
        with self._run.lock:
            limited = self._engine.constraints.active and not self.interrupted
            self.interrupted = self._run.stopping or self._engine.constraints.active
        if limited:
            self.workers.enlist()
            self.coroutines.enlist()
            for attempt in list(self._strategy.attempts):
                attempt.enlist_call()

    def hand_over_locked(self, scheduler: Scheduler, index: int, lane: int) -> None:
        """Give a node that may run to its lane."""
        if lane == THREAD:
            heappush(scheduler.ready, index)
            self.list_source_locked(scheduler)
        else:
            self._hand_to_loop_locked(scheduler, index)

    def hand_over_map(self, mapping: MapExecution) -> None:
        """Give the items of a map to their lane: threads find a map among the ready nodes, others are fed."""
        lane = self._lane_of_items(mapping.lazy)
        if lane == THREAD and not self.interrupted:
            with self._run.lock:
                heappush(mapping.scheduler.ready, mapping.index)
                self.list_source_locked(mapping.scheduler)
        else:
            self._strategy.on_loop(partial(self.processor.feed, mapping, lane))

    def offer_map(self, mapping: MapExecution) -> None:
        """Let worker threads go on with a map that waited for room, or for a row to be pulled."""
        scheduler = mapping.scheduler
        with self._run.lock:
            if mapping.exhausted or self._waits_for_room(mapping):
                return
            heappush(scheduler.ready, mapping.index)
            self.list_source_locked(scheduler)
        self.workers.ensure()

    def _waits_for_room(self, mapping: MapExecution) -> bool:
        return not mapping.has_room() and mapping.waits_for_room(partial(self.offer_map, mapping))

    def begin_on_loop(self) -> None:
        """Begin work on the loop's thread: what the loop gets until `end_on_loop` is not sent to it, but taken then."""
        self._pump_asked = True

    def end_on_loop(self) -> None:
        """End work on the loop's thread; see `begin_on_loop`."""
        self._pump()

    def list_source_locked(self, scheduler: Scheduler, *, last: bool = False) -> None:
        """Let worker threads find what is ready in a graph.

        Args:
            last: after everything else that is ready, and not before it.
        """
        if scheduler.ready and not scheduler.listed:
            scheduler.listed = True
            sources = self.sources
            # A loop makes a graph a turn, so those that have nothing left must not pile up under the newest.
            while sources and not sources[-1].ready:
                sources.pop().listed = False
            if last:
                sources.insert(0, scheduler)
            else:
                sources.append(scheduler)

    def take_locked(self) -> tuple[Scheduler, int] | None:
        """The most preferred node for a worker thread; a map stays until its rows are exhausted."""
        sources, journal = self.sources, self._journal
        interrupted = self.interrupted or (journal is not None and journal.may_be_lost())
        while sources:
            scheduler = sources[-1]
            ready = scheduler.ready
            while ready:
                index = ready[0]
                if scheduler.plan.lanes[index] != MAP:
                    heappop(ready)
                    if scheduler.fresh:
                        scheduler.refill()
                    if interrupted:
                        if not self._run.stopping:
                            self._hand_to_loop_locked(scheduler, index)
                        continue
                    return scheduler, index
                mapping = scheduler.maps.get(index)
                if mapping is None or mapping.exhausted or self._run.stopping:
                    self._forget_locked(scheduler)
                elif interrupted:
                    self._forget_locked(scheduler)
                    self._strategy.on_loop(partial(self.processor.feed, mapping, PROCESSOR))
                elif self._waits_for_room(mapping):
                    self._forget_locked(scheduler)
                else:
                    if not mapping.is_quick:
                        # Whoever pulls from a user's iterator has the map to itself meanwhile.
                        self._forget_locked(scheduler)
                    return scheduler, index
            sources.pop()
            scheduler.listed = False
        return None

    def _forget_locked(self, scheduler: Scheduler) -> None:
        heappop(scheduler.ready)
        scheduler.refill()

    def _hand_to_loop_locked(self, parent: Continuation, place: int) -> None:
        """Have the loop take a place soon; with the lock, from any thread."""
        self._units.append((parent, place))
        if not self._pump_asked:
            self._pump_asked = True
            self._strategy.on_loop(self._pump)

    def _pump(self) -> None:
        """On the loop: hand what arrived to the coroutines or to the processor."""
        self._pump_asked = False
        units = self._units
        while units:
            parent, place = units.popleft()
            if self._run.stopping:
                continue
            assert isinstance(parent, Scheduler)
            if parent.plan.lanes[place] == LOOP and not self._engine.constraints.active:
                self.coroutines.add(parent, place)
            else:
                self.processor.start(parent, place)

    def _lane_of_items(self, lazy: MappedLazyResult[Any]) -> int:
        """Where the items of a map go."""
        task, policy = lazy.task, lazy.policy
        governed = policy is not None and policy.governs_call
        if self._engine.pool is None or governed or task.injected or injects(lazy):
            return PROCESSOR
        if task.executor is None:
            return LOOP if task.is_async else THREAD
        if task.executor == "inline":
            return LOOP
        return THREAD if task.executor == "thread" and not task.is_async else PROCESSOR
