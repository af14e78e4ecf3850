"""One run of a graph from its start to its end, with the graphs that its tasks return and the loops they make."""

from __future__ import annotations

import asyncio
import os
from functools import partial
from threading import get_ident
from typing import TYPE_CHECKING, Any

from cascade.graph.build import build
from cascade.graph.validate import validate
from cascade.runtime.dispatcher import Dispatcher
from cascade.runtime.first_moment import FirstMoment
from cascade.runtime.flow import RUN_STOPPED, FlowManager
from cascade.runtime.loop_watch import LOOP_WATCH
from cascade.runtime.places import Places
from cascade.runtime.preview import describe_error
from cascade.runtime.progress import Past, name_of_target
from cascade.runtime.scheduler import MISSING, Scheduler
from cascade.runtime.spare_loop import is_spare
from cascade.spec.exceptions import RunCancelledError, RunFailedGroup
from cascade.spec.lazy_types import Call, MappedLazyResult

if TYPE_CHECKING:
    from collections.abc import Callable

    from cascade.graph.model import Graph
    from cascade.runtime.attempts import Attempt
    from cascade.runtime.engine import Engine
    from cascade.runtime.run import Helper, Run
    from cascade.runtime.scheduler import Continuation, Due, Ending
    from cascade.spec.lazy_types import LazyResult
    from cascade.spec.protocols import Timer
    from cascade.spec.records import Record


