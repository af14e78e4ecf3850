"""Cascade on maps: items are rows, not nodes."""

from __future__ import annotations

import cascade as cs
from benchmarks import work
from benchmarks.cases.graphs import double, quietly
from benchmarks.measuring import peak_bytes, seconds_per_unit


def items(size: int) -> float:
    return seconds_per_unit(
        lambda items: quietly(double.map(items)),
        size,
        lambda size: list(range(0, 2 * size, 2)),
        prepare=lambda size: list(range(size)),
    )


def item_bytes(size: int) -> float:
    """Bytes an item at the highest, beside the list that is given and the list that comes out."""
    quietly(double.map(list(range(100))))
    given = list(range(size))
    expected = [work.double(item) for item in given]
    output = peak_bytes(lambda: [work.double(item) for item in given], expected)
    return (peak_bytes(lambda: quietly(double.map(given)), expected) - output) / size


def coroutine_items(size: int) -> float:
    task = cs.task(work.double_async)
    return seconds_per_unit(
        lambda items: quietly(task.map(items)),
        size,
        lambda size: list(range(0, 2 * size, 2)),
        prepare=lambda size: list(range(size)),
    )
