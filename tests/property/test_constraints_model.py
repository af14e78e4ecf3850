"""Random schedules of changing limits, while calls come and go, against a sequential model of S24."""

import asyncio
import fnmatch
import math
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from cascade.runtime.constraints.manager import ConstraintManager, Permit
from cascade.runtime.constraints.scopes import Subject
from cascade.spec.constraint import GlobalConstraint
from cascade.testing.clock import MockClock
from tests.conftest import RANDOM_WORKFLOWS

SUBJECTS = [
    Subject("fetch", "r1", ("net",)),
    Subject("fetch", "r2", ("net",)),
    Subject("parse", "r1", ()),
    Subject("store", "r2", ("disk", "net")),
]
SCOPES = st.sampled_from(["global", "task:fetch", "task:*e", "run:r1", "tag:net"])
# Sums and quotients of these are exact in binary, so that the model may use fractions.
MOMENTS = st.sampled_from([0.25, 0.5, 1.0, 2.0, 4.0, 16.0])
TTLS = st.one_of(st.none(), st.none(), MOMENTS)
CONSTRAINTS = st.one_of(
    st.builds(lambda scope, ttl: GlobalConstraint.pause(scope, ttl=ttl), SCOPES, MOMENTS),
    st.builds(
        lambda limit, scope, ttl: GlobalConstraint.concurrency(limit, scope, ttl=ttl),
        st.integers(0, 3),
        SCOPES,
        TTLS,
    ),
    st.builds(
        lambda rate, burst, scope, ttl: GlobalConstraint.rate_limit(rate, burst, scope, ttl=ttl),
        st.sampled_from([0.25, 0.5, 1.0, 2.0]),
        st.integers(1, 3),
        SCOPES,
        TTLS,
    ),
)
VALUES = {
    "call": st.sampled_from(SUBJECTS),
    "try": st.sampled_from(SUBJECTS),
    "enlist": st.sampled_from(SUBJECTS),
    "set": CONSTRAINTS,
    "remove": SCOPES,
    "advance": MOMENTS,
}
# Calls come in more often than they end, so that there is always somebody who waits.
KINDS = [*["call"] * 5, *["end"] * 2, *["end_and_cancel"] * 2, *["set"] * 3, *["advance"] * 2]
KINDS += ["cancel", "remove", "try", "enlist", "suspend", "resume"]
STEPS = st.lists(
    st.sampled_from(KINDS).flatmap(lambda kind: st.tuples(st.just(kind), VALUES.get(kind, st.integers(0, 30)))),
    min_size=30,
    max_size=60,
)


@dataclass
class Bucket:
    rate: Fraction
    burst: int
    tokens: Fraction
    at: Fraction

    def level(self, now: Fraction) -> Fraction:
        return min(Fraction(self.burst), self.tokens + (now - self.at) * self.rate)

    def add(self, tokens: int, now: Fraction) -> None:
        self.tokens, self.at = min(Fraction(self.burst), self.level(now) + tokens), now


@dataclass
class Model:
    """After every event, in order of arrival: whoever all limits allow starts."""

    now: Fraction = Fraction(0)
    limits: dict[tuple[str, str], GlobalConstraint] = field(default_factory=dict)
    ends: dict[tuple[str, str], Fraction] = field(default_factory=dict)
    buckets: dict[tuple[str, str], Bucket] = field(default_factory=dict)
    waiting: dict[int, Subject] = field(default_factory=dict)
    running: dict[int, Subject] = field(default_factory=dict)
    suspended: set[int] = field(default_factory=set)
    untracked: set[int] = field(default_factory=set)
    started: list[int] = field(default_factory=list)

    def within(self, subject: Subject) -> list[tuple[str, str]]:
        found = []
        for scope, kind in self.limits:
            part, _, pattern = scope.partition(":")
            names = {
                "global": [""],
                "task": [subject.task_name],
                "run": [subject.run_id],
                "tag": subject.tags,
            }[part]
            if any(fnmatch.fnmatchcase(name, pattern) for name in names):
                found.append((scope, kind))
        return found

    def allows(self, key: tuple[str, str]) -> bool:
        constraint = self.limits[key]
        if constraint.type == "pause":
            return False
        if constraint.type == "rate_limit":
            return self.buckets[key].level(self.now) >= 1
        counted = [
            number
            for number, subject in self.running.items()
            if number not in self.suspended | self.untracked and key in self.within(subject)
        ]
        assert constraint.limit is not None
        return len(counted) < constraint.limit

    def serve(self) -> None:
        for number, subject in list(self.waiting.items()):
            limits = self.within(subject)
            if all(self.allows(key) for key in limits):
                self.running[number] = self.waiting.pop(number)
                self.started.append(number)
                for key in limits:
                    if key in self.buckets:
                        self.buckets[key].add(-1, self.now)

    def arrive(self, number: int, subject: Subject) -> None:
        self.waiting[number] = subject
        if not self.limits:
            self.untracked.add(number)
        self.serve()

    def end(self, number: int) -> None:
        del self.running[number]
        self.serve()

    def put(self, constraint: GlobalConstraint) -> None:
        key = (constraint.scope, constraint.type)
        self.limits[key] = constraint
        self.ends.pop(key, None)
        if constraint.ttl is not None:
            self.ends[key] = self.now + Fraction(constraint.ttl)
        if constraint.type == "rate_limit":
            assert constraint.rate is not None
            earlier = self.buckets.get(key)
            level = Fraction(constraint.burst) if earlier is None else earlier.level(self.now)
            self.buckets[key] = Bucket(
                Fraction(constraint.rate), constraint.burst, min(level, Fraction(constraint.burst)), self.now
            )
        self.serve()

    def drop(self, keys: list[tuple[str, str]]) -> None:
        for key in keys:
            del self.limits[key]
            self.ends.pop(key, None)
            self.buckets.pop(key, None)

    def advance(self, seconds: float) -> None:
        target = self.now + Fraction(seconds)
        while True:
            levels = [(bucket.level(self.now), bucket.rate) for bucket in self.buckets.values()]
            moments = [
                *self.ends.values(),
                *(self.now + (1 - level) / rate for level, rate in levels if level < 1),
            ]
            moments = [moment for moment in moments if moment <= target]
            if not moments:
                break
            self.now = min(moments)
            self.drop([key for key, moment in self.ends.items() if moment <= self.now])
            self.serve()
        self.now = target


