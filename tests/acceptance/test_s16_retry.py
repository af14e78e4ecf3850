"""S16: a failed call is repeated as its policy says, and waits without holding anything."""

from __future__ import annotations

import asyncio
import os
import threading
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

import cascade as cs
from cascade.runtime.events import TaskExecutionFinished, TaskExecutionStarted, TaskRetrying
from cascade.testing.clock import MockClock
from tests.acceptance.observed import Trace, await_sign, promptly, run


class Flaky:
    """Fails so many times, then gives its number of calls."""

    def __init__(self, failures: int, error: type[BaseException] = ValueError) -> None:
        self.failures = failures
        self.error = error
        self.calls = 0
        self.attempts: list[int] = []

    def __call__(self) -> int:
        self.calls += 1
        self.attempts.append(cs.attempt())
        if self.calls <= self.failures:
            raise self.error(f"call {self.calls}")
        return self.calls


# S16
@pytest.mark.parametrize("failures", [0, 1, 2])
def test_a_call_is_repeated_until_it_succeeds(failures: int) -> None:
    flaky = Flaky(failures)
    assert run(cs.task(flaky, name="flaky")().with_retry()) == failures + 1
    assert flaky.attempts == list(range(1, failures + 2))


# S16
@pytest.mark.parametrize("most", [1, 2, 3, 7])
def test_max_attempts_counts_all_calls_the_first_included(most: int) -> None:
    flaky = Flaky(100)
    with pytest.raises(ValueError, match=f"call {most}"):
        run(cs.task(flaky, name="flaky")().with_retry(max_attempts=most))
    assert flaky.calls == most


# S16
def test_three_attempts_are_the_default() -> None:
    flaky = Flaky(100)
    with pytest.raises(ValueError, match="call 3"):
        run(cs.task(flaky, name="flaky")().with_retry())
    assert flaky.calls == 3


# S16
def test_without_a_policy_a_call_is_made_once() -> None:
    flaky = Flaky(100)
    with pytest.raises(ValueError, match="call 1"):
        run(cs.task(flaky, name="flaky")())
    assert flaky.calls == 1


# S16
def test_a_policy_of_the_task_holds_and_that_of_the_call_wins() -> None:
    first, second = Flaky(100), Flaky(100)
    with pytest.raises(ValueError, match="call 2"):
        run(cs.task(first, name="a", retry=2)())
    with pytest.raises(ValueError, match="call 4"):
        run(cs.task(second, name="b", retry=2)().with_retry(4))
    assert (first.calls, second.calls) == (2, 4)


# S16
@pytest.mark.parametrize("kind", ["thread", "async", "inline"])
def test_waits_grow_by_backoff_up_to_the_longest(kind: str) -> None:
    clock = MockClock()
    moments: list[float] = []

    def record() -> None:
        moments.append(clock.monotonic())
        raise OSError("again")

    async def record_async() -> None:
        record()

    task: Any = cs.task(record_async if kind == "async" else record, executor="inline" if kind == "inline" else None)
    with pytest.raises(OSError, match="again"):
        promptly(lambda: run(task().with_retry(6, delay=1.0, backoff=3.0, max_delay=20.0), clock=clock))
    # min(delay * backoff ** (k - 1), max_delay): 1, 3, 9, 20 (27), 20 (81)
    assert moments == [0.0, 1.0, 4.0, 13.0, 33.0, 53.0]


# S16
def test_a_constant_delay_is_the_default_backoff() -> None:
    clock = MockClock()
    moments: list[float] = []

    @cs.task
    async def record() -> None:
        moments.append(clock.monotonic())
        raise OSError("again")

    with pytest.raises(OSError, match="again"):
        run(record().with_retry(4, delay=2.5), clock=clock)
    assert moments == [0.0, 2.5, 5.0, 7.5]


