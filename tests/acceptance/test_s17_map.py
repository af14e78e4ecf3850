"""S17: a map calls its task once an item, concurrently, and gives the list in order."""

from __future__ import annotations

import asyncio
import functools
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest

import cascade as cs
from cascade.runtime.events import TaskExecutionFinished, TaskExecutionStarted
from cascade.testing.clock import MockClock
from tests.acceptance.observed import Trace, await_sign, promptly, run


@cs.task
def double(x: int) -> int:
    return 2 * x


@cs.task
async def double_async(x: int) -> int:
    return 2 * x


@cs.task
def add(x: int, y: int) -> int:
    return x + y


@cs.task
def give(value: Any) -> Any:
    return value


cached_calls: list[int] = []


@cs.task
def record_call(x: int) -> int:
    cached_calls.append(x)
    return 2 * x


KINDS = pytest.mark.parametrize("kind", ["thread", "async", "inline", "policy"])


def as_kind(kind: str, function: Any) -> cs.Task[..., Any]:
    if kind == "async":

        async def call(*args: Any, **kwargs: Any) -> Any:
            return function(*args, **kwargs)

        return cs.task(call, name=function.__name__)
    if kind == "policy":
        return cs.task(function, retry=1)
    return cs.task(function, executor="inline" if kind == "inline" else None)


# S17
@KINDS
def test_the_task_runs_once_an_item_and_the_list_is_in_order(kind: str) -> None:
    seen: list[int] = []

    def record(x: int) -> int:
        seen.append(x)
        return 2 * x

    items = list(range(200))
    assert promptly(lambda: run(as_kind(kind, record).map(items))) == [2 * x for x in items]
    assert sorted(seen) == items


# S17
def test_several_inputs_go_together_item_by_item() -> None:
    assert run(add.map(x=[1, 2, 3], y=[10, 20, 30])) == [11, 22, 33]
    assert run(add.map([1, 2, 3], y=(10, 20, 30))) == [11, 22, 33]
    assert run(add.map([1, 2, 3], [10, 20, 30])) == [11, 22, 33]
    assert run(add.map(y=[1, 2, 3], x=[10, 20, 30])) == [11, 22, 33]


# S17
def test_inputs_by_name_reach_their_parameters() -> None:
    @cs.task
    def show(a: int, b: int = 7, *rest: int, c: int = 8, **more: int) -> tuple[Any, ...]:
        return a, b, rest, c, more

    assert run(show.map(c=[1], a=[2])) == [(2, 7, (), 1, {})]
    assert run(show.map([1], [2], [3], c=[4], d=[5])) == [(1, 2, (3,), 4, {"d": 5})]
    assert run(show.partial(1).map(b=[2, 3])) == [(1, 2, (), 8, {}), (1, 3, (), 8, {})]
    assert run(show.partial(1, d=5).map(c=[2])) == [(1, 7, (), 2, {"d": 5})]


# S17
def test_items_on_threads_run_concurrently() -> None:
    together = threading.Barrier(8)

    @cs.task
    def meet(x: int) -> int:
        together.wait(30.0)
        return x

    assert promptly(lambda: run(meet.map(x=range(8)))) == list(range(8))


# S17
def test_items_on_threads_run_concurrently_when_they_come_from_a_generator() -> None:
    together = threading.Barrier(8)

    @cs.task
    def meet(x: int) -> int:
        together.wait(30.0)
        return x

    assert promptly(lambda: run(meet.map(x=(x for x in range(8))))) == list(range(8))


# S17
@pytest.mark.parametrize("as_generator", [False, True])
@pytest.mark.parametrize("with_policy", [False, True])
def test_items_on_the_loop_run_concurrently(as_generator: bool, with_policy: bool) -> None:
    waiting: list[asyncio.Event] = []

    @cs.task
    async def meet(x: int) -> int:
        mine = asyncio.Event()
        waiting.append(mine)
        if len(waiting) == 20:
            for event in waiting:
                event.set()
        await mine.wait()
        return x

    task = meet.with_retry(1) if with_policy else meet
    items: Any = (x for x in range(20)) if as_generator else range(20)
    assert promptly(lambda: run(task.map(x=items))) == list(range(20))


