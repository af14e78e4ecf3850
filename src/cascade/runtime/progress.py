"""How far runs have come, read from outside while they go on: nothing is counted in the runs for this.

The numbers are taken without locks, so those of one moment may differ by the few calls that end meanwhile.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

from cascade.runtime.held_back import HeldBack, held_back
from cascade.runtime.plan import AT_ONCE, MAP
from cascade.runtime.scheduler import MISSING
from cascade.runtime.trouble import declared_at
from cascade.spec.lazy_types import Gathered

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cascade.runtime.attempts import Attempt
    from cascade.runtime.engine import Engine
    from cascade.runtime.mapping import MapExecution
    from cascade.runtime.run import Caller
    from cascade.runtime.scheduler import Scheduler
    from cascade.runtime.strategies.graph import GraphExecutionStrategy
    from cascade.spec.lazy_types import LazyResult

T = TypeVar("T")
_TRIES: Final = 8
_MOST_MEMBERS: Final = 100
_NAMES_SHOWN: Final = 3
_MOST_PAST_NAMES: Final = 1_000
_MOST_CALLS: Final = 1_000


@dataclass(frozen=True, slots=True)
class TaskProgress:
    """The calls of one name in the graphs of a run that are under way.

    Attributes:
        name: the name of the task.
        total: how many calls are known; of a map that has not begun none are.
        done: how many of them have ended with a value.
        active: how many are being made or wait for leave to be, and have not ended.
        skipped: how many will not run.
        failed: how many have raised, in a run that goes on.
        is_complete: whether no more calls of this name can come from what is known now.
    """

    name: str
    total: int
    done: int
    active: int
    skipped: int
    failed: int
    is_complete: bool


@dataclass(frozen=True, slots=True)
class RunProgress:
    """How far one run has come.

    Attributes:
        run_id: the run.
        parent_id: the run that one of whose calls has started this one, if there is one.
        target: the name of what was asked for, or of a few of them.
        is_stopping: whether nothing new starts any more.
        total: how many calls are known, items of maps included.
        done: how many calls have ended with a value.
        active: how many calls are being made or wait for leave to be; `None` where graphs were too large to
            look.
        skipped: how many calls will not run.
        failed: how many calls have raised, in a run that goes on.
        graphs: how many graphs are under way: the run's own, and those that calls have returned.
        is_complete: whether no map, whose number of items is unknown, is still to come or under way.
        tasks: the calls by name, in the order in which they were declared; `None` where graphs were too
            large to look.
        held_back: the calls among the active ones that limits hold back, or that wait for capacity, a signal or a
            moment, by what; `None` where there were too many to look.
        retrying: how many of the active calls wait for their next attempt, by the name of their task.
    """

    run_id: str
    parent_id: str | None
    target: str
    is_stopping: bool
    total: int
    done: int
    active: int | None
    skipped: int
    failed: int
    graphs: int
    is_complete: bool
    tasks: tuple[TaskProgress, ...] | None
    held_back: tuple[HeldBack, ...] | None = None
    retrying: tuple[tuple[str, int], ...] = ()


class Past:
    """What graphs and maps of a run that have ended came to.

    Attributes:
        done: how many calls ended with a value, items of maps included.
        skipped: how many calls did not run.
        failed: how many calls raised.
        target: the name of what was asked for, once the run has ended.
        by_name: the calls of graphs that have ended since somebody has looked at the run for the first time; `None`
            before that, so that it costs nothing where nobody does.
    """

    __slots__ = ("_maps", "by_name", "done", "failed", "skipped", "target")

    def __init__(self) -> None:
        self.done = 0
        self.skipped = 0
        self.failed = 0
        self.target = ""
        self.by_name: dict[str, _Tally] | None = None
        self._maps: dict[Scheduler, dict[int, tuple[int, int]]] = {}

    def items_of_map(self, scheduler: Scheduler, index: int) -> tuple[int, int]:
        """How many items a map had that has ended, and how many of them have failed; zero where that was not noted."""
        maps = self._maps.get(scheduler)
        return (0, 0) if maps is None else maps.get(index, (0, 0))

    def _add_names(self, scheduler: Scheduler, by_name: dict[str, _Tally]) -> None:
        lanes = scheduler.plan.lanes
        for index, lazy in enumerate(scheduler.graph.lazies):
            lane = lanes[index]
            if lane == AT_ONCE:
                continue
            tally = by_name.get(lazy.name)
            if tally is None:
                if len(by_name) >= _MOST_PAST_NAMES:
                    continue
                tally = by_name[lazy.name] = _Tally()
            if lane == MAP:
                tally.add_past(*self.items_of_map(scheduler, index))
                continue
            tally.total += 1
            if index in scheduler.skipped:
                tally.skipped += 1
            elif index in scheduler.failed:
                tally.failed += 1
            else:
                tally.done += 1
        self._maps.pop(scheduler, None)

    def add_graph(self, scheduler: Scheduler) -> None:
        """Take in a graph that is given up; with the lock of the run."""
        if self.by_name is not None:
            self._add_names(scheduler, self.by_name)
        self.done += scheduler.plan.calls
        if scheduler.skipped or scheduler.failed:
            skipped, failed = _without_value(scheduler)
            self.done -= skipped + failed
            self.skipped += skipped
            self.failed += failed

    def add_map(self, scheduler: Scheduler, index: int, items: int, failed: int) -> None:
        """Take in the items of a map that has ended; with the lock of the run."""
        # A map that has failed has no value that would tell it later.
        if self.by_name is not None or failed:
            self._maps.setdefault(scheduler, {})[index] = items, failed
        self.done += items - failed
        self.failed += failed


def progress_of(engine: Engine, most_nodes: int = 10_000) -> tuple[RunProgress, ...]:
    """How far the runs of an engine have come that are under way, from any thread.

    Args:
        engine: the engine.
        most_nodes: in how many nodes of a run to look for the names and states of calls, and at a tenth as many calls
            for what holds them back; beyond it only totals are told, in which calls that have ended cannot be told
            from other nodes that have.
    """
    strategies = _taken(engine.under_way)
    return tuple(progress_of_run(strategy, most_nodes) for strategy in strategies)


def progress_of_run(strategy: GraphExecutionStrategy, most_nodes: int = 10_000) -> RunProgress:
    """How far one run has come, also after it has ended; see `progress_of`."""
    run = strategy.run
    past = strategy.past
    schedulers = _taken(strategy.open_graphs)
    by_name: dict[str, _Tally] | None = {}
    if sum(scheduler.plan.size for scheduler in schedulers) > most_nodes:
        by_name = None
    total = _Tally()
    for scheduler in schedulers:
        if by_name is None:
            _look_from_afar(scheduler, total)
        else:
            _look_closely(scheduler, by_name, past)
        for mapping in _taken(scheduler.maps.values()):
            tally = total if by_name is None else by_name.setdefault(mapping.name_of(0), _Tally())
            _look_at_map(mapping, tally)
    attempts = _taken(strategy.attempts)
    if by_name is not None:
        _leave_out_queued(attempts, by_name)
        for tally in by_name.values():
            total.add(tally)
    by_name = _with_past(by_name, past)
    return RunProgress(
        run_id=run.id,
        parent_id=None if run.parent is None else run.parent.id,
        target=past.target or name_of_target(strategy.target),
        is_stopping=run.stopping,
        total=total.total + past.done + past.skipped + past.failed,
        done=total.done + past.done,
        active=None if by_name is None else total.active,
        skipped=total.skipped + past.skipped,
        failed=total.failed + past.failed,
        graphs=len(schedulers),
        is_complete=total.is_complete,
        tasks=None if by_name is None else tuple(tally.named(name) for name, tally in by_name.items()),
        held_back=(
            held_back(strategy, attempts, _taken(run.awaiting.items())) if len(attempts) <= most_nodes // 10 else None
        ),
        retrying=tuple(_taken(strategy.pausing.items())),
    )


def _with_past(by_name: dict[str, _Tally] | None, past: Past) -> dict[str, _Tally] | None:
    """The calls by name with those of graphs that have ended, of which notes are taken from now on."""
    if past.by_name is None:
        past.by_name = {}
    if by_name is None:
        return None
    found: dict[str, _Tally] = {}
    for source in (past.by_name, by_name):
        for name, tally in _taken(source.items()):
            found.setdefault(name, _Tally()).add(tally)
    return found


class _Tally:
    __slots__ = ("active", "done", "failed", "is_complete", "past_failed", "past_items", "skipped", "total")

    def __init__(self) -> None:
        self.total = 0
        self.done = 0
        self.active = 0
        self.skipped = 0
        self.failed = 0
        self.is_complete = True
        self.past_items = 0
        self.past_failed = 0

    def add_past(self, items: int, failed: int) -> None:
        """Count the items of a map that has ended, which are in the totals of the past already."""
        self.past_items += items
        self.past_failed += failed

    def add(self, other: _Tally) -> None:
        self.total += other.total
        self.done += other.done
        self.active += other.active
        self.skipped += other.skipped
        self.failed += other.failed
        self.is_complete = self.is_complete and other.is_complete
        self.add_past(other.past_items, other.past_failed)

    def named(self, name: str) -> TaskProgress:
        total, failed = self.total + self.past_items, self.failed + self.past_failed
        done = self.done + self.past_items - self.past_failed
        return TaskProgress(name, total, done, self.active, self.skipped, failed, self.is_complete)


def _look_closely(scheduler: Scheduler, by_name: dict[str, _Tally], past: Past) -> None:
    """Count the calls of one graph by name, node by node."""
    flow = scheduler.flow
    asks_flow = flow is not None and flow.counts_demand
    lanes, uses, pending = scheduler.plan.lanes, scheduler.uses, scheduler.pending
    skipped, failed, maps = scheduler.skipped, scheduler.failed, scheduler.maps
    waiting = {*_taken(scheduler.ready), *_taken(scheduler.fresh)}
    for index, (lazy, value) in enumerate(zip(scheduler.graph.lazies, scheduler.values, strict=True)):
        lane = lanes[index]
        if lane == AT_ONCE:
            continue
        tally = by_name.get(lazy.name)
        if tally is None:
            tally = by_name[lazy.name] = _Tally()
        if lane == MAP:
            # What counts of a map is its items: those of maps under way are counted by the map, and those
            # of maps that have ended are in the totals of the past.
            if isinstance(value, list):
                tally.add_past(len(cast(list[object], value)), 0)
                continue
            items, failures = past.items_of_map(scheduler, index)
            tally.add_past(items, failures)
            if (
                value is MISSING
                and not items
                and uses[index]
                and index not in maps
                and index not in skipped
                and index not in failed
            ):
                tally.is_complete = False
            continue
        tally.total += 1
        if value is not MISSING:
            tally.done += 1
        elif index in skipped:
            tally.skipped += 1
        elif index in failed:
            tally.failed += 1
        elif not uses[index]:
            tally.done += 1
        elif (
            not pending[index]
            and index not in waiting
            and not (asks_flow and flow is not None and not flow.is_live(index))
        ):
            tally.active += 1


def _leave_out_queued(attempts: list[Attempt], by_name: dict[str, _Tally]) -> None:
    """Count as active no calls that wait for a free thread or process."""
    for attempt in attempts:
        parent = attempt.parent
        if attempt.is_queued and parent is not None:
            tally = by_name.get(parent.name_of(attempt.place))
            if tally is not None and tally.active:
                tally.active -= 1


def _look_from_afar(scheduler: Scheduler, total: _Tally) -> None:
    """Count the calls of one graph by what is known of the whole."""
    skipped, failed = _without_value(scheduler)
    ended = scheduler.plan.size - scheduler.remaining
    total.total += scheduler.plan.calls
    total.skipped += skipped
    total.failed += failed
    total.done += max(0, min(scheduler.plan.calls, ended) - skipped - failed)
    if scheduler.remaining and scheduler.plan.lanes.count(MAP):
        total.is_complete = False


def _look_at_map(mapping: MapExecution, tally: _Tally) -> None:
    # In this order, because the number of rows grows before that of open ones does, and an item fails before it ends.
    failures = mapping.failures
    done = mapping.done
    pulled = mapping.pulled
    tally.total += pulled if mapping.total is None else mapping.total
    tally.done += max(0, done - failures)
    tally.failed += failures
    tally.active += max(0, pulled - done - len(mapping.items))
    if mapping.total is None:
        tally.is_complete = False


def _without_value(scheduler: Scheduler) -> tuple[int, int]:
    """How many calls of a graph were skipped and have failed; its maps are not calls."""
    lanes = scheduler.plan.lanes
    return (
        sum(lanes[index] not in (AT_ONCE, MAP) for index in _taken(scheduler.skipped)),
        sum(lanes[index] not in (AT_ONCE, MAP) for index in _taken(scheduler.failed)),
    )


@dataclass(frozen=True, slots=True)
class CallUnderWay:
    """A call that is being made.

    Attributes:
        task_id: its id in the run.
        declared_at: the file and the line where its lazy value was made, where that is known.
    """

    task_id: str
    declared_at: tuple[str, int] | None


def calls_under_way(strategy: GraphExecutionStrategy) -> list[CallUnderWay]:
    """The calls of a run that are being made, a thousand of them at most; from any thread."""
    dispatcher = strategy.dispatcher
    callers: list[Caller] = [*dispatcher.workers.callers(), *dispatcher.coroutines.callers()]
    callers += (
        attempt for attempt in _taken(strategy.attempts) if attempt.making is not None and not attempt.is_queued
    )
    found: list[CallUnderWay] = []
    for caller in callers[:_MOST_CALLS]:
        where = caller.where()
        if where is not None and caller not in strategy.run.awaiting:
            parent, place = where
            found.append(CallUnderWay(parent.place_id(place), declared_at(parent, place)))
    return found


def name_of_target(target: LazyResult[Any] | None) -> str:
    """The name of what was asked for, or of a few of them."""
    if not isinstance(target, Gathered):
        return "" if target is None else target.name
    names = list(dict.fromkeys(member.name for member in target.packed.lazies[:_MOST_MEMBERS]))
    if len(names) > _NAMES_SHOWN or len(target.packed.lazies) > _MOST_MEMBERS:
        return f"{', '.join(names[:_NAMES_SHOWN])}, ..."
    return ", ".join(names)


def _taken(source: Iterable[T]) -> list[T]:
    """A copy of what other threads change meanwhile; an empty one if they never pause."""
    for _ in range(_TRIES):
        try:
            return list(source)
        except RuntimeError:
            continue
    return []
