"""Nodes that make no call: whoever makes them ready settles them at once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cascade.runtime.flow import (
    CONDITION_FALSE,
    SKIPPED_CONDITION,
    SKIPPED_DATA,
    SKIPPED_ROUTE,
    UPSTREAM_FAILED,
)
from cascade.runtime.scheduler import MISSING
from cascade.spec.flow import Fallback, Sequence
from cascade.spec.input import Input
from cascade.spec.lazy_types import Constant, Derived, Gathered
from cascade.spec.routing import Router

if TYPE_CHECKING:
    from cascade.runtime.scheduler import Due, Scheduler
    from cascade.runtime.strategies.graph import GraphExecutionStrategy


def settle_connector(
    strategy: GraphExecutionStrategy, scheduler: Scheduler, index: int, due: Due, *, woken: bool = False
) -> None:
    """Give a connector its value, or skip it.

    Args:
        woken: a route of this router has ended.
    """
    lazy = scheduler.graph.lazies[index]
    try:
        if isinstance(lazy, Router):
            _settle_router(strategy, scheduler, index, due, woken)
        elif isinstance(lazy, Sequence):
            _settle_sequence(strategy, scheduler, index, lazy, due)
        elif isinstance(lazy, Fallback):
            _settle_fallback(strategy, scheduler, index, lazy, due)
        else:
            strategy.places.conclude(scheduler, index, _value_of(strategy, scheduler, index), due, journaled=False)
    except BaseException as error:
        strategy.places.fail(scheduler, index, error, due)


def _value_of(strategy: GraphExecutionStrategy, scheduler: Scheduler, index: int) -> Any:
    lazy = scheduler.graph.lazies[index]
    if isinstance(lazy, Constant):
        return lazy.value
    if isinstance(lazy, Input):
        return strategy.run.inputs[lazy.spec]
    if isinstance(lazy, Gathered):
        return lazy.packed.fill([scheduler.values[scheduler.graph.index_of[value]] for value in lazy.packed.lazies])
    assert isinstance(lazy, Derived)
    args, _ = strategy.places.arguments.resolve(scheduler, index)
    return lazy.function(*args)


def _settle_router(strategy: GraphExecutionStrategy, scheduler: Scheduler, index: int, due: Due, woken: bool) -> None:
    flow = scheduler.flow
    assert flow is not None
    if not woken:
        strategy.places.tell_pruned(scheduler, flow.decide(index, due))
        return
    with strategy.lock:
        chosen = flow.choice_of(index)
        if chosen is None or index in scheduler.skipped or scheduler.values[index] is not MISSING:
            return
        if not scheduler.has_ended(chosen):
            # Another route of this router has ended, which something else wanted.
            scheduler.pending[scheduler.plan.wake_of[index]] = 1
            return
        value = scheduler.values[chosen]
        reason = scheduler.skipped.get(chosen)
        scheduler.drop_use(chosen)
    if value is not MISSING:
        strategy.places.conclude(scheduler, index, value, due, journaled=False)
    elif reason is None or reason == UPSTREAM_FAILED:
        strategy.places.skip(scheduler, index, UPSTREAM_FAILED, due)
    else:
        strategy.places.skip(scheduler, index, SKIPPED_ROUTE, due)


def _settle_sequence(
    strategy: GraphExecutionStrategy, scheduler: Scheduler, index: int, lazy: Sequence, due: Due
) -> None:
    members = [scheduler.graph.index_of[member] for member in lazy.members]
    if any(member in scheduler.failed or scheduler.skipped.get(member) == UPSTREAM_FAILED for member in members):
        strategy.places.skip(scheduler, index, UPSTREAM_FAILED, due)
    elif any(member in scheduler.skipped for member in members):
        strategy.places.conclude(scheduler, index, None, due, journaled=False)
    else:
        strategy.places.conclude(scheduler, index, scheduler.values[members[-1]], due, journaled=False)


def _settle_fallback(
    strategy: GraphExecutionStrategy, scheduler: Scheduler, index: int, lazy: Fallback, due: Due
) -> None:
    step, before = scheduler.graph.index_of[lazy.step], scheduler.graph.index_of[lazy.before]
    source = step
    if scheduler.skipped.get(step) in (CONDITION_FALSE, SKIPPED_CONDITION):
        source = before
    if scheduler.values[source] is not MISSING:
        strategy.places.conclude(scheduler, index, scheduler.values[source], due, journaled=False)
        return
    reason = scheduler.skipped.get(source)
    if reason is None or reason == UPSTREAM_FAILED:
        strategy.places.skip(scheduler, index, UPSTREAM_FAILED, due)
    elif reason == SKIPPED_ROUTE and isinstance(scheduler.graph.lazies[source], Router):
        strategy.places.skip(scheduler, index, SKIPPED_ROUTE, due)
    else:
        strategy.places.skip(scheduler, index, SKIPPED_DATA, due)
