"""Cascade on explicit graphs: every task is a node."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from typing import Any

import cascade as cs
from benchmarks import work
from benchmarks.measuring import repeated, seconds_per_unit

increment = cs.task(work.increment)
increment_async = cs.task(work.increment_async)
double = cs.task(work.double)
double_async = cs.task(work.double_async)
add_three = cs.task(work.add_three)
first_of = cs.task(work.first_of)
total = cs.task(sum)


def quietly(target: Any) -> Any:
    return cs.run(target, log_level="CRITICAL")


def one_task() -> float:
    return repeated(lambda: quietly(increment(1)), 2, warm_up=50, times=300)


def one_task_in_engine() -> float:
    """The same where a program keeps an engine and a loop, and pays for neither each time."""

    async def main() -> float:
        async with cs.create_engine() as engine:
            loop = asyncio.get_running_loop()
            for _ in range(50):
                await engine.run(increment(1))
            start = loop.time()
            for _ in range(300):
                await engine.run(increment(1))
            return (loop.time() - start) / 300

    return asyncio.run(main())


def _chain_of(task: Callable[[Any], Any]) -> Callable[[int], Any]:
    def do(size: int) -> Any:
        value: Any = 0
        for _ in range(size):
            value = task(value)
        return quietly(value)

    return do


def chain(size: int) -> float:
    return seconds_per_unit(_chain_of(increment), size, int)


def chain_async(size: int) -> float:
    return seconds_per_unit(_chain_of(increment_async), size, int)


def chain_stack(size: int) -> float:
    """By how many frames the stack of the deepest task of a long chain is deeper than that of a short one."""
    deepest = 0

    @cs.task
    def increment(x: int) -> int:
        nonlocal deepest
        depth, frame = 0, inspect.currentframe()
        while frame:
            depth, frame = depth + 1, frame.f_back
        deepest = max(deepest, depth)
        return x + 1

    run = _chain_of(increment)
    run(100)
    short, deepest = deepest, 0
    run(size)
    return deepest - short


def fan_out(size: int) -> float:
    return seconds_per_unit(
        lambda size: quietly(total([double(index) for index in range(size)])), size, work.sum_of_doubles
    )


def fan_out_async(size: int) -> float:
    return seconds_per_unit(
        lambda size: quietly(total([double_async(index) for index in range(size)])), size, work.sum_of_doubles
    )


def layers(width: int, depth: int) -> float:
    def do(size: int) -> Any:
        nodes: list[Any] = list(range(width))
        for _ in range(size // width - 1):
            nodes = [add_three(*[nodes[i] for i in work.layer_inputs(index, width)]) for index in range(width)]
        return quietly(total(nodes))

    def expected(size: int) -> int:
        return work.layers_sum(width, size // width)

    return seconds_per_unit(do, width * depth, expected, warm_up=2 * width)


def one_consumer(inputs: int) -> float:
    """What one input of a task with many costs, the task that makes it not counted in the number of units."""

    def gather(*values: int) -> int:
        return sum(values)

    task = cs.task(gather)
    return seconds_per_unit(
        lambda size: quietly(task(*[double(index) for index in range(size)])), inputs, work.sum_of_doubles
    )


def shared_list(tasks: int, items: int) -> float:
    """What a task costs where all tasks are given one and the same list."""
    shared = list(range(items))
    return seconds_per_unit(
        lambda size: quietly(total([first_of(shared, index) for index in range(size)])),
        tasks,
        lambda size: size * (size - 1) // 2,
    )
