"""S25: a cached task's value is taken from the cache for equal inputs and equal code."""

from __future__ import annotations

import asyncio
import gc
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import cascade as cs
from cascade.runtime.caching import KeysUnderWay
from cascade.runtime.events import TaskSkipped
from cascade.testing.clock import MockClock
from tests.acceptance.observed import PATIENCE, Trace, await_sign, promptly, run

calls: list[Any] = []


@pytest.fixture(autouse=True)
def _no_calls() -> None:
    calls.clear()


@cs.task
def record(x: Any, y: Any = 0) -> Any:
    calls.append(x)
    return x


def kept(**settings: Any) -> cs.InputsCache:
    return cs.InputsCache(cs.InMemoryCacheBackend(), **settings)


# S25
def test_equal_inputs_are_computed_once() -> None:
    cached = record.with_cache(kept())
    assert [run(cached(1)), run(cached(1)), run(cached(2)), run(cached(x=1)), run(cached(1, 0))] == [1, 1, 2, 1, 1]
    assert calls == [1, 2]


# S25
def test_an_empty_backend_is_a_backend() -> None:
    backend = cs.InMemoryCacheBackend()
    run(record(1).with_cache(cs.InputsCache(backend)))
    assert len(backend) == 1


# S25
def test_without_a_backend_of_its_own_a_policy_uses_that_of_the_run() -> None:
    backend = cs.InMemoryCacheBackend()
    cached = record.with_cache(cs.InputsCache())
    assert [run(cached(1), cache=backend), run(cached(1), cache=backend)] == [1, 1]
    assert calls == [1]
    assert len(backend) == 1


# S25
def test_by_default_values_are_kept_for_the_life_of_the_process() -> None:
    cached = record.with_cache(cs.InputsCache(version="by default"))
    assert [run(cached(1)), run(cached(1))] == [1, 1]
    assert calls == [1]


# S25
def test_an_engine_keeps_values_from_run_to_run() -> None:
    cached = record.with_cache(cs.InputsCache())

    async def main() -> None:
        async with cs.create_engine() as engine:
            assert await engine.run(cached(1)) == 1
            assert await engine.run(cached(1)) == 1

    asyncio.run(main())
    assert calls == [1]


# S25
@pytest.mark.parametrize("different", [(1, True), (1, 1.0), ("1", b"1"), ((1,), [1]), ({1: 2}, {1: 3}), (None, 0)])
def test_all_inputs_are_a_part_of_the_key_literals_too(different: tuple[Any, Any]) -> None:
    cached = record.with_cache(kept())
    for value in different:
        assert run(cached(value)) == value
    assert len(calls) == 2
    run(cached(different[0], y=1))
    assert len(calls) == 3


# S25
def test_lazy_inputs_count_by_their_values() -> None:
    cached = record.with_cache(kept())
    five = cs.task(lambda: 5)
    assert run(cached(five())) == 5
    assert run(cached(5)) == 5
    assert run(cached([five()])) == [5]
    assert calls == [5, [5]]


# S25
def test_other_code_is_another_key() -> None:
    policy = kept()

    def make(factor: int) -> Any:
        namespace: dict[str, Any] = {"calls": calls}
        exec(f"def compute(x):\n    calls.append(x)\n    return x * {factor}", namespace)
        return cs.task(namespace["compute"], cache=policy)

    assert [run(make(2)(1)), run(make(3)(1)), run(make(2)(1))] == [2, 3, 2]
    assert len(calls) == 2


# S25
def test_another_version_is_another_key() -> None:
    backend = cs.InMemoryCacheBackend()
    for version in (1, 2, 1):
        run(record.with_cache(cs.InputsCache(backend, version=version))(1))
    assert calls == [1, 1]


# S25
def test_none_can_be_cached() -> None:
    cached = record.with_cache(kept())
    trace = Trace()
    assert run(cached(None)) is None
    assert run(cached(None), bus=trace.bus) is None
    assert calls == [None]
    assert trace.terminal() == {"record#0": ["CacheHit"]}


# S25
@pytest.mark.parametrize("input", [object(), threading.Lock(), (x for x in [1])])
def test_an_input_that_cannot_be_digested_surely_is_refused_naming_it(input: Any) -> None:
    with pytest.raises(cs.CascadeError, match="argument 'x'"):
        promptly(lambda: run(record.with_cache(kept())(input)))
    assert calls == []


failing: list[bool] = []


def fails_while_told(x: int) -> int:
    calls.append(x)
    if failing:
        raise ValueError("not yet")
    return x


