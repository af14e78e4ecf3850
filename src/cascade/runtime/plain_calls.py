"""Plain calls on a worker thread: of nodes, of items of maps, and the turns of loops that these return."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from cascade.runtime.map_inputs import QuickRows
from cascade.runtime.returned import Turn, continuation_of, is_direct
from cascade.runtime.scheduler import MISSING
from cascade.spec.containers import PLAIN

if TYPE_CHECKING:
    from cascade.runtime.mapping import Item, MapExecution
    from cascade.runtime.run import Helper
    from cascade.runtime.scheduler import Continuation, Due, Scheduler
    from cascade.runtime.strategies.graph import GraphExecutionStrategy
    from cascade.runtime.workers import WorkerLane
    from cascade.spec.lazy_types import LazyResult

_TURNS_BETWEEN_LOOKS: Final = 512
_ITEMS_BETWEEN_LOOKS: Final = 64


class PlainCalls:
    """Makes the calls of helpers, with as little as possible around each."""

    def __init__(self, strategy: GraphExecutionStrategy, lane: WorkerLane) -> None:
        self._strategy = strategy
        self._lane = lane

    def call(self, helper: Helper, scheduler: Scheduler, index: int, due: Due) -> Any:
        """Call one node; its value, which is still to be taken, or `MISSING` where all is done."""
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
                return MISSING
        helper.place = index
        helper.parent = scheduler
        began = teller.started(scheduler, index, lazy.name) if teller.tells else 0.0
        try:
            if kwargs:
                value = run.context.copy().run(lazy.task.function, *args, **kwargs)
            else:
                value = run.context.copy().run(lazy.task.function, *args)
            more = None if type(value) in PLAIN else continuation_of(lazy.task.name, value)
        except BaseException as error:
            strategy.places.fail(scheduler, index, error, due, began=began)
            return MISSING
        if more is not None:
            del args, kwargs, value
            self._continue(helper, scheduler, index, more, began, due)
            return MISSING
        if not teller.tells:
            return value
        teller.finished(scheduler, index, lazy.name, began, result=value)
        strategy.places.conclude(scheduler, index, value, due, began=began, helper=helper)
        return MISSING

    def call_items(self, helper: Helper, scheduler: Scheduler, index: int, due: Due) -> None:
        """Call item after item of a map, until its rows are exhausted or something is preferred."""
        mapping = scheduler.maps.get(index)
        if mapping is None:
            # Another helper has ended the map since it was taken.
            return
        if isinstance(mapping.rows, QuickRows) and not self._strategy.run.teller.tells:
            self._call_quick_items(helper, mapping, mapping.rows, due)
        else:
            self._call_told_items(helper, mapping, due)

    def _call_quick_items(self, helper: Helper, mapping: MapExecution, rows: QuickRows, due: Due) -> None:
        """The way of items whose begin and end interest nobody: no lock is taken for one that just gives a value."""
        places, lane, teller = self._strategy.places, self._lane, self._strategy.run.teller
        name, function = mapping.lazy.name, mapping.lazy.task.function
        copy = self._strategy.run.context.copy
        numbered, results, is_plain = rows.numbered, mapping.results, mapping.is_plain
        calls = 0
        mapping.enter()
        while not mapping.exhausted:
            try:
                row = next(numbered, None)
            except BaseException as error:
                places.fail_pulling(mapping, error, due)
                break
            if row is None:
                mapping.exhausted = True
                break
            helper.place = place = row[-1]
            helper.parent = mapping
            try:
                if is_plain:
                    value = copy().run(function, *row[:-1])
                else:
                    args, kwargs = mapping.arguments(row[:-1])
                    value = copy().run(function, *args, **kwargs)
                more = None if type(value) in PLAIN else continuation_of(name, value)
            except BaseException as error:
                mapping.open()
                places.fail(mapping, place, error, due)
            else:
                if more is None:
                    results[place] = value
                else:
                    mapping.open()
                    self._continue(helper, mapping, place, more, 0.0, due)
            helper.parent = None
            if helper.permit is not None:
                helper.give_permit_back()
            calls += 1
            if not calls % _ITEMS_BETWEEN_LOOKS:
                lane.taken += _ITEMS_BETWEEN_LOOKS
                lane.ensure()
            if due or teller.tells or self._has_better_to_do(mapping):
                break
        if mapping.leave():
            places.end_map(mapping, due)

    def _call_told_items(self, helper: Helper, mapping: MapExecution, due: Due) -> None:
        """The way of items that are told or noted one by one, or whose pulling runs code of users."""
        strategy = self._strategy
        copy = strategy.run.context.copy
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
            if not (mapping.recalled and strategy.places.has_recalled(mapping, item[0], due)):
                self._call_item(helper, mapping, item, due)
            if due or not mapping.is_quick or self._has_better_to_do(mapping):
                return
            self._lane.taken += 1
            self._lane.ensure()

    def _call_item(self, helper: Helper, mapping: MapExecution, item: Item, due: Due) -> None:
        strategy = self._strategy
        teller = strategy.run.teller
        place, args, kwargs = item
        name, function = mapping.lazy.name, mapping.lazy.task.function
        helper.place = place
        helper.parent = mapping
        began = teller.started(mapping, place, name) if teller.tells else 0.0
        try:
            value = strategy.run.context.copy().run(function, *args, **kwargs)
            more = None if type(value) in PLAIN else continuation_of(name, value)
        except BaseException as error:
            strategy.places.fail(mapping, place, error, due, began=began)
        else:
            if more is not None:
                self._continue(helper, mapping, place, more, began, due)
            else:
                teller.finished(mapping, place, name, began, result=value)
                strategy.places.conclude(mapping, place, value, due, began=began, helper=helper)
        helper.has_called()
        helper.wake_writer()

    def _has_better_to_do(self, mapping: MapExecution) -> bool:
        """Whether workers must look up, a map has no room, or a node or a run that is preferred to it waits."""
        journal = self._strategy.run.journal
        if self._strategy.dispatcher.interrupted or (journal is not None and journal.may_be_lost()):
            return True
        if not mapping.has_room():
            return True
        try:
            preferred = mapping.scheduler.ready[0]
        except IndexError:
            # Another helper has found the rows exhausted.
            return True
        return preferred != mapping.index or self._lane.others_wait()

    def _continue(
        self, helper: Helper, parent: Continuation, place: int, more: LazyResult[Any], began: float, due: Due
    ) -> None:
        """A call returned a lazy value: while that is one plain call of literals, make it right here, without a graph.

        This is the hot turn of loops: it costs the call and half a microsecond, where a graph costs ten.
        """
        strategy = self._strategy
        dispatcher = strategy.dispatcher
        teller, copy = strategy.run.teller, strategy.run.context.copy
        is_durable = strategy.run.journal is not None
        speaker: Continuation = parent
        at = place
        turns = 0
        while True:
            call: Any = more
            if (
                is_durable
                or not is_direct(more)
                or call.task.is_async
                or dispatcher.interrupted
                or (turns % _TURNS_BETWEEN_LOOKS == _TURNS_BETWEEN_LOOKS - 1 and self._lane.must_yield())
            ):
                self._follow(helper, parent, place, more, turns, speaker, at, began, due)
                break
            turns += 1
            helper.turn = (call, turns)
            if teller.tells:
                turn = Turn(parent, place, call, turns)
                teller.finished(speaker, at, speaker.name_of(at), began, continues_as=turn.place_id(0))
                speaker, at = turn, 0
                began = teller.started(turn, 0, call.name)
            try:
                if call.kwargs:
                    value = copy().run(call.task.function, *call.args, **call.kwargs)
                else:
                    value = copy().run(call.task.function, *call.args)
                found = None if type(value) in PLAIN else continuation_of(call.task.name, value)
            except BaseException as error:
                strategy.places.fail(parent, place, error, due, turn=Turn(parent, place, call, turns), began=began)
                break
            if found is None:
                teller.finished(speaker, at, call.name, began, result=value)
                strategy.places.conclude(parent, place, value, due, began=began, helper=helper)
                break
            more = found
        helper.turn = None

    def _follow(
        self,
        helper: Helper,
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
        teller = strategy.run.teller
        try:
            scheduler = strategy.continuation(parent, place, more, turns=turns)
        except BaseException as error:
            turn = speaker if isinstance(speaker, Turn) else None
            strategy.places.fail(parent, place, error, due, began=began, turn=turn)
            return
        if teller.tells:
            teller.finished(speaker, at, speaker.name_of(at), began, continues_as=scheduler.target_id)
        # A loop that has just looked up to let others have their turn goes behind them.
        strategy.begin_returned(scheduler, more, due, last=turns > 0, helper=helper)
