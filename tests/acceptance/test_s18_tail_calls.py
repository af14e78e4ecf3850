"""S18: a lazy value that a task returns is computed in its place."""

from __future__ import annotations

import asyncio
import gc
import sys
import threading
from typing import Any

import pytest

import cascade as cs
from cascade.runtime.events import TaskExecutionFinished, TaskExecutionStarted
from cascade.spec.context import call_context
from cascade.testing.clock import MockClock
from tests.acceptance.observed import Trace, await_sign, promptly, run


@cs.task
def give(value: Any) -> Any:
    return value


@cs.task
def add(x: int, y: int) -> int:
    return x + y


@cs.task
async def add_async(x: int, y: int) -> int:
    return x + y


KINDS = pytest.mark.parametrize("kind", ["thread", "async", "inline", "policy", "async policy"])


def as_kind(kind: str, function: Any, name: str | None = None) -> cs.Task[..., Any]:
    name = name or function.__name__
    retry = 1 if "policy" in kind else None
    if "async" in kind:

        async def call(*args: Any, **kwargs: Any) -> Any:
            return function(*args, **kwargs)

        return cs.task(call, name=name, retry=retry)
    return cs.task(function, name=name, retry=retry, executor="inline" if kind == "inline" else None)


# S18
@KINDS
def test_a_returned_lazy_value_is_computed_in_the_place_of_the_call(kind: str) -> None:
    assert promptly(lambda: run(as_kind(kind, lambda: add(1, 2))())) == 3


# S18
@KINDS
def test_it_is_so_at_any_node_and_not_just_the_target(kind: str) -> None:
    inner = as_kind(kind, lambda x: add(x, 10))
    target = add(inner(1), cs.task(sum)([inner(2), inner(3)]))
    assert promptly(lambda: run(target)) == 11 + 12 + 13


# S18
@KINDS
@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda: [add(1, 2), 5], [3, 5]),
        (lambda: (add(1, 2), 5), (3, 5)),
        (lambda: {"a": add(1, 2), "b": [add(3, 4)]}, {"a": 3, "b": [7]}),
        (lambda: {add(1, 2), add(3, 4)}, {3, 7}),
        (lambda: [[[{"deep": (add(1, 1),)}]]], [[[{"deep": (2,)}]]]),
        (lambda: [give(None)], [None]),
    ],
)
def test_containers_with_lazy_values_are_computed_too(kind: str, make: Any, expected: Any) -> None:
    found = promptly(lambda: run(as_kind(kind, make)()))
    assert found == expected
    assert type(found) is type(expected)


# S18
def test_other_containers_are_values_as_they_are() -> None:
    class MyList(list):  # type: ignore[type-arg]
        pass

    plain = [1, {"a": 2}]
    inside = MyList([add(1, 2)])
    assert run(cs.task(lambda: plain)()) is plain
    found = run(cs.task(lambda: inside)())
    assert found is inside
    assert isinstance(found[0], cs.LazyResult)


# S18
@KINDS
def test_a_loop_of_tail_calls_ends_with_its_value(kind: str) -> None:
    task: Any = None

    def count(n: int, total: int) -> Any:
        return task(n - 1, total + n) if n else total

    task = as_kind(kind, count)
    n = 2000 if "policy" in kind else 20_000
    assert promptly(lambda: run(task(n, 0))) == n * (n + 1) // 2


# S18
def test_a_loop_between_kinds_of_task_ends_with_its_value() -> None:
    @cs.task
    def on_thread(n: int) -> Any:
        return on_loop(n - 1) if n else "thread"

    @cs.task
    async def on_loop(n: int) -> Any:
        return inline(n - 1) if n else "loop"

    @cs.task(executor="inline")
    def inline(n: int) -> Any:
        return with_policy(n - 1) if n else "inline"

    @cs.task(retry=2)
    def with_policy(n: int) -> Any:
        return on_thread(n - 1) if n else "policy"

    found = [promptly(lambda n=n: run(on_thread(n))) for n in range(400, 404)]
    assert found == ["thread", "loop", "inline", "policy"]