# S16
def test_jitter_spreads_the_wait_around_its_middle() -> None:
    clock = MockClock()
    moments: list[float] = []

    @cs.task
    async def record() -> None:
        moments.append(clock.monotonic())
        raise OSError("again")

    with pytest.raises(OSError, match="again"):
        run(record().with_retry(40, delay=10.0, jitter=0.5), clock=clock)
    waits = [later - earlier for earlier, later in pairwise(moments)]
    assert all(5.0 <= wait <= 15.0 for wait in waits)
    assert len(set(waits)) > 10
    assert min(waits) < 10.0 < max(waits)


# S16
def test_the_wait_told_is_the_wait_made() -> None:
    clock = MockClock()
    trace = Trace()
    moments: list[float] = []

    @cs.task
    async def record() -> None:
        moments.append(clock.monotonic())
        raise OSError("again")

    with pytest.raises(OSError, match="again"):
        run(record().with_retry(5, delay=10.0, backoff=2.0, jitter=0.3), clock=clock, bus=trace.bus)
    waits = [later - earlier for earlier, later in pairwise(moments)]
    assert waits == pytest.approx([event.delay for event in trace.of(TaskRetrying)])


# S16
def test_a_backoff_that_overflows_is_bounded_by_the_longest_wait() -> None:
    clock = MockClock()
    flaky = Flaky(100)
    with pytest.raises(ValueError, match="call 60"):
        promptly(
            lambda: run(
                cs.task(flaky, name="flaky")().with_retry(60, delay=1.0, backoff=1e100, max_delay=1.0), clock=clock
            )
        )
    assert flaky.calls == 60


# S16
@pytest.mark.parametrize(
    ("retry_on", "raised", "calls"),
    [
        (OSError, OSError, 3),
        (OSError, FileNotFoundError, 3),
        (OSError, ValueError, 1),
        ((OSError, KeyError), KeyError, 3),
        ((OSError, KeyError), ValueError, 1),
        ((), ValueError, 1),
        (lambda error: "call" in str(error), ValueError, 3),
        (lambda error: "call 1" in str(error), ValueError, 2),
        (lambda error: False, ValueError, 1),
    ],
)
def test_retry_on_is_a_class_a_tuple_or_a_predicate(retry_on: Any, raised: Any, calls: int) -> None:
    flaky = Flaky(100, raised)
    with pytest.raises(raised):
        run(cs.task(flaky, name="flaky")().with_retry(3, retry_on=retry_on))
    assert flaky.calls == calls


# S16
def test_a_predicate_that_raises_ends_the_run_with_an_error_and_not_with_a_hang() -> None:
    flaky = Flaky(100)

    def predicate(error: BaseException) -> bool:
        raise RuntimeError("the predicate is broken")

    with pytest.raises((RuntimeError, ValueError)) as caught:
        promptly(lambda: run(cs.task(flaky, name="flaky")().with_retry(3, retry_on=predicate)))
    assert flaky.calls == 1
    chain = f"{caught.value} {caught.value.__context__} {caught.value.__cause__}"
    assert "the predicate is broken" in chain


# S16, S28, S15
def test_a_predicate_that_raises_is_told_as_the_failure_of_its_call() -> None:
    def predicate(error: BaseException) -> bool:
        raise RuntimeError("the predicate is broken")

    trace = Trace()
    target = [cs.task(Flaky(9), name="flaky")().with_retry(3, retry_on=predicate), cs.task(Flaky(0), name="fine")()]
    with pytest.raises(cs.RunFailedGroup) as caught:
        promptly(lambda: run(target, bus=trace.bus, on_failure="continue"))
    assert "flaky#0" in "\n".join(caught.value.exceptions[0].__notes__)
    assert trace.terminal() == {"flaky#0": ["Failed"], "fine#1": ["Succeeded"]}


# S16
def test_a_predicate_that_raises_releases_what_the_call_held() -> None:
    def predicate(error: BaseException) -> bool:
        raise RuntimeError("the predicate is broken")

    async def main() -> Any:
        async with cs.create_engine(system_resources={"gpu": 1}) as engine:
            with pytest.raises((RuntimeError, ValueError)):
                await engine.run(
                    cs.task(Flaky(9), name="flaky")().with_retry(3, retry_on=predicate).with_constraints(gpu=1)
                )
            return engine.capacities.usage()

    assert promptly(lambda: asyncio.run(main())) == {"gpu": (0, 1)}