# S17
@pytest.mark.parametrize(
    "items",
    [
        [3, 1, 2],
        (3, 1, 2),
        range(3),
        {3: "a", 1: "b"},
        {3: "a", 1: "b"}.keys(),
        {"a": 3, "b": 1}.values(),
        bytearray,
    ],
)
def test_inputs_are_iterables(items: Any) -> None:
    if items is bytearray:
        with pytest.raises(TypeError):
            double.map(x=bytearray(b"abc"))
        return
    assert run(double.map(x=items)) == [2 * x for x in items]


# S17
def test_inputs_may_be_one_shot_iterators_of_any_kind() -> None:
    assert run(double.map(x=iter([1, 2]))) == [2, 4]
    assert run(double.map(x=map(abs, [-1, 2]))) == [2, 4]
    assert run(add.map([1, 2], y=iter([3, 4]))) == [4, 6]


# S17
def test_an_input_may_be_any_object_that_can_be_iterated() -> None:
    class Countdown:
        def __iter__(self) -> Iterator[int]:
            return iter([3, 2, 1])

    countdown = double.map(x=Countdown())
    assert run(countdown) == [6, 4, 2]
    assert run(countdown) == [6, 4, 2]


# S17
def test_inputs_are_lazy_values_of_iterables() -> None:
    assert run(double.map(x=give([1, 2, 3]))) == [2, 4, 6]
    assert run(double.map(x=double.map(x=[1, 2]))) == [4, 8]
    assert run(add.map(x=give((1, 2)), y=[3, 4])) == [4, 6]
    assert run(double.map(x=cs.Param("xs", type=list[int])), {"xs": "[1, 2]"}) == [2, 4]
    assert run(double.map(x=give({"a": [5]})["a"])) == [10]


# S17, S4
def test_a_list_with_lazy_values_is_an_input_of_their_values() -> None:
    assert run(double.map(x=[1, double(1), give(3)])) == [2, 4, 6]
    assert run(double.map(x=(double(1),))) == [4]


# S17
@pytest.mark.parametrize("text", ["abc", b"abc", bytearray(b"abc"), ""])
def test_text_and_bytes_are_refused_at_the_call(text: Any) -> None:
    with pytest.raises(TypeError, match=r"x=.*\["):
        double.map(x=text)


# S17
@pytest.mark.parametrize("text", ["abc", b"abc"])
def test_a_lazy_text_is_refused_at_the_run(text: Any) -> None:
    with pytest.raises(cs.MapInputError, match="x must be an iterable that is not text"):
        run(double.map(x=give(text)))


# S17
@pytest.mark.parametrize("value", [5, None, 1.5, object()])
def test_what_cannot_be_iterated_is_refused(value: Any) -> None:
    with pytest.raises(TypeError, match="partial"):
        double.map(x=value)
    with pytest.raises(cs.MapInputError, match="x must be an iterable"):
        promptly(lambda: run(double.map(x=give(value))))


# S17
@pytest.mark.parametrize("lazy", [False, True])
def test_sized_inputs_of_different_lengths_are_an_error_before_any_item_starts(lazy: bool) -> None:
    called: list[int] = []

    @cs.task
    def record(x: int, y: int, z: int) -> None:
        called.append(x)

    y: Any = give([1, 2, 3]) if lazy else [1, 2, 3]
    with pytest.raises(ValueError, match="x has 2") as caught:
        run(record.map(x=[1, 2], y=y, z=range(2)))
    assert isinstance(caught.value, cs.MapInputError)
    assert "y has 3" in str(caught.value)
    assert caught.value.lengths == {"x": 2, "y": 3, "z": 2}
    assert called == []


# S17
def test_positional_inputs_of_different_lengths_are_named_by_their_parameters() -> None:
    with pytest.raises(cs.MapInputError, match=r"x has 1.*y has 2"):
        run(add.map([1], [2, 3]))


# S17
@pytest.mark.parametrize("first", [True, False])
def test_unsized_inputs_are_an_error_when_one_ends_first(first: bool) -> None:
    short, long = (n for n in range(2)), (n for n in range(3))
    x, y = (short, long) if first else (long, short)
    with pytest.raises(ValueError, match="ended before") as caught:
        promptly(lambda: run(add.map(x=x, y=y)))
    assert isinstance(caught.value, cs.MapInputError)
    assert ("x ended before y" if first else "y ended before x") in str(caught.value)


