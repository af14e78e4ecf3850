"""S20: a run can be cancelled at every await of its loop, and leaves nothing behind."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest

import cascade as cs
from cascade.adapters.state import InMemoryStateBackend
from cascade.runtime.run import run_here
from tests.acceptance.observed import Trace, await_sign, promptly
from tests.awaits import EVERY_AWAIT, Awaits, Belongings, CancelledHandles


class Traces:
    """What a shape did: set-ups and teardowns, and effects."""

    def __init__(self) -> None:
        self.set_up = 0
        self.torn_down = 0
        self.effects = 0
        self.running = 0

    def resource(self, scope: Any, is_async: bool) -> Any:
        def sync() -> Any:
            self.set_up += 1
            yield "resource"
            self.torn_down += 1

        async def on_loop() -> Any:
            await asyncio.sleep(0)
            self.set_up += 1
            yield "resource"
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            self.torn_down += 1

        return cs.resource(name="resource", scope=scope)(on_loop if is_async else sync)


def chain_of_coroutines(traces: Traces) -> Any:
    @cs.task
    async def step(x: int) -> int:
        traces.running += 1
        try:
            await asyncio.sleep(0)
            traces.effects += 1
            return x + 1
        finally:
            traces.running -= 1

    value: Any = 0
    for _ in range(5):
        value = step(value)
    return value


def fan_out_on_threads(traces: Traces) -> Any:
    lock = threading.Lock()

    @cs.task
    def work(x: int) -> int:
        with lock:
            traces.running += 1
        with lock:
            traces.effects += 1
            traces.running -= 1
        return x

    return [work(x) for x in range(20)]


def map_of_a_generator(traces: Traces) -> Any:
    def numbers() -> Iterator[int]:
        traces.set_up += 1
        try:
            yield from range(20)
        finally:
            traces.torn_down += 1

    @cs.task
    async def item(x: int) -> int:
        traces.running += 1
        try:
            # Longer than pulling takes, so that there is no room for more at times.
            await asyncio.sleep(0.0005)
            traces.effects += 1
        finally:
            traces.running -= 1
        return x

    return item.map(x=numbers())


def waiting_for_a_retry(traces: Traces) -> Any:
    @cs.task
    async def flaky() -> int:
        traces.effects += 1
        if cs.attempt() < 4:
            raise OSError
        return cs.attempt()

    return flaky().with_retry(5, delay=0.0005).with_constraints(gpu=1)


def resources_of(scope: Any, is_async: bool) -> Callable[[Traces], Any]:
    def shape(traces: Traces) -> Any:
        resource = traces.resource(scope, is_async)

        @cs.task
        async def use(x: int, resource: Any = cs.inject(resource)) -> int:
            traces.running += 1
            try:
                await asyncio.sleep(0)
                traces.effects += 1
            finally:
                traces.running -= 1
            return x

        return [use(1).with_constraints(gpu=1), use(2).with_retry(2)]

    return shape


def waiting_for_capacity(traces: Traces) -> Any:
    @cs.task
    async def work(x: int) -> int:
        traces.running += 1
        try:
            await asyncio.sleep(0)
            traces.effects += 1
        finally:
            traces.running -= 1
        return x

    return [work(x).with_constraints(gpu=1) for x in range(6)]


def nested_run(traces: Traces) -> Any:
    @cs.task
    async def inner(x: int) -> int:
        await asyncio.sleep(0)
        traces.effects += 1
        return x

    @cs.task
    async def outer() -> Any:
        return await cs.arun([inner(1).with_constraints(gpu=1), inner(inner(2))])

    @cs.task
    def outer_on_thread() -> Any:
        return cs.run([inner(1).with_constraints(gpu=1), inner(2)], log_level="CRITICAL")

    return [outer(), outer_on_thread()]


def cached_with_a_tail_call(traces: Traces) -> Any:
    @cs.task
    async def inner(x: int) -> int:
        await asyncio.sleep(0)
        traces.effects += 1
        return x

    @cs.task
    async def outer(x: int) -> Any:
        await asyncio.sleep(0)
        return inner(x)

    cached = outer.with_cache(cs.InputsCache(version="cancelled"))
    return [cached(1), cached(1)]


def timeouts(traces: Traces) -> Any:
    @cs.task
    async def work(x: int) -> int:
        traces.running += 1
        try:
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            traces.effects += 1
        finally:
            traces.running -= 1
        return x

    return [work(x).with_timeout(100.0).with_retry(2) for x in range(4)]


def timeouts_that_pass(traces: Traces) -> Any:
    @cs.task
    async def dawdle(x: int) -> int:
        traces.running += 1
        try:
            if cs.attempt() == 1:
                try:
                    await asyncio.sleep(3600)
                finally:
                    # It takes its time.
                    await asyncio.sleep(0)
            traces.effects += 1
        finally:
            traces.running -= 1
        return x

    return [dawdle(x).with_timeout(0.002).with_retry(9) for x in range(2)]


def resource_of_one_thread(traces: Traces) -> Any:
    @cs.resource(thread_affine=True)
    def connection() -> Iterator[int]:
        traces.set_up += 1
        yield threading.get_ident()
        traces.torn_down += 1

    @cs.task
    def use(x: int, thread: int = cs.inject(connection)) -> int:
        traces.effects += 1
        assert threading.get_ident() == thread
        return x

    return [use(use(1)), use(2).with_retry(2)]


def resources_without_an_end(traces: Traces) -> Any:
    @cs.resource
    def name() -> str:
        return "name"

    @cs.resource(scope="task")
    async def title(of: str = cs.inject(name)) -> str:
        await asyncio.sleep(0)
        return of.title()

    @cs.task
    async def use(title: str = cs.inject(title)) -> str:
        await asyncio.sleep(0)
        traces.effects += 1
        return title

    return [use(), use()]


def waiting_for_a_signal(traces: Traces) -> Any:
    @cs.task
    async def send(name: str) -> None:
        run = run_here()
        assert run is not None
        await asyncio.sleep(0)
        await run.engine.send_signal(run.id, name, 1)
        traces.effects += 1

    return [cs.wait_for_signal("go", int), send("go")]


def capacity_that_comes_late(traces: Traces) -> Any:
    """Under limits, calls come back to slots that others have used while they waited for capacity."""

    @cs.task
    async def work(seconds: float) -> float:
        traces.running += 1
        try:
            await asyncio.sleep(seconds)
            traces.effects += 1
        finally:
            traces.running -= 1
        return seconds

    return [*(work(0.002).with_constraints(gpu=1) for _ in range(3)), *(work(0.0005) for _ in range(12))]


def long_loop_of_coroutines(traces: Traces) -> Any:
    @cs.task
    async def turn(left: int) -> Any:
        # Long enough that the loop lets others have their turn at times.
        assert sum(range(4000))
        traces.effects += 1
        return turn(left - 1) if left else "done"

    return turn(200)


def until_asked(x: int) -> int:
    for _ in range(20):
        if cs.cancelled():
            break
        time.sleep(0.001)
    return x


def in_processes(traces: Traces) -> Any:
    called = cs.task(until_asked, executor="process")
    return [called(1), called(2).with_timeout(100.0), called(called(3)).with_constraints(gpu=1)]


SHAPES = {
    "chain of coroutines": chain_of_coroutines,
    "fan-out on threads": fan_out_on_threads,
    "map of a generator": map_of_a_generator,
    "waiting for a retry": waiting_for_a_retry,
    "sync resource of the run": resources_of("run", False),
    "async resource of the run": resources_of("run", True),
    "sync resource of the task": resources_of("task", False),
    "async resource of the task": resources_of("task", True),
    "waiting for capacity": waiting_for_capacity,
    "nested run": nested_run,
    "cached with a tail call": cached_with_a_tail_call,
    "timeouts": timeouts,
    "timeouts that pass": timeouts_that_pass,
    "resource of one thread": resource_of_one_thread,
    "resources without an end": resources_without_an_end,
    "waiting for a signal": waiting_for_a_signal,
    "capacity that comes late": capacity_that_comes_late,
    "long loop of coroutines": long_loop_of_coroutines,
    "processes": in_processes,
}


def check_nothing_is_left(engine: Any, traces: Traces, where: str) -> None:
    """See that an engine has nothing of a run any more."""
    assert asyncio.all_tasks() == {asyncio.current_task()}, where
    assert traces.running == 0, where
    assert traces.set_up == traces.torn_down, where
    assert engine.under_way == set(), where
    assert engine.capacities.usage() == {"gpu": (0, 1)}, where
    assert engine.constraints._subscribers == {}, where
    gate = engine.constraints._gate
    assert (gate._running, gate._reserved, gate._lines) == ({}, {}, {}), where
    assert engine.keys_under_way._holders == {}, where
    assert not engine.signals._waiters, where
    processes = engine.executor._processes
    assert processes is None or (processes._busy, list(processes._waiting)) == (set(), []), where


def on_counted_loop(act: Callable[[cs.Engine, Awaits, Trace], Any], **options: Any) -> None:
    """Have something happen on an engine, and see that the process then has what it had before."""
    before = Belongings()

    async def main() -> None:
        awaits, trace = Awaits(), Trace()
        asyncio.get_running_loop().set_task_factory(awaits.make_task)
        options.update(bus=trace.bus, system_resources={"gpu": 1}, max_workers=4)
        async with cs.create_engine(**options) as engine:
            await act(engine, awaits, trace)

    promptly(lambda: asyncio.run(main()), 60.0)
    before.check("at the end")


async def count_awaits(engine: cs.Engine, awaits: Awaits, name: str) -> int:
    """At how many awaits a shape waits: at most, of a few times."""
    counts = []
    for _ in range(3):
        running = await awaits.cancelling(engine.run(SHAPES[name](Traces())))
        assert running.result() is not None
        counts.append(awaits.count)
    return max(counts)


# S20, S15, S22, S23
@pytest.mark.parametrize("name", SHAPES)
def test_a_run_cancelled_at_any_await_leaves_nothing_behind(name: str) -> None:
    async def act(engine: cs.Engine, awaits: Awaits, trace: Trace) -> None:
        count = await count_awaits(engine, awaits, name)
        belongings = Belongings()
        for number in range(count + 1):
            where = f"cancelled at {number}"
            traces = Traces()
            trace.events.clear()
            running = await awaits.cancelling(engine.run(SHAPES[name](traces)), number)
            check_nothing_is_left(engine, traces, where)
            belongings.check_files(where)
            doubled = {node: ends for node, ends in trace.terminal().items() if len(ends) != 1}
            assert not doubled, f"{where}: {doubled}"
            if trace.events:
                told = [line.split(" ")[:2] for line in trace.lines() if line.startswith("end ")]
                assert told[-1] == ["end", "Cancelled" if running.cancelled() else "Succeeded"], where
            effects, told_events = traces.effects, len(trace.events)
            for _ in range(3):
                await asyncio.sleep(0)
            assert (traces.effects, len(trace.events)) == (effects, told_events), where
        # The engine is as good as new.
        traces = Traces()
        assert await engine.run(SHAPES[name](traces)) is not None
        check_nothing_is_left(engine, traces, "not cancelled")

    on_counted_loop(act)


class Suspending(InMemoryStateBackend):
    """State that is written to with a wait."""

    async def put_many(self, results: Any, skips: Any) -> None:
        await asyncio.sleep(0)
        await super().put_many(results, skips)


# S20
@pytest.mark.parametrize("name", SHAPES)
def test_a_run_cancelled_twice_leaves_nothing_behind(name: str) -> None:
    async def act(engine: cs.Engine, awaits: Awaits, trace: Trace) -> None:
        count = await count_awaits(engine, awaits, name)
        for first in range(0, count + 1, 1 if EVERY_AWAIT else 1 + count // 16):
            for later in range(1, 9) if EVERY_AWAIT else (1, 2, 3, 5):
                traces = Traces()
                await awaits.cancelling(engine.run(SHAPES[name](traces)), first, first + later)
                check_nothing_is_left(engine, traces, f"cancelled at {first} and {later} awaits later")

    on_counted_loop(act, state_backend=lambda run_id: Suspending())


# S20, S24
@pytest.mark.parametrize("name", SHAPES)
def test_a_run_under_limits_that_is_cancelled_at_any_await_counts_no_more(name: str) -> None:
    async def act(engine: cs.Engine, awaits: Awaits, trace: Trace) -> None:
        engine.constraints.set(cs.GlobalConstraint.concurrency(2))
        engine.constraints.set(cs.GlobalConstraint.rate_limit(4000.0, burst=2))
        limits: Any = [limit.handler for limit in vars(engine.constraints)["_gate"].limits.values()]
        count = await count_awaits(engine, awaits, name)
        for number in range(0, count + 1, 1 if EVERY_AWAIT else 1 + count // 40):
            traces = Traces()
            await awaits.cancelling(engine.run(SHAPES[name](traces)), number)
            check_nothing_is_left(engine, traces, f"cancelled at {number}")
            assert [(limit._running, limit._reserved) for limit in limits if hasattr(limit, "_running")] == [(0, 0)]

    on_counted_loop(act)


# S20
@pytest.mark.parametrize("name", [name for name in SHAPES if name != "nested run"])
def test_a_handle_that_is_cancelled_at_any_await_has_ended_as_it_says(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    handles = CancelledHandles(monkeypatch)
    before = Belongings()
    options: dict[str, Any] = {"system_resources": {"gpu": 1}, "max_workers": 4, "log_level": "CRITICAL"}
    handles.start(lambda: cs.start(SHAPES[name](Traces()), **options))
    value = handles.handle.result()
    count = handles.count
    for number in range(0, count + 1, 1 if EVERY_AWAIT else 1 + count // 20):
        traces = Traces()
        handles.start(lambda traces=traces: cs.start(SHAPES[name](traces), **options), number)
        assert handles.has_ended_as_it_says() in (value, None), f"cancelled at {number}"
        assert traces.running == 0
        assert traces.set_up == traces.torn_down
        before.check(f"cancelled at {number}")


# S15, S20
@pytest.mark.parametrize("name", SHAPES)
def test_a_failure_elsewhere_at_any_step_leaves_nothing_behind(name: str) -> None:
    async def main() -> None:
        me = asyncio.current_task()

        async with cs.create_engine(system_resources={"gpu": 1}, max_workers=4) as engine:
            for steps in range(0, 30, 2):

                @cs.task
                async def fails(steps: int = steps) -> None:
                    for _ in range(steps):
                        await asyncio.sleep(0)
                    raise ValueError("elsewhere")

                traces = Traces()
                with pytest.raises(ValueError, match="elsewhere"):
                    await engine.run([SHAPES[name](traces), fails()])
                where = f"failed after {steps} steps"
                assert asyncio.all_tasks() == {me}, where
                assert traces.running == 0, where
                assert traces.set_up == traces.torn_down, where
                assert engine.capacities.usage() == {"gpu": (0, 1)}, where
                assert engine.keys_under_way._holders == {}, where

    promptly(lambda: asyncio.run(main()), 25.0)


# S20, S21
@pytest.mark.parametrize("name", SHAPES)
def test_arun_cancelled_at_any_await_closes_what_it_has_opened(name: str) -> None:
    before = Belongings()
    count = 0

    async def main(number: int) -> bool:
        nonlocal count
        awaits, traces = Awaits(), Traces()
        asyncio.get_running_loop().set_task_factory(awaits.make_task)
        target = cs.arun(SHAPES[name](traces), system_resources={"gpu": 1}, max_workers=4, log_level="CRITICAL")
        running = await awaits.cancelling(target, number)
        count = max(count, awaits.count)
        assert asyncio.all_tasks() == {asyncio.current_task()}
        assert (traces.running, traces.set_up) == (0, traces.torn_down)
        return running.cancelled()

    # An await that never comes.
    assert not asyncio.run(main(-1))
    for number in range(0, count + 1, 1 if EVERY_AWAIT else 1 + count // 10):
        promptly(partial(asyncio.run, main(number)))
        before.check(f"cancelled at {number}")


# S15, S20
@pytest.mark.parametrize("affine", [False, True], ids=["one thread in the pool", "the thread of a resource"])
def test_calls_that_wait_for_a_thread_never_begin_once_the_run_is_cancelled(affine: bool) -> None:
    began: list[int] = []
    started, goes_on = threading.Event(), threading.Event()

    @cs.resource(thread_affine=True)
    def connection() -> Iterator[str]:
        yield "connection"

    def occupy(x: int) -> None:
        began.append(x)
        started.set()
        await_sign(goes_on)

    @cs.task
    def work(x: int, of: Any = cs.inject(connection)) -> None:
        occupy(x)

    called = work if affine else cs.task(occupy)

    async def main() -> None:
        async with cs.create_engine(max_workers=1) as engine:
            running = asyncio.create_task(engine.run([called(x).with_retry(2) for x in range(4)]))
            await asyncio.to_thread(await_sign, started)
            running.cancel()
            for _ in range(10):
                await asyncio.sleep(0)
            assert not running.done()
            goes_on.set()
            await asyncio.wait([running])
            assert running.cancelled()

    promptly(lambda: asyncio.run(main()))
    assert began == [0]