# S18
@pytest.mark.parametrize(
    "shape", ["direct", "argument", "async", "container", "sequence", "pipeline", "router", "retry"]
)
def test_a_loop_needs_constant_memory_and_stack(shape: str) -> None:
    turns = 2400
    low, high = turns // 3, turns - 10
    objects: dict[int, int] = {}
    depths: dict[int, int] = {}

    def depth() -> int:
        frame, found = sys._getframe(), 0
        while frame is not None:
            frame, found = frame.f_back, found + 1  # type: ignore[assignment]
        return found

    def step(n: int) -> Any:
        if n in (low, high):
            gc.collect()
            objects[n] = len(gc.get_objects())
            depths[n] = depth()
        if n >= turns:
            return n
        match shape:
            case "argument":
                return task(add(n, 1))
            case "sequence":
                return cs.sequence([give(n), task(n + 1)])
            case "pipeline":
                return cs.pipeline(n + 1, [task])
            case "router":
                return cs.Router(give(True), {True: task(n + 1), False: give(0)})
            case "container":
                return task(give([n])[0] if n < 0 else add(n, give(1)))
            case "retry":
                return task(n + 1).with_retry(2)
            case _:
                return task(n + 1)

    async def step_async(n: int) -> Any:
        return step(n)

    task = cs.task(step_async if shape == "async" else step, name="step")
    assert promptly(lambda: run(task(0))) == turns
    assert abs(objects[high] - objects[low]) < 4000
    assert abs(depths[high] - depths[low]) < 5


# S18
def test_values_of_earlier_turns_are_dropped() -> None:
    import weakref

    class Big:
        pass

    alive: list[Any] = []
    most = 0

    @cs.task
    def step(n: int, big: Any) -> Any:
        nonlocal most
        mine = Big()
        alive.append(weakref.ref(mine))
        most = max(most, sum(reference() is not None for reference in alive))
        return step(n - 1, mine) if n else "done"

    assert promptly(lambda: run(step(200, None))) == "done"
    assert most <= 4


# S18
def test_deep_recursion_that_is_no_tail_call_is_only_bounded_by_memory() -> None:
    @cs.task
    def total(n: int) -> Any:
        return add(n, total(n - 1)) if n else 0

    assert promptly(lambda: run(total(3000))) == 3000 * 3001 // 2


# S18
def test_a_tree_of_calls() -> None:
    @cs.task
    def fib(n: int) -> Any:
        return n if n < 2 else add(fib(n - 1), fib(n - 2))

    @cs.task
    async def fib_async(n: int) -> Any:
        return n if n < 2 else add_async(fib_async(n - 1), fib_async(n - 2))

    assert promptly(lambda: run(fib(15))) == 610
    assert promptly(lambda: run(fib_async(15))) == 610
    assert promptly(lambda: run(fib(12), max_workers=1)) == 144


# S18
def test_a_parent_that_waits_for_what_it_returned_holds_no_worker() -> None:
    @cs.task
    def nest(n: int) -> Any:
        return [nest(n - 1)] if n else "bottom"

    found = promptly(lambda: run(nest(100), max_workers=1))
    for _ in range(100):
        [found] = found
    assert found == "bottom"


# S18
@pytest.mark.parametrize("kind", ["thread", "async"])
def test_an_endless_loop_lets_others_have_their_turn(kind: str) -> None:
    stop = threading.Event()
    task: Any = None

    def spin(n: int) -> Any:
        return n if stop.is_set() else task(n + 1)

    task = as_kind(kind, spin)

    @cs.task
    def ends() -> str:
        stop.set()
        return "ended"

    @cs.task
    async def ends_async() -> str:
        await asyncio.sleep(0)
        stop.set()
        return "ended"

    try:
        assert promptly(lambda: run([task(0), ends()], max_workers=1))[1] == "ended"
        stop.clear()
        assert promptly(lambda: run([task(0), ends_async()], max_workers=1))[1] == "ended"
    finally:
        stop.set()


# S18, S20
@KINDS
def test_an_endless_loop_can_be_cancelled(kind: str) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        turning = asyncio.Event()
        task: Any = None

        def spin(n: int) -> Any:
            if n == 100:
                loop.call_soon_threadsafe(turning.set)
            return task(n + 1)

        task = as_kind(kind, spin)
        running = asyncio.create_task(cs.arun(task(0), log_level="CRITICAL"))
        await turning.wait()
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running

    promptly(lambda: asyncio.run(main()))