# S25
def test_a_failure_is_never_cached() -> None:
    cached = cs.task(fails_while_told).with_cache(kept())
    failing.append(True)
    with pytest.raises(ValueError, match="not yet"):
        run(cached(1))
    failing.clear()
    assert run(cached(1)) == 1
    assert run(cached(1)) == 1
    assert calls == [1, 1]


class Broken:
    """A backend that fails as it is told."""

    def __init__(self, *what: str) -> None:
        self.what = what

    async def get(self, key: str) -> Any:
        if "get" in self.what:
            raise OSError("the disk is gone")
        raise KeyError(key)

    async def put(self, key: str, value: Any, *, ttl: float | None = None) -> None:
        if "put" in self.what:
            raise OSError("the disk is full")

    async def discard(self, key: str) -> None:
        raise OSError


# S25
@pytest.mark.parametrize("what", [("get",), ("put",), ("get", "put")])
def test_a_failing_cache_never_fails_the_task(what: tuple[str, ...]) -> None:
    assert promptly(lambda: run(record(1).with_cache(cs.InputsCache(Broken(*what))))) == 1
    assert calls == [1]


# S25
def test_a_value_that_cannot_be_kept_never_fails_the_task() -> None:
    assert promptly(lambda: run(make_lock.with_cache(kept())())) is not None


@cs.task
def make_lock() -> Any:
    return threading.Lock()


# S25, S28
def test_a_hit_is_told_as_skipped_with_cache_hit_and_nothing_else() -> None:
    cached = record.with_cache(kept())
    run(cached(1))
    trace = Trace()
    assert run(cs.task(lambda x: x, name="after")(cached(1)), bus=trace.bus) == 1
    assert trace.lines() == [
        "run after",
        "skip record#0 CacheHit",
        "start after#1",
        "Succeeded after#1 = 1",
        "end Succeeded",
    ]


# S25, S10
def test_a_selector_from_the_cache_decides_like_any() -> None:
    cached = record.with_cache(kept())
    for _ in range(2):
        assert run(cs.Router(cached("b"), {"a": record("A"), "b": record("B")})) == "B"
    assert calls == ["b", "B", "B"]


gates: dict[str, threading.Event] = {}


@cs.task
def slow(x: int) -> int:
    calls.append(x)
    await_sign(gates["open"])
    return x


# S25
def test_one_computation_for_one_key_at_a_time_in_one_run() -> None:
    gates["open"] = threading.Event()
    gates["open"].set()
    cached = slow.with_cache(kept())
    assert promptly(lambda: run([cached(1) for _ in range(30)])) == [1] * 30
    assert calls == [1]


# S25
def test_one_computation_for_one_key_at_a_time_in_two_runs_of_an_engine() -> None:
    gates["open"] = threading.Event()
    cached = slow.with_cache(kept())

    async def main() -> Any:
        async with cs.create_engine() as engine:
            first = asyncio.create_task(engine.run(cached(1)))
            while not calls:  # noqa: ASYNC110 - it is told by a thread or a handler
                await asyncio.sleep(0.001)
            second = asyncio.create_task(engine.run(cached(1)))
            for _ in range(50):
                await asyncio.sleep(0)
            gates["open"].set()
            return await first, await second

    assert promptly(lambda: asyncio.run(main())) == (1, 1)
    assert calls == [1]


# S25
def test_one_computation_for_one_key_at_a_time_in_two_calls_of_run_that_share_a_backend() -> None:
    gates["open"] = threading.Event()
    cached = slow.with_cache(kept())
    started = threading.Barrier(2)

    def one() -> Any:
        started.wait(5.0)
        return run(cached(1))

    with ThreadPoolExecutor(2) as threads:
        running = [threads.submit(one) for _ in range(2)]
        for _ in range(200):
            if len(calls) == 2:
                break
            threading.Event().wait(0.002)
        gates["open"].set()
        assert [future.result(10.0) for future in running] == [1, 1]
    assert calls == [1]


# S25
def test_waiting_for_a_computation_that_fails_one_takes_over() -> None:
    cached = cs.task(fails_once).with_cache(kept())
    attempts.clear()
    with pytest.raises(cs.RunFailedGroup) as caught:
        promptly(lambda: run([cached(1), cached(1), cached(1)], on_failure="continue"))
    assert len(caught.value.exceptions) == 1
    assert len(attempts) == 2


attempts: list[int] = []


async def fails_once(x: int) -> int:
    attempts.append(x)
    await asyncio.sleep(0)
    if len(attempts) == 1:
        raise ValueError("the first")
    return x


