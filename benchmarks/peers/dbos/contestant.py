"""DBOS: workflows of steps on SQLite, which it uses by default; steps that run side by side are coroutines.

It is launched before the run that counts.
"""

from __future__ import annotations

import asyncio
import itertools
from typing import Any

from dbos import DBOS, SetWorkflowID

from benchmarks import fragile, work
from benchmarks.measuring import seconds_per_unit

increment = DBOS.step()(work.increment)
double_async = DBOS.step()(work.double_async)


def _launch() -> None:
    DBOS(
        config={
            "name": "benchmarks",
            "system_database_url": "sqlite:///dbos.sqlite",
            "application_version": "1",
            "log_level": "CRITICAL",
            "run_admin_server": False,
        }
    )
    DBOS.launch()


@DBOS.workflow()
def chain_of(size: int) -> int:
    value = 0
    for _ in range(size):
        value = increment(value)
    return value


@DBOS.workflow()
async def fan_out_of(size: int) -> int:
    return sum(await asyncio.gather(*[double_async(index) for index in range(size)]))


@DBOS.step()
def count_down(left: int, done: int) -> tuple[int, int]:
    return left - 1, done + 1


@DBOS.workflow()
def loop_of(turns: int) -> int:
    left, done = turns, 0
    while left:
        left, done = count_down(left, done)
    return done


@DBOS.step()
async def noted_double(x: int) -> int:
    return fragile.noted_double(x)


@DBOS.step()
async def total_if_healthy(values: list[int]) -> int:
    return fragile.total_if_healthy(values)


@DBOS.workflow()
async def fragile_fan_out(size: int) -> int:
    return await total_if_healthy(await asyncio.gather(*[noted_double(index) for index in range(size - 1)]))


def durable_chain(size: int) -> float:
    _launch()
    return seconds_per_unit(chain_of, size, int)


def durable_fan_out(size: int) -> float:
    _launch()
    return seconds_per_unit(lambda size: asyncio.run(fan_out_of(size)), size, work.sum_of_doubles)


def durable_loop(turns: int) -> float:
    _launch()
    return seconds_per_unit(loop_of, turns, int)


def fail_at_the_end(size: int) -> float:
    _launch()
    with SetWorkflowID("fragile"):
        return fragile.failed(lambda: asyncio.run(fragile_fan_out(size)))


def resumed(size: int) -> float:
    """A failed workflow goes on by being forked from the step that failed, which a queue starts."""
    names = map("warm-up-{}".format, itertools.count())

    def prepare(units: int) -> int:
        if units < size:
            _launch()
        return units

    def go_on(units: int) -> Any:
        if units < size:
            with SetWorkflowID(next(names)):
                return asyncio.run(fragile_fan_out(units))
        return DBOS.fork_workflow("fragile", start_step=size).get_result()

    return fragile.seconds_to_resume(__name__, go_on, size, prepare=prepare)