# S18, S24
@KINDS
def test_an_endless_loop_can_be_paused_and_goes_on(kind: str) -> None:
    async def main() -> Any:
        loop = asyncio.get_running_loop()
        turning, blocked, stop = asyncio.Event(), asyncio.Event(), threading.Event()
        turns: list[int] = []
        task: Any = None

        def spin(n: int) -> Any:
            turns.append(n)
            if n == 100:
                loop.call_soon_threadsafe(turning.set)
            return "stopped" if stop.is_set() else task(n + 1)

        task = as_kind(kind, spin)
        from cascade.runtime.events import TaskBlocked

        async with cs.create_engine() as engine:
            engine.bus.subscribe(TaskBlocked, lambda event: blocked.set())
            running = asyncio.create_task(engine.run(task(0)))
            await turning.wait()
            engine.constraints.set(cs.GlobalConstraint.pause())
            await blocked.wait()
            seen = len(turns)
            for _ in range(50):
                await asyncio.sleep(0)
            assert len(turns) == seen
            stop.set()
            engine.constraints.remove("global")
            return await running

    assert promptly(lambda: asyncio.run(main())) == "stopped"


# S18
def test_a_retry_covers_the_call_only_and_not_what_it_returned() -> None:
    calls: list[str] = []

    @cs.task
    def fails() -> None:
        calls.append("inner")
        raise ValueError("inner")

    @cs.task
    def returns() -> Any:
        calls.append("outer")
        return fails()

    with pytest.raises(ValueError, match="inner"):
        run(returns().with_retry(5))
    assert calls == ["outer", "inner"]


# S18
def test_what_is_returned_has_its_own_policies() -> None:
    calls: list[str] = []

    @cs.task
    def fails() -> str:
        calls.append("inner")
        if len(calls) < 4:
            raise ValueError("inner")
        return "fine"

    @cs.task
    def returns() -> Any:
        calls.append("outer")
        return fails().with_retry(3)

    assert run(returns()) == "fine"
    assert calls == ["outer", "inner", "inner", "inner"]


# S18
def test_a_timeout_covers_the_call_only() -> None:
    clock = MockClock()

    @cs.task
    async def slow() -> str:
        await clock.sleep(1000.0)
        return "late but fine"

    @cs.task
    async def returns() -> Any:
        return slow()

    assert promptly(lambda: run(returns().with_timeout(1.0), clock=clock)) == "late but fine"


# S18
def test_capacity_is_given_back_before_what_was_returned_starts() -> None:
    @cs.task
    def countdown(n: int) -> Any:
        return countdown(n - 1).with_constraints(gpu=1) if n else "done"

    target = countdown(50).with_constraints(gpu=1)
    assert promptly(lambda: run(target, system_resources={"gpu": 1})) == "done"


# S18
def test_a_slot_of_a_limit_is_given_back_before_what_was_returned_starts() -> None:
    @cs.task
    def countdown(n: int) -> Any:
        return [countdown(n - 1)] if n else "done"

    async def main() -> Any:
        async with cs.create_engine() as engine:
            engine.constraints.set(cs.GlobalConstraint.concurrency(1, "task:countdown"))
            return await engine.run(countdown(3))

    assert promptly(lambda: asyncio.run(main())) == [[["done"]]]


# S18, S22
def test_resources_of_the_task_are_torn_down_before_what_was_returned_starts() -> None:
    order: list[str] = []

    @cs.resource(scope="task")
    def session() -> Any:
        order.append("set up")
        yield "session"
        order.append("torn down")

    @cs.task
    def after() -> str:
        order.append("after")
        return "after"

    @cs.task
    def use(session: Any = cs.inject(session)) -> Any:
        order.append("use")
        return after()

    assert run(use()) == "after"
    assert order == ["set up", "use", "torn down", "after"]


# S18
@KINDS
def test_what_is_skipped_in_its_place_is_skipped_with_that_reason(kind: str) -> None:
    inner = as_kind(kind, lambda: add(1, 2).run_if(give(False)), "inner")
    trace = Trace()
    with pytest.raises(cs.DependencyMissingError) as caught:
        promptly(lambda: run(inner(), bus=trace.bus))
    assert caught.value.reason == "ConditionFalse"
    with pytest.raises(cs.DependencyMissingError) as caught:
        promptly(lambda: run(give(inner())))
    assert caught.value.reason == "UpstreamSkipped_Data"
    assert promptly(lambda: run(cs.sequence([give(1), inner()]))) is None
    assert promptly(lambda: run(cs.sequence([inner(), give(1)]))) is None
    assert promptly(lambda: run(cs.Router(give(1), {1: give("x"), 2: inner()}))) == "x"


