"""S21: `run` works wherever it is called, `arun` in async code, and nested runs share the engine."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

import cascade as cs
from cascade.runtime.events import RunStarted, TaskBlocked
from cascade.spec.context import call_context
from tests.acceptance.observed import Trace, await_sign, promptly, run


@cs.task
def double(x: int) -> int:
    return 2 * x


@cs.task
def fail() -> None:
    raise KeyError("it failed")


# S21
def test_run_works_in_a_script() -> None:
    assert run(double(2)) == 4


# S21
def test_run_works_in_threads_at_once() -> None:
    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(lambda x: run(double(x)), range(40))) == [2 * x for x in range(40)]


# S21
def test_run_works_under_a_running_loop_as_in_a_notebook() -> None:
    async def cell() -> Any:
        return run(double(2)), threading.current_thread()

    assert promptly(lambda: asyncio.run(cell()))[0] == 4


# S21
def test_run_works_inside_a_sync_task() -> None:
    @cs.task
    def outer(x: int) -> Any:
        return run(double(x)) + 1

    @cs.task(retry=1)
    def with_policy(x: int) -> Any:
        return run(outer(x)) + 1

    assert promptly(lambda: run(outer(2))) == 5
    assert promptly(lambda: run(with_policy(2))) == 6


# S21
@pytest.mark.parametrize("kind", ["async", "inline"])
def test_run_inside_an_async_task_raises_and_names_arun(kind: str) -> None:
    async def outer_async() -> Any:
        return run(double(2))

    def outer() -> Any:
        return run(double(2))

    task: Any = cs.task(outer_async) if kind == "async" else cs.task(outer, executor="inline")
    with pytest.raises(cs.NestedRunError, match="arun"):
        promptly(lambda: run(task()))


# S21
def test_run_in_a_thread_that_an_async_task_waits_for_is_nested() -> None:
    @cs.task
    async def outer() -> Any:
        return await asyncio.to_thread(run, double(2))

    assert promptly(lambda: run(outer())) == 4


# S21
def test_arun_works_in_async_code_and_inside_async_tasks() -> None:
    @cs.task
    async def outer() -> Any:
        return await cs.arun(double(2)) + await cs.arun(double(3))

    async def main() -> Any:
        return await cs.arun(outer(), log_level="CRITICAL")

    assert promptly(lambda: asyncio.run(main())) == 10
    assert promptly(lambda: run(outer())) == 10


# S21
@pytest.mark.parametrize(
    ("target", "error"),
    [
        (fail, KeyError),
        (lambda: double(1).run_if(cs.task(bool)(0)), cs.DependencyMissingError),
        (lambda: double(cs.Param("missing")), cs.ParameterError),
        (lambda: double(cs.inject("nobody")), cs.UnknownResourceError),
        (lambda: double(1).with_constraints(gpu=3), cs.ValidationError),
    ],
)
def test_both_raise_the_same_errors(target: Any, error: type[Exception]) -> None:
    with pytest.raises(error) as one:
        run(target(), system_resources={"gpu": 1})
    with pytest.raises(error) as other:
        asyncio.run(cs.arun(target(), system_resources={"gpu": 1}, log_level="CRITICAL"))

    async def in_loop() -> None:
        run(target(), system_resources={"gpu": 1})

    with pytest.raises(error) as third:
        promptly(lambda: asyncio.run(in_loop()))
    assert type(one.value) is type(other.value) is type(third.value)
    assert str(one.value) == str(other.value) == str(third.value)


# S21
def test_a_nested_run_shares_the_capacities() -> None:
    most = now = 0
    lock = threading.Lock()

    @cs.task
    def inner(x: int) -> int:
        nonlocal most, now
        with lock:
            now += 1
            most = max(most, now)
        with lock:
            now -= 1
        return x

    @cs.task
    def outer(x: int) -> Any:
        return run(inner.with_constraints(gpu=1).map(x=range(5)))

    promptly(lambda: run(outer.map(x=range(6)), system_resources={"gpu": 1}))
    assert most == 1
    with pytest.raises(cs.ValidationError, match="gpu"):
        run(cs.task(lambda: run(double(1).with_constraints(gpu=2)))(), system_resources={"gpu": 1})


# S21, S24
def test_a_nested_run_shares_the_constraints() -> None:
    most = now = 0
    lock = threading.Lock()

    @cs.task
    def inner(x: int) -> int:
        nonlocal most, now
        with lock:
            now += 1
            most = max(most, now)
        with lock:
            now -= 1
        return x

    @cs.task
    def outer(x: int) -> Any:
        return run(inner.map(x=range(5)))

    async def main() -> Any:
        async with cs.create_engine() as engine:
            engine.constraints.set(cs.GlobalConstraint.concurrency(1, "task:inner"))
            return await engine.run(outer.map(x=range(6)))

    assert promptly(lambda: asyncio.run(main())) == [list(range(5))] * 6
    assert most == 1


# S21
def test_nested_runs_need_no_slot_of_their_callers_under_a_limit_of_one() -> None:
    @cs.task
    def nest(n: int) -> Any:
        return run(nest(n - 1)) + 1 if n else 0

    async def main() -> Any:
        async with cs.create_engine(max_workers=1) as engine:
            engine.constraints.set(cs.GlobalConstraint.concurrency(1))
            return await engine.run(nest(5))

    assert promptly(lambda: asyncio.run(main())) == 5


# S21
def test_a_nested_run_inherits_cancellation() -> None:
    trace = Trace()
    ended: list[str] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        started = asyncio.Event()

        @cs.task
        async def inner() -> None:
            loop.call_soon_threadsafe(started.set)
            try:
                await asyncio.Event().wait()
            finally:
                ended.append("inner")

        @cs.task
        def outer() -> None:
            try:
                run(inner())
            finally:
                ended.append("outer")

        running = asyncio.create_task(cs.arun(outer(), bus=trace.bus, log_level="CRITICAL"))
        await started.wait()
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running

    promptly(lambda: asyncio.run(main()))
    assert ended == ["inner", "outer"]


# S21
@pytest.mark.parametrize("how", ["run", "arun"])
def test_a_nested_run_that_begins_after_the_cancellation_runs_nothing(how: str) -> None:
    called: list[str] = []

    @cs.task
    def inner() -> None:
        called.append("inner")

    async def main() -> None:
        loop = asyncio.get_running_loop()
        started = asyncio.Event()

        @cs.task
        def outer() -> None:
            loop.call_soon_threadsafe(started.set)
            while not cs.cancelled():
                pass
            run(inner())

        @cs.task
        async def outer_async() -> None:
            started.set()
            try:
                await asyncio.Event().wait()
            finally:
                await cs.arun(inner())

        target = outer() if how == "run" else outer_async()
        running = asyncio.create_task(cs.arun(target, log_level="CRITICAL"))
        await started.wait()
        running.cancel()
        with pytest.raises((asyncio.CancelledError, cs.RunCancelledError)):
            await running

    promptly(lambda: asyncio.run(main()))
    assert called == []


# S21
def test_a_nested_run_inherits_no_parameters() -> None:
    @cs.task
    def outer(x: int) -> Any:
        with pytest.raises(cs.ParameterError, match="x"):
            run(double(cs.Param("x", type=int)))
        return run(double(cs.Param("x", type=int)), {"x": 5})

    assert promptly(lambda: run(outer(cs.Param("x", type=int)), {"x": 1})) == 10


# S21, S23
@pytest.mark.parametrize("how", ["run", "arun"])
def test_a_nested_run_that_needs_what_its_own_caller_holds_is_refused(how: str) -> None:
    @cs.task
    def outer() -> Any:
        return run(double(1).with_constraints(gpu=1))

    @cs.task
    async def outer_async() -> Any:
        return await cs.arun(double(1).with_constraints(gpu=1))

    task = outer if how == "run" else outer_async
    with pytest.raises(cs.CascadeError, match="gpu"):
        promptly(lambda: run(task().with_constraints(gpu=1), system_resources={"gpu": 1}))
    assert promptly(lambda: run(task().with_constraints(gpu=1), system_resources={"gpu": 2})) == 2


# S21
def test_a_nested_run_refuses_parts_that_belong_to_the_outermost() -> None:
    for option in ({"system_resources": {"gpu": 1}}, {"bus": cs.MessageBus()}, {"max_workers": 2}):

        @cs.task
        def outer(option: Any = option) -> Any:
            return run(double(1), **option)

        with pytest.raises(cs.NestedRunError, match="outermost"):
            promptly(lambda outer=outer: run(outer()))


# S21
def test_two_hundred_nested_runs_on_four_workers_starve_nobody() -> None:
    @cs.task
    def inner(x: int) -> int:
        return 2 * x

    @cs.task
    def outer(x: int) -> Any:
        return run(inner(x))

    assert promptly(lambda: run(outer.map(x=range(200)), max_workers=4), 25.0) == [2 * x for x in range(200)]


# S21
def test_nested_runs_on_one_worker_starve_nobody_however_deep() -> None:
    @cs.task
    def nest(n: int) -> Any:
        return run(nest(n - 1)) + 1 if n else 0

    assert promptly(lambda: run(nest(20), max_workers=1)) == 20


# S21
def test_an_engine_serves_several_runs_at_once_from_several_loops() -> None:
    engine = cs.create_engine(max_workers=4)
    together = threading.Barrier(4)

    @cs.task
    def meet(x: int) -> int:
        together.wait(10.0)
        return x

    def one(x: int) -> Any:
        return asyncio.run(engine.run(meet(x)))

    with ThreadPoolExecutor(4) as threads:
        found = promptly(lambda: list(threads.map(one, range(4))))
    asyncio.run(engine.close())
    assert found == [0, 1, 2, 3]


# S21
def test_an_engine_serves_several_runs_at_once_on_one_loop() -> None:
    async def main() -> Any:
        async with cs.create_engine() as engine:
            return await asyncio.gather(*(engine.run(double(double(x))) for x in range(50)))

    assert promptly(lambda: asyncio.run(main())) == [4 * x for x in range(50)]


# S21
def test_one_lazy_value_runs_in_two_runs_at_once() -> None:
    target = cs.task(sum)(double.map(x=range(100)))

    async def main() -> Any:
        async with cs.create_engine() as engine:
            return await asyncio.gather(*(engine.run(target) for _ in range(10)))

    assert promptly(lambda: asyncio.run(main())) == [9900] * 10


# S21
def test_a_failing_run_leaves_another_run_of_the_engine_alone() -> None:
    sign = threading.Event()

    @cs.task
    def waits() -> str:
        await_sign(sign)
        return "fine"

    async def main() -> Any:
        async with cs.create_engine() as engine:
            other = asyncio.create_task(engine.run(double(waits())))
            with pytest.raises(KeyError):
                await engine.run(fail())
            sign.set()
            return await other

    assert promptly(lambda: asyncio.run(main())) == "finefine"


# S21
def test_a_closed_engine_says_so() -> None:
    async def main() -> None:
        engine = cs.create_engine()
        await engine.close()
        await engine.close()
        with pytest.raises(cs.EngineClosedError, match="create_engine"):
            await engine.run(double(1))

    asyncio.run(main())


# S21, S28
def test_a_nested_run_tells_on_the_bus_of_its_engine_under_its_own_id() -> None:
    trace = Trace()

    @cs.task
    def outer() -> Any:
        return run(double(1))

    promptly(lambda: run(outer(), bus=trace.bus))
    starts = trace.of(RunStarted)
    assert [event.target_tasks for event in starts] == [("outer",), ("double",)]
    assert len({event.run_id for event in starts}) == 2


# S21
def test_asyncio_run_inside_a_sync_task_lends_its_thread_to_the_nested_run() -> None:
    @cs.task
    def nest(n: int) -> Any:
        return asyncio.run(cs.arun(nest(n - 1), log_level="CRITICAL")) + 1 if n else 0

    assert promptly(lambda: run(nest(5), max_workers=1)) == 5


# S21
@pytest.mark.parametrize("ending", ["value", "failure"])
@pytest.mark.parametrize("workers", [None, 2])
def test_what_outlives_its_run_starts_runs_of_its_own(ending: str, workers: int | None) -> None:
    async def main() -> Any:
        over = asyncio.Event()
        left: list[asyncio.Task[Any]] = []

        async def later() -> Any:
            await over.wait()
            return await cs.arun(double(21), log_level="CRITICAL")

        @cs.task(retry=1)
        async def leaves() -> None:
            left.append(asyncio.create_task(later()))
            if ending == "failure":
                raise KeyError("it failed")

        try:
            await cs.arun(leaves(), log_level="CRITICAL", max_workers=workers)
        except KeyError:
            assert ending == "failure"
        over.set()
        return await left[0]

    assert promptly(lambda: asyncio.run(main())) == 42


# S21, S23
def test_a_run_on_another_engine_inside_a_task_overtakes_nobody_there() -> None:
    started: list[str] = []

    async def main() -> None:
        async with (
            cs.create_engine(system_resources={"gpu": 1}) as outer_engine,
            cs.create_engine(system_resources={"gpu": 1}) as other_engine,
        ):
            holds, release, waits = asyncio.Event(), asyncio.Event(), asyncio.Event()
            other_engine.bus.subscribe(TaskBlocked, lambda event: waits.set())

            @cs.task
            async def hold() -> None:
                holds.set()
                await release.wait()

            @cs.task
            async def begin(name: str) -> None:
                started.append(name)

            @cs.task
            async def outer() -> None:
                waits.clear()
                nested = asyncio.create_task(other_engine.run(begin("from inside").with_constraints(gpu=1)))
                await waits.wait()
                release.set()
                await nested

            holding = asyncio.create_task(other_engine.run(hold().with_constraints(gpu=1)))
            await holds.wait()
            first = asyncio.create_task(other_engine.run(begin("first").with_constraints(gpu=1)))
            await waits.wait()
            await outer_engine.run(outer().with_constraints(gpu=1))
            await asyncio.gather(holding, first)

    promptly(lambda: asyncio.run(main()))
    assert started == ["first", "from inside"]


# S21, S8
def test_a_call_that_waits_for_its_nested_run_makes_room_for_others_of_its_run() -> None:
    sign = threading.Event()

    @cs.task
    def inner() -> bool:
        return sign.wait(10)

    @cs.task
    def outer() -> Any:
        return run(inner())

    @cs.task
    def other() -> str:
        sign.set()
        return "other"

    assert promptly(lambda: run([outer(), other()], max_workers=1)) == [True, "other"]


# S21, S6
def test_there_are_no_more_threads_than_allowed_when_nested_runs_have_ended() -> None:
    lock = threading.Lock()
    at_once = most = 0

    @cs.task
    def work(x: int) -> int:
        nonlocal at_once, most
        with lock:
            at_once += 1
            most = max(most, at_once)
        threading.Event().wait(0.001)
        with lock:
            at_once -= 1
        return x

    @cs.task
    def outer(x: int) -> Any:
        return run(double(x))

    assert run([outer(1), work.map(x=range(50)), outer(2)], max_workers=1) == [2, list(range(50)), 4]
    assert most == 1


# S21
def test_a_call_of_a_nested_run_knows_that_it_is_itself() -> None:
    @cs.task
    def inner() -> Any:
        context = call_context()
        assert context is not None
        return context.task_id

    @cs.task
    async def outer() -> Any:
        return await cs.arun(inner())

    assert run(outer()) == "inner#0"
