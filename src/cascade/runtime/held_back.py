"""Which calls of a run are held back at this moment, and by what; read from outside while the run goes on."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

from cascade.runtime.mapping import MapExecution
from cascade.runtime.resolvers import ConstraintResolver
from cascade.runtime.scheduler import Scheduler
from cascade.spec.constraint import exact_amount
from cascade.spec.exceptions import CapacityError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cascade.runtime.attempts import Attempt
    from cascade.runtime.constraints.gate import Claim, Gate
    from cascade.runtime.run import Caller
    from cascade.runtime.strategies.graph import GraphExecutionStrategy


class HeldBack(NamedTuple):
    """Calls that could start if something let them.

    Attributes:
        name: the name of their task.
        reason: what holds them back now, in words.
        calls: how many they are.
    """

    name: str
    reason: str
    calls: int


class _Kind(NamedTuple):
    """What calls that are held back by the same things have in common.

    Attributes:
        name: the name of their task.
        resources: what they take of the system.
        leave: how limits count them; `None` for those that were not let go, or before there were limits.
        has_capacity: whether they have what they take.
    """

    name: str
    resources: tuple[str, ...]
    leave: str | None
    has_capacity: bool


def held_back(
    strategy: GraphExecutionStrategy, attempts: Iterable[Attempt], awaiting: Iterable[tuple[Caller, str]]
) -> tuple[HeldBack, ...]:
    """The calls of a run that are held back, by task and reason, in the order of their names; from any thread.

    Each call is looked at for a moment, and of those that are alike one is asked what it waits for.

    Args:
        strategy: has the run.
        attempts: those under way.
        awaiting: the calls that wait for something from outside, and for what.
    """
    kinds: Counter[_Kind] = Counter()
    examples: dict[_Kind, Attempt] = {}
    for attempt in attempts:
        if attempt.making is None and attempt.parent is not None:
            kind = _kind_of(strategy, attempt)
            kinds[kind] += 1
            examples[kind] = attempt
    found: Counter[tuple[str, str]] = Counter()
    for caller, reason in awaiting:
        where = caller.where()
        if where is not None:
            found[where[0].name_of(where[1]), reason] += 1
    for kind, calls in kinds.items():
        reason = _reason(strategy, examples[kind], kind)
        if reason:
            found[kind.name, reason] += calls
    return tuple(HeldBack(*key, calls) for key, calls in sorted(found.items()))


def _kind_of(strategy: GraphExecutionStrategy, attempt: Attempt) -> _Kind:
    parent, permit = attempt.parent, attempt.permit
    assert parent is not None
    policy = strategy.places.policy_of(parent, attempt.place)
    resources = () if policy is None or not policy.constraints else tuple(policy.constraints)
    leave = None if permit is None else permit.state
    return _Kind(parent.name_of(attempt.place), resources, leave, attempt.grant is not None)


def _reason(strategy: GraphExecutionStrategy, attempt: Attempt, kind: _Kind) -> str:
    """What holds back such a call; empty for one that is let go, and just about to be made."""
    if kind.leave is None:
        spare = not kind.resources or bool(strategy.run.held_by_callers())
        limits = _limits(strategy, attempt, "spare_at" if spare else "ready_at")
        if limits:
            return limits
    elif kind.leave == "reserved" and kind.has_capacity:
        return _limits(strategy, attempt, "back_at")
    if kind.has_capacity or not kind.resources:
        return ""
    names = _lacking(strategy, attempt)
    return f"waiting for {', '.join(names)}" if names else ""


def _limits(strategy: GraphExecutionStrategy, attempt: Attempt, claim: Claim) -> str:
    """The limits that do not allow such a call now."""
    constraints = strategy.engine.constraints
    if not constraints.active:
        return ""
    assert attempt.parent is not None
    subject = strategy.places.subject_of(attempt.parent, attempt.place)

    def blocking(gate: Gate, now: float) -> str:
        limits = gate.limits_of(subject)
        return "; ".join(str(limit.constraint) for limit in limits if getattr(limit.handler, claim)(now) > now)

    return constraints.look(blocking)


def _lacking(strategy: GraphExecutionStrategy, attempt: Attempt) -> list[str]:
    """The resources for which a call waits: those of which there is too little now, or all if others are before it."""
    parent, place = attempt.parent, attempt.place
    scheduler, index = (parent.scheduler, parent.index) if isinstance(parent, MapExecution) else (parent, place)
    assert isinstance(scheduler, Scheduler)
    usage = strategy.engine.capacities.usage()
    try:
        amounts = {
            name: exact_amount(name, amount)
            for name, amount in ConstraintResolver().resolve(scheduler, index).items()
            if name in usage
        }
    except CapacityError:
        # The call has ended meanwhile, and with it the value of a lazy amount has gone.
        return []
    wanted = {name: amount for name, amount in amounts.items() if amount}
    return [name for name, amount in wanted.items() if usage[name][0] + amount > usage[name][1]] or list(wanted)
