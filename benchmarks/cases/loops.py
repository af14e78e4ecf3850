"""Cascade on loops by tail calls."""

from __future__ import annotations

import cascade as cs
from benchmarks.cases.graphs import quietly
from benchmarks.measuring import check, resident_bytes, seconds_per_unit


@cs.task
def count_down(left: int, done: int) -> int | cs.LazyResult[int]:
    return done if left == 0 else count_down(left - 1, done + 1)


@cs.task
async def count_down_async(left: int, done: int) -> int | cs.LazyResult[int]:
    return done if left == 0 else count_down_async(left - 1, done + 1)


def loop(turns: int) -> float:
    return seconds_per_unit(lambda turns: quietly(count_down(turns, 0)), turns, int)


def loop_async(turns: int) -> float:
    return seconds_per_unit(lambda turns: quietly(count_down_async(turns, 0)), turns, int)


def growth(turns: int) -> float:
    """By how many bytes the process grows between a tenth of the turns and the last one."""
    seen: list[int] = []

    @cs.task
    def watched(left: int, done: int) -> int | cs.LazyResult[int]:
        if done == turns // 10 or left == 0:
            seen.append(resident_bytes())
        return done if left == 0 else watched(left - 1, done + 1)

    check(quietly(watched(turns, 0)), turns)
    return max(0, seen[-1] - seen[0])


def growth_async(turns: int) -> float:
    seen: list[int] = []

    @cs.task
    async def watched(left: int, done: int) -> int | cs.LazyResult[int]:
        if done == turns // 10 or left == 0:
            seen.append(resident_bytes())
        return done if left == 0 else watched(left - 1, done + 1)

    check(quietly(watched(turns, 0)), turns)
    return max(0, seen[-1] - seen[0])
