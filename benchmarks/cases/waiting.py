"""Cascade where tasks wait or compute for long: how much of the time is not the tasks' own."""

from __future__ import annotations

from typing import Any

import cascade as cs
from benchmarks import work
from benchmarks.cases.graphs import quietly, total
from benchmarks.measuring import seconds_per_unit

sleep = cs.task(work.sleep)
sleep_then = cs.task(work.sleep_then)
double_elsewhere = cs.task(work.double, executor="process")
spin = cs.task(work.spin, executor="process")


def sleeps(count: int, seconds: float) -> float:
    return seconds_per_unit(lambda count: quietly(total([sleep(seconds) for _ in range(count)])), count, int) * count


def two_chains() -> float:
    def do(_: int) -> Any:
        ends: list[Any] = [0, 0]
        for slow in zip(work.slow_turns(0), work.slow_turns(1), strict=True):
            ends = [sleep_then(before, seconds) for before, seconds in zip(ends, slow, strict=True)]
        return quietly(ends)

    return seconds_per_unit(do, 1, lambda _: [work.CHAIN_SLEEPS] * 2)


def processes(count: int) -> float:
    quietly(double_elsewhere.map(range(100)))

    def do(count: int) -> Any:
        return quietly([spin(number) for number in range(count)]) if count > 1 else [0]

    return seconds_per_unit(do, count, lambda count: list(range(count)), warm_up=1) * count
