"""The least that a loop by tail calls takes: what a turn returns is called by a bare loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, NamedTuple

from benchmarks.measuring import seconds_per_unit


class Next(NamedTuple):
    function: Callable[..., Any]
    arguments: tuple[Any, ...]


def _count_down(left: int, done: int) -> int | Next:
    return done if left == 0 else Next(_count_down, (left - 1, done + 1))


async def _count_down_async(left: int, done: int) -> int | Next:
    return done if left == 0 else Next(_count_down_async, (left - 1, done + 1))


def loop(turns: int) -> float:
    def do(turns: int) -> Any:
        result: Any = _count_down(turns, 0)
        while type(result) is Next:
            result = result.function(*result.arguments)
        return result

    return seconds_per_unit(do, turns, int)


def loop_async(turns: int) -> float:
    async def do(turns: int) -> Any:
        result: Any = await _count_down_async(turns, 0)
        while type(result) is Next:
            result = await result.function(*result.arguments)
        return result

    return seconds_per_unit(lambda turns: asyncio.run(do(turns)), turns, int)
