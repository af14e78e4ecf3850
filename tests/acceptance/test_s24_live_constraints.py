"""S24: limits are put on an engine, changed and removed while it runs."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

import cascade as cs
from cascade.runtime.events import TaskBlocked, TaskExecutionStarted
from cascade.runtime.run import Caller
from cascade.testing.clock import MockClock
from tests.acceptance.observed import Trace, await_sign, promptly

limit = cs.GlobalConstraint


@cs.task
async def note(x: Any) -> Any:
    return x


@cs.task
def note_on_thread(x: Any) -> Any:
    return x


TASKS = pytest.mark.parametrize("task", [note, note_on_thread])


async def turns(count: int = 30) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


def under(check: Any, **parts: Any) -> Any:
    async def main() -> Any:
        async with cs.create_engine(**parts) as engine:
            return await check(engine)

    return promptly(lambda: asyncio.run(main()))


# S24
@TASKS
@pytest.mark.parametrize("constraint", ["pause", "concurrency 0"])
@pytest.mark.parametrize("scope", ["global", "task:note*", "run:mine"])
def test_a_pause_holds_calls_back_until_it_is_removed(task: Any, constraint: str, scope: str) -> None:
    async def check(engine: cs.Engine) -> None:
        blocked = asyncio.Event()
        engine.bus.subscribe(TaskBlocked, lambda event: blocked.set())
        engine.constraints.set(limit.pause(scope) if constraint == "pause" else limit.concurrency(0, scope))
        running = asyncio.create_task(engine.run(task(1), run_id="mine"))
        await blocked.wait()
        await turns()
        assert not running.done()
        assert engine.constraints.remove(scope)
        assert await running == 1

    under(check)


# S24
@TASKS
def test_a_scope_holds_back_only_what_it_names(task: Any) -> None:
    async def check(engine: cs.Engine) -> None:
        engine.constraints.set(limit.pause("task:other*"))
        engine.constraints.set(limit.pause("run:elsewhere"))
        assert await engine.run(task(1), run_id="here") == 1
        running = asyncio.create_task(engine.run(task(2), run_id="elsewhere"))
        named = asyncio.create_task(engine.run(task(3).named("other thing")))
        await turns()
        assert not running.done()
        assert not named.done()
        engine.constraints.remove("run:elsewhere")
        engine.constraints.remove("task:other*")
        assert (await running, await named) == (2, 3)

    under(check)


# S21, S24
@TASKS
def test_a_scope_of_a_run_holds_for_the_runs_that_its_calls_start(task: Any) -> None:
    @cs.task
    async def outer() -> Any:
        return await cs.arun(middle(), log_level="CRITICAL")

    @cs.task
    async def middle() -> Any:
        limits.set(limit.pause("run:outermost"))
        return await cs.arun(task(1), log_level="CRITICAL")

    limits: Any = None

    async def check(engine: cs.Engine) -> None:
        nonlocal limits
        limits = engine.constraints
        blocked = asyncio.Event()
        engine.bus.subscribe(TaskBlocked, lambda event: blocked.set())
        running = asyncio.create_task(engine.run(outer(), run_id="outermost"))
        await blocked.wait()
        await turns()
        assert not running.done()
        limits.remove("run:outermost")
        assert await running == 1

    under(check)


# S24
@pytest.mark.parametrize("kind", ["async", "thread", "map", "generator map", "nested map"])
def test_no_more_calls_run_at_once_than_a_limit_allows(kind: str) -> None:
    lock = threading.Lock()
    now = most = 0

    def count(x: int) -> int:
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)
        with lock:
            now -= 1
        return x

    async def count_async(x: int) -> int:
        nonlocal now, most
        now += 1
        most = max(most, now)
        await asyncio.sleep(0)
        now -= 1
        return x

    counted = cs.task(count_async if kind == "async" else count, name="counted")
    rows = cs.task(lambda y: counted.map(x=[y, y]), name="rows")
    target: Any = {
        "async": [counted(x) for x in range(30)],
        "thread": [counted(x) for x in range(30)],
        "map": counted.map(x=range(30)),
        "generator map": counted.map(x=(x for x in range(30))),
        "nested map": rows.map(y=range(15)),
    }[kind]

    async def check(engine: cs.Engine) -> None:
        engine.constraints.set(limit.concurrency(2, "task:counted"))
        await engine.run(target)

    under(check)
    assert most <= 2


# S24
def test_a_limit_counts_calls_that_run_already_when_it_is_set() -> None:
    async def check(engine: cs.Engine) -> None:
        loop = asyncio.get_running_loop()
        started, second_started, release = asyncio.Event(), asyncio.Event(), threading.Event()

        @cs.task
        def first() -> None:
            loop.call_soon_threadsafe(started.set)
            assert release.wait(10.0)

        @cs.task
        def second() -> None:
            loop.call_soon_threadsafe(second_started.set)

        one = asyncio.create_task(engine.run(first()))
        await started.wait()
        engine.constraints.set(limit.concurrency(1))
        two = asyncio.create_task(engine.run(second()))
        for _ in range(20):
            await asyncio.sleep(0.001)
        before_release = second_started.is_set()
        release.set()
        await asyncio.gather(one, two)
        assert not before_release

    under(check)


# S24
def test_a_rate_spaces_the_starts() -> None:
    clock = MockClock()
    starts: list[float] = []

    @cs.task
    async def start(x: int) -> None:
        starts.append(clock.monotonic())

    async def check(engine: cs.Engine) -> None:
        engine.constraints.set(limit.rate_limit(2.0, burst=3, scope="task:start"))
        await engine.run(start.map(x=range(7)))

    under(check, clock=clock)
    assert starts == pytest.approx([0.0, 0.0, 0.0, 0.5, 1.0, 1.5, 2.0])


# S24
@TASKS
def test_the_last_write_for_a_scope_and_type_wins(task: Any) -> None:
    async def check(engine: cs.Engine) -> None:
        engine.constraints.set(limit.concurrency(0))
        engine.constraints.set(limit.concurrency(1))
        assert await engine.run(task(1)) == 1
        engine.constraints.set(limit.concurrency(0))
        running = asyncio.create_task(engine.run(task(2)))
        await turns()
        assert not running.done()
        engine.constraints.set(limit.concurrency(2))
        assert await running == 2
        assert [str(found) for found in engine.constraints.list()] == ["concurrency 2 on global"]

    under(check)


# S24
@TASKS
def test_limits_of_several_types_and_scopes_hold_together(task: Any) -> None:
    async def check(engine: cs.Engine) -> None:
        engine.constraints.set(limit.pause())
        engine.constraints.set(limit.concurrency(5))
        engine.constraints.set(limit.pause("task:note*"))
        running = asyncio.create_task(engine.run(task(1)))
        await turns()
        engine.constraints.remove("global", "pause")
        await turns()
        assert not running.done()
        engine.constraints.remove("task:note*")
        assert await running == 1

    under(check)


# S24
@TASKS
def test_a_limit_ends_by_itself_after_its_time_to_live(task: Any) -> None:
    clock = MockClock()

    async def check(engine: cs.Engine) -> float:
        engine.constraints.set(limit.pause(ttl=3600.0))
        assert await engine.run(task(1)) == 1
        assert engine.constraints.list() == ()
        return clock.monotonic()

    assert under(check, clock=clock) == pytest.approx(3600.0)


# S24
@TASKS
def test_a_node_held_back_is_told_once_with_its_reason(task: Any) -> None:
    trace = Trace()

    async def check(engine: cs.Engine) -> None:
        engine.constraints.set(limit.pause())
        running = asyncio.create_task(engine.run([task(1), task(2)]))
        await turns()
        engine.constraints.set(limit.pause("task:*"))
        engine.constraints.remove("global")
        await turns()
        engine.constraints.set(limit.concurrency(0))
        engine.constraints.remove("task:*")
        await turns()
        engine.constraints.remove("global")
        assert await running == [1, 2]

    under(check, bus=trace.bus)
    blocked = trace.of(TaskBlocked)
    assert len(blocked) == len({event.task_id for event in blocked}) == 2
    assert all("pause" in event.reason for event in blocked)


# S24
def test_a_node_that_is_not_held_back_is_not_told_as_blocked() -> None:
    trace = Trace()

    async def check(engine: cs.Engine) -> None:
        engine.constraints.set(limit.concurrency(100))
        await engine.run(note.map(x=range(10)))

    under(check, bus=trace.bus)
    assert trace.of(TaskBlocked) == []


# S24
def test_those_held_back_start_in_their_order() -> None:
    order: list[int] = []

    @cs.task
    async def record(x: int) -> None:
        order.append(x)

    async def check(engine: cs.Engine) -> None:
        engine.constraints.set(limit.pause())
        running = asyncio.create_task(engine.run([record(x) for x in range(20)]))
        await turns()
        assert order == []
        engine.constraints.set(limit.concurrency(1))
        engine.constraints.remove("global", "pause")
        await running

    under(check)
    assert order == list(range(20))


# S24
def test_limits_may_be_changed_from_any_thread() -> None:
    async def check(engine: cs.Engine) -> None:
        engine.constraints.set(limit.pause())
        running = asyncio.create_task(engine.run(note_on_thread.map(x=range(10))))
        await turns()
        thread = threading.Thread(target=lambda: engine.constraints.remove("global"))
        thread.start()
        assert await running == list(range(10))
        thread.join()

    under(check)


# S24
def test_a_pause_in_the_middle_of_a_chain_holds_the_next_call() -> None:
    async def check(engine: cs.Engine) -> None:
        blocked = asyncio.Event()
        engine.bus.subscribe(TaskBlocked, lambda event: blocked.set())

        @cs.task
        def pauses(x: int) -> int:
            engine.constraints.set(limit.pause())
            return x

        running = asyncio.create_task(engine.run(note_on_thread(pauses(1))))
        await blocked.wait()
        await turns()
        assert not running.done()
        engine.constraints.remove("global")
        assert await running == 1

    under(check)


# S24, S20
@TASKS
def test_a_call_that_is_held_back_can_be_cancelled(task: Any) -> None:
    trace = Trace()

    async def check(engine: cs.Engine) -> None:
        engine.constraints.set(limit.pause())
        running = asyncio.create_task(engine.run(task(1)))
        await turns()
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        engine.constraints.remove("global")
        assert await engine.run(task(2)) == 2

    under(check, bus=trace.bus)
    starts = trace.of(TaskExecutionStarted)
    assert len(starts) == 1


# S24, S25
def test_a_hit_of_the_cache_needs_no_leave() -> None:
    async def check(engine: cs.Engine) -> None:
        cached = note_on_thread(7).with_cache(cs.InputsCache(cs.InMemoryCacheBackend(), version="no leave"))
        await engine.run(cached)
        engine.constraints.set(limit.concurrency(1))
        assert await engine.run(cached) == 7

    under(check)


# S24
@pytest.mark.parametrize(
    "make",
    [
        lambda: limit.concurrency(-1),
        lambda: limit.concurrency(1.5),  # type: ignore[arg-type]
        lambda: limit.rate_limit(0),
        lambda: limit.rate_limit("5 per hour"),
        lambda: limit.rate_limit(1, burst=0),
        lambda: limit.pause("tasks:x"),
        lambda: limit.pause("task:"),
        lambda: limit.pause(ttl=0),
    ],
)
def test_limits_that_mean_nothing_are_refused(make: Any) -> None:
    with pytest.raises(cs.DeclarationError):
        make()


LANES = pytest.mark.parametrize("lane", ["thread", "async", "thread with policy", "async with policy"])


def on_lane(lane: str, function: Any, coroutine_function: Any, *args: Any) -> Any:
    """A call of one of the two, plain or with a policy."""
    call = cs.task(coroutine_function if lane.startswith("async") else function, name="call")(*args)
    return call.with_retry(2) if lane.endswith("policy") else call


# S24
@LANES
def test_a_call_that_ends_while_a_limit_is_being_set_keeps_no_slot(lane: str, monkeypatch: Any) -> None:
    begun, goes_on, ended = threading.Event(), threading.Event(), threading.Event()
    enlist = Caller.enlist

    def ends_meanwhile(self: Caller, subject: Any, still_runs: Any) -> None:
        if threading.current_thread().name == "setter":
            goes_on.set()
            await_sign(ended)
        enlist(self, subject, still_runs)

    def wait() -> None:
        begun.set()
        await_sign(goes_on)

    async def wait_async() -> None:
        begun.set()
        await asyncio.to_thread(await_sign, goes_on)

    async def check(engine: cs.Engine) -> None:
        running = asyncio.create_task(engine.run(on_lane(lane, wait, wait_async)))
        await asyncio.to_thread(await_sign, begun)
        monkeypatch.setattr(Caller, "enlist", ends_meanwhile)
        setter = threading.Thread(target=engine.constraints.set, args=(limit.concurrency(1),), name="setter")
        setter.start()
        await running
        ended.set()
        await asyncio.to_thread(setter.join)
        assert await engine.run(note(2)) == 2

    under(check)


# S21, S24
@LANES
@pytest.mark.parametrize("runs", [1, 2])
def test_a_limit_that_is_set_while_a_call_waits_for_its_runs_does_not_count_it(lane: str, runs: int) -> None:
    begun = [threading.Event() for _ in range(runs)]
    goes_on = threading.Event()
    most = now = 0
    lock = threading.Lock()

    @cs.task
    def first(i: int) -> int:
        begun[i].set()
        await_sign(goes_on)
        return i

    @cs.task
    def second(i: int) -> int:
        nonlocal most, now
        with lock:
            now += 1
            most = max(most, now)
        with lock:
            now -= 1
        return i

    async def nest_async() -> Any:
        return await asyncio.gather(*(cs.arun(second(first(i)), log_level="CRITICAL") for i in range(runs)))

    def nest() -> Any:
        return asyncio.run(nest_async())

    async def check(engine: cs.Engine) -> None:
        running = asyncio.create_task(engine.run(note(on_lane(lane, nest, nest_async))))
        for sign in begun:
            await asyncio.to_thread(await_sign, sign)
        engine.constraints.set(limit.concurrency(1))
        goes_on.set()
        assert await running == list(range(runs))

    under(check)
    assert most == 1


# S21, S24
@LANES
def test_a_call_that_waits_for_two_runs_takes_no_slot_until_both_have_ended(lane: str) -> None:
    async def nest_async() -> Any:
        return await asyncio.gather(*(cs.arun(note_on_thread(note(i)), log_level="CRITICAL") for i in range(3)))

    def nest() -> Any:
        return asyncio.run(nest_async())

    async def check(engine: cs.Engine) -> None:
        engine.constraints.set(limit.concurrency(1))
        assert await engine.run(on_lane(lane, nest, nest_async)) == [0, 1, 2]

    under(check)


# S21, S24
def test_runs_in_runs_in_a_call_with_a_slot_need_none_of_it() -> None:
    @cs.task
    async def inner(x: int) -> int:
        return x

    @cs.task
    async def middle(x: int) -> Any:
        return await cs.arun(inner(x), log_level="CRITICAL") + await cs.arun(inner(x), log_level="CRITICAL")

    @cs.task
    async def outer(x: int) -> Any:
        return await cs.arun(middle(x), log_level="CRITICAL")

    async def check(engine: cs.Engine) -> None:
        engine.constraints.set(limit.concurrency(1))
        assert await engine.run(outer(1).with_retry(2)) == 2

    under(check)


# S21, S23, S24
def test_a_call_that_waits_for_capacity_keeps_no_slot_from_the_runs_of_who_has_it() -> None:
    async def check(engine: cs.Engine) -> None:
        begun, waits = asyncio.Event(), asyncio.Event()
        engine.bus.subscribe(TaskBlocked, lambda event: waits.set())
        engine.constraints.set(limit.concurrency(1))

        @cs.task
        async def outer() -> Any:
            begun.set()
            # The other is let go when this one waits for its run, and then waits for what this one holds.
            return await cs.arun(note(note(1)), log_level="CRITICAL")

        outer_run = asyncio.create_task(engine.run(outer().with_constraints(gpu=1)))
        await begun.wait()
        other_run = asyncio.create_task(engine.run(note(2).with_constraints(gpu=1)))
        assert (await outer_run, await other_run) == (1, 2)

    under(check, system_resources={"gpu": 1})


class Holding:
    """A run of a call that holds a gpu until it is told to end."""

    def __init__(self, engine: cs.Engine) -> None:
        self._begun, self._release = asyncio.Event(), asyncio.Event()

        @cs.task
        async def hold() -> None:
            self._begun.set()
            await self._release.wait()

        self._run = asyncio.create_task(engine.run(hold().with_constraints(gpu=1)))

    async def begin(self) -> Holding:
        await self._begun.wait()
        return self

    async def end(self) -> None:
        self._release.set()
        await self._run


# S23, S24
def test_a_call_that_waits_for_capacity_takes_no_slot_from_one_that_needs_none() -> None:
    async def check(engine: cs.Engine) -> None:
        holding = await Holding(engine).begin()
        engine.constraints.set(limit.concurrency(1, "task:note"))
        waiting = asyncio.create_task(engine.run(note(1).with_constraints(gpu=1)))
        await turns()
        assert await engine.run(note(2)) == 2
        assert not waiting.done()
        await holding.end()
        assert await waiting == 1

    under(check, system_resources={"gpu": 1})


# S23, S24
def test_no_more_calls_run_at_once_than_a_limit_allows_when_they_had_to_wait_for_capacity() -> None:
    now = most = 0

    @cs.task
    async def limited() -> None:
        nonlocal now, most
        now += 1
        most = max(most, now)
        await turns(5)
        now -= 1

    async def check(engine: cs.Engine) -> None:
        holding = [await Holding(engine).begin() for _ in range(4)]
        engine.constraints.set(limit.concurrency(1, "task:limited"))
        both = asyncio.gather(
            engine.run([limited().with_constraints(gpu=1) for _ in range(8)]),
            engine.run([limited() for _ in range(8)]),
        )
        await turns()
        await asyncio.gather(*(each.end() for each in holding))
        await both

    under(check, system_resources={"gpu": 4})
    assert most == 1


# S23, S24
def test_a_pause_also_holds_back_who_waited_for_capacity_and_leaves_that_to_others() -> None:
    async def check(engine: cs.Engine) -> None:
        for begin in (None, limit.concurrency(5)):
            if begin is not None:
                engine.constraints.set(begin)
            holding = await Holding(engine).begin()
            waiting = asyncio.create_task(engine.run(note(1).with_constraints(gpu=1)))
            await turns()
            engine.constraints.set(limit.pause("task:note"))
            await holding.end()
            await turns()
            assert not waiting.done()
            assert engine.capacities.usage() == {"gpu": (0, 1)}
            await (await Holding(engine).begin()).end()
            engine.constraints.remove("task:note")
            assert await waiting == 1

    under(check, system_resources={"gpu": 1})


# S23, S24
def test_a_call_that_is_cancelled_while_it_waits_for_capacity_gives_back_its_token() -> None:
    async def check(engine: cs.Engine) -> None:
        holding = await Holding(engine).begin()
        engine.constraints.set(limit.rate_limit("1/h", scope="task:note"))
        waiting = asyncio.create_task(engine.run(note(1).with_constraints(gpu=1)))
        await turns()
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert await engine.run(note(2)) == 2
        await holding.end()

    under(check, system_resources={"gpu": 1}, clock=MockClock(autojump_threshold=1e9))


# S23, S24
def test_a_large_request_is_not_starved_by_calls_that_need_no_capacity() -> None:
    started: list[str] = []
    under_way: asyncio.Event

    @cs.task
    async def light(last: Any) -> None:
        started.append("light")
        await turns(3)

    @cs.task
    async def small(last: Any) -> None:
        started.append("small")
        if len(started) > 8:
            under_way.set()
        await turns(3)

    @cs.task
    async def large() -> None:
        started.append("large")

    def chain(task: Any, **amounts: int) -> Any:
        last: Any = None
        for _ in range(50):
            last = task(last).with_constraints(**amounts) if amounts else task(last)
        return last

    async def check(engine: cs.Engine) -> None:
        nonlocal under_way
        under_way = asyncio.Event()
        engine.constraints.set(limit.concurrency(1, "task:l*"))
        target = [chain(small, gpu=1), chain(small, gpu=1), chain(light), chain(light)]
        others = asyncio.create_task(engine.run(target))
        await under_way.wait()
        at = len(started)
        await engine.run(large().with_constraints(gpu=2))
        assert started.index("large") - at < 12
        await others

    under(check, system_resources={"gpu": 2})