# S25
def test_waiting_for_a_computation_that_is_cancelled_one_takes_over() -> None:
    cached = cs.task(waits_first).with_cache(kept())
    attempts.clear()

    async def main() -> Any:
        async with cs.create_engine() as engine:
            first = asyncio.create_task(engine.run(cached(1)))
            while not attempts:  # noqa: ASYNC110 - it is told by a thread or a handler
                await asyncio.sleep(0)
            second = asyncio.create_task(engine.run(cached(1)))
            for _ in range(30):
                await asyncio.sleep(0)
            first.cancel()
            with pytest.raises(asyncio.CancelledError):
                await first
            return await second

    assert promptly(lambda: asyncio.run(main())) == 1


async def waits_first(x: int) -> int:
    attempts.append(x)
    if len(attempts) == 1:
        await asyncio.Event().wait()
    return x


# S25
def test_a_call_never_waits_for_its_own_ancestor() -> None:
    recursion.clear()
    assert promptly(lambda: run(recursive.with_cache(POLICY)(3))) == "bottom"
    recursion.clear()
    assert promptly(lambda: run(nested_recursive.with_cache(POLICY)(3))) == "bottom"


POLICY = cs.InputsCache(cs.InMemoryCacheBackend())
recursion: list[int] = []


@cs.task
def recursive(x: int) -> Any:
    recursion.append(x)
    return recursive.with_cache(POLICY)(x) if len(recursion) < 4 else "bottom"


@cs.task
def nested_recursive(x: int) -> Any:
    recursion.append(x)
    return run(nested_recursive.with_cache(POLICY)(x)) if len(recursion) < 4 else "bottom"


# S25
def test_a_call_never_waits_for_its_own_ancestor_through_maps_and_nested_runs() -> None:
    recursion.clear()
    assert promptly(lambda: run(through_map.with_cache(POLICY)(1))) == [["bottom"]]


@cs.task
def through_map(x: int) -> Any:
    recursion.append(x)
    if len(recursion) < 3:
        return through_map.with_cache(POLICY).map(x=[x])
    return "bottom"


# S25
def test_cached_recursion_computes_each_once() -> None:
    assert promptly(lambda: run(fib(30))) == 832040
    assert len(calls) == 31


FIB = cs.InputsCache(cs.InMemoryCacheBackend())


@cs.task(cache=FIB)
def fib(n: int) -> Any:
    calls.append(n)
    return n if n < 2 else plus(fib(n - 1), fib(n - 2))


@cs.task
def plus(x: int, y: int) -> int:
    return x + y


# S25
def test_a_value_expires_after_its_ttl() -> None:
    clock = MockClock()
    backend = cs.InMemoryCacheBackend(clock=clock)
    cached = record.with_cache(cs.InputsCache(backend, ttl=10.0))
    run(cached(1))
    clock.advance(9.0)
    run(cached(1))
    assert calls == [1]
    clock.advance(2.0)
    run(cached(1))
    assert calls == [1, 1]


# S25
def test_memory_caches_keep_copies() -> None:
    cached = record.with_cache(kept())
    given = [1, 2]
    first = run(cached(given))
    first.append("changed")
    second = run(cached([1, 2]))
    assert second == [1, 2]
    second.append("changed")
    assert run(cached([1, 2])) == [1, 2]
    assert len(calls) == 1


# S25
def test_a_file_existence_cache_yields_the_path_on_hit_and_miss(tmp_path: Path) -> None:
    trace = Trace()
    target = write_file(str(tmp_path), "a").with_cache(cs.FileExistenceCache(str(tmp_path / "{name}.txt")))
    assert run(target) == tmp_path / "a.txt"
    assert run(target, bus=trace.bus) == tmp_path / "a.txt"
    assert calls == ["a"]
    assert [event.reason for event in trace.of(TaskSkipped)] == ["CacheHit"]
    (tmp_path / "a.txt").unlink()
    assert run(target) == tmp_path / "a.txt"
    assert calls == ["a", "a"]


@cs.task
def write_file(folder: str, name: str) -> str:
    calls.append(name)
    Path(folder, f"{name}.txt").write_text(name)
    return "ignored"


# S25
def test_a_file_that_was_not_written_fails_the_task(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="missing"):
        run(record(1).with_cache(cs.FileExistenceCache(str(tmp_path / "missing"))))


# S25, S22
def test_injected_resources_are_no_part_of_the_key() -> None:
    @cs.resource
    def db() -> Any:
        yield object()

    cached = with_resource.with_cache(kept())
    assert run(cached(1), resources=[db]) == 1
    assert run(cached(1), resources=[db]) == 1
    assert calls == [1]


