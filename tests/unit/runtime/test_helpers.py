"""How many threads help with a run: one where calls take microseconds, all that there are where they block."""

from __future__ import annotations

import asyncio
import itertools
import threading
from collections.abc import Callable
from typing import Any

import pytest

import cascade as cs
from cascade.runtime.clock import Alarm, SystemClock


@cs.task
def identity(x: int) -> int:
    return x


@cs.task
def total(values: list[int]) -> int:
    return sum(values)


@pytest.mark.parametrize("quick", [0, 5_000, 50_000])
def test_calls_that_wait_for_one_another_all_get_a_thread_whatever_came_before_them(quick: int) -> None:
    together = threading.Barrier(16)

    @cs.task
    def meet(x: int) -> int:
        together.wait(timeout=60)
        return x

    values = [*(identity(index) for index in range(quick)), *(meet(1) for _ in range(16))]
    assert cs.run(total(values), max_workers=16) == sum(range(quick)) + 16


def test_quick_calls_after_slow_ones_are_left_to_few_threads_and_the_slow_ones_after_them_are_not() -> None:
    callers: list[set[int]] = [set(), set()]
    gates = [threading.Barrier(8), threading.Barrier(8)]

    @cs.task
    def meet(which: int) -> int:
        callers[which].add(threading.get_ident())
        gates[which].wait(timeout=60)
        return 0

    first = total([meet(0) for _ in range(8)])
    between = total([identity(index).after(first) for index in range(20_000)])
    last = total([meet(1).after(between) for _ in range(8)])
    assert cs.run([first, between, last], max_workers=8) == [0, sum(range(20_000)), 0]
    assert [len(threads) for threads in callers] == [8, 8]


class SlowArrivals(SystemClock):
    """To which every worker is late, and whose moments on a loop come when the test lets them."""

    def __init__(self) -> None:
        super().__init__()
        self._seconds = itertools.count()
        self._due: list[tuple[asyncio.AbstractEventLoop, Callable[[], object]]] = []

    def monotonic(self) -> float:
        on_loop = threading.current_thread() is threading.main_thread()
        return 0.0 if on_loop else float(next(self._seconds))

    def call_at(
        self, when: float, callback: Callable[[], object], *, loop: asyncio.AbstractEventLoop | None = None
    ) -> Any:
        assert loop is not None
        self._due.append((loop, callback))
        return Alarm(callback, bool)

    def let_moments_come(self) -> None:
        due, self._due = self._due, []
        for loop, callback in due:
            loop.call_soon_threadsafe(callback)


def run_on(clock: SystemClock, target: Any, max_workers: int) -> Any:
    async def main() -> Any:
        async with cs.create_engine(clock=clock, max_workers=max_workers) as engine:
            return await engine.run(target)

    return asyncio.run(main())


def test_a_helper_that_gets_on_does_not_leave_for_the_sake_of_one_in_a_long_call() -> None:
    clock = SlowArrivals()
    last = threading.Event()

    @cs.task
    def wait_for_the_last() -> int:
        assert last.wait(30)
        return 0

    @cs.task
    def quick(x: int) -> int:
        if x % 1_000 == 0:
            clock.let_moments_come()
        if x == 19_999:
            last.set()
        return x

    values = [wait_for_the_last(), *(quick(index) for index in range(20_000))]
    assert run_on(clock, total(values), max_workers=4) == sum(range(20_000))


def test_where_no_helper_is_left_one_is_asked_for_however_crowded_it_was() -> None:
    @cs.task
    async def on_loop(x: int) -> int:
        return x

    value = total([identity(index) for index in range(20_000)])
    for _ in range(3):
        value = identity(on_loop(value))
    assert run_on(SlowArrivals(), value, max_workers=4) == sum(range(20_000))
