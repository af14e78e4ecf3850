"""How many threads help with a run: one where calls take microseconds, all that there are where they block."""

from __future__ import annotations

import threading

import pytest

import cascade as cs


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
