"""S20: a run can be cancelled at every step of its loop, and leaves nothing behind."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import cascade as cs
from tests.acceptance.observed import Trace, promptly


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
            await asyncio.sleep(0)
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
}


async def cancelled_after(engine: cs.Engine, target: Any, steps: int) -> bool:
    """Run, and cancel after so many steps of the loop; whether the run had ended before."""
    running = asyncio.create_task(engine.run(target))
    for _ in range(steps):
        if running.done():
            break
        await asyncio.sleep(0)
    ended = running.done()
    running.cancel()
    await asyncio.wait([running])
    if not running.cancelled():
        running.result()
        return True
    assert not ended
    return False


# S20, S15, S22, S23
@pytest.mark.parametrize("name", SHAPES)
def test_a_run_cancelled_at_any_step_leaves_nothing_behind(name: str) -> None:
    async def main() -> None:
        me = asyncio.current_task()
        trace = Trace()
        async with cs.create_engine(bus=trace.bus, system_resources={"gpu": 1}, max_workers=4) as engine:
            for steps in range(60):
                traces = Traces()
                trace.events.clear()
                ended = await cancelled_after(engine, SHAPES[name](traces), steps)
                where = f"cancelled after {steps} steps"
                assert asyncio.all_tasks() == {me}, where
                assert traces.running == 0, where
                assert traces.set_up == traces.torn_down, where
                assert engine.capacities.usage() == {"gpu": (0, 1)}, where
                assert engine.keys_under_way._holders == {}, where
                doubled = {node: ends for node, ends in trace.terminal().items() if len(ends) != 1}
                assert not doubled, f"{where}: {doubled}"
                if trace.events:
                    told = [line.split(" ")[:2] for line in trace.lines() if line.startswith("end ")]
                    assert told[-1] == ["end", "Succeeded" if ended else "Cancelled"], where
                effects, told_events = traces.effects, len(trace.events)
                for _ in range(3):
                    await asyncio.sleep(0)
                assert (traces.effects, len(trace.events)) == (effects, told_events), where
                if ended and steps > 40:
                    break
            # The engine is as good as new.
            traces = Traces()
            assert await engine.run(SHAPES[name](traces)) is not None
            assert traces.set_up == traces.torn_down

    promptly(lambda: asyncio.run(main()), 25.0)


# S20
@pytest.mark.parametrize(
    "name", ["chain of coroutines", "async resource of the task", "nested run", "map of a generator"]
)
def test_a_run_cancelled_twice_leaves_nothing_behind(name: str) -> None:
    async def main() -> None:
        me = asyncio.current_task()
        async with cs.create_engine(system_resources={"gpu": 1}, max_workers=4) as engine:
            for first in range(0, 16, 2):
                for second in range(4):
                    traces = Traces()
                    running = asyncio.create_task(engine.run(SHAPES[name](traces)))
                    for _ in range(first):
                        await asyncio.sleep(0)
                    running.cancel()
                    for _ in range(second):
                        await asyncio.sleep(0)
                    running.cancel()
                    await asyncio.wait([running])
                    where = f"cancelled after {first} and {second} more steps"
                    assert asyncio.all_tasks() == {me}, where
                    assert traces.set_up == traces.torn_down, where
                    assert engine.capacities.usage() == {"gpu": (0, 1)}, where

    promptly(lambda: asyncio.run(main()), 25.0)


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