# S17
def test_an_unsized_input_that_ends_before_a_sized_one_is_an_error() -> None:
    with pytest.raises(cs.MapInputError, match="x ended before y"):
        promptly(lambda: run(add.map(x=(n for n in range(2)), y=[1, 2, 3])))
    with pytest.raises(cs.MapInputError, match="y ended before x"):
        promptly(lambda: run(add.map(x=(n for n in range(3)), y=[1, 2])))


# S17
@KINDS
@pytest.mark.parametrize("empty", [[], (), range(0), {}, set(), "generator"])
def test_nothing_to_map_is_an_empty_list(kind: str, empty: Any) -> None:
    items: Any = (x for x in ()) if empty == "generator" else empty
    called: list[int] = []
    assert promptly(lambda: run(as_kind(kind, called.append).map(items))) == []
    assert called == []


# S17
def test_several_empty_inputs_are_nothing_to_map() -> None:
    assert run(add.map(x=[], y=(y for y in ()))) == []


# S17
def test_no_input_at_all_is_a_type_error_that_names_the_task() -> None:
    with pytest.raises(TypeError, match="double"):
        double.map()
    with pytest.raises(TypeError, match="double"):
        double.partial(x=1).map()


# S17, S1
def test_inputs_that_do_not_fit_the_signature_are_a_type_error_at_the_call() -> None:
    with pytest.raises(TypeError, match="add"):
        add.map(x=[1])
    with pytest.raises(TypeError, match="add"):
        add.map(x=[1], z=[1])
    with pytest.raises(TypeError, match="add"):
        add.partial(x=1).map([1], y=[2])


# S17
def test_partial_fixes_arguments() -> None:
    assert run(add.partial(y=100).map(x=[1, 2])) == [101, 102]
    assert run(add.partial(100).map(y=[1, 2])) == [101, 102]
    assert run(add.partial(y=double(50)).map(x=[1, 2])) == [101, 102]
    assert run(add.partial(x=[1]).map(y=[[2], [3]])) == [[1, 2], [1, 3]]


# S17
def test_a_fixed_lazy_argument_is_computed_once() -> None:
    calls: list[int] = []

    @cs.task
    def once() -> int:
        calls.append(1)
        return 5

    assert run(add.partial(y=once()).map(x=range(10))) == [x + 5 for x in range(10)]
    assert calls == [1]


# S17
def test_builtins_are_mapped() -> None:
    assert run(cs.task(len).map([[1], [1, 2]])) == [1, 2]
    assert run(cs.task(len).map(obj=[[1], [1, 2]])) == [1, 2]
    assert run(cs.task(max).map([1, 5], [3, 2])) == [3, 5]


# S17, S25
def test_a_cache_holds_per_item() -> None:
    cached_calls.clear()
    cached = record_call.with_cache(cs.InputsCache(cs.InMemoryCacheBackend()))
    assert promptly(lambda: run(cached.map(x=[1, 2, 1, 3]))) == [2, 4, 2, 6]
    assert sorted(cached_calls) == [1, 2, 3]
    assert promptly(lambda: run(cached.map(x=[3, 4]))) == [6, 8]
    assert sorted(cached_calls) == [1, 2, 3, 4]


# S17, S20
def test_a_timeout_holds_per_item() -> None:
    clock = MockClock()

    @cs.task
    async def sleep(x: float) -> float:
        await clock.sleep(x)
        return x

    assert promptly(lambda: run(sleep.with_timeout(2.0).map(x=[1.0] * 50), clock=clock)) == [1.0] * 50
    with pytest.raises(cs.TaskTimeoutError) as caught:
        promptly(lambda: run(sleep.with_timeout(2.0).map(x=[1.0, 3.0]), clock=clock))
    assert caught.value.task_id == "sleep#0[1]"


# S17, S23
def test_constraints_hold_per_item_and_the_map_itself_takes_none() -> None:
    lock = threading.Lock()
    now, most = 0, 0

    @cs.task
    def record(x: int) -> int:
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)
        with lock:
            now -= 1
        return x

    items = range(50)
    assert promptly(lambda: run(record.with_constraints(gpu=1).map(x=items), system_resources={"gpu": 1})) == list(
        items
    )
    assert most == 1


