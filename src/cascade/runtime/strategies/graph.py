"""Running a graph: who starts when, on which lane, and what becomes of what a call returned."""

from __future__ import annotations

import asyncio
import os
from collections import deque
from functools import partial
from heapq import heappop, heappush
from threading import get_ident
from typing import TYPE_CHECKING, Any

from cascade.graph.build import build
from cascade.graph.validate import validate
from cascade.runtime.connectors import settle_connector
from cascade.runtime.coroutines import CoroutineLane
from cascade.runtime.flow import PRUNED, RUN_STOPPED, UPSTREAM_FAILED, FlowManager
from cascade.runtime.mapping import MapExecution
from cascade.runtime.plan import AT_ONCE, DECIDE, LOOP, MAP, PROCESSOR, THREAD
from cascade.runtime.preview import describe_error
from cascade.runtime.processor import NodeProcessor
from cascade.runtime.resolvers import ArgumentResolver
from cascade.runtime.scheduler import MISSING, Scheduler
from cascade.runtime.trouble import annotate, missing_target
from cascade.runtime.workers import WorkerLane
from cascade.spec.exceptions import RunCancelledError, RunFailedGroup
from cascade.spec.lazy_types import Call, MappedLazyResult
from cascade.spec.routing import Router

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from cascade.graph.model import Graph
    from cascade.runtime.engine import Engine
    from cascade.runtime.returned import Turn
    from cascade.runtime.run import Run
    from cascade.runtime.scheduler import Continuation, Due, Ending
    from cascade.spec.lazy_types import LazyResult
    from cascade.spec.policy import Policy
    from cascade.spec.task import Task


