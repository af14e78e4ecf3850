"""Random schedules of adding, changing and removing limits while workflows run, against a model of S21, S23 and S24.

The model knows nothing of lines, permits and claims: it knows the limits in force, what runs, and what that allows.
"""

from __future__ import annotations

import asyncio
import fnmatch
import math
from contextvars import ContextVar
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

import cascade as cs
from cascade.runtime.events import TaskBlocked, TaskExecutionStarted, TaskSkipped
from cascade.runtime.progress import progress_of
from cascade.spec.context import call_context
from cascade.testing.clock import MockClock
from tests.conftest import RANDOM_WORKFLOWS

TAGS = {"fetch": ("net",), "store": ("net", "disk"), "parse": (), "outer": (), "big": ("net",), "big_outer": ()}
GPUS = 1
RUNS = ["r1", "r2", "r3"]
TICK = 0.25

# All moments are on the grid of ticks, and so is each moment at which a rate has its next token.
MOMENTS = st.sampled_from([0.25, 0.5, 1.0, 2.0])
SCOPES = ["global", "task:fetch", "task:*e", "task:big*", "task:outer", "run:r1", "run:r2", "tag:net", "tag:d*"]
# What waits for capacity has paid some time before it starts, which only who knows the lines can tell.
SCOPES_OF_RATES = ["task:fetch", "task:*e", "task:outer", "tag:d*"]
LIMITS = st.one_of(
    st.builds(lambda scope, ttl: cs.GlobalConstraint.pause(scope, ttl=ttl), st.sampled_from(SCOPES), MOMENTS),
    st.builds(
        lambda limit, scope, ttl: cs.GlobalConstraint.concurrency(limit, scope, ttl=ttl),
        st.sampled_from([0, 1, 1, 1, 2, 3]),
        st.sampled_from(SCOPES),
        st.one_of(st.none(), MOMENTS),
    ),
    st.builds(
        lambda rate, burst, scope, ttl: cs.GlobalConstraint.rate_limit(rate, burst, scope, ttl=ttl),
        st.sampled_from([0.5, "60/m", "2/s"]),
        st.integers(1, 3),
        st.sampled_from(SCOPES_OF_RATES),
        st.one_of(st.none(), MOMENTS),
    ),
)
LIGHT = st.sampled_from(["fetch", "store", "parse"])
ANY = st.sampled_from(["fetch", "big", "store", "big", "parse"])
SMALL = st.tuples(st.sampled_from(["plain", "policy"]), ANY, MOMENTS)
PARTS = st.one_of(
    SMALL,
    st.tuples(st.just("map"), ANY, st.lists(MOMENTS, min_size=1, max_size=5)),
    st.tuples(st.just("chain"), LIGHT, st.lists(MOMENTS, min_size=1, max_size=3)),
    st.tuples(st.just("tail"), LIGHT, st.lists(MOMENTS, min_size=1, max_size=3)),
    st.tuples(st.just("nested"), st.just("outer"), st.lists(SMALL, min_size=1, max_size=3)),
    st.tuples(
        st.just("nested"),
        st.just("big_outer"),
        st.lists(st.tuples(st.just("plain"), LIGHT, MOMENTS), min_size=1, max_size=3),
    ),
)
WORKFLOWS = st.lists(PARTS, min_size=2, max_size=5)
BUSY = st.tuples(
    st.just("set"), st.builds(cs.GlobalConstraint.concurrency, st.integers(1, 2), st.sampled_from(["global", "run:r1"]))
)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("set"), LIMITS),
        BUSY,
        st.tuples(st.just("advance"), st.sampled_from([0.25, 0.5, 1.0])),
        st.tuples(st.just("remove"), st.sampled_from(SCOPES)),
        st.tuples(st.just("begin"), st.sampled_from(RUNS)),
        st.tuples(st.just("begin"), st.sampled_from(RUNS)),
        st.tuples(st.just("cancel"), st.sampled_from(RUNS)),
    ),
    min_size=8,
    max_size=25,
)


# The run that a run belongs to which one of its calls has started.
OUTER: ContextVar[str] = ContextVar("outer", default="")


@dataclass(frozen=True)
class Running:
    """One call that runs, by what scopes may know of it."""

    name: str
    run_id: str

    def is_within(self, scope: str) -> bool:
        part, _, pattern = scope.partition(":")
        names = {"global": [""], "task": [self.name], "run": [self.run_id], "tag": TAGS[self.name]}[part]
        return any(fnmatch.fnmatchcase(name, pattern) for name in names)