# S17, S23
def test_a_lazy_amount_of_a_map_is_taken_by_each_item() -> None:
    target = double.with_constraints(gpu=give(2)).map(x=range(5))
    assert promptly(lambda: run(target, system_resources={"gpu": 3})) == [0, 2, 4, 6, 8]


# S17, S9
def test_run_if_governs_the_whole() -> None:
    trace = Trace()
    with pytest.raises(cs.DependencyMissingError, match="ConditionFalse"):
        run(double.map(x=[1, 2]).run_if(give(False)), bus=trace.bus)
    assert trace.terminal() == {"give#0": ["Succeeded"], "double#1": ["ConditionFalse"]}
    assert run(double.map(x=[1, 2]).run_if(give(True))) == [2, 4]
    assert run(double.run_if(give(True)).map(x=[1, 2])) == [2, 4]


# S17, S9
def test_the_condition_of_a_task_is_computed_once_for_its_map() -> None:
    calls: list[int] = []

    @cs.task
    def condition() -> bool:
        calls.append(1)
        return True

    assert run(double.run_if(condition()).map(x=range(5))) == [0, 2, 4, 6, 8]
    assert calls == [1]


# S17
def test_after_governs_the_whole() -> None:
    order: list[str] = []

    @cs.task
    def earlier() -> None:
        order.append("earlier")

    @cs.task
    def record(x: int) -> None:
        order.append("item")

    run(record.map(x=[1, 2]).after(earlier()))
    assert order == ["earlier", "item", "item"]


# S17
@KINDS
def test_a_map_takes_no_worker(kind: str) -> None:
    outer = as_kind(kind, lambda x: 3 * x)
    assert promptly(lambda: run(outer.map(double.map(x=range(20))), max_workers=1)) == [6 * x for x in range(20)]


# S17
def test_a_generator_is_pulled_as_work_proceeds_at_most_twice_the_workers_ahead() -> None:
    lock = threading.Lock()
    pulled = done = 0
    ahead: list[int] = []

    def numbers() -> Iterator[int]:
        nonlocal pulled
        for n in range(300):
            with lock:
                pulled += 1
                ahead.append(pulled - done)
            yield n

    def work(x: int) -> int:
        nonlocal done
        with lock:
            done += 1
        return x

    for kind in ("thread", "async", "inline", "policy"):
        pulled = done = 0
        ahead.clear()
        task = as_kind(kind, work)
        numbers_now = numbers()
        assert promptly(lambda task=task, x=numbers_now: run(task.map(x), max_workers=3)) == list(range(300))
        assert max(ahead) <= 2 * 3 + 1, kind


# S17
@KINDS
def test_a_generator_is_not_pulled_further_while_all_items_are_held(kind: str) -> None:
    release = threading.Event()
    seen: list[int] = []
    pulled = 0

    async def main() -> Any:
        nonlocal pulled
        loop_release = asyncio.Event()
        full = asyncio.Event()
        loop = asyncio.get_running_loop()

        def numbers() -> Iterator[int]:
            nonlocal pulled
            for n in range(100):
                pulled += 1
                if pulled == 4:
                    loop.call_soon_threadsafe(full.set)
                yield n

        if kind in ("async", "inline"):

            @cs.task
            async def hold(x: int) -> int:
                await loop_release.wait()
                return x
        else:

            @cs.task(retry=1 if kind == "policy" else None)
            def hold(x: int) -> int:
                await_sign(release)
                return x

        async with cs.create_engine(max_workers=4) as engine:
            running = asyncio.create_task(engine.run(hold.map(x=numbers())))
            await full.wait()
            for _ in range(100):
                await asyncio.sleep(0)
            seen.append(pulled)
            release.set()
            loop_release.set()
            return await running

    assert promptly(lambda: asyncio.run(main())) == list(range(100))
    assert seen[0] <= 2 * 4 + 1


# S17
@KINDS
def test_an_endless_generator_with_an_item_that_fails_ends_and_is_closed(kind: str) -> None:
    closed: list[bool] = []

    def endless() -> Iterator[int]:
        n = 0
        try:
            while True:
                yield n
                n += 1
        finally:
            closed.append(True)

    def fail_late(x: int) -> int:
        if x == 50:
            raise ValueError("item 50")
        return x

    with pytest.raises(ValueError, match="item 50"):
        promptly(lambda: run(as_kind(kind, fail_late).map(endless())))
    assert closed == [True]