# S18, S25
@KINDS
def test_with_a_cache_the_final_value_is_what_is_cached(kind: str) -> None:
    final_calls.clear()
    backend = cs.InMemoryCacheBackend()
    cached = as_kind(kind, returns_recorded, "returns").with_cache(cs.InputsCache(backend))
    assert promptly(lambda: run(cached(5))) == 50
    assert promptly(lambda: run(cached(5))) == 50
    assert final_calls == ["outer", "inner"]


final_calls: list[str] = []


@cs.task
def recorded(x: int) -> int:
    final_calls.append("inner")
    return x * 10


def returns_recorded(x: int) -> Any:
    final_calls.append("outer")
    return recorded(x)


still_failing: list[str] = []


def fails_while_told() -> str:
    if still_failing:
        raise ValueError("not yet")
    return "fine"


def returns_failing(x: int) -> Any:
    return cs.task(fails_while_told)()


# S18, S25
@pytest.mark.parametrize("mode", ["stop", "continue"])
def test_a_key_is_free_again_when_what_was_returned_has_failed(mode: Any) -> None:
    cached = cs.task(returns_failing).with_cache(cs.InputsCache(cs.InMemoryCacheBackend()))

    async def main() -> Any:
        async with cs.create_engine() as engine:
            still_failing.append("yes")
            with pytest.raises((ValueError, cs.RunFailedGroup)):
                await engine.run(cached(1), on_failure=mode)
            still_failing.clear()
            return await engine.run(cached(1))

    assert promptly(lambda: asyncio.run(main())) == "fine"


# S18, S25
@KINDS
def test_what_is_skipped_in_the_place_of_a_cached_call_is_not_cached(kind: str) -> None:
    wanted = as_kind(kind, returns_skipped, "maybe").with_cache(cs.InputsCache(cs.InMemoryCacheBackend()))

    async def main() -> Any:
        async with cs.create_engine() as engine:
            switch.clear()
            with pytest.raises(cs.DependencyMissingError):
                await engine.run(wanted(1))
            switch.append("on")
            return await engine.run(wanted(1))

    assert promptly(lambda: asyncio.run(main())) == 3


switch: list[str] = []


def returns_skipped(x: int) -> Any:
    return add(1, 2).run_if(give(bool(switch)))


# S18
def test_what_is_returned_may_hold_routers_maps_and_conditions() -> None:
    @cs.task
    def returns(x: int) -> Any:
        return {
            "router": cs.Router(give(x), {1: add(1, 1), 2: add(2, 2)}),
            "map": add.partial(y=x).map(x=[10, 20]),
            "pipeline": cs.pipeline(x, [add.partial(1), add.partial(1).run_if(give(False))]),
            "sequence": cs.sequence([give(0), give(x)]),
            "condition": give(x).run_if(give(True)),
        }

    assert promptly(lambda: run(returns(2))) == {
        "router": 4,
        "map": [12, 22],
        "pipeline": 3,
        "sequence": 2,
        "condition": 2,
    }


# S18
@KINDS
def test_the_failure_of_what_was_returned_is_the_failure_of_its_place(kind: str) -> None:
    @cs.task
    def fails() -> None:
        raise KeyError("inner")

    inner = as_kind(kind, lambda: [fails()], "outer")
    trace = Trace()
    with pytest.raises(cs.RunFailedGroup) as caught:
        promptly(lambda: run([give(inner()), give(2)], bus=trace.bus, on_failure="continue"))
    assert len(caught.value.exceptions) == 1
    assert trace.terminal()["give#1"] == ["UpstreamFailed"]
    assert trace.terminal()["outer#0"] == ["Succeeded"]
    assert [ends for node, ends in trace.terminal().items() if "/fails#" in node] == [["Failed"]]


# S18
def test_a_lazy_value_captured_from_outside_is_computed_again_where_it_is_returned() -> None:
    calls: list[int] = []

    @cs.task
    def shared() -> int:
        calls.append(1)
        return len(calls)

    outside = shared()

    @cs.task
    def returns(x: int) -> Any:
        return add(x, outside)

    assert promptly(lambda: run(returns(outside))) == 3
    assert calls == [1, 1]


