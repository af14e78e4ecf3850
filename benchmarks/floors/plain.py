"""The least that Python itself takes: the same functions, called by one loop over an order that is prepared."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from benchmarks import work
from benchmarks.measuring import repeated, seconds_per_unit

# What to call, and the places of its arguments among the values so far.
Step = tuple[Callable[..., Any], tuple[int, ...]]


def _run(prepared: tuple[list[int], list[Step]]) -> Any:
    values, steps = prepared
    for function, places in steps:
        values.append(function(*[values[place] for place in places]))
    return values[-1]


async def _run_async(prepared: tuple[list[int], list[tuple[Callable[..., Awaitable[Any]], tuple[int, ...]]]]) -> Any:
    values, steps = prepared
    for function, places in steps:
        values.append(await function(*[values[place] for place in places]))
    return values[-1]


def call() -> float:
    return repeated(lambda: work.increment(1), 2, warm_up=1_000, times=100_000)


def event_loop() -> float:
    """One trivial coroutine in a loop of its own, as a sync caller must have it."""

    async def one() -> int:
        return work.increment(1)

    return repeated(lambda: asyncio.run(one()), 2, warm_up=20, times=200)


def chain(size: int) -> float:
    def prepare(size: int) -> tuple[list[int], list[Step]]:
        return [0], [(work.increment, (place,)) for place in range(size)]

    return seconds_per_unit(_run, size, int, prepare=prepare)


def chain_async(size: int) -> float:
    def prepare(size: int) -> Any:
        return [0], [(work.increment_async, (place,)) for place in range(size)]

    return seconds_per_unit(lambda prepared: asyncio.run(_run_async(prepared)), size, int, prepare=prepare)


def _sum(*values: int) -> int:
    return sum(values)


def fan_out(size: int) -> float:
    def prepare(size: int) -> tuple[list[int], list[Step]]:
        steps: list[Step] = [(work.double, (place,)) for place in range(size)]
        return list(range(size)), [*steps, (_sum, tuple(range(size, 2 * size)))]

    return seconds_per_unit(_run, size, work.sum_of_doubles, prepare=prepare)


def layers(width: int, depth: int) -> float:
    def prepare(size: int) -> tuple[list[int], list[Step]]:
        steps: list[Step] = [
            (work.add_three, tuple(before + i for i in work.layer_inputs(index, width)))
            for before in range(0, size - width, width)
            for index in range(width)
        ]
        return list(range(width)), [*steps, (_sum, tuple(range(size - width, size)))]

    def expected(size: int) -> int:
        return work.layers_sum(width, size // width)

    return seconds_per_unit(_run, width * depth, expected, prepare=prepare, warm_up=2 * width)


def comprehension(size: int) -> float:
    """A map as Python has it."""
    return seconds_per_unit(
        lambda items: [work.double(item) for item in items],
        size,
        lambda size: list(range(0, 2 * size, 2)),
        prepare=lambda size: list(range(size)),
    )


def gather(size: int) -> float:
    async def all_of(size: int) -> int:
        return sum(await asyncio.gather(*(work.double_async(index) for index in range(size))))

    return seconds_per_unit(lambda size: asyncio.run(all_of(size)), size, work.sum_of_doubles)
