"""Traps that other engines fell into, as far as they concern how things run."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

import cascade as cs
from cascade.runtime.events import TaskBlocked
from cascade.testing.clock import MockClock
from tests.acceptance.observed import Trace, promptly, run

limit = cs.GlobalConstraint


@cs.task
def give(value: Any) -> Any:
    return value


@cs.task
def double(x: int) -> int:
    return 2 * x


none_calls: list[int] = []


@cs.task
def nothing(x: int) -> None:
    none_calls.append(x)


# S25
@pytest.mark.parametrize("shape", ["target", "argument", "map", "selector", "condition", "returned"])
def test_none_from_the_cache_is_a_value(shape: str) -> None:
    none_calls.clear()
    cached = nothing.with_cache(cs.InputsCache(cs.InMemoryCacheBackend()))
    returns = cs.task(lambda: cached(1), name="returns")

    def once() -> Any:
        match shape:
            case "target":
                return run(cached(1))
            case "argument":
                return run(give([cached(1)]))
            case "map":
                return run(cached.map(x=[1, 1]))
            case "selector":
                return run(cs.Router(cached(1), {None: give("none"), 1: give("one")}))
            case "condition":
                with pytest.raises(cs.DependencyMissingError, match="ConditionFalse"):
                    run(give(1).run_if(cached(1)))
                return "skipped"
            case _:
                return run([returns()])

    first = promptly(once)
    assert promptly(once) == first
    assert none_calls == [1]


def engine_run(target: Any, *constraints: cs.GlobalConstraint, **parts: Any) -> Any:
    async def main() -> Any:
        async with cs.create_engine(**parts) as engine:
            for constraint in constraints:
                engine.constraints.set(constraint)
            return await engine.run(target)

    return promptly(lambda: asyncio.run(main()))


# S24, S17
@pytest.mark.parametrize("scope", ["global", "task:double"])
@pytest.mark.parametrize("policy", [False, True])
def test_a_map_inside_a_concurrency_limit_of_one_does_not_deadlock(scope: str, policy: bool) -> None:
    task = double.with_retry(2) if policy else double
    target = cs.task(sum)(task.map(x=range(20)))
    assert engine_run(target, limit.concurrency(1, scope)) == 380
    assert engine_run(target, limit.concurrency(1, scope), max_workers=1) == 380


# S24, S17
def test_nested_maps_inside_a_concurrency_limit_of_one_do_not_deadlock() -> None:
    @cs.task
    def row(y: int) -> Any:
        return double.map(x=range(y))

    @cs.task
    async def table(z: int) -> Any:
        return row.map(y=(y for y in range(z)))

    expected = [[[2 * x for x in range(y)] for y in range(z)] for z in range(4)]
    assert engine_run(table.map(z=range(4)), limit.concurrency(1)) == expected


# S24
def test_a_parent_and_its_children_inside_the_same_limit_do_not_deadlock() -> None:
    @cs.task
    def work(n: int) -> Any:
        return [work(n - 1), work(n - 1)] if n else "leaf"

    @cs.task
    def work_nested(n: int) -> Any:
        return cs.run(work_nested(n - 1), log_level="CRITICAL") if n else "leaf"

    assert engine_run(work(3), limit.concurrency(1, "task:work")) == [[["leaf"] * 2] * 2] * 2
    assert engine_run(work_nested(4), limit.concurrency(1, "task:work_nested")) == "leaf"


# S23, S17
def test_a_map_inside_a_capacity_of_one_whose_items_need_it_does_not_deadlock() -> None:
    @cs.task
    def row(y: int) -> Any:
        return double.with_constraints(gpu=1).map(x=range(y))

    target = row.with_constraints(gpu=1).map(y=range(4))
    assert engine_run(target, system_resources={"gpu": 1}) == [[], [0], [0, 2], [0, 2, 4]]


# S24
@pytest.mark.parametrize("constraint", [limit.pause(), limit.concurrency(0), limit.concurrency(1)])
def test_a_removed_limit_lets_all_who_wait_go_at_once(constraint: cs.GlobalConstraint) -> None:
    clock = MockClock(autojump_threshold=float("inf"))

    async def main() -> None:
        together = 0
        all_here = asyncio.Event()

        @cs.task
        async def meet(x: int) -> int:
            nonlocal together
            together += 1
            if together == 10:
                all_here.set()
            await all_here.wait()
            return x

        async with cs.create_engine(clock=clock) as engine:
            engine.constraints.set(constraint)
            blocked: list[Any] = []
            engine.bus.subscribe(TaskBlocked, blocked.append)
            running = asyncio.create_task(engine.run(meet.map(x=range(10))))
            while len(blocked) < 9:  # noqa: ASYNC110 - it is told by a thread or a handler
                await asyncio.sleep(0)
            engine.constraints.remove("global")
            assert await running == list(range(10))

    promptly(lambda: asyncio.run(main()))


# S24
@pytest.mark.parametrize("kind", ["pause", "concurrency", "rate"])
def test_an_expired_limit_lets_all_who_wait_go_at_once(kind: str) -> None:
    clock = MockClock()
    constraint = {
        "pause": limit.pause(ttl=60.0),
        "concurrency": limit.concurrency(0, ttl=60.0),
        "rate": limit.rate_limit("1/d", ttl=60.0),
    }[kind]
    moments: list[float] = []

    @cs.task
    async def note(x: int) -> int:
        moments.append(clock.monotonic())
        return x

    assert engine_run(note.map(x=range(5)), constraint, clock=clock) == list(range(5))
    assert moments == ([0.0] if kind == "rate" else [60.0]) + [60.0] * 4


# S24
@pytest.mark.parametrize(("rate", "period"), [("6/m", 10.0), (0.1, 10.0), ("2/h", 1800.0), ("1/d", 86400.0)])
def test_a_rate_below_one_a_second_lets_calls_start_in_its_rhythm(rate: Any, period: float) -> None:
    clock = MockClock()
    moments: list[float] = []

    @cs.task
    async def note(x: int) -> int:
        moments.append(clock.monotonic())
        return x

    engine_run(note.map(x=range(5)), limit.rate_limit(rate), clock=clock)
    assert moments == pytest.approx([n * period for n in range(5)])


# S24
def test_a_rate_below_one_a_second_holds_for_threads_too() -> None:
    clock = MockClock()
    moments: list[float] = []

    @cs.task
    def note(x: int) -> int:
        moments.append(clock.monotonic())
        return x

    engine_run(note.map(x=range(4)), limit.rate_limit("6/m"), clock=clock)
    assert moments == pytest.approx([0.0, 10.0, 20.0, 30.0])


# S28
@pytest.mark.parametrize("kind", ["thread", "async", "inline", "retry", "cache", "map", "returned"])
def test_a_subscriber_that_raises_makes_no_task_run_twice(kind: str) -> None:
    counted: list[int] = []

    def count(x: int) -> int:
        counted.append(x)
        return x

    async def count_async(x: int) -> int:
        counted.append(x)
        return x

    task: Any = cs.task(count_async if kind == "async" else count, executor="inline" if kind == "inline" else None)
    if kind == "retry":
        task = task.with_retry(5)
    target: Any = task(1)
    if kind == "map":
        target = task.map(x=[1])
    elif kind == "returned":
        target = cs.task(lambda: [task(1)])()
    bus = cs.MessageBus()

    def broken(event: cs.Event) -> None:
        raise RuntimeError("a broken subscriber")

    bus.subscribe(cs.Event, broken)
    promptly(lambda: run(target, bus=bus))
    assert counted == [1]


# S28
@pytest.mark.parametrize("stop", [KeyboardInterrupt, SystemExit])
def test_a_subscriber_that_raises_what_is_no_exception_hangs_nothing(stop: type[BaseException]) -> None:
    bus = cs.MessageBus()
    raised: list[int] = []

    def broken(event: cs.Event) -> None:
        if not raised:
            raised.append(1)
            raise stop

    bus.subscribe(cs.Event, broken)
    try:
        promptly(lambda: run(double(double(1)), bus=bus))
    except stop:
        pass


# S22
def test_a_teardown_that_raises_is_told_and_the_engine_goes_on() -> None:
    @cs.resource
    def broken() -> Any:
        yield 1
        raise OSError("teardown")

    trace = Trace()

    async def main() -> Any:
        async with cs.create_engine(bus=trace.bus, system_resources={"gpu": 1}) as engine:
            with pytest.raises(OSError, match="teardown"):
                await engine.run(cs.task(lambda r: r, name="use")(r=cs.inject(broken)).with_constraints(gpu=1))
            assert engine.capacities.usage() == {"gpu": (0, 1)}
            return await engine.run(double(1))

    assert promptly(lambda: asyncio.run(main())) == 2
    ends = [line for line in trace.lines() if line.startswith("end")]
    assert ends == ["end Failed OSError: teardown", "end Succeeded"]


# S22
@pytest.mark.parametrize("stop", [KeyboardInterrupt, SystemExit])
def test_a_teardown_that_raises_what_is_no_exception_still_lets_the_others_run(stop: type[BaseException]) -> None:
    torn_down: list[str] = []

    @cs.resource
    def first() -> Any:
        yield 1
        torn_down.append("first")

    @cs.resource
    def second(first: Any = cs.inject(first)) -> Any:
        yield 2
        raise stop

    with pytest.raises(stop):
        promptly(lambda: run(cs.task(lambda r: r)(r=cs.inject(second))))
    assert torn_down == ["first"]


# S22
@pytest.mark.parametrize("length", [1, 2, 5])
def test_a_resource_cycle_of_any_length_is_found_before_anything_runs(length: int) -> None:
    made: list[int] = []

    def define(n: int) -> Any:
        def generator(inner: Any = cs.inject(f"r{(n + 1) % length}")) -> Any:
            made.append(n)
            yield n

        return cs.resource(name=f"r{n}")(generator)

    definitions = [define(n) for n in range(length)]
    with pytest.raises(cs.ResourceCycleError, match=r"'r0'.*'r0'"):
        promptly(lambda: run(cs.task(lambda r: r)(r=cs.inject("r0")), resources=definitions))
    assert made == []


# S22
def test_a_diamond_of_resources_is_no_cycle_and_not_exponential() -> None:
    made: list[str] = []

    def define(name: str, *inner: str) -> Any:
        def generator(a: Any = cs.inject(inner[0]), b: Any = cs.inject(inner[-1])) -> Any:
            made.append(name)
            yield name

        return cs.resource(name=name)(generator)

    def bottom() -> Any:
        yield "bottom"

    definitions = [cs.resource(name="l0")(bottom), cs.resource(name="r0")(bottom)]
    for n in range(1, 22):
        definitions += [define(f"l{n}", f"l{n - 1}", f"r{n - 1}"), define(f"r{n}", f"l{n - 1}", f"r{n - 1}")]
    assert promptly(lambda: run(cs.task(lambda r: r)(r=cs.inject("l21")), resources=definitions)) == "l21"
    assert len(made) == 41


# S15
@pytest.mark.parametrize("kind", ["thread", "async", "policy", "map"])
def test_the_side_effects_of_a_sibling_come_before_the_run_has_ended(kind: str) -> None:
    release, started = threading.Event(), threading.Event()
    effects: list[str] = []

    def sibling(x: int = 0) -> None:
        started.set()
        release.wait(5.0)
        effects.append("effect")

    async def sibling_async(x: int = 0) -> None:
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            effects.append("effect")

    @cs.task
    def fails() -> None:
        assert started.wait(5.0)
        threading.Timer(0.02, release.set).start()
        raise ValueError("fails")

    task: Any = cs.task(sibling_async if kind == "async" else sibling, retry=1 if kind == "policy" else None)
    target = task.map(x=[1]) if kind == "map" else task()
    with pytest.raises(ValueError, match="fails"):
        promptly(lambda: run([target, fails()]))
    assert effects == ["effect"]