# S18, S28
def test_a_call_that_returned_a_lazy_value_is_told_as_succeeded_and_names_what_continues_it() -> None:
    @cs.task
    def returns() -> Any:
        return add(give(1), 2)

    trace = Trace()
    assert run(returns(), bus=trace.bus, max_workers=1) == 3
    assert trace.lines() == [
        "run returns",
        "start returns#0",
        "Succeeded returns#0 -> returns#0@1/add#1",
        "start returns#0@1/give#0",
        "Succeeded returns#0@1/give#0 = 1",
        "start returns#0@1/add#1",
        "Succeeded returns#0@1/add#1 = 3",
        "end Succeeded",
    ]
    continues = [event.continues_as for event in trace.of(TaskExecutionFinished) if event.continues_as]
    finished = {event.task_id for event in trace.of(TaskExecutionFinished)}
    assert len(continues) == 1
    assert continues[0] in finished


# S18, S28
@KINDS
def test_every_turn_of_a_loop_has_its_own_events(kind: str) -> None:
    task: Any = None

    def count(n: int) -> Any:
        return task(n - 1) if n else "done"

    task = as_kind(kind, count)
    trace = Trace()
    assert promptly(lambda: run(task(5), bus=trace.bus)) == "done"
    starts = [event.task_id for event in trace.of(TaskExecutionStarted)]
    assert len(starts) == len(set(starts)) == 6
    finished = trace.of(TaskExecutionFinished)
    assert [event.continues_as for event in finished] == [*starts[1:], None]
    assert [event.task_id for event in finished] == starts


# S18, S28
def test_a_call_has_ended_before_what_it_returned_starts() -> None:
    @cs.task
    def parent(n: int) -> Any:
        return add(give(n), give(1))

    trace = Trace()
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        promptly(lambda: run([parent(n) for n in range(300)], bus=trace.bus, max_workers=8))
    finally:
        sys.setswitchinterval(interval)
    ended: set[str] = set()
    for event in trace.events:
        if isinstance(event, TaskExecutionFinished):
            ended.add(event.task_id)
        elif isinstance(event, TaskExecutionStarted) and "/" in event.task_id:
            owner = event.task_id.partition("/")[0].partition("@")[0]
            assert owner in ended, f"{event.task_id} started before {owner} had ended"


# S18
@pytest.mark.needs_extra("process")
def test_a_process_task_may_return_a_lazy_value() -> None:
    def returns(x: int) -> Any:
        import cascade

        return cascade.task(lambda y: y + 1, name="inner")(x)

    assert promptly(lambda: run(cs.task(returns, executor="process")(1))) == 2


# S18
def test_errors_in_what_was_returned_are_found_before_it_runs() -> None:
    called: list[int] = []

    @cs.task
    def record() -> None:
        called.append(1)

    @cs.task
    def returns() -> Any:
        return [record(), give(cs.inject("nobody"))]

    with pytest.raises(NameError, match="nobody"):
        promptly(lambda: run(returns()))
    assert called == []


# S18
def test_waiting_for_what_was_returned_does_not_hold_up_siblings() -> None:
    sign = threading.Event()

    @cs.task
    def waits() -> str:
        await_sign(sign)
        return "waited"

    @cs.task
    def returns() -> Any:
        return [waits()]

    @cs.task
    def sibling() -> str:
        sign.set()
        return "sibling"

    assert promptly(lambda: run([returns(), sibling()], max_workers=2)) == [["waited"], "sibling"]


# S18, S28
@pytest.mark.parametrize("kind", ["sync", "async"])
def test_a_turn_of_a_loop_knows_its_own_name(kind: str) -> None:
    seen: list[tuple[str, str]] = []

    def note() -> None:
        context = call_context()
        assert context is not None
        seen.append((context.task_name, context.task_id))

    if kind == "sync":

        @cs.task
        def first() -> Any:
            note()
            return second(1)

        @cs.task
        def second(n: int) -> Any:
            note()
            return second(n - 1) if n else "end"

        assert run(first()) == "end"
    else:

        @cs.task(name="first")
        async def slow_first() -> Any:
            note()
            return slow_second(1)

        @cs.task(name="second")
        async def slow_second(n: int) -> Any:
            await asyncio.sleep(0)
            note()
            return slow_second(n - 1) if n else "end"

        assert run(slow_first()) == "end"
    assert seen == [("first", "first#0"), ("second", "first#0@1/second#0"), ("second", "first#0@2/second#0")]
