"""The memory that Cascade takes for explicit graphs while they run."""

from __future__ import annotations

from typing import Any

from benchmarks import work
from benchmarks.cases.graphs import double, increment, quietly, total
from benchmarks.measuring import peak_bytes


def _chain(size: int) -> Any:
    value: Any = 0
    for _ in range(size):
        value = increment(value)
    return quietly(value)


def chain_node(size: int) -> float:
    _chain(100)
    return peak_bytes(lambda: _chain(size), size) / size


def fan_out_node(size: int) -> float:
    def run(size: int) -> Any:
        return quietly(total([double(index) for index in range(size)]))

    run(100)
    return peak_bytes(lambda: run(size), work.sum_of_doubles(size)) / size