# S17
@KINDS
def test_an_endless_generator_with_an_item_that_fails_ends_a_run_that_goes_on(kind: str) -> None:
    closed: list[bool] = []

    def endless() -> Iterator[int]:
        n = 0
        try:
            while True:
                yield n
                n += 1
        finally:
            closed.append(True)

    def fail_late(x: int) -> int:
        if x == 50:
            raise ValueError("item 50")
        return x

    with pytest.raises(cs.RunFailedGroup) as caught:
        promptly(lambda: run(as_kind(kind, fail_late).map(endless()), on_failure="continue"))
    assert [str(error) for error in caught.value.exceptions] == ["item 50"]
    assert closed == [True]


# S17
def test_a_generator_is_closed_when_the_run_is_stopped_by_something_else() -> None:
    closed: list[bool] = []
    pulling = threading.Event()

    def endless() -> Iterator[int]:
        try:
            while True:
                pulling.set()
                yield 1
        finally:
            closed.append(True)

    @cs.task
    def fail() -> None:
        await_sign(pulling)
        raise ValueError("elsewhere")

    with pytest.raises(ValueError, match="elsewhere"):
        promptly(lambda: run([fail(), double.map(x=endless())]))
    assert closed == [True]


# S17
def test_a_generator_whose_closing_raises_hides_no_error_and_hangs_nothing() -> None:
    def stubborn() -> Iterator[int]:
        try:
            while True:
                yield 1
        finally:
            raise RuntimeError("closing failed")

    @cs.task
    def fail(x: int) -> None:
        raise ValueError("the item failed")

    with pytest.raises(ValueError, match="the item failed"):
        promptly(lambda: run(fail.map(x=stubborn())))
    with pytest.raises(cs.RunFailedGroup) as caught:
        promptly(lambda: run(fail.map(x=stubborn()), on_failure="continue"))
    assert "the item failed" in [str(error) for error in caught.value.exceptions]


# S17
@KINDS
@pytest.mark.parametrize("at", [0, 1, 30])
def test_what_a_generator_raises_fails_the_map(kind: str, at: int) -> None:
    def breaks() -> Iterator[int]:
        yield from range(at)
        raise OSError(f"broken at {at}")

    trace = Trace()
    with pytest.raises(OSError, match=f"broken at {at}") as caught:
        promptly(lambda: run(as_kind(kind, lambda x: x).named("item").map(breaks()), bus=trace.bus))
    assert "item#0" in "\n".join(caught.value.__notes__)
    with pytest.raises(cs.RunFailedGroup) as group:
        promptly(lambda: run(as_kind(kind, lambda x: x).map(breaks()), on_failure="continue"))
    assert [str(error) for error in group.value.exceptions] == [f"broken at {at}"]


# S17
@KINDS
def test_a_map_whose_generator_fails_is_told_as_failed_once(kind: str) -> None:
    def breaks() -> Iterator[int]:
        yield 0
        raise OSError("broken")

    trace = Trace()
    with pytest.raises(cs.RunFailedGroup):
        promptly(
            lambda: run(as_kind(kind, lambda x: x).named("item").map(breaks()), bus=trace.bus, on_failure="continue")
        )
    assert trace.terminal() == {"item#0": ["Failed"], "item#0[0]": ["Succeeded"]}


# S17
def test_a_second_run_over_a_spent_generator_is_an_error() -> None:
    target = double.map(x=(x for x in [1, 2]))
    assert run(target) == [2, 4]
    with pytest.raises(ValueError, match="x is a generator"):
        run(target)


# S17
def test_a_second_map_over_the_same_generator_is_an_error() -> None:
    numbers = (x for x in [1, 2])
    with pytest.raises(cs.MapInputError, match="used up"):
        promptly(lambda: run([double.map(x=numbers), double.map(x=numbers)]))


# S17
@pytest.mark.parametrize("make", [lambda: iter([1, 2]), lambda: map(abs, [1, 2]), lambda: zip([1], [2], strict=True)])
def test_a_second_run_over_a_spent_iterator_of_another_kind_does_not_map_nothing(make: Any) -> None:
    target = cs.task(lambda x: x).map(make())
    assert run(target)
    with pytest.raises(cs.MapInputError, match="used up"):
        run(target)