class GraphExecutionStrategy:
    """Runs one graph to its end, and the graphs that its tasks return.

    A node that is ready goes to a lane: worker threads take plain calls and items of maps by themselves; the loop runs
    coroutines; calls with policies are processed one asyncio task each. Whoever ends a node makes its followers ready.

    Attributes:
        run: the run.
        sources: the graphs that have something ready for worker threads, the newest last: depth first, so that
            recursion needs memory for its depth and not for its width.
        settling: whether the run stops and waits for its helpers to leave.
        interrupted: whether workers must look up before the next call: the run stops, or limits are in force.
    """

    def __init__(self, run: Run, engine: Engine) -> None:
        self.run = run
        self.engine = engine
        self.lock = run.lock
        self.arguments = ArgumentResolver()
        self.sources: list[Scheduler] = []
        self.interrupted = False
        self.workers = WorkerLane(self, engine.pool)
        self.coroutines = CoroutineLane(self)
        self.processor = NodeProcessor(self)
        self.tasks: set[asyncio.Task[None]] = set()
        self.failures: list[Exception] = []
        self._units: deque[tuple[Continuation, int]] = deque()
        self._pump_asked = False
        self._root: Scheduler | None = None
        self._open: set[Scheduler] = set()
        self._ending: Ending | None = None
        self._ended: asyncio.Future[None] = run.loop.create_future()
        self._quiet: asyncio.Event = asyncio.Event()
        self._abandoned = False
        self.settling = False

    async def execute(self, graph: Graph) -> Any:
        """Run a graph and return the value of its target; whatever happens, nothing of it runs afterwards."""
        unsubscribe = self.engine.constraints.subscribe(self._look_up)
        self._look_up()
        try:
            plan, graph = self.engine.plan_for(graph)
            self._root = Scheduler(plan, graph, keeps_all=self.run.goes_on)
            self._root.caller = self.run.caller_place()
            due: Due = []
            self.begin(self._root, due)
            self.advance(due)
            try:
                await self._ended
            except asyncio.CancelledError as cancelled:
                self.stop(cancelled)
            await self._settle_down()
        finally:
            unsubscribe()
        return self._result()

    def _result(self) -> Any:
        if self.run.error is not None:
            raise self.run.error
        if self.failures:
            assert self._root is not None
            values = self._root.values
            found = {
                lazy: values[index] for lazy, index in self._root.graph.index_of.items() if values[index] is not MISSING
            }
            some = "a task" if len(self.failures) == 1 else f"{len(self.failures)} tasks"
            raise RunFailedGroup(f"{some} failed", self.failures, found)
        assert self._ending is not None
        kind, payload = self._ending
        if kind == "value":
            return payload
        raise payload

    async def _settle_down(self) -> None:
        """Wait until nothing of the run is under way any more; being cancelled again does not shorten this.

        After a success only the loop's tasks are left to leave. Threads have made their last call then, since the
        target comes after everything that it needs.
        """
        asked: set[asyncio.Task[None]] = set()
        self.settling = self.run.stopping
        clock = self.run.clock
        patience = clock.call_at(clock.monotonic() + self.engine.grace, self._lose_patience, loop=self.run.loop)
        while not self._abandoned:
            for task in self.tasks - asked:
                task.cancel()
                asked.add(task)
            self._quiet.clear()
            if not self.tasks and (not self.settling or self.workers.are_gone()):
                break
            try:
                await self._quiet.wait()
            except asyncio.CancelledError as cancelled:
                self.stop(cancelled)
                self.settling = True
        patience.cancel()
        self._tell_stopped()
        for scheduler in self._open:
            for mapping in scheduler.maps.values():
                mapping.close()

    def _lose_patience(self) -> None:
        """Wait no longer for coroutines that ignore their cancellation; threads cannot help being waited for."""
        self.tasks -= self.coroutines.leave_behind()
        self._quiet.set()

    def abandon(self) -> None:
        """Wait for nothing any more: the second Ctrl-C."""
        self._abandoned = True
        self.run.abandoned = True
        self._quiet.set()

    def has_become_quiet(self) -> None:
        """Hear that something has ended; from any thread."""
        self.on_loop(self._quiet.set)

    def on_loop(self, callback: Callable[[], object]) -> None:
        """Have something called on the run's loop; from any thread."""
        try:
            if get_ident() == self.run.loop_thread:
                self.run.loop.call_soon(callback)
            else:
                self.run.loop.call_soon_threadsafe(callback)
        except RuntimeError:
            # The loop was closed under a call that had been abandoned: there is nobody left to tell.
            self._abandoned = True

    def stop(self, error: BaseException) -> None:
        """Start nothing new, because of an error; the first one counts. From any thread."""
        with self.lock:
            if self.run.stopping:
                return
            self.run.stopping = True
            self.run.error = error
            self.interrupted = True
        for nested in self.run.nested_strategies():
            nested.stop(RunCancelledError(f"the run that started this one has been stopped by {describe_error(error)}"))
        self.on_loop(self._wake)

    def _wake(self) -> None:
        if not self._ended.done():
            self._ended.set_result(None)
        self._quiet.set()

    def _look_up(self) -> None:
        """Hear that limits have changed."""
        self.interrupted = self.run.stopping or self.engine.constraints.active

    def _tell_stopped(self) -> None:
        """Tell the end of every node that has none: maps under way were cancelled, what never started was stopped."""
        if not self.run.stopping or not self.run.teller.tells:
            return
        for scheduler in self._open:
            for index, mapping in scheduler.maps.items():
                self.run.teller.finished(scheduler, index, mapping.lazy.name, mapping.began, status="Cancelled")
            for index, lazy in enumerate(scheduler.graph.lazies):
                if isinstance(lazy, (Call, MappedLazyResult)) and index not in scheduler.told:
                    self.tell_skip(scheduler, index, RUN_STOPPED)

    # A graph begins and ends.

    def begin(self, scheduler: Scheduler, due: Due) -> None:
        """Start what waits for nothing in a graph."""
        if scheduler.graph.special:
            scheduler.flow = FlowManager(scheduler, self.lock)
        with self.lock:
            if self.run.stopping:
                return
            self._open.add(scheduler)
            scheduler.start(due)
            self.list_source(scheduler)

    def list_source(self, scheduler: Scheduler) -> None:
        """Let worker threads find what is ready in a graph; with the lock."""
        if scheduler.ready and not scheduler.listed:
            scheduler.listed = True
            self.sources.append(scheduler)

    def _close(self, scheduler: Scheduler, due: Due) -> None:
        """The target of a graph has ended: tell who waits for it; with the lock."""
        self._open.discard(scheduler)
        ending = self._ending_of(scheduler)
        if scheduler.parent is not None:
            scheduler.parent.end_with(scheduler.parent_place, ending, due)
            return
        if ending[0] == "skipped":
            ending = ("failed", missing_target(scheduler, ending[1]))
        self._ending = ending
        self.on_loop(self._wake)

    def _ending_of(self, scheduler: Scheduler) -> Ending:
        target = scheduler.plan.target
        value = scheduler.values[target]
        if value is not MISSING:
            return ("value", value)
        if target in scheduler.failed:
            return ("failed", scheduler.failed[target])
        reason = scheduler.skipped[target]
        for rescuer in scheduler.rescue:
            if rescuer[0] == "sequence" and reason != UPSTREAM_FAILED:
                return ("value", None)
            if rescuer[0] == "pipeline" and reason in ("ConditionFalse", "UpstreamSkipped_Condition"):
                return ("value", rescuer[1])
        return ("skipped", reason)

    # A place ends.

    def complete_locked(self, scheduler: Scheduler, index: int, value: Any, due: Due) -> None:
        """Take the value of a node; with the lock."""
        scheduler.complete(index, value, due)
        if index == scheduler.plan.target:
            self._close(scheduler, due)
        elif scheduler.ready and not scheduler.listed:
            self.list_source(scheduler)

    def conclude(self, parent: Continuation, place: int, value: Any, due: Due) -> None:
        """Take the value of a place, which is final."""
        journal = self.run.journal
        if journal is not None:
            journal.result(parent.place_id(place), value)
        if isinstance(parent, Scheduler):
            with self.lock:
                self.complete_locked(parent, place, value, due)
        else:
            assert isinstance(parent, MapExecution)
            if parent.store(place, value):
                self.end_map(parent, due)

    def skip(self, scheduler: Scheduler, index: int, reason: str, due: Due) -> None:
        """Skip a node."""
        lazy = scheduler.graph.lazies[index]
        if self.run.teller.tells and isinstance(lazy, (Call, MappedLazyResult)):
            self.tell_skip(scheduler, index, reason)
        with self.lock:
            known = len(scheduler.skipped)
            scheduler.skip(index, reason, due)
            self._release_routes_locked(scheduler, index, known)
            if index == scheduler.plan.target:
                self._close(scheduler, due)

    def _release_routes_locked(self, scheduler: Scheduler, index: int, known: int) -> None:
        """A router that will never decide wants none of its routes."""
        if isinstance(scheduler.graph.lazies[index], Router):
            assert scheduler.flow is not None
            scheduler.flow.release_routes_locked(index)
            self.tell_pruned(scheduler, known)

    def tell_skip(self, scheduler: Scheduler, index: int, reason: str) -> None:
        """Tell and note a skip."""
        if self.run.journal is not None:
            self.run.journal.skip(scheduler.place_id(index), reason)
        self.run.teller.skipped(scheduler, index, scheduler.name_of(index), reason)

    def tell_pruned(self, scheduler: Scheduler, known: int) -> None:
        """Tell what was pruned since so many skips were known."""
        if not self.run.teller.tells or len(scheduler.skipped) == known:
            return
        for index in list(scheduler.skipped)[known:]:
            lazy = scheduler.graph.lazies[index]
            if scheduler.skipped[index] == PRUNED and isinstance(lazy, (Call, MappedLazyResult)):
                self.tell_skip(scheduler, index, PRUNED)

    def fail(
        self,
        parent: Continuation,
        place: int,
        error: BaseException,
        due: Due,
        *,
        attempt: int = 1,
        turn: Turn | None = None,
    ) -> None:
        """A place raised: the run stops, or goes on without it."""
        annotate(error, parent, place, attempt=attempt, turn=turn)
        if not self.run.goes_on or not isinstance(error, Exception):
            if not (self.run.stopping and isinstance(error, asyncio.CancelledError)):
                self.stop(error)
            return
        with self.lock:
            self.failures.append(error)
        self._fail_place(parent, place, error, due)

    def _fail_place(self, parent: Continuation, place: int, error: BaseException, due: Due) -> None:
        if isinstance(parent, Scheduler):
            with self.lock:
                known = len(parent.skipped)
                parent.fail(place, error, due)
                self._release_routes_locked(parent, place, known)
                if place == parent.plan.target:
                    self._close(parent, due)
        else:
            assert isinstance(parent, MapExecution)
            if parent.fail(place, error):
                self.end_map(parent, due)

    def fail_pulling(self, mapping: MapExecution, error: BaseException, due: Due) -> None:
        """An input of a map raised."""
        annotate(error, mapping.scheduler, mapping.index)
        if not self.run.goes_on or not isinstance(error, Exception):
            self.stop(error)
            return
        with self.lock:
            self.failures.append(error)
        if mapping.fail_pulling(error):
            self.end_map(mapping, due)

    def end_map(self, mapping: MapExecution, due: Due) -> None:
        """Every item of a map has ended."""
        mapping.close()
        kind, payload = mapping.ending()
        scheduler, index = mapping.scheduler, mapping.index
        scheduler.maps.pop(index, None)
        if kind == "value":
            self.run.teller.finished(scheduler, index, mapping.lazy.name, mapping.began, result=payload)
            self.conclude(scheduler, index, payload, due)
        else:
            self.run.teller.finished(scheduler, index, mapping.lazy.name, mapping.began, error=payload)
            self._fail_place(scheduler, index, payload, due)

    # A place continues with what its call returned.

    def continuation(self, parent: Continuation, place: int, lazy: LazyResult[Any], *, turns: int = 0) -> Scheduler:
        """Prepare the graph that computes a returned lazy value in the place of the call that returned it.

        In tail position the graph of the call is given up, so that a loop needs memory for one turn.

        Args:
            turns: how many turns a loop without graphs has made since.

        Raises:
            ValidationError: something is wrong with the graph, as before a run.
        """
        graph = build(lazy)
        if graph.special:
            inputs = validate(graph, self.engine, self.run.registry, self.run.params, os.environ, refuse_unknown=False)
            self.run.inputs.update(inputs)
        waiting: Continuation | None = parent
        at = place
        base, turn = "", turns
        rescue: tuple[tuple[Any, ...], ...] = ()
        if isinstance(parent, Scheduler):
            tail = self._tail(parent, place)
            if tail is not None:
                with self.lock:
                    self._open.discard(parent)
                waiting, at = parent.parent, parent.parent_place
                base, turn = parent.base, parent.turn + turns
                rescue = _innermost((*tail, *parent.rescue))
        plan, graph = self.engine.plan_for(graph)
        scheduler = Scheduler(plan, graph, waiting, at, base or parent.place_id(place), turn + 1)
        scheduler.rescue = rescue
        return scheduler

    def _tail(self, scheduler: Scheduler, index: int) -> tuple[tuple[Any, ...], ...] | None:
        """Whether nothing of a graph is left but this node and connectors that hand its value to the target."""
        with self.lock:
            if index == scheduler.plan.target and scheduler.remaining == 1:
                return ()
            if scheduler.flow is None:
                return None
            return scheduler.flow.tail_of(index)

    # Places are settled: decided about, and handed to their lane.

    def advance(self, due: Due) -> None:
        """Settle everything that is due, and what becomes due by it; without the lock."""
        for parent, place in due:
            if isinstance(parent, Scheduler):
                self._settle(parent, place, due)
            else:
                assert isinstance(parent, MapExecution)
                self._settle_item(parent, place, due)
        self.workers.ensure()

    def advance_on_loop(self, due: Due) -> None:
        """The same on the loop's thread, where what the loop gets need not be sent to it."""
        self._pump_asked = True
        self.advance(due)
        self._pump()

    def call_at(self, parent: Continuation, place: int) -> tuple[Task[..., Any], Sequence[Any], Mapping[str, Any]]:
        """The task and the finished arguments of the call at a place."""
        if isinstance(parent, Scheduler):
            lazy: Any = parent.graph.lazies[place]
            return lazy.task, *self.arguments.resolve(parent, place)
        assert isinstance(parent, MapExecution)
        return parent.lazy.task, *parent.items.pop(place)

    def _settle(self, scheduler: Scheduler, index: int, due: Due) -> None:
        plan = scheduler.plan
        flow = scheduler.flow
        if index < plan.size and index in scheduler.returned:
            self._end_returned(scheduler, index, scheduler.returned.pop(index), due)
            return
        if index >= plan.size:
            settle_connector(self, scheduler, plan.router_of[index], due, woken=True)
            return
        if flow is not None and flow.counts_demand:
            with self.lock:
                if not flow.claim_locked(index):
                    return
        if scheduler.entries[index] == DECIDE:
            assert flow is not None or scheduler.skipped or scheduler.failed
            if flow is None:
                flow = scheduler.flow = FlowManager(scheduler, self.lock)
            try:
                reason = flow.reason_to_skip(index)
            except BaseException as error:
                self.fail(scheduler, index, error, due)
                return
            if reason is not None:
                self.skip(scheduler, index, reason, due)
                return
        lane = plan.lanes[index]
        if lane == AT_ONCE:
            settle_connector(self, scheduler, index, due)
        elif lane == MAP:
            self._start_map(scheduler, index, due)
        else:
            with self.lock:
                if lane == THREAD:
                    heappush(scheduler.ready, index)
                    self.list_source(scheduler)
                else:
                    self.hand_to_loop_locked(scheduler, index)

    def _end_returned(self, scheduler: Scheduler, index: int, ending: Ending, due: Due) -> None:
        kind, payload = ending
        if kind == "value":
            self.conclude(scheduler, index, payload, due)
        elif kind == "skipped":
            with self.lock:
                scheduler.skip(index, payload, due)
                if index == scheduler.plan.target:
                    self._close(scheduler, due)
        else:
            self._fail_place(scheduler, index, payload, due)

    def _settle_item(self, mapping: MapExecution, place: int, due: Due) -> None:
        ending = mapping.returned.pop(place, None)
        if ending is None:
            return
        kind, payload = ending
        if kind == "value":
            self.conclude(mapping, place, payload, due)
        elif kind == "skipped":
            self.fail(mapping, place, mapping.missing(place, payload), due)
        else:
            self._fail_place(mapping, place, payload, due)

    def _start_map(self, scheduler: Scheduler, index: int, due: Due) -> None:
        lazy = scheduler.graph.lazies[index]
        assert isinstance(lazy, MappedLazyResult)
        began = self.run.teller.started(scheduler, index, lazy.name)
        try:
            mapping = MapExecution(scheduler, index, *self.arguments.resolve_map(scheduler, index))
        except BaseException as error:
            self.run.teller.finished(scheduler, index, lazy.name, began, error=error)
            self.fail(scheduler, index, error, due)
            return
        mapping.began = began
        scheduler.maps[index] = mapping
        lane = self.lane_of_items(lazy)
        with self.lock:
            if lane == THREAD and not self.engine.constraints.active:
                heappush(scheduler.ready, index)
                self.list_source(scheduler)
                return
        self.on_loop(partial(self.processor.feed, mapping, lane))

    def lane_of_items(self, lazy: MappedLazyResult[Any]) -> int:
        """Where the items of a map go."""
        task, policy = lazy.task, lazy.policy
        if self.engine.pool is None or (policy is not None and policy.governs_call) or task.injected:
            return PROCESSOR
        if task.executor is None:
            return LOOP if task.is_async else THREAD
        if task.executor == "inline":
            return LOOP
        return THREAD if task.executor == "thread" and not task.is_async else PROCESSOR

    # The loop's lanes.

    def hand_to_loop_locked(self, parent: Continuation, place: int) -> None:
        """Have the loop take a place soon; with the lock, from any thread."""
        self._units.append((parent, place))
        if not self._pump_asked:
            self._pump_asked = True
            self.on_loop(self._pump)

    def _pump(self) -> None:
        """On the loop: hand what arrived to the coroutines or to the processor."""
        self._pump_asked = False
        units = self._units
        while units:
            parent, place = units.popleft()
            if self.run.stopping:
                continue
            assert isinstance(parent, Scheduler)
            if parent.plan.lanes[place] == LOOP and not self.engine.constraints.active:
                self.coroutines.add(parent, place)
            else:
                self.processor.start(parent, place)

    def take_locked(self) -> tuple[Scheduler, int] | None:
        """The most preferred node for a worker thread; a map stays until its rows are exhausted. With the lock."""
        sources = self.sources
        while sources:
            scheduler = sources[-1]
            ready = scheduler.ready
            while ready:
                index = ready[0]
                if scheduler.plan.lanes[index] != MAP:
                    heappop(ready)
                    if self.interrupted:
                        if not self.run.stopping:
                            self.hand_to_loop_locked(scheduler, index)
                        continue
                    return scheduler, index
                mapping = scheduler.maps.get(index)
                if mapping is None or mapping.exhausted or self.run.stopping:
                    heappop(ready)
                elif self.interrupted:
                    heappop(ready)
                    self.on_loop(partial(self.processor.feed, mapping, PROCESSOR))
                else:
                    return scheduler, index
            sources.pop()
            scheduler.listed = False
        return None

    def spawn(self, coroutine: Any) -> asyncio.Task[None]:
        """Start an asyncio task that belongs to the run; on the loop."""
        task: asyncio.Task[None] = self.run.loop.create_task(coroutine, context=self.run.context.copy())
        self.tasks.add(task)
        task.add_done_callback(self._task_ended)
        return task

    def _task_ended(self, task: asyncio.Task[None]) -> None:
        self.tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self.stop(error)
        self._quiet.set()

    def policy_of(self, parent: Continuation, place: int) -> Policy | None:
        """The policies of the call at a place."""
        if isinstance(parent, Scheduler):
            return parent.graph.lazies[place].policy
        assert isinstance(parent, MapExecution)
        return parent.lazy.policy


def _innermost(rescue: tuple[tuple[Any, ...], ...]) -> tuple[tuple[Any, ...], ...]:
    """Of what would turn a skip into a value only the innermost of each kind can ever act."""
    kept: list[tuple[Any, ...]] = []
    for rescuer in rescue:
        if rescuer[0] not in {earlier[0] for earlier in kept}:
            kept.append(rescuer)
        if rescuer[0] == "sequence":
            # It turns every skip into a value, so nothing further out ever sees one.
            break
    return tuple(kept)