@dataclass
class World:
    """What runs, and what the limits allow."""

    clock: MockClock
    limits: dict[tuple[str, str], cs.GlobalConstraint] = field(default_factory=dict)
    ends: dict[tuple[str, str], float] = field(default_factory=dict)
    buckets: dict[tuple[str, str], tuple[Fraction, float]] = field(default_factory=dict)
    running: list[Running] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    starts: int = 0

    def put(self, limit: cs.GlobalConstraint) -> None:
        self.expire()
        key = (limit.scope, limit.type)
        if limit.type == "rate_limit":
            level = self.level(key) if key in self.buckets else Fraction(limit.burst)
            self.buckets[key] = min(level, Fraction(limit.burst)), self.clock.monotonic()
        self.limits[key] = limit
        self.ends[key] = math.inf if limit.ttl is None else self.clock.monotonic() + limit.ttl

    def drop(self, key: tuple[str, str]) -> None:
        del self.limits[key]
        self.buckets.pop(key, None)

    def expire(self) -> None:
        for key in [key for key in self.limits if self.ends[key] <= self.clock.monotonic()]:
            self.drop(key)

    def level(self, key: tuple[str, str]) -> Fraction:
        """The tokens of a rate now."""
        limit = self.limits[key]
        assert limit.rate is not None
        tokens, at = self.buckets[key]
        return min(Fraction(limit.burst), tokens + Fraction(self.clock.monotonic() - at) * Fraction(limit.rate))

    def denying(self, call: Running) -> list[str]:
        """The limits that do not allow one more such call now."""
        self.expire()
        found = []
        for key, limit in self.limits.items():
            if not call.is_within(limit.scope):
                continue
            count = sum(other.is_within(limit.scope) for other in self.running)
            if (
                limit.type == "pause"
                or (limit.limit is not None and count >= limit.limit)
                or (limit.type == "rate_limit" and self.level(key) < 1)
            ):
                found.append(str(limit))
        return found

    def start(self, call: Running) -> None:
        denying = self.denying(call)
        if denying:
            self.faults.append(
                f"{call} started at {self.clock.monotonic()} in spite of {denying} beside {self.running}"
            )
        for key in self.buckets:
            if call.is_within(key[0]):
                self.buckets[key] = self.level(key) - 1, self.clock.monotonic()
        self.running.append(call)
        self.starts += 1
        gpus = sum(other.name.startswith("big") for other in self.running)
        if gpus > GPUS:
            self.faults.append(f"{gpus} of {GPUS} gpus are used by {self.running}")


def workflow(world: World, parts: list[Any]) -> list[Any]:
    """A target whose calls last some time of the clock, and tell the world of their starts and ends."""

    async def work(seconds: float, *_: Any) -> float:
        context = call_context()
        assert context is not None
        call = Running(context.task_name, OUTER.get() or context.run_id)
        world.start(call)
        try:
            await world.clock.sleep(seconds)
        finally:
            world.running.remove(call)
        return seconds

    async def goes_on(seconds: list[float]) -> Any:
        await work(seconds[0])
        return tasks_that_go_on[call_context().task_name](seconds[1:]) if len(seconds) > 1 else seconds[0]  # type: ignore[union-attr]

    async def nests(children: list[Any]) -> Any:
        context = call_context()
        assert context is not None
        call = Running(context.task_name, context.run_id)
        OUTER.set(context.run_id)
        world.start(call)
        try:
            await world.clock.sleep(TICK)
            world.running.remove(call)
            try:
                halves = [[made(child) for child in children[::2]], [made(child) for child in children[1::2]]]
                return await asyncio.gather(*(cs.arun(half, log_level="CRITICAL") for half in halves))
            finally:
                world.running.append(call)
        finally:
            world.running.remove(call)

    def sized(name: str, call: Any) -> Any:
        return call.with_constraints(gpu=1) if name.startswith("big") else call

    tasks = {name: cs.task(work, name=name, tags=tags) for name, tags in TAGS.items()}
    tasks_that_go_on = {name: cs.task(goes_on, name=name, tags=tags) for name, tags in TAGS.items()}
    tasks_that_nest = {name: cs.task(nests, name=name, tags=tags) for name, tags in TAGS.items()}

    def made(part: Any) -> Any:
        kind, name, value = part
        if kind in ("plain", "policy"):
            call = tasks[name](value)
            return sized(name, call.with_retry(2) if kind == "policy" else call)
        if kind == "map":
            return sized(name, tasks[name]).map(seconds=value)
        if kind == "tail":
            return tasks_that_go_on[name](value)
        if kind == "nested":
            return sized(name, tasks_that_nest[name](value))
        last: Any = None
        for seconds in value:
            last = tasks[name](seconds, last)
        return last

    return [made(part) for part in parts]