# S16
@pytest.mark.parametrize("stop", [KeyboardInterrupt, SystemExit])
def test_what_is_no_exception_is_not_repeated_by_default(stop: type[BaseException]) -> None:
    flaky = Flaky(100, stop)
    with pytest.raises(stop):
        promptly(lambda: run(cs.task(flaky, name="flaky")().with_retry(3)))
    assert flaky.calls == 1


# S16
def test_a_timeout_of_a_coroutine_can_be_retried() -> None:
    clock = MockClock()
    calls: list[int] = []

    @cs.task
    async def slow_at_first() -> int:
        calls.append(cs.attempt())
        if len(calls) < 3:
            await clock.sleep(100.0)
        return len(calls)

    assert run(slow_at_first().with_timeout(1.0).with_retry(3), clock=clock) == 3
    assert calls == [1, 2, 3]
    assert clock.monotonic() == pytest.approx(2.0)


# S16
def test_a_timeout_is_retried_only_where_retry_on_covers_it() -> None:
    clock = MockClock()
    calls: list[int] = []

    @cs.task
    async def slow() -> None:
        calls.append(1)
        await clock.sleep(100.0)

    with pytest.raises(cs.TaskTimeoutError):
        run(slow().with_timeout(1.0).with_retry(3, retry_on=KeyError), clock=clock)
    assert calls == [1]


# S16
def test_each_attempt_has_the_whole_timeout() -> None:
    clock = MockClock()
    starts: list[float] = []

    @cs.task
    async def slow() -> None:
        starts.append(clock.monotonic())
        await clock.sleep(100.0)

    with pytest.raises(cs.TaskTimeoutError):
        run(slow().with_timeout(5.0).with_retry(3, delay=2.0), clock=clock)
    assert starts == [0.0, 7.0, 14.0]


# S16
def test_a_timeout_of_a_thread_can_be_retried() -> None:
    clock = MockClock()
    release = threading.Event()
    calls: list[int] = []

    @cs.task
    def slow_at_first() -> int:
        calls.append(cs.attempt())
        if len(calls) == 1:
            clock.advance(2.0)
            await_sign(release)
            return -1
        release.set()
        return len(calls)

    with pytest.warns(cs.ThreadTimeoutWarning):
        assert promptly(lambda: run(slow_at_first().with_timeout(1.0).with_retry(2), clock=clock)) == 2
    assert calls == [1, 2]


# S16
def test_cancellation_is_never_retried() -> None:
    calls: list[int] = []

    async def main() -> None:
        started = asyncio.Event()

        @cs.task
        async def wait() -> None:
            calls.append(1)
            started.set()
            await asyncio.Event().wait()

        running = asyncio.create_task(cs.arun(wait().with_retry(5, retry_on=BaseException), log_level="CRITICAL"))
        await started.wait()
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running

    promptly(lambda: asyncio.run(main()))
    assert calls == [1]


# S16
def test_a_cancellation_that_the_task_raises_itself_is_not_retried() -> None:
    calls: list[int] = []

    @cs.task
    async def give_up() -> None:
        calls.append(1)
        raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        promptly(lambda: run(give_up().with_retry(5, retry_on=BaseException)))
    assert calls == [1]


# S16
def test_a_run_that_stops_does_not_begin_another_attempt() -> None:
    calls: list[int] = []
    trying, failing = threading.Event(), threading.Event()

    @cs.task
    def again() -> None:
        calls.append(1)
        trying.set()
        await_sign(failing)
        while not cs.cancelled():
            pass
        raise OSError("again")

    @cs.task
    def fail() -> None:
        await_sign(trying)
        failing.set()
        raise ValueError("the run stops")

    with pytest.raises(ValueError, match="the run stops"):
        promptly(lambda: run([again().with_retry(100), fail()]))
    assert calls == [1]


