"""Parsl: apps that return futures, on its executor of threads."""

from __future__ import annotations

import os
from typing import Any

import parsl
from parsl.config import Config
from parsl.executors.threads import ThreadPoolExecutor

from benchmarks import work
from benchmarks.measuring import repeated, seconds_per_unit


def _load(threads: int) -> None:
    executor = ThreadPoolExecutor(max_threads=threads)
    parsl.load(Config(executors=[executor], usage_tracking=0, initialize_logging=False))


increment = parsl.python_app(work.increment)
double = parsl.python_app(work.double)
add_three = parsl.python_app(work.add_three)
sleep = parsl.python_app(work.sleep)
sleep_then = parsl.python_app(work.sleep_then)


@parsl.python_app
def total(inputs: Any = ()) -> int:
    return sum(inputs)


def one_task() -> float:
    _load(os.cpu_count() or 1)
    return repeated(lambda: increment(1).result(), 2, warm_up=20, times=100)


def chain(size: int) -> float:
    _load(os.cpu_count() or 1)

    def do(size: int) -> int:
        value: Any = 0
        for _ in range(size):
            value = increment(value)
        return value.result()

    return seconds_per_unit(do, size, int)


def fan_out(size: int) -> float:
    _load(os.cpu_count() or 1)
    return seconds_per_unit(
        lambda size: total(inputs=[double(index) for index in range(size)]).result(), size, work.sum_of_doubles
    )


def map_items(size: int) -> float:
    _load(os.cpu_count() or 1)
    return seconds_per_unit(
        lambda items: [future.result() for future in [double(item) for item in items]],
        size,
        lambda size: list(range(0, 2 * size, 2)),
        prepare=lambda size: list(range(size)),
    )


def layers(width: int, depth: int) -> float:
    _load(os.cpu_count() or 1)

    def do(size: int) -> int:
        nodes: list[Any] = list(range(width))
        for _ in range(size // width - 1):
            nodes = [add_three(*[nodes[i] for i in work.layer_inputs(index, width)]) for index in range(width)]
        return total(inputs=nodes).result()

    def expected(size: int) -> int:
        return work.layers_sum(width, size // width)

    return seconds_per_unit(do, width * depth, expected, warm_up=2 * width)


def sleeps(count: int, seconds: float) -> float:
    _load(64)

    def do(count: int) -> int:
        return total(inputs=[sleep(seconds) for _ in range(count)]).result()

    return seconds_per_unit(do, count, int) * count


def two_chains() -> float:
    _load(64)

    def do(_: int) -> list[int]:
        ends: list[Any] = [0, 0]
        for slow in zip(work.slow_turns(0), work.slow_turns(1), strict=True):
            ends = [sleep_then(before, seconds) for before, seconds in zip(ends, slow, strict=True)]
        return [end.result() for end in ends]

    return seconds_per_unit(do, 1, lambda _: [work.CHAIN_SLEEPS] * 2)
