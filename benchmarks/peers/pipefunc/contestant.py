"""pipefunc: functions in a pipeline, maps by mapspecs; in this process or on threads, results in memory."""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from typing import Any

from pipefunc import PipeFunc, Pipeline

from benchmarks import work
from benchmarks.measuring import repeated, seconds_per_unit


def _chain_of(size: int) -> Pipeline:
    return Pipeline(
        [PipeFunc(work.increment, output_name=f"y{index + 1}", renames={"x": f"y{index}"}) for index in range(size)]
    )


def one_task() -> float:
    pipeline = _chain_of(1)
    return repeated(lambda: pipeline("y1", y0=1), 2, warm_up=20, times=100)


def chain(size: int) -> float:
    return seconds_per_unit(lambda size: _chain_of(size)(f"y{size}", y0=0), size, int)


def _mapped(function: Any, argument: str, values: list[Any], **options: Any) -> Any:
    pipeline = Pipeline([PipeFunc(function, output_name="y", mapspec=f"{argument}[i] -> y[i]")])
    results = pipeline.map({argument: values}, storage="dict", show_progress=False, **options)
    return results["y"].output.tolist()


def fan_out(size: int) -> float:
    """A map and a sum of it, which is how pipefunc has the same function many times."""

    def total(y: Any) -> int:
        return int(sum(y))

    def do(size: int) -> int:
        pipeline = Pipeline(
            [
                PipeFunc(work.double, output_name="y", mapspec="x[i] -> y[i]"),
                PipeFunc(total, output_name="total"),
            ]
        )
        results = pipeline.map({"x": list(range(size))}, storage="dict", parallel=False, show_progress=False)
        return results["total"].output

    return seconds_per_unit(do, size, work.sum_of_doubles)


def map_items(size: int) -> float:
    return seconds_per_unit(
        lambda items: _mapped(work.double, "x", items, parallel=False),
        size,
        lambda size: list(range(0, 2 * size, 2)),
        prepare=lambda size: list(range(size)),
    )


def layers(width: int, depth: int) -> float:
    def total(**values: int) -> int:
        return sum(values.values())

    def do(size: int) -> int:
        last = size // width - 1
        functions = [
            PipeFunc(
                work.add_three,
                output_name=f"y{layer + 1}_{index}",
                renames={
                    name: f"y{layer}_{place}"
                    for name, place in zip("xyz", work.layer_inputs(index, width), strict=True)
                },
            )
            for layer in range(last)
            for index in range(width)
        ]
        pipeline = Pipeline(functions)
        results = pipeline.run(
            [f"y{last}_{index}" for index in range(width)], kwargs={f"y0_{index}": index for index in range(width)}
        )
        return sum(results)

    def expected(size: int) -> int:
        return work.layers_sum(width, size // width)

    return seconds_per_unit(do, width * depth, expected, warm_up=2 * width)


def sleeps(count: int, seconds: float) -> float:
    def do(count: int) -> int:
        with ThreadPoolExecutor(64) as threads:
            return sum(_mapped(work.sleep, "seconds", [seconds] * count, executor=threads, chunksizes=1))

    return seconds_per_unit(do, count, int) * count


def processes(count: int) -> float:
    with ProcessPoolExecutor(2) as pool:
        list(pool.map(work.double, range(100)))

        def do(count: int) -> list[int]:
            return _mapped(work.spin, "number", list(range(count)), executor=pool, chunksizes=1) if count > 1 else [0]

        return seconds_per_unit(do, count, lambda count: list(range(count)), warm_up=1) * count


def two_chains() -> float:
    """With its eager scheduling, which starts a function when its own inputs are there."""

    def step(slow: float) -> Any:
        def slept(before: int) -> int:
            return work.sleep_then(before, slow)

        return slept

    def do(_: int) -> list[int]:
        functions = [
            PipeFunc(step(slow), output_name=f"chain{chain}_{index + 1}", renames={"before": f"chain{chain}_{index}"})
            for chain in (0, 1)
            for index, slow in enumerate(work.slow_turns(chain))
        ]
        with ThreadPoolExecutor(64) as threads:
            results = Pipeline(functions).map(
                {"chain0_0": 0, "chain1_0": 0},
                executor=threads,
                storage="dict",
                scheduling_strategy="eager",
                show_progress=False,
            )
        return [results[f"chain{chain}_{work.CHAIN_SLEEPS}"].output for chain in (0, 1)]

    return seconds_per_unit(do, 1, lambda _: [work.CHAIN_SLEEPS] * 2)