# S16
def test_cancelling_during_the_wait_ends_the_run_at_once() -> None:
    clock = MockClock(autojump_threshold=float("inf"))

    async def main() -> None:
        waits = asyncio.Event()
        bus = cs.MessageBus()
        bus.subscribe(TaskRetrying, lambda event: waits.set())

        @cs.task
        async def fail() -> None:
            raise OSError

        running = asyncio.create_task(
            cs.arun(fail().with_retry(5, delay=3600.0), log_level="CRITICAL", clock=clock, bus=bus)
        )
        await waits.wait()
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running

    promptly(lambda: asyncio.run(main()))


# S16
def test_waiting_holds_no_worker() -> None:
    clock = MockClock()
    order: list[str] = []

    @cs.task
    def flaky() -> str:
        order.append(f"flaky {cs.attempt()}")
        if cs.attempt() < 3:
            raise OSError
        return "flaky"

    @cs.task
    def other(n: int) -> str:
        order.append(f"other {n}")
        return "other"

    first = flaky().with_retry(3, delay=3600.0)
    assert promptly(lambda: run([first, other(1), other(2)], clock=clock, max_workers=1)) == ["flaky", "other", "other"]
    assert set(order[:3]) == {"flaky 1", "other 1", "other 2"}
    assert order[3:] == ["flaky 2", "flaky 3"]


# S16
def test_waiting_holds_no_capacity() -> None:
    clock = MockClock()
    moments: dict[str, float] = {}

    @cs.task
    async def flaky() -> str:
        if cs.attempt() < 2:
            raise OSError
        moments["flaky"] = clock.monotonic()
        return "flaky"

    @cs.task
    async def other() -> str:
        moments["other"] = clock.monotonic()
        return "other"

    target = [
        flaky().with_retry(3, delay=3600.0).with_constraints(gpu=1),
        other().with_constraints(gpu=1),
    ]
    assert promptly(lambda: run(target, clock=clock, system_resources={"gpu": 1})) == ["flaky", "other"]
    assert moments == {"other": 0.0, "flaky": 3600.0}


# S16, S24
def test_waiting_holds_no_slot_of_a_concurrency_limit() -> None:
    clock = MockClock()
    moments: dict[str, float] = {}

    async def main() -> Any:
        @cs.task
        async def flaky() -> None:
            if cs.attempt() < 2:
                raise OSError
            moments["flaky"] = clock.monotonic()

        @cs.task
        async def other() -> None:
            moments["other"] = clock.monotonic()

        async with cs.create_engine(clock=clock) as engine:
            engine.constraints.set(cs.GlobalConstraint.concurrency(1))
            await engine.run([flaky().with_retry(3, delay=3600.0), other()])

    promptly(lambda: asyncio.run(main()))
    assert moments == {"other": 0.0, "flaky": 3600.0}


# S16, S22
def test_resources_of_the_task_are_made_once_an_attempt() -> None:
    events: list[str] = []

    @cs.resource(scope="task")
    def session() -> Any:
        events.append("set up")
        outcome = yield object()
        events.append(f"torn down after {outcome.error!r}")

    flaky = Flaky(2)

    @cs.task
    def use(session: Any = cs.inject(session)) -> int:
        return flaky()

    assert run(use().with_retry(3)) == 3
    assert events == [
        "set up",
        "torn down after ValueError('call 1')",
        "set up",
        "torn down after ValueError('call 2')",
        "set up",
        "torn down after None",
    ]


# S16, S22
def test_the_set_up_of_a_resource_of_the_task_is_a_part_of_the_attempt() -> None:
    made: list[int] = []

    @cs.resource(scope="task")
    def session() -> Any:
        made.append(1)
        if len(made) < 3:
            raise ConnectionError(f"attempt {len(made)}")
        yield "session"

    @cs.task
    def use(session: Any = cs.inject(session)) -> Any:
        return session, cs.attempt()

    assert run(use().with_retry(3)) == ("session", 3)


# S16, S28
def test_a_retried_call_is_told_as_one_call() -> None:
    trace = Trace()
    run(cs.task(Flaky(2), name="flaky")().with_retry(4, delay=0.001, backoff=2.0), bus=trace.bus)
    assert trace.lines() == [
        "run flaky",
        "start flaky#0",
        "retry flaky#0 1/4 0.001 ValueError: call 1",
        "retry flaky#0 2/4 0.002 ValueError: call 2",
        "Succeeded flaky#0 = 3",
        "end Succeeded",
    ]


