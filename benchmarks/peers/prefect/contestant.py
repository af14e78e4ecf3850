"""Prefect 3: flows with tasks submitted to its runner of threads, against the temporary server that it starts itself.

The server is up before the run that counts. Results are not persisted, which is the default, but in the durable cases,
where they are kept in files by inputs and source, so that a flow that is run again has those that it had.
"""

from __future__ import annotations

import os

os.environ |= {
    "PREFECT_LOGGING_LEVEL": "CRITICAL",
    "PREFECT_LOGGING_TO_API_ENABLED": "false",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "DO_NOT_TRACK": "1",
}

from typing import Any

from prefect import flow, task
from prefect.cache_policies import INPUTS, NO_CACHE, TASK_SOURCE
from prefect.task_runners import ThreadPoolTaskRunner

from benchmarks import fragile, work
from benchmarks.measuring import repeated, seconds_per_unit

increment = task(work.increment, cache_policy=NO_CACHE)
increment_async = task(work.increment_async, cache_policy=NO_CACHE)
double = task(work.double, cache_policy=NO_CACHE)
add_three = task(work.add_three, cache_policy=NO_CACHE)
sleep = task(work.sleep, cache_policy=NO_CACHE)
sleep_then = task(work.sleep_then, cache_policy=NO_CACHE)
persisted_increment = task(work.increment, persist_result=True)
persisted_double = task(work.double, persist_result=True)
on_threads = flow(task_runner=ThreadPoolTaskRunner(max_workers=64))


def one_task() -> float:
    """A flow of one task."""

    @on_threads
    def run() -> int:
        return increment.submit(1).result()

    return repeated(run, 2, warm_up=3, times=10)


def chain(size: int) -> float:
    @on_threads
    def run(size: int) -> int:
        value: Any = 0
        for _ in range(size):
            value = increment.submit(value)
        return value.result()

    return seconds_per_unit(run, size, int, warm_up=3)


def fan_out(size: int) -> float:
    @on_threads
    def run(size: int) -> int:
        return sum(future.result() for future in [double.submit(index) for index in range(size)])

    return seconds_per_unit(run, size, work.sum_of_doubles, warm_up=3)


def map_items(size: int) -> float:
    @on_threads
    def run(items: list[int]) -> list[int]:
        return double.map(items).result()

    return seconds_per_unit(
        run,
        size,
        lambda size: list(range(0, 2 * size, 2)),
        prepare=lambda size: list(range(size)),
        warm_up=3,
    )


def layers(width: int, depth: int) -> float:
    @on_threads
    def run(size: int) -> int:
        nodes: list[Any] = list(range(width))
        for _ in range(size // width - 1):
            nodes = [add_three.submit(*[nodes[i] for i in work.layer_inputs(index, width)]) for index in range(width)]
        return sum(node.result() for node in nodes)

    def expected(size: int) -> int:
        return work.layers_sum(width, size // width)

    return seconds_per_unit(run, width * depth, expected, warm_up=2 * width)


def sleeps(count: int, seconds: float) -> float:
    @on_threads
    def run(count: int) -> int:
        return sum(future.result() for future in [sleep.submit(seconds) for _ in range(count)])

    return seconds_per_unit(run, count, int, warm_up=3) * count


def two_chains() -> float:
    @on_threads
    def run(units: int) -> list[int]:
        ends: list[Any] = [0, 0]
        for slow in zip(work.slow_turns(0), work.slow_turns(1), strict=True):
            ends = [sleep_then.submit(before, seconds) for before, seconds in zip(ends, slow, strict=True)]
        return [end.result() for end in ends]

    return seconds_per_unit(run, 1, lambda _: [work.CHAIN_SLEEPS] * 2)


def durable_fan_out(size: int) -> float:
    @on_threads
    def run(size: int) -> int:
        return sum(future.result() for future in [persisted_double.submit(index) for index in range(size)])

    return seconds_per_unit(run, size, work.sum_of_doubles, warm_up=3)


def durable_chain(size: int) -> float:
    @on_threads
    def run(size: int) -> int:
        value: Any = 0
        for _ in range(size):
            value = persisted_increment.submit(value)
        return value.result()

    return seconds_per_unit(run, size, int, warm_up=3)


def durable_loop(turns: int) -> float:
    @task(persist_result=True)
    def count_down(left: int, done: int) -> tuple[int, int]:
        return left - 1, done + 1

    @flow
    def run(turns: int) -> int:
        left, done = turns, 0
        while left:
            left, done = count_down(left, done)
        return done

    return seconds_per_unit(run, turns, int, warm_up=3)


noted_double = task(fragile.noted_double, persist_result=True, cache_policy=INPUTS + TASK_SOURCE)
total_if_healthy = task(fragile.total_if_healthy, persist_result=True, cache_policy=INPUTS + TASK_SOURCE)


@on_threads
def fragile_fan_out(first: int, size: int) -> int:
    futures = [noted_double.submit(index) for index in range(first, first + size - 1)]
    return total_if_healthy.submit(futures).result()


def fail_at_the_end(size: int) -> float:
    return fragile.failed(lambda: fragile_fan_out(0, size))


def resumed(size: int) -> float:
    def go_on(units: int) -> int:
        return fragile_fan_out(0 if units == size else size, units)

    def expected(units: int) -> int:
        first = 0 if units == size else size
        return sum(work.double(index) for index in range(first, first + units - 1))

    return fragile.seconds_to_resume(__name__, go_on, size, expected=expected, warm_up=3)