async def settle() -> None:
    for _ in range(6):
        await asyncio.sleep(0)


async def follow(steps: list[tuple[str, Any]]) -> None:  # noqa: C901 - one branch for each kind of step
    clock = MockClock(autojump_threshold=math.inf)
    manager = ConstraintManager(clock)
    model = Model()
    permits: dict[int, Permit] = {}
    tasks: dict[int, asyncio.Task[None]] = {}
    started: list[int] = []
    reasons: dict[int, list[str]] = {}

    async def call(number: int, subject: Subject) -> None:
        permits[number] = await manager.admit(subject, reasons.setdefault(number, []).append)
        started.append(number)

    def pick(choices: Any, value: int) -> int:
        return sorted(choices)[value % len(choices)]

    for number, (step, value) in enumerate(steps):
        if step == "call":
            tasks[number] = asyncio.ensure_future(call(number, value))
            model.arrive(number, value)
            await settle()
            assert len(reasons[number]) == (number in model.waiting)
            assert all(reasons[number])
        elif step == "try":
            model.arrive(number, value)
            permit = manager.try_admit(value)
            assert (permit is not None) == (number in model.running)
            if permit is None:
                del model.waiting[number]
            else:
                permits[number] = permit
                started.append(number)
        elif step == "enlist":
            permits[number] = manager.enlist(value)
            model.running[number] = value
        elif step == "end" and permits:
            chosen = pick(permits, value)
            permits.pop(chosen).release()
            model.end(chosen)
        elif step == "end_and_cancel" and permits:
            # Whoever is let go by the end of this call is cancelled before it knows: all comes back.
            chosen = pick(permits, value)
            before = set(model.running)
            permits.pop(chosen).release()
            model.end(chosen)
            for lucky in set(model.running) - before:
                tasks[lucky].cancel()
                model.started.remove(lucky)
                for key in model.within(model.running.pop(lucky)):
                    if key in model.buckets:
                        model.buckets[key].add(1, model.now)
            model.serve()
        elif step in {"suspend", "resume"} and permits:
            chosen = pick(permits, value)
            if step == "suspend":
                permits[chosen].suspend()
                model.suspended.add(chosen)
            else:
                permits[chosen].resume()
                model.suspended.discard(chosen)
            model.serve()
        elif step == "cancel" and model.waiting:
            chosen = pick(model.waiting, value)
            tasks[chosen].cancel()
            del model.waiting[chosen]
            model.serve()
        elif step == "set":
            manager.set(value)
            model.put(value)
        elif step == "remove":
            keys = [key for key in model.limits if key[0] == value]
            assert manager.remove(value) == bool(keys)
            model.drop(keys)
            model.serve()
        elif step == "advance":
            clock.advance(value)
            model.advance(value)
        await settle()
        assert started == model.started
        assert set(permits) == set(model.running)
        assert manager.active == bool(model.limits)
        assert set(manager.list()) == set(model.limits.values())
        assert all(len(told) <= 1 for told in reasons.values())

    for constraint in manager.list():
        manager.remove(constraint.scope)
    await settle()
    assert all(task.done() for task in tasks.values())
    for permit in permits.values():
        permit.release()
    assert manager._gate._running == {}
    assert manager._gate.all_lines() == []
    assert manager._timer is None


@settings(max_examples=max(1, round(RANDOM_WORKFLOWS * 0.4)))
@given(STEPS)
def test_any_schedule_of_changes_lets_go_whom_the_limits_allow_and_nobody_else(
    steps: list[tuple[str, Any]],
) -> None:
    asyncio.run(follow(steps))  # S24