# S17
def test_a_generator_that_waits_for_other_work_holds_up_no_loop() -> None:
    gate = threading.Event()

    def waits() -> Iterator[int]:
        yield 1
        await_sign(gate)
        yield 2

    async def main() -> Any:
        first = asyncio.Event()

        @cs.task
        async def item(x: int) -> int:
            first.set()
            return x

        @cs.task
        async def opens() -> str:
            await first.wait()
            for _ in range(20):
                await asyncio.sleep(0)
            gate.set()
            return "opened"

        return await cs.arun([item.map(x=waits()), opens()], log_level="CRITICAL")

    assert promptly(lambda: asyncio.run(main()), 40.0) == [[1, 2], "opened"]


# S17
@KINDS
def test_a_generator_that_waits_for_the_item_before_gets_it(kind: str) -> None:
    """An item ends, is told and lets its followers start while the generator is still being pulled."""
    ended = threading.Event()
    bus = cs.MessageBus()
    bus.subscribe(TaskExecutionFinished, lambda event: ended.set() if event.task_id.endswith("[0]") else None)

    def waits() -> Iterator[int]:
        yield 1
        assert ended.wait(10.0), "the first item was not told as long as the second was pulled"
        yield 2

    assert promptly(lambda: run(as_kind(kind, lambda x: x).map(waits()), bus=bus)) == [1, 2]


# S17
def test_maps_nest() -> None:
    @cs.task
    def row(x: int) -> Any:
        return add.partial(x=x).map(y=range(3))

    expected = [[x + y for y in range(3)] for x in range(4)]
    assert promptly(lambda: run(row.map(x=range(4)))) == expected
    assert promptly(lambda: run(row.map(x=range(4)), max_workers=1)) == expected
    assert promptly(lambda: run(row.map(x=(x for x in range(4))))) == expected
    assert promptly(lambda: run(row.with_retry(2).map(x=range(4)))) == expected


# S17
def test_maps_nest_three_deep_with_one_worker_and_one_slot() -> None:
    @cs.task
    def leaf(x: int, y: int, z: int) -> tuple[int, int, int]:
        return x, y, z

    @cs.task
    def middle(x: int, y: int) -> Any:
        return leaf.partial(x=x, y=y).map(z=(z for z in range(3)))

    @cs.task
    async def top(x: int) -> Any:
        return middle.partial(x=x).map(y=range(3))

    expected = [[[(x, y, z) for z in range(3)] for y in range(3)] for x in range(3)]
    assert promptly(lambda: run(top.map(x=range(3)), max_workers=1)) == expected

    async def limited() -> Any:
        async with cs.create_engine(max_workers=1) as engine:
            engine.constraints.set(cs.GlobalConstraint.concurrency(1))
            return await engine.run(top.map(x=range(3)))

    assert promptly(lambda: asyncio.run(limited())) == expected


# S17
@KINDS
@pytest.mark.parametrize("as_generator", [False, True])
def test_the_error_of_an_item_carries_its_index(kind: str, as_generator: bool) -> None:
    def fail(x: int) -> int:
        if x == 17:
            raise KeyError("seventeen")
        return x

    items: Any = (x for x in range(30)) if as_generator else range(30)
    with pytest.raises(KeyError) as caught:
        promptly(lambda: run(as_kind(kind, fail).map(items)))
    notes = "\n".join(caught.value.__notes__)
    assert "item 17" in notes
    assert "fail#0[17]" in notes


# S17
def test_an_item_that_fails_while_another_is_blocked_stops_the_run_when_that_one_has_ended() -> None:
    release = threading.Event()
    ended: list[int] = []
    bus = cs.MessageBus()
    bus.subscribe(TaskExecutionFinished, lambda event: release.set() if event.status == "Failed" else None)

    @cs.task
    def item(x: int) -> int:
        if x == 1:
            raise ValueError("item 1")
        await_sign(release)
        ended.append(x)
        return x

    with pytest.raises(ValueError, match="item 1"):
        promptly(lambda: run(item.map(x=[0, 1]), bus=bus))
    assert ended in ([0], [])


