"""Hamilton: functions named by what they give, in a module that is made for the case, run by a driver.

Its parallel maps are `Parallelizable` and `Collect` with the dynamic execution that they need.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import ModuleType
from typing import Any

from hamilton import ad_hoc_utils, async_driver, driver
from hamilton.execution import executors
from hamilton.htypes import Collect, Parallelizable

from benchmarks import work
from benchmarks.measuring import repeated, seconds_per_unit


def _named(source: str) -> list[Callable[..., Any]]:
    """The functions of a source text: Hamilton reads names and annotations, so each node needs a function."""
    names: dict[str, Any] = {"work": work}
    exec(source, names)
    return [value for name, value in names.items() if callable(value) and name != "work"]


def _module(source: str) -> ModuleType:
    return ad_hoc_utils.create_temporary_module(*_named(source))


def _chain_source(size: int, *, prefix: str = "", call: str = "work.increment") -> str:
    return "\n".join(
        f"{prefix}def node_{index + 1}(node_{index}: int) -> int: return {call}(node_{index})" for index in range(size)
    )


def one_task() -> float:
    module = _module(_chain_source(1))
    ready = driver.Builder().with_modules(module).build()
    return repeated(lambda: ready.execute(["node_1"], inputs={"node_0": 1})["node_1"], 2, warm_up=20, times=100)


def chain(size: int) -> float:
    """The functions are there before, as a module would have them; the driver is made and run."""

    def do(module: ModuleType) -> int:
        ready = driver.Builder().with_modules(module).build()
        last = f"node_{sum(name.startswith('node_') for name in vars(module))}"
        return ready.execute([last], inputs={"node_0": 0})[last]

    return seconds_per_unit(do, size, int, prepare=lambda size: _module(_chain_source(size)))


def chain_async(size: int) -> float:
    async def do(module: ModuleType) -> int:
        ready = await async_driver.Builder().with_modules(module).build()
        last = f"node_{sum(name.startswith('node_') for name in vars(module))}"
        return (await ready.execute([last], inputs={"node_0": 0}))[last]

    def prepare(size: int) -> ModuleType:
        return _module(_chain_source(size, prefix="async ", call="await work.increment_async"))

    return seconds_per_unit(lambda module: asyncio.run(do(module)), size, int, prepare=prepare)


def fan_out(size: int) -> float:
    def prepare(size: int) -> ModuleType:
        lines = [f"def double_{index}() -> int: return work.double({index})" for index in range(size)]
        names = ", ".join(f"double_{index}: int" for index in range(size))
        values = ", ".join(f"double_{index}" for index in range(size))
        return _module("\n".join([*lines, f"def total({names}) -> int: return sum(({values},))"]))

    def do(module: ModuleType) -> int:
        return driver.Builder().with_modules(module).build().execute(["total"])["total"]

    return seconds_per_unit(do, size, work.sum_of_doubles, prepare=prepare)


def _parallel(threads: int, *functions: Callable[..., Any]) -> driver.Driver:
    return (
        driver.Builder()
        .enable_dynamic_execution(allow_experimental_mode=True)
        .with_modules(ad_hoc_utils.create_temporary_module(*functions))
        .with_remote_executor(executors.MultiThreadingExecutor(max_tasks=threads))
        .build()
    )


def map_items(size: int) -> float:
    def item(items: list) -> Parallelizable[int]:
        yield from items

    def doubled(item: int) -> int:
        return work.double(item)

    def every(doubled: Collect[int]) -> list:
        return list(doubled)

    return seconds_per_unit(
        lambda items: _parallel(64, item, doubled, every).execute(["every"], inputs={"items": items})["every"],
        size,
        lambda size: list(range(0, 2 * size, 2)),
        prepare=lambda size: list(range(size)),
    )


def layers(width: int, depth: int) -> float:
    def prepare(size: int) -> ModuleType:
        lines = [f"def node_0_{index}() -> int: return {index}" for index in range(width)]
        last = size // width - 1
        for layer in range(last):
            for index in range(width):
                places = [f"node_{layer}_{i}" for i in work.layer_inputs(index, width)]
                lines.append(
                    f"def node_{layer + 1}_{index}({', '.join(f'{place}: int' for place in places)}) -> int: "
                    f"return work.add_three({', '.join(places)})"
                )
        ends = [f"node_{last}_{index}" for index in range(width)]
        lines.append(f"def total({', '.join(f'{end}: int' for end in ends)}) -> int: return sum(({', '.join(ends)},))")
        return _module("\n".join(lines))

    def do(module: ModuleType) -> int:
        return driver.Builder().with_modules(module).build().execute(["total"])["total"]

    def expected(size: int) -> int:
        return work.layers_sum(width, size // width)

    return seconds_per_unit(do, width * depth, expected, prepare=prepare, warm_up=2 * width)


def sleeps(count: int, seconds: float) -> float:
    def pause(count: int) -> Parallelizable[float]:
        yield from [seconds] * count

    def slept(pause: float) -> int:
        return work.sleep(pause)

    def total(slept: Collect[int]) -> int:
        return sum(slept)

    def do(count: int) -> int:
        return _parallel(64, pause, slept, total).execute(["total"], inputs={"count": count})["total"]

    return seconds_per_unit(do, count, int) * count


def two_chains() -> float:
    """With the adapter that runs functions on threads."""
    from hamilton.plugins.h_threadpool import FutureAdapter

    lines: list[str] = []
    for chain in (0, 1):
        for step, slow in enumerate(work.slow_turns(chain)):
            lines.append(
                f"def chain{chain}_{step + 1}(chain{chain}_{step}: int) -> int: "
                f"return work.sleep_then(chain{chain}_{step}, {slow})"
            )
    module = _module("\n".join(lines))
    ends = [f"chain{chain}_{work.CHAIN_SLEEPS}" for chain in (0, 1)]

    def do(_: int) -> list[int]:
        ready = driver.Builder().with_modules(module).with_adapters(FutureAdapter(max_workers=64)).build()
        return list(ready.execute(ends, inputs={"chain0_0": 0, "chain1_0": 0}).values())

    return seconds_per_unit(do, 1, lambda _: [work.CHAIN_SLEEPS] * 2)
