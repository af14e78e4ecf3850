"""The least that threads and processes take: a bare pool of them, fed by one queue."""

from __future__ import annotations

import multiprocessing
import os
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue
from threading import Thread
from typing import Any

from benchmarks import work
from benchmarks.measuring import check, repeated, seconds_per_unit


class ThreadPool:
    """Threads that take calls from a queue and leave results in a deque, and nothing else."""

    def __init__(self, threads: int) -> None:
        self._calls: SimpleQueue[Any] = SimpleQueue()
        self.results: deque[Any] = deque()
        self._threads = [Thread(target=self._work) for _ in range(threads)]
        for thread in self._threads:
            thread.start()

    def _work(self) -> None:
        get, leave = self._calls.get, self.results.append
        while (call := get()) is not None:
            function, arguments = call
            leave(function(*arguments))

    def do(self, function: Callable[..., Any], rows: Iterable[tuple[Any, ...]]) -> None:
        for row in rows:
            self._calls.put((function, row))

    def finish(self) -> deque[Any]:
        for _ in self._threads:
            self._calls.put(None)
        for thread in self._threads:
            thread.join()
        return self.results


def hand_over() -> float:
    """One trivial call on another thread, waited for."""
    with ThreadPoolExecutor(1) as executor:
        return repeated(lambda: executor.submit(work.increment, 1).result(), 2, warm_up=20, times=200)


def fan_out(size: int) -> float:
    def do(size: int) -> int:
        pool = ThreadPool(os.cpu_count() or 1)
        pool.do(work.double, ((index,) for index in range(size)))
        return sum(pool.finish())

    return seconds_per_unit(do, size, work.sum_of_doubles)


def sleeps(count: int, seconds: float) -> float:
    def do(count: int) -> int:
        pool = ThreadPool(count)
        pool.do(work.sleep, ((seconds,) for _ in range(count)))
        return sum(pool.finish())

    return seconds_per_unit(do, count, int) * count


def two_chains() -> float:
    def do(_: int) -> list[int]:
        ends: list[int] = []

        def follow(chain: int) -> None:
            value = 0
            for seconds in work.slow_turns(chain):
                value = work.sleep_then(value, seconds)
            ends.append(value)

        threads = [Thread(target=follow, args=(chain,)) for chain in (0, 1)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return ends

    return seconds_per_unit(do, 1, lambda _: [work.CHAIN_SLEEPS] * 2)


def processes(count: int) -> float:
    with multiprocessing.get_context("spawn").Pool(os.cpu_count()) as pool:
        check(pool.map(work.double, range(100), chunksize=1), list(range(0, 200, 2)))

        def do(count: int) -> list[int]:
            return pool.map(work.spin, range(count), chunksize=1) if count > 1 else [0]

        return seconds_per_unit(do, count, lambda count: list(range(count)), warm_up=1) * count
