"""Cascade on SQLite: every result is kept as it comes, and survives the process and loss of power."""

from __future__ import annotations

import itertools
import os
from typing import Any

import cascade as cs
from benchmarks import fragile, work
from benchmarks.cases.graphs import double, increment, quietly, total
from benchmarks.cases.loops import count_down
from benchmarks.measuring import peak_bytes, seconds_per_unit

_STORE = "runs.db"
_names = map("run-{}".format, itertools.count())
noted_double = cs.task(fragile.noted_double)
total_if_healthy = cs.task(fragile.total_if_healthy)


def durably(target: Any, run_id: str | None = None) -> Any:
    """Run something that has a name of its own, in the folder where the process runs."""
    url = f"sqlite:///{os.path.abspath(_STORE)}"
    return cs.run(target, run_id=run_id or next(_names), store=url, log_level="CRITICAL")


def _chain_of(size: int) -> Any:
    value: Any = 0
    for _ in range(size):
        value = increment(value)
    return value


def _fan_out_of(size: int) -> Any:
    return total([double(index) for index in range(size)])


def fan_out(size: int) -> float:
    return seconds_per_unit(lambda size: durably(_fan_out_of(size)), size, work.sum_of_doubles)


def chain(size: int) -> float:
    return seconds_per_unit(lambda size: durably(_chain_of(size)), size, int)


def loop(turns: int) -> float:
    return seconds_per_unit(lambda turns: durably(count_down(turns, 0)), turns, int)


def _fragile(size: int) -> Any:
    """A graph of `size` nodes, of which the last one fails as long as something is ill."""
    return total_if_healthy([noted_double(index) for index in range(size - 1)])


def fail_at_the_end(size: int) -> float:
    return fragile.failed(lambda: durably(_fragile(size), "fragile"))


def resumed(size: int) -> float:
    """Seconds a node of a run that failed in another process at its last node, and is done with that now."""

    def go_on(units: int) -> Any:
        return durably(_fragile(units), "fragile" if units == size else None)

    return fragile.seconds_to_resume(__name__, go_on, size)


def chain_node(size: int, *, durable: bool) -> float:
    """Bytes a node at the highest, in a chain that is kept or not."""
    run = durably if durable else quietly
    run(_chain_of(100))
    return peak_bytes(lambda: run(_chain_of(size)), size) / size


def fan_out_node(size: int, *, durable: bool) -> float:
    run = durably if durable else quietly
    run(_fan_out_of(100))
    return peak_bytes(lambda: run(_fan_out_of(size)), work.sum_of_doubles(size)) / size
