"""How places end: nodes of graphs and items of maps, with a value, a reason or an error, and what follows from it."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from cascade.runtime.connectors import settle_connector
from cascade.runtime.constraints.scopes import Subject
from cascade.runtime.durability.journal import TakenSignal
from cascade.runtime.flow import PRUNED, RUN_STOPPED, UPSTREAM_FAILED, FlowManager
from cascade.runtime.map_inputs import check_inputs
from cascade.runtime.mapping import MapExecution
from cascade.runtime.plan import AT_ONCE, DECIDE, MAP
from cascade.runtime.resolvers import ArgumentResolver
from cascade.runtime.returned import Turn
from cascade.runtime.scheduler import MISSING, Scheduler
from cascade.runtime.trouble import annotate, carried, missing_target
from cascade.spec.lazy_types import Call, MappedLazyResult
from cascade.spec.routing import Router

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from cascade.runtime.run import Helper
    from cascade.runtime.scheduler import Continuation, Due, Ending
    from cascade.runtime.strategies.graph import GraphExecutionStrategy
    from cascade.spec.policy import Policy
    from cascade.spec.records import Record
    from cascade.spec.task import Task


JOURNALED: Final = "Journaled"
"""The reason of the event about a call that a durable run need not make again."""


class Places:
    """Ends the places of one run and settles what becomes due by that.

    Due are places that became ready but are not simply a thread's next call. Whoever made them ready settles them, from
    a list that grows while it is worked through: however deep graphs are nested, nothing here recurses.
    """

    def __init__(self, strategy: GraphExecutionStrategy) -> None:
        self._strategy = strategy
        self._run = strategy.run
        self._lock = strategy.run.lock
        self._dispatcher = strategy.dispatcher
        self.arguments = ArgumentResolver()

    def conclude(
        self,
        parent: Continuation,
        place: int,
        value: Any,
        due: Due,
        *,
        began: float | None = None,
        attempt: int = 1,
        journaled: bool = True,
        helper: Helper | None = None,
    ) -> None:
        """Take the value of a place, which is final; in a durable run it is complete when it is committed.

        Args:
            began: when the call began that gave it.
            attempt: which attempt at the call it was.
            journaled: whether it comes from a call, and not from a node that is settled anew in each process.
            helper: the worker thread that has made the call, if it sees to the commit before it does anything else.
        """
        state, journal = self._run.state, self._run.journal
        if state is not None:
            state.result(parent.place_id(place), value)
        if journal is not None and journaled:
            try:
                if journal.value(parent, place, value, began, attempt, helper):
                    return
            except BaseException as error:
                self.fail(parent, place, error, due)
                return
            if type(value) is TakenSignal:
                value = value.value
        self.complete(parent, place, value, due)

    def committed(self, places: list[tuple[Any, int, Any]]) -> None:
        """Complete places whose values are safe; on a thread that has the store, and must not run code of users."""
        due: Due = []
        for parent, place, value in places:
            self.complete(parent, place, value, due)
        if due:
            self._strategy.on_loop(partial(self.advance_on_loop, due))
        self._dispatcher.workers.ensure_others()

    def has_recalled(self, parent: Scheduler | MapExecution, place: int, due: Due) -> bool:
        """Settle a place if it has ended, or gone on with something, when the run was under way before."""
        record = parent.recalled.pop(place, None)
        if record is None:
            return False
        self._recall(parent, place, record, due)
        return True

    def _recall(self, parent: Continuation, place: int, record: Record, due: Due) -> None:
        journal = self._run.journal
        assert journal is not None
        try:
            if record.kind == "continues":
                lazy, rescue = journal.load_continuation(record)
                self._strategy.begin(self._strategy.recalled(lazy, rescue, record, parent, place), due)
                return
            value = journal.load(record)
        except BaseException as error:
            self.fail(parent, place, error, due)
            return
        self._run.teller.skipped(parent, place, parent.name_of(place), JOURNALED)
        self.complete(parent, place, value, due)

    def complete(self, parent: Continuation, place: int, value: Any, due: Due) -> None:
        """Hand the value of a place on to what waits for it."""
        if isinstance(parent, Scheduler):
            with self._lock:
                self.complete_locked(parent, place, value, due)
        else:
            assert isinstance(parent, MapExecution)
            if parent.store(place, value):
                self.end_map(parent, due)

    def complete_locked(self, scheduler: Scheduler, index: int, value: Any, due: Due) -> None:
        """Take the value of a node; with the lock."""
        scheduler.complete(index, value, due)
        if index == scheduler.plan.target:
            self._close(scheduler, due)
        elif scheduler.ready and not scheduler.listed:
            self._dispatcher.list_source_locked(scheduler)

    def skip(self, scheduler: Scheduler, index: int, reason: str, due: Due) -> None:
        """Skip a node."""
        lazy = scheduler.graph.lazies[index]
        if self._run.teller.tells and isinstance(lazy, (Call, MappedLazyResult)):
            self.tell_skip(scheduler, index, reason)
        with self._lock:
            scheduler.skip(index, reason, due)
            self._release_routes_locked(scheduler, index)
            if index == scheduler.plan.target:
                self._close(scheduler, due)

    def fail(
        self,
        parent: Continuation,
        place: int,
        error: BaseException,
        due: Due,
        *,
        began: float | None = None,
        attempt: int = 1,
        turn: Turn | None = None,
    ) -> None:
        """A place raised: the run stops, or goes on without it.

        Args:
            began: when the call began that raised, which is told to have failed; `None` where no call was made.
            attempt: which attempt at the call it was.
            turn: the turn of a loop that raised, where the place is that of the loop.
        """
        if isinstance(error, StopIteration):
            error = carried(error, parent.name_of(place) if turn is None else turn.name_of(0))
        annotate(error, parent, place, attempt=attempt, turn=turn)
        journal = self._run.journal
        if journal is not None and isinstance(error, Exception):
            journal.failure(parent, place, error, began, attempt)
        stops = not self._run.goes_on or not isinstance(error, Exception)
        if stops and not (self._run.stopping and isinstance(error, asyncio.CancelledError)):
            # Before anybody hears of the failure: what they do then must not find a run that still goes on.
            self._strategy.stop(error)
        if began is not None:
            teller, at = (parent, place) if turn is None else (turn, 0)
            self._run.teller.finished(teller, at, teller.name_of(at), began, error=error)
        if not stops:
            assert isinstance(error, Exception)
            with self._lock:
                self._strategy.failures.append(error)
            self._fail_place(parent, place, error, due)

    def _fail_place(self, parent: Continuation, place: int, error: BaseException, due: Due) -> None:
        if isinstance(parent, Scheduler):
            with self._lock:
                parent.fail(place, error, due)
                self._release_routes_locked(parent, place)
                if place == parent.plan.target:
                    self._close(parent, due)
        else:
            assert isinstance(parent, MapExecution)
            if parent.fail(place, error):
                self.end_map(parent, due)

    def fail_pulling(self, mapping: MapExecution, error: BaseException, due: Due) -> None:
        """An input of a map raised."""
        annotate(error, mapping.scheduler, mapping.index)
        if not self._run.goes_on or not isinstance(error, Exception):
            self._strategy.stop(error)
            return
        with self._lock:
            self._strategy.failures.append(error)
        if mapping.fail_pulling(error):
            self.end_map(mapping, due)

    def end_map(self, mapping: MapExecution, due: Due) -> None:
        """Every item of a map has ended."""
        mapping.close()
        kind, payload = mapping.ending()
        scheduler, index = mapping.scheduler, mapping.index
        with self._lock:
            scheduler.maps.pop(index, None)
            self._strategy.past.add_map(scheduler, index, mapping.done, mapping.failures)
        if kind == "value":
            self._run.teller.finished(scheduler, index, mapping.lazy.name, mapping.began, result=payload)
            if self._run.journal is not None:
                self._run.journal.mapped(mapping)
            self.conclude(scheduler, index, payload, due, journaled=False)
        else:
            self._run.teller.finished(scheduler, index, mapping.lazy.name, mapping.began, error=payload)
            if self._run.journal is not None:
                self._run.journal.mapped(mapping, payload)
            self._fail_place(scheduler, index, payload, due)

    def _close(self, scheduler: Scheduler, due: Due) -> None:
        """The target of a graph has ended: tell who waits for it; with the lock."""
        self._strategy.open_graphs.discard(scheduler)
        self._strategy.past.add_graph(scheduler)
        ending = self._ending_of(scheduler)
        # Whoever waits for it has it now: nothing else of the graph, which may be a cycle, keeps it alive.
        scheduler.drop_use(scheduler.plan.target)
        if scheduler.parent is not None:
            scheduler.parent.end_with(scheduler.parent_place, ending, due)
            return
        if ending[0] == "skipped":
            ending = ("failed", missing_target(scheduler, ending[1]))
        self._strategy.end_with(ending)

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

    def _release_routes_locked(self, scheduler: Scheduler, index: int) -> None:
        """A router that will never decide wants none of its routes."""
        if isinstance(scheduler.graph.lazies[index], Router):
            assert scheduler.flow is not None
            self.tell_pruned(scheduler, scheduler.flow.release_routes_locked(index))

    def tell_skip(self, scheduler: Scheduler, index: int, reason: str) -> None:
        """Tell and note a skip."""
        if self._run.state is not None:
            self._run.state.skip(scheduler.place_id(index), reason)
        if self._run.journal is not None and reason != RUN_STOPPED:
            self._run.journal.skipped(scheduler, index, reason)
        self._run.teller.skipped(scheduler, index, scheduler.name_of(index), reason)

    def tell_pruned(self, scheduler: Scheduler, pruned: list[int]) -> None:
        """Tell what was pruned by one decision, which is told by whoever made it."""
        if not self._run.teller.tells:
            return
        for index in pruned:
            if isinstance(scheduler.graph.lazies[index], (Call, MappedLazyResult)):
                self.tell_skip(scheduler, index, PRUNED)

    def advance(self, due: Due) -> None:
        """Settle everything that is due, and what becomes due by it; without the lock."""
        if self._strategy.has_let_go:
            # What was committed while the run was stopped: on resume it is known, and this is settled anew.
            return
        for parent, place in due:
            if isinstance(parent, Scheduler):
                self._settle(parent, place, due)
            else:
                assert isinstance(parent, MapExecution)
                self._settle_item(parent, place, due)
        self._dispatcher.workers.ensure()

    def advance_on_loop(self, due: Due) -> None:
        """The same on the loop's thread, where what the loop gets need not be sent to it."""
        self._dispatcher.begin_on_loop()
        try:
            self.advance(due)
        finally:
            self._dispatcher.end_on_loop()

    def _settle(self, scheduler: Scheduler, index: int, due: Due) -> None:
        plan = scheduler.plan
        flow = scheduler.flow
        if index < plan.size and index in scheduler.returned:
            self._end_returned(scheduler, index, scheduler.returned.pop(index), due)
            return
        if index >= plan.size:
            settle_connector(self._strategy, scheduler, plan.router_of[index], due, woken=True)
            return
        if flow is not None and flow.counts_demand:
            with self._lock:
                if not flow.claim_locked(index):
                    return
        if scheduler.recalled and self.has_recalled(scheduler, index, due):
            return
        if scheduler.entries[index] == DECIDE:
            if flow is None:
                flow = scheduler.flow = FlowManager(scheduler, self._lock)
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
            settle_connector(self._strategy, scheduler, index, due)
        elif lane == MAP:
            self._start_map(scheduler, index, due)
        else:
            with self._lock:
                self._dispatcher.hand_over_locked(scheduler, index, lane)

    def _end_returned(self, scheduler: Scheduler, index: int, ending: Ending, due: Due) -> None:
        kind, payload = ending
        if kind == "value":
            self.conclude(scheduler, index, payload, due)
        elif kind == "skipped":
            with self._lock:
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
            error = mapping.missing(place, payload)
            if payload == UPSTREAM_FAILED:
                # The failure that is behind it has been told already.
                self._fail_place(mapping, place, error, due)
            else:
                self.fail(mapping, place, error, due)
        else:
            self._fail_place(mapping, place, payload, due)

    def _start_map(self, scheduler: Scheduler, index: int, due: Due) -> None:
        lazy = scheduler.graph.lazies[index]
        assert isinstance(lazy, MappedLazyResult)
        began = self._run.teller.started(scheduler, index, lazy.name)
        try:
            args, kwargs, inputs = self.arguments.resolve_map(scheduler, index)
            check_inputs(lazy, inputs, self._run.begun_iterators)
            mapping = MapExecution(scheduler, index, args, kwargs, inputs, 2 * self._strategy.engine.max_workers)
        except BaseException as error:
            self.fail(scheduler, index, error, due, began=began)
            return
        mapping.began = began
        if self._run.journal is not None:
            self._run.journal.enter_map(mapping)
        scheduler.maps[index] = mapping
        self._dispatcher.hand_over_map(mapping)

    def call_at(self, parent: Continuation, place: int) -> tuple[Task[..., Any], Sequence[Any], Mapping[str, Any]]:
        """The task and the finished arguments of the call at a place."""
        if isinstance(parent, Scheduler):
            lazy: Any = parent.graph.lazies[place]
            reference = parent.plan.references[place]
            if type(reference) is int:
                # As in a chain: found here it costs half.
                return lazy.task, (parent.values[reference],), lazy.kwargs
            return lazy.task, *self.arguments.resolve(parent, place)
        assert isinstance(parent, MapExecution)
        return parent.lazy.task, *parent.items.pop(place)

    def subject_of(self, parent: Continuation, place: int) -> Subject:
        """What limits may know of the call at a place."""
        if isinstance(parent, Scheduler):
            lazy: Any = parent.graph.lazies[place]
        else:
            assert isinstance(parent, (MapExecution, Turn))
            lazy = parent.lazy if isinstance(parent, MapExecution) else parent.call
        return Subject(parent.name_of(place), self._run.id, lazy.task.tags, self._run.outer_ids)

    def policy_of(self, parent: Continuation, place: int) -> Policy | None:
        """The policies of the call at a place."""
        if isinstance(parent, Scheduler):
            return parent.graph.lazies[place].policy
        assert isinstance(parent, MapExecution)
        return parent.lazy.policy