# S17, S15
@KINDS
def test_in_a_run_that_goes_on_a_failed_item_fails_the_map_and_its_dependents_are_skipped(kind: str) -> None:
    def fail(x: int) -> int:
        if x in (2, 5):
            raise ValueError(f"item {x}")
        return x

    trace = Trace()
    target = [cs.task(sum, name="total")(as_kind(kind, fail).map(range(8))), double(4)]
    with pytest.raises(cs.RunFailedGroup) as caught:
        promptly(lambda: run(target, bus=trace.bus, on_failure="continue"))
    assert "item 2" in [str(error) for error in caught.value.exceptions]
    assert trace.terminal()["total#1"] == ["UpstreamFailed"]
    assert trace.terminal()["fail#0"] == ["Failed"]
    assert all(len(ends) == 1 for ends in trace.terminal().values())


# S17, S18
@KINDS
def test_an_item_may_return_a_lazy_value(kind: str) -> None:
    def returns(x: int) -> Any:
        return double(x) if x % 2 else x

    assert promptly(lambda: run(as_kind(kind, returns).map(range(6)))) == [0, 2, 2, 6, 4, 10]


# S17, S18
@KINDS
def test_an_item_may_be_a_loop(kind: str) -> None:
    task: Any = None

    def count(n: int, total: int = 0) -> Any:
        return task(n - 1, total + n) if n else total

    task = as_kind(kind, count)
    assert promptly(lambda: run(task.map([0, 10, 300]))) == [0, 55, 45150]


# S17, S18
def test_an_item_whose_value_is_skipped_fails_the_map_naming_the_index() -> None:
    @cs.task
    def returns(x: int) -> Any:
        return double(x).run_if(give(x != 3))

    with pytest.raises(cs.DependencyMissingError) as caught:
        promptly(lambda: run(returns.map(x=range(5))))
    assert "[3]" in str(caught.value)
    assert caught.value.reason == "ConditionFalse"


# S17
def test_a_generator_may_be_pulled_while_the_graph_goes_on_elsewhere() -> None:
    sign = threading.Event()

    def waits() -> Iterator[int]:
        yield 1
        await_sign(sign)
        yield 2

    @cs.task
    def opens() -> str:
        sign.set()
        return "open"

    target = [double.map(x=waits()), opens()]
    assert promptly(lambda: run(target, max_workers=2)) == [[2, 4], "open"]


# S17, S28
def test_the_trace_of_a_map_has_the_map_and_its_items() -> None:
    trace = Trace()
    assert run(double.map(x=[1, 2]), bus=trace.bus, max_workers=1) == [2, 4]
    assert trace.lines() == [
        "run double",
        "start double#0",
        "start double#0[0]",
        "Succeeded double#0[0] = 2",
        "start double#0[1]",
        "Succeeded double#0[1] = 4",
        "Succeeded double#0 = [2, 4]",
        "end Succeeded",
    ]


# S17
def test_a_map_that_is_pruned_or_skipped_pulls_nothing() -> None:
    pulled: list[int] = []

    def numbers() -> Iterator[int]:
        pulled.append(1)
        yield 1

    target = cs.Router(give("b"), {"a": double.map(x=numbers()), "b": give("other")})
    assert run(target) == "other"
    assert pulled == []


# S17
def test_wide_maps_run_once_an_item() -> None:
    count = 20_000
    trace_free = promptly(lambda: run(cs.task(sum)(double.map(x=range(count)))))
    assert trace_free == count * (count - 1)
    assert promptly(lambda: run(cs.task(sum)(double_async.map(x=range(count))))) == count * (count - 1)


# S17
def test_a_limit_set_in_the_middle_of_a_map_holds_from_then_on() -> None:
    lock = threading.Lock()
    now = 0
    most_after = 0

    async def main() -> Any:
        loop = asyncio.get_running_loop()
        limited = threading.Event()

        async with cs.create_engine(max_workers=4) as engine:

            def limit() -> None:
                engine.constraints.set(cs.GlobalConstraint.concurrency(1, "task:item"))
                limited.set()

            @cs.task
            def item(x: int) -> int:
                nonlocal now, most_after
                if x == 20:
                    loop.call_soon_threadsafe(limit)
                    await_sign(limited)
                with lock:
                    now += 1
                    if x > 40:
                        most_after = max(most_after, now)
                with lock:
                    now -= 1
                return x

            return await engine.run(item.map(x=range(100)))

    assert promptly(lambda: asyncio.run(main())) == list(range(100))
    assert most_after <= 1