def expected(part: Any) -> Any:
    kind, _, value = part
    if kind == "nested":
        return [[child[2] for child in value[::2]], [child[2] for child in value[1::2]]]
    return value[-1] if kind in ("chain", "tail") else value


async def settle() -> None:
    """Until the loop has nothing left to do."""
    loop: Any = asyncio.get_running_loop()
    quiet = 0
    while quiet < 3:
        await asyncio.sleep(0)
        quiet = 0 if loop._ready else quiet + 1


async def follow(  # noqa: C901 - one branch for each kind of step
    parts: dict[str, list[Any]], steps: list[tuple[str, Any]]
) -> None:
    clock = MockClock(autojump_threshold=math.inf)
    world = World(clock)
    runs: dict[str, asyncio.Task[Any]] = {}
    blocked: dict[tuple[str, str], Running] = {}

    def hear(event: Any) -> None:
        key = (event.run_id, event.task_id)
        if isinstance(event, TaskBlocked):
            outer = [seen.parent_id for seen in progress_of(engine) if seen.run_id == event.run_id]
            blocked[key] = Running(event.task_name, (outer and outer[0]) or event.run_id)
        else:
            blocked.pop(key, None)

    async with cs.create_engine(clock=clock, system_resources={"gpu": GPUS}) as engine:
        for kind in (TaskBlocked, TaskExecutionStarted, TaskSkipped):
            engine.bus.subscribe(kind, hear)

        async def check() -> None:
            await settle()
            assert world.faults == []
            for (run_id, _), call in blocked.items():
                under_way = run_id not in runs or not runs[run_id].done()
                # Who needs a gpu may wait for that, too.
                if under_way and not call.name.startswith("big"):
                    assert world.denying(call), f"nothing holds back {call} beside {world.running}"

        async def advance(seconds: float) -> None:
            for _ in range(round(seconds / TICK)):
                clock.advance(TICK)
                await check()

        def begin(run_id: str) -> None:
            if run_id not in runs:
                runs[run_id] = asyncio.create_task(engine.run(workflow(world, parts[run_id]), run_id=run_id))

        cancelled: set[str] = set()
        for step, value in steps:
            if step == "set":
                world.put(value)
                engine.constraints.set(value)
            elif step == "remove":
                world.expire()
                for key in [key for key in world.limits if key[0] == value]:
                    world.drop(key)
                engine.constraints.remove(value)
            elif step == "begin":
                begin(value)
            elif step == "cancel" and value in runs and not runs[value].done():
                runs[value].cancel()
                cancelled.add(value)
                blocked.clear()
            elif step == "advance":
                await advance(value)
            await check()
        world.limits.clear()
        world.buckets.clear()
        for limit in engine.constraints.list():
            engine.constraints.remove(limit.scope, limit.type)
        for run_id in RUNS:
            begin(run_id)
        for _ in range(400):
            await check()
            if all(run.done() for run in runs.values()):
                break
            await advance(TICK)
        for run_id, run in runs.items():
            if run_id in cancelled:
                assert run.cancelled()
            else:
                assert run.done(), f"{run_id} hangs; {world.running} run"
                assert run.result() == [expected(part) for part in parts[run_id]]
        assert world.running == []
        assert engine.capacities.usage() == {"gpu": (0, GPUS)}
        assert engine.constraints._gate._running == {}
        assert engine.constraints._gate._reserved == {}
        assert engine.constraints._gate.all_lines() == []
        assert engine.constraints._timer is None


# S21, S23, S24
@settings(max_examples=max(1, round(RANDOM_WORKFLOWS * 0.3)))
@given(st.fixed_dictionaries(dict.fromkeys(RUNS, WORKFLOWS)), STEPS)
def test_whatever_limits_come_and_go_nothing_starts_against_them_or_waits_for_nothing(
    parts: dict[str, list[Any]], steps: list[tuple[str, Any]]
) -> None:
    asyncio.run(follow(parts, steps))