class GraphExecutionStrategy:
    """Runs one graph to its end, and the graphs that its tasks return.

    A node that is ready goes to a lane: worker threads take plain calls and items of maps by themselves; the loop runs
    coroutines; calls with policies are processed one asyncio task each. Whoever ends a node makes its followers ready.

    Attributes:
        run: the run.
        dispatcher: hands ready places to their lanes.
        places: ends places and settles what follows.
        open_graphs: the graphs under way: the run's own and those that tasks returned.
        past: what graphs and maps came to that have ended.
        target: what was asked for, once the run has begun.
        attempts: the calls with policies that are under way.
        pausing: how many calls wait for their next attempt, by the name of their task.
        settling: whether the run stops and waits for its helpers to leave.
        has_let_go: whether the values of its graphs may be gone, so that nothing may be made of them any more.
    """

    def __init__(self, run: Run, engine: Engine) -> None:
        self.run = run
        self.engine = engine
        self.lock = run.lock
        self.dispatcher = Dispatcher(self)
        self.places = Places(self)
        self.tasks: set[asyncio.Task[None]] = set()
        self.attempts: set[Attempt] = set()
        self.pausing: dict[str, int] = {}
        self.failures: list[Exception] = []
        self._root: Scheduler | None = None
        self.open_graphs: set[Scheduler] = set()
        self.past = Past()
        self.target: LazyResult[Any] | None = None
        self._ending: Ending | None = None
        self._ended: asyncio.Future[None] = run.loop.create_future()
        self._quiet: asyncio.Event = asyncio.Event()
        self._first_moment = FirstMoment()
        self._abandoned = False
        self.settling = False
        self.has_let_go = False

    async def execute(self, graph: Graph) -> Any:
        """Run a graph and return the value of its target; whatever happens, nothing of it runs afterwards."""
        unsubscribe = self.engine.constraints.subscribe(self.dispatcher.look_up)
        self.dispatcher.look_up()
        try:
            self.target = graph.lazies[graph.target]
            self._root = self._first(graph)
            self._root.caller = self.run.caller_place()
            due: Due = []
            self.begin(self._root, due)
            self.places.advance(due)
            if self._root.plan.needs_threads_only and is_spare(self.run.loop):
                self._first_moment.wait()
            try:
                if self._ending is None:
                    await self._ended
            except asyncio.CancelledError as cancelled:
                self.stop(cancelled)
            await self._settle_down()
            return self._result()
        finally:
            unsubscribe()
            self._let_go()

    def _first(self, graph: Graph) -> Scheduler:
        """The graph that the run begins with: the target's, or in a durable run what that had gone on with."""
        journal = self.run.journal
        if journal is not None:
            journal.committed, journal.failed = self.places.committed, self.stop
            record = journal.target()
            if record is not None:
                return self.recalled(*journal.load_continuation(record), record, None, 0)
        plan, graph = self.engine.plan_for(graph)
        root = Scheduler(plan, graph, keeps_all=self.run.goes_on)
        if journal is not None:
            journal.enter(root)
        return root

    def recalled(
        self,
        lazy: LazyResult[Any],
        rescue: tuple[tuple[Any, ...], ...],
        record: Record,
        parent: Continuation | None,
        place: int,
    ) -> Scheduler:
        """Prepare the graph with which a place had gone on when the run was under way before."""
        journal = self.run.journal
        assert journal is not None
        assert record.inner is not None
        plan, graph = self.engine.plan_for(self._built(lazy))
        base = "" if parent is not None else record.label
        scheduler = Scheduler(plan, graph, parent, place, base, record.turn)
        scheduler.rescue = rescue
        journal.enter(scheduler, record.inner)
        return scheduler

    def _built(self, lazy: LazyResult[Any]) -> Graph:
        """The graph of a lazy value that a task returned; `ValidationError` as before a run."""
        graph = build(lazy)
        if graph.special:
            run = self.run
            run.inputs.update(
                validate(graph, self.engine, run.registry, run.params, os.environ, known=list(run.inputs))
            )
        return graph

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

    def _let_go(self) -> None:
        """Keep no value alive: the parts of a run refer to each other, and the collector may be a long time coming."""
        left = set(self.open_graphs)
        if self._root is not None and self._root.keeps_all:
            left.add(self._root)
        self._root = self._ending = None
        self.past.target, self.target = name_of_target(self.target), None
        if not self._abandoned:
            # Otherwise calls may still begin on what is there.
            self.has_let_go = True
            for scheduler in left:
                scheduler.forget_values()

    async def _settle_down(self) -> None:
        """Wait until nothing of the run is under way any more; being cancelled again does not shorten this.

        After a success only the loop's tasks are left to leave. Threads have made their last call then, since the
        target comes after everything that it needs.
        """
        asked: set[asyncio.Task[None]] = set()
        self.settling = self.run.stopping
        clock = self.run.clock
        patience: Timer | None = None
        while not self._abandoned:
            for task in self.tasks - asked:
                task.cancel()
                asked.add(task)
            self._quiet.clear()
            if not self.tasks and (not self.settling or self.dispatcher.workers.are_gone()):
                break
            if patience is None:
                patience = clock.call_at(clock.monotonic() + self.engine.grace, self._lose_patience, loop=self.run.loop)
            try:
                await self._quiet.wait()
            except asyncio.CancelledError as cancelled:
                self.stop(cancelled)
                self.settling = True
        if patience is not None:
            patience.cancel()
        self._tell_stopped()
        for scheduler in self.open_graphs:
            for mapping in scheduler.maps.values():
                mapping.close()
        self.engine.keys_under_way.give_up_all(self)

    def _lose_patience(self) -> None:
        """Wait no longer for coroutines that ignore their cancellation; threads cannot help being waited for."""
        self.tasks -= self.dispatcher.coroutines.leave_behind()
        self._quiet.set()

    def abandon(self) -> None:
        """Wait for nothing any more: the second Ctrl-C."""
        self._abandoned = True
        self.run.abandoned = True
        for attempt in list(self.attempts):
            attempt.abandon()
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
                self._first_moment.end()
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
            self.dispatcher.interrupted = True
        for nested in list(self.run.nested):
            nested.stop(RunCancelledError(f"the run that started this one has been stopped by {describe_error(error)}"))
        self.on_loop(self._wake)

    def end_with(self, ending: Ending) -> None:
        """Hear how the target of the run ended; from any thread."""
        self._ending = ending
        if not self._first_moment.end():
            self.on_loop(self._wake)

    def _wake(self) -> None:
        if not self._ended.done():
            self._ended.set_result(None)
        self._quiet.set()

    def _tell_stopped(self) -> None:
        """Tell the end of every node that has none: maps under way were cancelled, what never started was stopped."""
        if not self.run.stopping or not self.run.teller.tells:
            return
        for scheduler in self.open_graphs:
            for index, mapping in scheduler.maps.items():
                self.run.teller.finished(scheduler, index, mapping.lazy.name, mapping.began, status="Cancelled")
            for index, lazy in enumerate(scheduler.graph.lazies):
                if isinstance(lazy, (Call, MappedLazyResult)) and not scheduler.told[index]:
                    self.places.tell_skip(scheduler, index, RUN_STOPPED)

    def begin(self, scheduler: Scheduler, due: Due, *, last: bool = False) -> None:
        """Start what waits for nothing in a graph.

        Args:
            last: after everything else that is ready, and not before it.
        """
        if scheduler.plan.routers:
            scheduler.flow = FlowManager(scheduler, self.lock)
        with self.lock:
            if self.run.stopping:
                return
            self.open_graphs.add(scheduler)
            scheduler.start(due)
            self.dispatcher.list_source_locked(scheduler, last=last)

    def continuation(self, parent: Continuation, place: int, lazy: LazyResult[Any], *, turns: int = 0) -> Scheduler:
        """Prepare the graph that computes a returned lazy value in the place of the call that returned it.

        In tail position the graph of the call is given up, so that a loop needs memory for one turn.

        Args:
            turns: how many turns a loop without graphs has made since.

        Raises:
            ValidationError: something is wrong with the graph, as before a run.
        """
        graph = self._built(lazy)
        waiting: Continuation | None = parent
        at = place
        base, turn = "", turns
        tail: tuple[tuple[Any, ...], ...] | None = None
        rescue: tuple[tuple[Any, ...], ...] = ()
        if isinstance(parent, Scheduler):
            tail = self._tail(parent, place)
            if tail is not None:
                with self.lock:
                    self.open_graphs.discard(parent)
                    self.past.add_graph(parent)
                waiting, at = parent.parent, parent.parent_place
                turn = parent.turn + turns
                if waiting is None:
                    base = parent.base or parent.place_id(place)
                rescue = _innermost((*tail, *parent.rescue))
        plan, graph = self.engine.plan_for(graph)
        scheduler = Scheduler(plan, graph, waiting, at, base, turn + 1)
        scheduler.rescue = rescue
        if self.run.journal is not None and tail is not None:
            assert isinstance(parent, Scheduler)
            scheduler.left = parent
        return scheduler

    def begin_returned(
        self, scheduler: Scheduler, lazy: LazyResult[Any], due: Due, *, last: bool = False, helper: Helper | None = None
    ) -> None:
        """Start the graph of what a call returned; in a durable run when it is committed that the call has ended.

        Args:
            last: after everything else that is ready, and not before it.
            helper: the worker thread that has made the call, if it sees to the commit before it does anything else.
        """
        journal = self.run.journal
        if journal is None:
            self.begin(scheduler, due, last=last)
            return
        left, scheduler.left = scheduler.left, None
        try:
            then = partial(self._begin_committed, scheduler)
            waits = journal.continues(scheduler, lazy, left, then, helper)
        except BaseException as error:
            if scheduler.parent is None:
                self.stop(error)
            else:
                self.places.fail(scheduler.parent, scheduler.parent_place, error, due)
            return
        if not waits:
            self.begin(scheduler, due, last=last)

    def _begin_committed(self, scheduler: Scheduler) -> None:
        """On a thread that has the store, and must not run code of users."""
        due: Due = []
        self.begin(scheduler, due)
        if due:
            self.on_loop(partial(self.places.advance_on_loop, due))
        self.dispatcher.workers.ensure_others()

    def _tail(self, scheduler: Scheduler, index: int) -> tuple[tuple[Any, ...], ...] | None:
        """Whether nothing of a graph is left but this node and connectors that hand its value to the target."""
        with self.lock:
            if index == scheduler.plan.target and scheduler.remaining == 1:
                return ()
            if not scheduler.graph.special:
                return None
            return (scheduler.flow or FlowManager(scheduler, self.lock)).tail_of(index)

    def spawn(self, coroutine: Any) -> asyncio.Task[None]:
        """Start an asyncio task that belongs to the run; on the loop."""
        task: asyncio.Task[None] = self.run.loop.create_task(coroutine, context=self.run.context.copy())
        self.tasks.add(task)
        if len(self.tasks) == 1:
            LOOP_WATCH.add(self)
        task.add_done_callback(self._task_ended)
        return task

    def _task_ended(self, task: asyncio.Task[None]) -> None:
        self.tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self.stop(error)
        self._quiet.set()


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