@cs.task
def with_resource(x: int, db: Any = cs.inject("db")) -> int:
    calls.append(x)
    return x


# S25, S16
def test_only_the_attempt_that_succeeds_is_cached() -> None:
    cached = cs.task(flaky).with_cache(kept()).with_retry(3)
    assert [run(cached(1)), run(cached(1))] == [1, 1]
    assert calls == [1, 1]


def flaky(x: int) -> int:
    calls.append(x)
    if len(calls) < 2:
        raise OSError
    return x


# S25
def test_keys_under_way_are_forgotten() -> None:
    cached = record.with_cache(kept())

    async def main() -> Any:
        async with cs.create_engine() as engine:
            await engine.run(cached.map(x=range(50)))
            gc.collect()
            return len(engine.keys_under_way._holders)

    assert promptly(lambda: asyncio.run(main())) == 0


# S25
@pytest.mark.needs_extra("process")
def test_a_process_task_can_be_cached() -> None:
    cached = cs.task(lambda x: x + 1, executor="process", name="inc").with_cache(kept())
    trace = Trace()
    assert promptly(lambda: [run(cached(1)), run(cached(1), bus=trace.bus)]) == [2, 2]
    assert trace.terminal() == {"inc#0": ["CacheHit"]}


# S25, S9
def test_a_condition_is_asked_before_the_cache() -> None:
    cached = record.with_cache(kept())
    run(cached(1))
    with pytest.raises(cs.DependencyMissingError, match="ConditionFalse"):
        run(cached(1).run_if(cs.task(bool)(0)))


class Counting(cs.InMemoryCacheBackend):
    """A backend that lets others go on while it looks something up, as one on a network does."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = 0

    async def get(self, key: str) -> Any:
        self.asked += 1
        await asyncio.sleep(0)
        return await super().get(key)


# S25
def test_looking_up_costs_as_much_as_there_are_calls_that_wait_for_one_key() -> None:
    backend = Counting()

    async def slow(x: int) -> int:
        calls.append(x)
        await asyncio.sleep(0)
        return x

    cached = cs.task(slow).with_cache(cs.InputsCache(backend))
    assert promptly(lambda: run(cached.map(x=[7] * 300))) == [7] * 300
    assert calls == [7]
    assert backend.asked <= 2 * 300


# S25
def test_a_key_whose_computations_fail_goes_from_one_to_the_next() -> None:
    backend = Counting()
    under_way = most = 0

    async def fails(x: int) -> int:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        await asyncio.sleep(0)
        under_way -= 1
        calls.append(x)
        raise KeyError(x)

    cached = cs.task(fails).with_cache(cs.InputsCache(backend))
    with pytest.raises(cs.RunFailedGroup):
        promptly(lambda: run([cached(7) for _ in range(300)], on_failure="continue"))
    assert (calls, most) == ([7] * 300, 1)
    assert backend.asked <= 300


# S25
def test_a_key_is_passed_on_by_who_is_cancelled_just_when_it_gets_it() -> None:
    keys = KeysUnderWay()

    class Entry:
        identity = (1, "key")

        def is_ancestor_of(self, other: Any) -> bool:
            return False

    async def main() -> None:
        holder, unlucky, last = entries = [Entry() for _ in range(3)]
        assert keys.take(holder) is None  # type: ignore[arg-type]
        waiters = [keys.take(entry) for entry in entries[1:]]  # type: ignore[arg-type]
        keys.give_up(holder)  # type: ignore[arg-type]
        assert keys.has(unlucky)  # type: ignore[arg-type]
        assert waiters[0] is not None
        keys.leave(waiters[0])
        assert keys.has(last)  # type: ignore[arg-type]
        assert waiters[1] is not None
        await asyncio.wait_for(waiters[1].woken(), PATIENCE)
        keys.give_up(last)  # type: ignore[arg-type]
        assert keys.take(holder) is None  # type: ignore[arg-type]

    asyncio.run(main())


# S25
def test_a_key_is_not_kept_for_waiters_whose_loop_was_closed() -> None:
    keys = KeysUnderWay()

    class Entry:
        identity = (1, "key")

        def is_ancestor_of(self, other: Any) -> bool:
            return False

    entries: list[Any] = [Entry() for _ in range(3000)]

    async def leave_waiting() -> None:
        for entry in entries:
            keys.take(entry)

    asyncio.run(leave_waiting())
    keys.give_up(entries[0])
    assert keys.take(entries[1]) is None
