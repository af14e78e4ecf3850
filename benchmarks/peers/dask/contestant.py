"""Dask delayed on its scheduler of threads, and its bag for maps."""

from __future__ import annotations

from typing import Any

import dask
import dask.bag

from benchmarks import work
from benchmarks.measuring import repeated, seconds_per_unit

increment = dask.delayed(work.increment)
double = dask.delayed(work.double)
add_three = dask.delayed(work.add_three)
sleep = dask.delayed(work.sleep)
sleep_then = dask.delayed(work.sleep_then)
spin = dask.delayed(work.spin)
total = dask.delayed(sum)


def one_task() -> float:
    return repeated(lambda: increment(1).compute(scheduler="threads"), 2, warm_up=20, times=100)


def chain(size: int) -> float:
    def do(size: int) -> int:
        value: Any = 0
        for _ in range(size):
            value = increment(value)
        return value.compute(scheduler="threads") if size else 0

    return seconds_per_unit(do, size, int)


def fan_out(size: int) -> float:
    return seconds_per_unit(
        lambda size: total([double(index) for index in range(size)]).compute(scheduler="threads"),
        size,
        work.sum_of_doubles,
    )


def map_items(size: int) -> float:
    """A bag: its items travel in partitions, which is how Dask maps many small ones."""
    return seconds_per_unit(
        lambda items: dask.bag.from_sequence(items).map(work.double).compute(scheduler="threads"),
        size,
        lambda size: list(range(0, 2 * size, 2)),
        prepare=lambda size: list(range(size)),
    )


def layers(width: int, depth: int) -> float:
    def do(size: int) -> int:
        nodes: list[Any] = list(range(width))
        for _ in range(size // width - 1):
            nodes = [add_three(*[nodes[i] for i in work.layer_inputs(index, width)]) for index in range(width)]
        return total(nodes).compute(scheduler="threads")

    def expected(size: int) -> int:
        return work.layers_sum(width, size // width)

    return seconds_per_unit(do, width * depth, expected, warm_up=2 * width)


def sleeps(count: int, seconds: float) -> float:
    def do(count: int) -> int:
        return total([sleep(seconds) for _ in range(count)]).compute(scheduler="threads", num_workers=64)

    return seconds_per_unit(do, count, int) * count


def two_chains() -> float:
    def do(_: int) -> list[int]:
        ends: list[Any] = [0, 0]
        for slow in zip(work.slow_turns(0), work.slow_turns(1), strict=True):
            ends = [sleep_then(before, seconds) for before, seconds in zip(ends, slow, strict=True)]
        return list(dask.compute(*ends, scheduler="threads"))

    return seconds_per_unit(do, 1, lambda _: [work.CHAIN_SLEEPS] * 2)


def processes(count: int) -> float:
    """With a pool of processes that is there before, as others have it."""
    import os
    from concurrent.futures import ProcessPoolExecutor

    with ProcessPoolExecutor(os.cpu_count()) as pool, dask.config.set(pool=pool, scheduler="processes"):
        dask.compute(*[double(number) for number in range(100)])

        def do(count: int) -> list[int]:
            return list(dask.compute(*[spin(number) for number in range(count)])) if count > 1 else [0]

        return seconds_per_unit(do, count, lambda count: list(range(count)), warm_up=1) * count