# S17
def test_starting_a_map_is_told_before_its_items() -> None:
    trace = Trace()
    run(double.map(x=range(20)), bus=trace.bus)
    starts = [event.task_id for event in trace.of(TaskExecutionStarted)]
    assert starts[0] == "double#0"
    assert len(starts) == 21


# S17
@pytest.mark.parametrize("make", [list, iter], ids=["sized", "iterator"])
def test_items_that_return_graphs_are_not_begun_far_ahead_of_those_that_have_ended(make: Any) -> None:
    begun = ended = ahead = 0
    lock = threading.Lock()

    @cs.task
    def begin(x: int) -> int:
        nonlocal begun
        with lock:
            begun += 1
        return x

    @cs.task
    async def end(x: int) -> int:
        nonlocal ended, ahead
        with lock:
            ahead = max(ahead, begun - ended)
            ended += 1
        return x

    @cs.task
    def item(x: int) -> Any:
        return end(begin(x)).with_constraints(slot=1)

    found = run(item.map(x=make(range(400))), system_resources={"slot": 1}, max_workers=4)
    assert found == list(range(400))
    # Four threads may each have seen room for the same last one.
    assert ahead <= 3 * 4


# S17
def test_what_a_partial_has_fixed_can_be_mapped_over_after_all() -> None:
    assert run(add.partial(x=1).map(x=[5, 6], y=[1, 1])) == [6, 7]
    assert run(add.partial(x=1, y=2).map(x=[5, 6])) == [7, 8]
    assert run(add.partial(x=1)(x=5, y=1)) == 6


# S17
def test_a_decorator_that_takes_names_only_gets_names() -> None:
    def by_name(function: Any) -> Any:
        @functools.wraps(function)
        def call(**given: Any) -> Any:
            return function(**given)

        return call

    @cs.task
    @by_name
    def less(x: int, y: int) -> int:
        return x - y

    assert run(less(x=5, y=2)) == 3
    assert run(less.map(x=[5, 6], y=[2, 2])) == [3, 4]


# S17
@pytest.mark.parametrize("make", [iter, lambda items: map(abs, items), lambda items: (item for item in items)])
def test_two_maps_cannot_share_one_iterator(make: Any) -> None:
    shared = make([1, 2, 3])
    with pytest.raises(ValueError, match="used up"):
        run([double.map(x=shared), double.map(x=shared)])


# S17
def test_a_loop_may_begin_any_number_of_iterators() -> None:
    @cs.task
    def turn(n: int) -> Any:
        return n if n == 0 else again(double.map(x=iter([n])), n - 1)

    @cs.task
    def again(_: list[int], n: int) -> Any:
        return turn(n)

    assert run(turn(1500)) == 0


# S17
def test_helpers_that_come_and_go_leave_small_maps_whole() -> None:
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for _ in range(25):
            assert run([give.map(value=range(40)) for _ in range(20)], max_workers=8) == [list(range(40))] * 20
    finally:
        sys.setswitchinterval(interval)


# S17, S8
def test_items_that_only_compute_do_not_call_up_all_threads() -> None:
    threads: set[int] = set()

    @cs.task
    def note(x: int) -> int:
        threads.add(threading.get_ident())
        return x

    assert run(note.map(x=range(200_000))) == list(range(200_000))
    assert len(threads) < 32


# S17
def test_an_input_that_shrinks_meanwhile_ends_the_map_early() -> None:
    items = [1, 2, 3, 4, 5, 6]

    @cs.task
    def shrink(x: int) -> int:
        if x == 1:
            del items[3:]
        return x

    assert run(shrink.map(x=items), max_workers=1) == [1, 2, 3]


# S17, S8
def test_an_item_lets_another_run_on_the_same_threads_have_its_turn() -> None:
    begun, other_ended = threading.Event(), threading.Event()

    @cs.task
    def item(x: int) -> bool:
        begun.set()
        return other_ended.is_set()

    async def main() -> tuple[list[bool], int]:
        async with cs.create_engine(max_workers=1) as engine:
            loop = asyncio.get_running_loop()
            many = loop.create_task(engine.run(item.map(x=range(200_000))))
            await loop.run_in_executor(None, await_sign, begun)
            value = await engine.run(double(21))
            other_ended.set()
            return await many, value

    found, value = promptly(lambda: asyncio.run(main()))
    assert value == 42
    assert found[-1]
