"""How a contestant measures itself: a small run to warm up, then the real one, whose result must be right."""

from __future__ import annotations

import gc
import json
import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import Any

WARM_UP = 50


class WrongResultError(Exception):
    """A contestant did not compute what it was asked for, so its time means nothing."""


class UnfitError(Exception):
    """A contestant cannot do the case; its first argument says in a word or two why."""


def check(result: Any, expected: Any) -> None:
    if result != expected:
        raise WrongResultError(f"expected {expected!r:.200}, got {result!r:.200}")


def seconds_per_unit(
    work: Callable[[Any], Any],
    size: int,
    expected: Callable[[int], Any],
    *,
    prepare: Callable[[int], Any] = int,
    warm_up: int = WARM_UP,
) -> float:
    """Time what `work` does from declaring to the result, the freeing of what it made included.

    Args:
        work: does the case on what `prepare` made of the size; returns the result.
        size: the number of units.
        expected: the right result for a size.
        prepare: makes the input, which is not counted.
        warm_up: the size of the run before the one that counts.
    """
    seconds = 0.0
    for units in (min(size, warm_up), size):
        prepared = prepare(units)
        gc.collect()
        collector = _collector()
        start = perf_counter()
        result = work(prepared)
        seconds = perf_counter() - start
        check(_collector(), collector)
        check(result, expected(units))
    return seconds / size


def _collector() -> tuple[Any, ...]:
    """The settings of the garbage collector, which a run may change but must leave as they were."""
    return gc.isenabled(), gc.get_threshold(), gc.get_freeze_count()


def repeated(work: Callable[[], Any], expected: Any, *, warm_up: int, times: int) -> float:
    """The seconds of one of many equal runs, after some that do not count."""
    for _ in range(warm_up):
        check(work(), expected)
    result = None
    start = perf_counter()
    for _ in range(times):
        result = work()
    seconds = perf_counter() - start
    check(result, expected)
    return seconds / times


def in_another_process(module: str, function: str, **arguments: Any) -> float:
    """What a contestant's function returns in a process of its own, which has ended then."""
    command = [sys.executable, "-m", "benchmarks.contestant", module, function, json.dumps(arguments)]
    answer = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    if "value" not in answer:
        raise RuntimeError(f"{function} in another process: {answer}")
    return float(answer["value"])


def peak_bytes(work: Callable[[], Any], expected: Any) -> int:
    """The most that Python's allocators gave out at a time while `work` ran, beyond what there was before."""
    gc.collect()
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    result = work()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    check(result, expected)
    return peak - before


def resident_bytes() -> int:
    """The memory of this process that is in RAM, after what is garbage has been collected."""
    gc.collect()
    for line in Path("/proc/self/status").read_text("ascii").splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise UnfitError("no /proc")
