"""redun: lazy expressions on its scheduler, with the local executor and a database in memory, as it is by default.

Durable cases have a database in a file, made before the run that counts; whatever is in it is not called again.
"""

from __future__ import annotations

import itertools
import logging
from typing import Any

from redun import Scheduler, task
from redun.config import Config

from benchmarks import fragile, work
from benchmarks.measuring import repeated, seconds_per_unit

redun_namespace = "benchmarks"
_files = map("sqlite:///redun-{}.db".format, itertools.count())


@task()
def increment(x: int) -> int:
    return work.increment(x)


@task()
def double(x: int) -> int:
    return work.double(x)


@task()
def add_three(x: int, y: int, z: int) -> int:
    return work.add_three(x, y, z)


@task()
def total(values: list[int]) -> int:
    return sum(values)


@task(cache=False)
def sleep(number: int, seconds: float) -> int:
    return work.sleep(seconds)


@task(cache=False)
def sleep_then(before: int, seconds: float, chain: int) -> int:
    return work.sleep_then(before, seconds)


@task()
def count_down(left: int, done: int) -> Any:
    return done if left == 0 else count_down(left - 1, done + 1)


@task(cache=False, executor="processes")
def spin(number: int) -> int:
    return work.spin(number)


@task(cache=False, executor="processes")
def double_elsewhere(x: int) -> int:
    return work.double(x)


@task()
def noted_double(x: int) -> int:
    return fragile.noted_double(x)


@task()
def total_if_healthy(values: list[int]) -> int:
    return fragile.total_if_healthy(values)


def _scheduler(database: str = "sqlite:///:memory:") -> Scheduler:
    logging.getLogger("redun").setLevel(logging.CRITICAL)
    scheduler = Scheduler(
        Config(
            {
                "backend": {"db_uri": database},
                "executors.default": {"type": "local", "max_workers": "64"},
                "executors.processes": {"type": "local", "mode": "process", "max_workers": "2"},
            }
        )
    )
    scheduler.load()
    return scheduler


def one_task() -> float:
    """Another argument each time: an equal call would come from the cache."""
    scheduler = _scheduler()
    numbers = iter(range(1_000))
    return repeated(lambda: scheduler.run(increment(next(numbers))) > 0, expected=True, warm_up=10, times=50)


def chain(size: int) -> float:
    def do(size: int) -> int:
        value: Any = 0
        for _ in range(size):
            value = increment(value)
        return _scheduler().run(value)

    return seconds_per_unit(do, size, int)


def fan_out(size: int) -> float:
    return seconds_per_unit(
        lambda size: _scheduler().run(total([double(index) for index in range(size)])), size, work.sum_of_doubles
    )


def map_items(size: int) -> float:
    return seconds_per_unit(
        lambda items: _scheduler().run([double(item) for item in items]),
        size,
        lambda size: list(range(0, 2 * size, 2)),
        prepare=lambda size: list(range(size)),
    )


def layers(width: int, depth: int) -> float:
    def do(size: int) -> int:
        nodes: list[Any] = list(range(width))
        for _ in range(size // width - 1):
            nodes = [add_three(*[nodes[i] for i in work.layer_inputs(index, width)]) for index in range(width)]
        return _scheduler().run(total(nodes))

    def expected(size: int) -> int:
        return work.layers_sum(width, size // width)

    return seconds_per_unit(do, width * depth, expected, warm_up=2 * width)


def loop(turns: int) -> float:
    return seconds_per_unit(lambda turns: _scheduler().run(count_down(turns, 0)), turns, int)


def sleeps(count: int, seconds: float) -> float:
    def do(count: int) -> int:
        return _scheduler().run(total([sleep(number, seconds) for number in range(count)]))

    return seconds_per_unit(do, count, int) * count


def two_chains() -> float:
    def do(_: int) -> list[int]:
        ends: list[Any] = [0, 0]
        for slow in zip(work.slow_turns(0), work.slow_turns(1), strict=True):
            ends = [sleep_then(ends[chain], slow[chain], chain) for chain in (0, 1)]
        return _scheduler().run(ends)

    return seconds_per_unit(do, 1, lambda _: [work.CHAIN_SLEEPS] * 2)


def processes(count: int) -> float:
    scheduler = _scheduler()
    scheduler.run([double_elsewhere(number) for number in range(20)])

    def do(count: int) -> list[int]:
        return scheduler.run([spin(number) for number in range(count)]) if count > 1 else [0]

    return seconds_per_unit(do, count, lambda count: list(range(count)), warm_up=1) * count


def _on_file(size: int) -> tuple[int, Scheduler]:
    return size, _scheduler(next(_files))


def durable_fan_out(size: int) -> float:
    def do(prepared: tuple[int, Scheduler]) -> int:
        size, scheduler = prepared
        return scheduler.run(total([double(index) for index in range(size)]))

    return seconds_per_unit(do, size, work.sum_of_doubles, prepare=_on_file)


def durable_chain(size: int) -> float:
    def do(prepared: tuple[int, Scheduler]) -> int:
        size, scheduler = prepared
        value: Any = 0
        for _ in range(size):
            value = increment(value)
        return scheduler.run(value)

    return seconds_per_unit(do, size, int, prepare=_on_file)


def durable_loop(turns: int) -> float:
    return seconds_per_unit(lambda prepared: prepared[1].run(count_down(prepared[0], 0)), turns, int, prepare=_on_file)


def _fragile(size: int) -> Any:
    return total_if_healthy([noted_double(index) for index in range(size - 1)])


def fail_at_the_end(size: int) -> float:
    return fragile.failed(lambda: _scheduler("sqlite:///fragile.db").run(_fragile(size)))


def resumed(size: int) -> float:
    def prepare(units: int) -> tuple[int, Scheduler]:
        return units, _scheduler("sqlite:///fragile.db") if units == size else _scheduler(next(_files))

    def go_on(prepared: tuple[int, Scheduler]) -> int:
        units, scheduler = prepared
        return scheduler.run(_fragile(units))

    return fragile.seconds_to_resume(__name__, go_on, size, prepare=prepare)