# S16, S28
def test_a_call_that_uses_up_its_attempts_is_told_once() -> None:
    trace = Trace()
    with pytest.raises(ValueError, match="call 2") as caught:
        run(cs.task(Flaky(9), name="flaky")().with_retry(2), bus=trace.bus)
    assert trace.lines() == [
        "run flaky",
        "start flaky#0",
        "retry flaky#0 1/2 0 ValueError: call 1",
        "Failed flaky#0 ValueError: call 2",
        "end Failed ValueError: call 2",
    ]
    assert "attempt 2" in "\n".join(caught.value.__notes__)


# S16
def test_items_of_a_map_are_retried_each_for_itself() -> None:
    lock = threading.Lock()
    calls: dict[int, int] = {}

    @cs.task
    def flaky(x: int) -> int:
        with lock:
            calls[x] = calls.get(x, 0) + 1
        if calls[x] <= x % 3:
            raise OSError(x)
        return x * 10

    assert promptly(lambda: run(flaky.with_retry(3).map(x=range(9)))) == [x * 10 for x in range(9)]
    assert calls == {x: x % 3 + 1 for x in range(9)}


# S16, S15
def test_attempts_that_fail_fail_the_run_that_goes_on_once() -> None:
    flaky = Flaky(9)
    with pytest.raises(cs.RunFailedGroup) as caught:
        run(cs.task(flaky, name="flaky")().with_retry(3), on_failure="continue")
    assert [str(error) for error in caught.value.exceptions] == ["call 3"]
    assert flaky.calls == 3


# S16
@pytest.mark.parametrize(
    "settings",
    [
        {"max_attempts": 0},
        {"max_attempts": -1},
        {"max_attempts": 1.5},
        {"max_attempts": True},
        {"delay": -1.0},
        {"delay": float("nan")},
        {"delay": float("inf")},
        {"backoff": -2.0},
        {"max_delay": -1},
        {"jitter": -0.1},
        {"jitter": "much"},
        {"retry_on": "ValueError"},
        {"retry_on": [ValueError]},
    ],
)
def test_settings_that_mean_nothing_are_refused_where_they_are_written(settings: dict[str, Any]) -> None:
    name = next(iter(settings))
    with pytest.raises(cs.DeclarationError, match=name):
        cs.task(Flaky(0), name="flaky")().with_retry(**settings)


# S16
def test_a_class_that_is_no_exception_is_refused_as_retry_on() -> None:
    with pytest.raises(cs.DeclarationError, match="retry_on"):
        cs.task(Flaky(0), name="flaky")().with_retry(retry_on=int)  # type: ignore[arg-type]


# S16, S6
@pytest.mark.needs_extra("process")
def test_a_process_that_died_costs_an_attempt_and_the_next_one_gets_a_new_process(tmp_path: Path) -> None:
    seen = tmp_path / "seen"

    @cs.task(executor="process")
    def die_once(path: str) -> tuple[int, int]:
        with open(path, "a") as file:
            file.write(f"{os.getpid()}\n")
        if cs.attempt() == 1:
            os._exit(1)
        return cs.attempt(), os.getpid()

    trace = Trace()
    attempt, pid = promptly(lambda: run(die_once(str(seen)).with_retry(2), bus=trace.bus))
    pids = [int(line) for line in seen.read_text().split()]
    assert attempt == 2
    assert pids[1] == pid != os.getpid()
    assert pids[0] != pids[1]
    assert len(trace.of(TaskRetrying)) == len(trace.of(TaskExecutionStarted)) == 1
    assert [event.status for event in trace.of(TaskExecutionFinished)] == ["Succeeded"]


# S16, S6
@pytest.mark.needs_extra("process")
def test_a_process_that_died_without_a_retry_fails_the_run_naming_the_task() -> None:
    @cs.task(executor="process")
    def die() -> None:
        os._exit(3)

    with pytest.raises(cs.CascadeError, match="die"):
        promptly(lambda: run(die()))
