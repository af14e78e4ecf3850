"""Cascade while somebody looks: the terminal, the log, a subscriber."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from statistics import median
from time import perf_counter
from typing import Any

import cascade as cs
from benchmarks import work
from benchmarks.cases.graphs import double, total
from benchmarks.measuring import UnfitError, check, seconds_per_unit


def _fan_out(size: int, **options: Any) -> Any:
    return cs.run(total([double(index) for index in range(size)]), **options)


def told(size: int, log_level: str) -> float:
    """A fan-out with a log level, and stderr not a terminal."""
    return seconds_per_unit(lambda size: _fan_out(size, log_level=log_level), size, work.sum_of_doubles)


def shown(size: int) -> float:
    """A fan-out with the progress on a terminal, as it is by default."""
    if not sys.stderr.isatty():
        raise UnfitError("no terminal")
    if find_spec("rich") is None:
        raise UnfitError("needs rich")
    return seconds_per_unit(_fan_out, size, work.sum_of_doubles)


def event(size: int) -> float:
    """What one event costs that somebody listens to: runs with a subscriber against runs without one, in turns."""
    events = 0

    def count(event: cs.Event) -> None:
        nonlocal events
        events += 1

    def timed(bus: cs.MessageBus | None, size: int) -> float:
        start = perf_counter()
        result = _fan_out(size, log_level="CRITICAL", bus=bus)
        seconds = perf_counter() - start
        check(result, work.sum_of_doubles(size))
        return seconds

    def listening() -> cs.MessageBus:
        bus = cs.MessageBus()
        bus.subscribe(cs.Event, count)
        return bus

    for bus in (None, listening()):
        timed(bus, 100)
    without: list[float] = []
    listened: list[float] = []
    for _ in range(5):
        without.append(timed(None, size))
        events = 0
        listened.append(timed(listening(), size))
        # Each task starts and ends, and the run itself does.
        check(events >= 2 * size, True)
    return (median(listened) - median(without)) / events
