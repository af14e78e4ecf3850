"""S20: runs can be cancelled and calls have time limits; what cannot be stopped is left behind and told."""

from __future__ import annotations

import asyncio
import math
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
import warnings
from pathlib import Path
from typing import Any

import pytest

import cascade as cs
from cascade.runtime.events import RunFinished, TaskAbandoned, TaskExecutionFinished
from cascade.testing.clock import MockClock
from tests.acceptance.observed import Trace, await_sign, promptly, run

pytestmark = pytest.mark.filterwarnings("ignore::cascade.ThreadTimeoutWarning")


# S20
def test_a_run_can_be_cancelled_from_outside() -> None:
    trace = Trace()

    async def main() -> None:
        started = asyncio.Event()

        @cs.task
        async def wait() -> None:
            started.set()
            await asyncio.Event().wait()

        running = asyncio.create_task(cs.arun(wait(), bus=trace.bus, log_level="CRITICAL"))
        await started.wait()
        running.cancel("enough")
        with pytest.raises(asyncio.CancelledError):
            await running

    promptly(lambda: asyncio.run(main()))
    assert [line.split(" ")[:2] for line in trace.lines()] == [
        ["run", "wait"],
        ["start", "wait#0"],
        ["Cancelled", "wait#0"],
        ["end", "Cancelled"],
    ]


# S20
def test_asyncio_timeout_around_a_run_is_a_timeout() -> None:
    async def main() -> None:
        @cs.task
        async def wait() -> None:
            await asyncio.Event().wait()

        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.02):
                await cs.arun(wait(), log_level="CRITICAL")

    promptly(lambda: asyncio.run(main()))


# S20
@pytest.mark.parametrize("kind", ["plain", "policy"])
def test_a_thread_can_read_that_it_was_asked_to_stop(kind: str) -> None:
    seen: list[bool] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        started = asyncio.Event()

        @cs.task(retry=1 if kind == "policy" else None)
        def poll() -> None:
            seen.append(cs.cancelled())
            loop.call_soon_threadsafe(started.set)
            while not cs.cancelled():
                time.sleep(0.001)
            seen.append(cs.cancelled())

        running = asyncio.create_task(cs.arun(poll(), log_level="CRITICAL"))
        await started.wait()
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running

    promptly(lambda: asyncio.run(main()))
    assert seen == [False, True]


# S20
def test_a_thread_can_read_that_its_time_is_over() -> None:
    clock = MockClock()
    seen: list[bool] = []

    @cs.task
    def poll() -> None:
        seen.append(cs.cancelled())
        clock.advance(2.0)
        while not cs.cancelled():
            time.sleep(0.001)
        seen.append(True)

    with pytest.raises(cs.TaskTimeoutError):
        promptly(lambda: run(poll().with_timeout(1.0), clock=clock))
    deadline = threading.Event()
    for _ in range(1000):
        if len(seen) == 2:
            break
        deadline.wait(0.005)
    assert seen == [False, True]


# S20
def test_nobody_is_asked_to_stop_outside_a_task_or_in_a_run_that_goes_on() -> None:
    assert cs.cancelled() is False
    assert run(cs.task(cs.cancelled)()) is False
    assert run(cs.task(cs.cancelled, executor="inline")()) is False
    assert run(cs.task(cs.cancelled)().with_retry(2)) is False


# S20
@pytest.mark.parametrize("kind", ["plain", "policy"])
def test_async_work_is_cancelled_and_may_clean_up(kind: str) -> None:
    cleaned: list[str] = []

    async def main() -> None:
        started = asyncio.Event()

        @cs.task(retry=1 if kind == "policy" else None)
        async def wait() -> None:
            try:
                started.set()
                await asyncio.Event().wait()
            finally:
                await asyncio.sleep(0)
                cleaned.append("cleaned")

        running = asyncio.create_task(cs.arun(wait(), log_level="CRITICAL"))
        await started.wait()
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert cleaned == ["cleaned"]

    promptly(lambda: asyncio.run(main()))


# S20
def test_a_timeout_of_a_coroutine_cancels_it_and_names_task_and_time() -> None:
    clock = MockClock()
    seen: list[str] = []

    @cs.task
    async def slow() -> None:
        try:
            await clock.sleep(100.0)
        except asyncio.CancelledError:
            seen.append("cancelled")
            raise

    with pytest.raises(TimeoutError, match=r"slow.*1\.5") as caught:
        promptly(lambda: run(slow().with_timeout(1.5), clock=clock))
    assert type(caught.value) is cs.TaskTimeoutError
    assert (caught.value.task_id, caught.value.task_name, caught.value.timeout) == ("slow#0", "slow", 1.5)
    assert seen == ["cancelled"]


# S20
@pytest.mark.parametrize("kind", ["async", "thread"])
def test_a_call_that_ends_in_time_is_not_touched(kind: str) -> None:
    clock = MockClock()

    async def quick_async() -> str:
        await clock.sleep(0.5)
        return "quick"

    def quick() -> str:
        clock.advance(0.5)
        return "quick"

    task: Any = cs.task(quick_async if kind == "async" else quick)
    assert promptly(lambda: run(task().with_timeout(1.0), clock=clock)) == "quick"


# S20
def test_a_mock_clock_does_not_jump_over_the_work_of_a_thread_with_a_timeout() -> None:
    @cs.task
    def works() -> int:
        return sum(range(300_000))

    assert promptly(lambda: run(works().with_timeout(3600.0), clock=MockClock())) == sum(range(300_000))


# S20
def test_the_call_of_a_thread_fails_at_once_and_its_late_result_is_thrown_away() -> None:
    clock = MockClock()
    release, ended = threading.Event(), threading.Event()
    trace = Trace()

    @cs.task
    def stuck() -> str:
        clock.advance(2.0)
        await_sign(release)
        ended.set()
        return "late"

    @cs.task
    def uses(value: str) -> str:
        raise AssertionError("the late result was used")

    with pytest.raises(cs.TaskTimeoutError):
        promptly(lambda: run(uses(stuck().with_timeout(1.0)), clock=clock, bus=trace.bus))
    assert not ended.is_set()
    told = len(trace.events)
    release.set()
    await_sign(ended)
    assert len(trace.events) == told
    assert trace.terminal()["stuck#0"] == ["Failed"]


# S20
def test_a_thread_that_cannot_be_stopped_is_told_as_abandoned() -> None:
    clock = MockClock()
    release = threading.Event()
    trace = Trace()

    @cs.task
    def stuck() -> None:
        clock.advance(2.0)
        await_sign(release)

    with pytest.raises(cs.TaskTimeoutError):
        promptly(lambda: run(stuck().with_timeout(1.0), clock=clock, bus=trace.bus))
    release.set()
    [abandoned] = trace.of(TaskAbandoned)
    assert (abandoned.task_id, abandoned.task_name, abandoned.timeout) == ("stuck#0", "stuck", 1.0)


# S20, S23
def test_the_capacity_of_an_abandoned_thread_stays_taken_until_it_ends() -> None:
    clock = MockClock(autojump_threshold=float("inf"))
    release = threading.Event()

    @cs.task
    def stuck() -> None:
        clock.advance(2.0)
        await_sign(release)

    @cs.task
    def next_one() -> str:
        assert release.is_set()
        return "next"

    async def main() -> Any:
        async with cs.create_engine(clock=clock, system_resources={"gpu": 1}) as engine:
            with pytest.raises(cs.TaskTimeoutError):
                await engine.run(stuck().with_timeout(1.0).with_constraints(gpu=1))
            assert engine.capacities.usage() == {"gpu": (1, 1)}
            blocked = asyncio.Event()
            from cascade.runtime.events import TaskBlocked

            engine.bus.subscribe(TaskBlocked, lambda event: blocked.set())
            following = asyncio.create_task(engine.run(next_one().with_constraints(gpu=1)))
            await blocked.wait()
            release.set()
            assert await following == "next"
            assert engine.capacities.usage() == {"gpu": (0, 1)}

    promptly(lambda: asyncio.run(main()))


# S20, S24
def test_the_slot_of_an_abandoned_thread_stays_taken_until_it_ends() -> None:
    clock = MockClock(autojump_threshold=float("inf"))
    release = threading.Event()

    @cs.task
    def stuck() -> None:
        clock.advance(2.0)
        await_sign(release)

    @cs.task
    def next_one() -> str:
        assert release.is_set()
        return "next"

    async def main() -> Any:
        async with cs.create_engine(clock=clock) as engine:
            engine.constraints.set(cs.GlobalConstraint.concurrency(1))
            with pytest.raises(cs.TaskTimeoutError):
                await engine.run(stuck().with_timeout(1.0))
            blocked = asyncio.Event()
            from cascade.runtime.events import TaskBlocked

            engine.bus.subscribe(TaskBlocked, lambda event: blocked.set())
            following = asyncio.create_task(engine.run(next_one()))
            await blocked.wait()
            release.set()
            assert await following == "next"

    promptly(lambda: asyncio.run(main()))


# S20
def test_the_worker_of_an_abandoned_thread_is_replaced() -> None:
    clock = MockClock(autojump_threshold=float("inf"))
    release = threading.Event()

    @cs.task
    def stuck(x: int) -> None:
        clock.advance(2.0)
        await_sign(release)

    @cs.task
    def plain(x: int) -> int:
        return x

    async def main() -> Any:
        async with cs.create_engine(clock=clock, max_workers=1) as engine:
            for x in range(3):
                with pytest.raises(cs.TaskTimeoutError):
                    await engine.run(stuck(x).with_timeout(1.0))
            try:
                return await engine.run(plain.map(x=range(5)))
            finally:
                release.set()

    assert promptly(lambda: asyncio.run(main())) == list(range(5))


# S20
def test_the_time_of_a_call_begins_when_a_thread_has_it() -> None:
    clock = MockClock(autojump_threshold=float("inf"))
    waiting = threading.Event()

    @cs.task
    def holds_the_worker() -> str:
        await_sign(waiting)
        clock.advance(100.0)
        return "held"

    @cs.task
    def patient() -> str:
        return "patient"

    async def main() -> Any:
        loop = asyncio.get_running_loop()
        async with cs.create_engine(clock=clock, max_workers=1) as engine:
            first = asyncio.create_task(engine.run(holds_the_worker()))
            await asyncio.sleep(0.02)
            second = asyncio.create_task(engine.run(patient().with_timeout(1.0)))
            for _ in range(50):
                await asyncio.sleep(0)
            loop.call_soon(waiting.set)
            return await first, await second

    assert promptly(lambda: asyncio.run(main())) == ("held", "patient")


# S20, S15
def test_a_call_whose_time_was_over_before_it_began_never_begins() -> None:
    clock = MockClock(autojump_threshold=float("inf"))
    waiting = threading.Event()
    called: list[str] = []

    @cs.task
    def holds_the_worker() -> None:
        await_sign(waiting)
        clock.advance(100.0)

    @cs.task
    def late() -> None:
        called.append("late")

    async def main() -> None:
        loop = asyncio.get_running_loop()
        async with cs.create_engine(clock=clock, max_workers=1) as engine:
            first = asyncio.create_task(engine.run(holds_the_worker()))
            await asyncio.sleep(0.02)
            second = asyncio.create_task(engine.run(late().with_timeout(1.0)))
            for _ in range(50):
                await asyncio.sleep(0)
            loop.call_soon(waiting.set)
            await first
            try:
                await second
            except cs.TaskTimeoutError:
                seen = list(called)
                await engine.run(cs.task(lambda: None)())
                await engine.run(cs.task(lambda: None)())
                assert called == seen, "it began after its run had ended"

    promptly(lambda: asyncio.run(main()))


# S20
def test_a_coroutine_that_ignores_its_timeout_is_abandoned_after_the_grace() -> None:
    clock = MockClock()
    trace = Trace()
    release: list[asyncio.Event] = []

    @cs.task
    async def stubborn() -> None:
        release.append(asyncio.Event())
        while not release[0].is_set():
            try:
                await release[0].wait()
            except asyncio.CancelledError:
                continue

    async def main() -> None:
        async with cs.create_engine(clock=clock, bus=trace.bus, grace=5.0, system_resources={"gpu": 1}) as engine:
            with pytest.raises(cs.TaskTimeoutError):
                await engine.run(stubborn().with_timeout(1.0).with_constraints(gpu=1))
            assert clock.monotonic() == pytest.approx(6.0)
            assert len(trace.of(TaskAbandoned)) == 1
            assert engine.capacities.usage() == {"gpu": (1, 1)}
            release[0].set()
            for _ in range(20):
                await asyncio.sleep(0)
            assert engine.capacities.usage() == {"gpu": (0, 1)}

    promptly(lambda: asyncio.run(main()))


# S20
@pytest.mark.parametrize("kind", ["plain", "policy"])
def test_a_coroutine_that_ignores_the_cancellation_of_its_run_is_abandoned_after_the_grace(kind: str) -> None:
    clock = MockClock()
    release: list[asyncio.Event] = []

    async def main() -> None:
        started = asyncio.Event()
        release.append(asyncio.Event())

        @cs.task(retry=1 if kind == "policy" else None)
        async def stubborn() -> None:
            started.set()
            while not release[0].is_set():
                try:
                    await release[0].wait()
                except asyncio.CancelledError:
                    continue

        async with cs.create_engine(clock=clock, grace=5.0) as engine:
            running = asyncio.create_task(engine.run(stubborn()))
            await started.wait()
            running.cancel()
            with pytest.raises(asyncio.CancelledError):
                await running
            assert clock.monotonic() == pytest.approx(5.0)
            release[0].set()
            for _ in range(20):
                await asyncio.sleep(0)

    promptly(lambda: asyncio.run(main()))


# S20, S23
def test_the_capacity_of_a_coroutine_that_ignores_the_cancellation_of_its_run_stays_taken() -> None:
    clock = MockClock()

    async def main() -> None:
        started, release = asyncio.Event(), asyncio.Event()

        @cs.task
        async def stubborn() -> None:
            started.set()
            while not release.is_set():
                try:
                    await release.wait()
                except asyncio.CancelledError:
                    continue

        async with cs.create_engine(clock=clock, grace=5.0, system_resources={"gpu": 1}) as engine:
            running = asyncio.create_task(engine.run(stubborn().with_constraints(gpu=1)))
            await started.wait()
            running.cancel()
            with pytest.raises(asyncio.CancelledError):
                await running
            usage = engine.capacities.usage()
            release.set()
            assert usage == {"gpu": (1, 1)}
            for _ in range(20):
                await asyncio.sleep(0)
            assert engine.capacities.usage() == {"gpu": (0, 1)}

    promptly(lambda: asyncio.run(main()))


# S20, S6
@pytest.mark.needs_extra("process")
def test_a_process_that_ignores_its_timeout_is_killed_after_the_grace(tmp_path: Path) -> None:
    started = tmp_path / "pid"

    def stubborn(path: str) -> None:
        import os
        import signal
        import time

        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        with open(path + ".tmp", "w") as file:
            file.write(str(os.getpid()))
        os.rename(path + ".tmp", path)
        while True:
            try:
                time.sleep(60)
            except BaseException:
                pass

    async def main() -> None:
        async with cs.create_engine(grace=0.1) as engine:
            with pytest.raises(cs.TaskTimeoutError):
                await engine.run(cs.task(stubborn, executor="process")(str(started)).with_timeout(1.5))
            pid = int(started.read_text())
            with pytest.raises(ProcessLookupError):
                os.kill(pid, 0)
            assert await engine.run(cs.task(lambda: 1, executor="process")()) == 1

    promptly(lambda: asyncio.run(main()), 12.0)


# S20, S6
@pytest.mark.needs_extra("process")
def test_a_process_can_read_that_it_was_asked_to_stop_and_which_attempt_it_is(tmp_path: Path) -> None:
    started, ended = tmp_path / "started", tmp_path / "ended"

    def polls(started: str, ended: str) -> None:
        import time

        import cascade

        assert not cascade.cancelled()
        open(started, "w").close()
        while not cascade.cancelled():
            time.sleep(0.005)
        with open(ended, "w") as file:
            file.write(str(cascade.attempt()))

    async def main() -> None:
        async with cs.create_engine(grace=3.0) as engine:
            running = asyncio.create_task(
                engine.run(cs.task(polls, executor="process")(str(started), str(ended)).with_retry(2))
            )
            while not started.exists():
                assert not running.done(), await running
                await asyncio.sleep(0.005)
            running.cancel()
            with pytest.raises(asyncio.CancelledError):
                await running
            assert ended.read_text() == "1"

    promptly(lambda: asyncio.run(main()), 12.0)


# S20
def test_one_warning_a_task_says_that_a_timeout_cannot_stop_a_thread() -> None:
    called: list[int] = []

    @cs.task
    def quick() -> int:
        called.append(1)
        return 1

    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        assert run([quick().with_timeout(5.0), quick().with_timeout(6.0)]) == [1, 1]
        assert run(quick().with_timeout(5.0)) == 1
    ours = [warning for warning in seen if issubclass(warning.category, cs.ThreadTimeoutWarning)]
    assert len(ours) == 1
    assert "quick" in str(ours[0].message)


# S20
def test_the_warning_comes_at_validation_before_anything_runs() -> None:
    called: list[int] = []

    @cs.task
    def quick() -> None:
        called.append(1)

    with warnings.catch_warnings():
        warnings.simplefilter("error", cs.ThreadTimeoutWarning)
        with pytest.raises(cs.ThreadTimeoutWarning):
            run(quick().with_timeout(5.0))
    assert called == []


# S20
def test_async_tasks_give_no_such_warning() -> None:
    @cs.task
    async def quick() -> int:
        return 1

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert run(quick().with_timeout(5.0)) == 1


# S20
def test_timeouts_on_inline_tasks_are_refused_before_anything_runs() -> None:
    called: list[int] = []

    @cs.task(executor="inline")
    def inline() -> None:
        called.append(1)

    with pytest.raises(cs.ValidationError, match="inline"):
        run([inline(), inline().with_timeout(1.0)])
    assert called == []


# S20
@pytest.mark.parametrize("seconds", [0, -1, float("nan"), float("inf"), "5", None, True])
def test_times_that_mean_nothing_are_refused(seconds: Any) -> None:
    with pytest.raises(cs.DeclarationError, match="timeout"):
        cs.task(lambda: 1)().with_timeout(seconds)


# S20, S15
def test_nothing_starts_after_a_cancellation() -> None:
    started: list[int] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        running_event, release = asyncio.Event(), threading.Event()

        @cs.task
        def item(x: int) -> None:
            started.append(x)
            loop.call_soon_threadsafe(running_event.set)
            await_sign(release)

        running = asyncio.create_task(cs.arun(item.map(x=range(100)), log_level="CRITICAL", max_workers=1))
        await running_event.wait()
        running.cancel()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        release.set()
        with pytest.raises(asyncio.CancelledError):
            await running

    promptly(lambda: asyncio.run(main()))
    assert started == [0]


# S20
def test_a_run_that_is_cancelled_waits_for_its_threads() -> None:
    ended: list[str] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        started, release = asyncio.Event(), threading.Event()

        @cs.task
        def works() -> None:
            loop.call_soon_threadsafe(started.set)
            await_sign(release)
            ended.append("task")

        running = asyncio.create_task(cs.arun(works(), log_level="CRITICAL"))
        await started.wait()
        running.cancel()
        for _ in range(50):
            await asyncio.sleep(0)
        assert not running.done()
        running.cancel()
        for _ in range(50):
            await asyncio.sleep(0)
        assert not running.done()
        release.set()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert ended == ["task"]

    promptly(lambda: asyncio.run(main()))


SCRIPT = """
import os, signal, sys, threading, time
import cascade as cs

@cs.resource
def db():
    yield "db"
    print("torn down", flush=True)

@cs.task
def works(db=cs.inject(db)):
    print("started", flush=True)
    MODE
    print("ended", flush=True)

@cs.task
def never(x):
    print("never", flush=True)

def main():
    try:
        cs.run(never(works()), log_level="CRITICAL")
    except KeyboardInterrupt:
        print("interrupted", flush=True)

START
"""
STARTS = {
    "script": "main()",
    # Code of a cell runs inside a loop that leaves Ctrl-C as Python has it.
    "notebook": """
import asyncio
async def cell():
    main()
asyncio.new_event_loop().run_until_complete(cell())
""",
}
START = pytest.mark.parametrize("start", list(STARTS))


def interrupted(mode: str, interrupts: int, start: str) -> list[str]:
    script = textwrap.dedent(SCRIPT).replace("MODE", mode).replace("START", STARTS[start])
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    child = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, env=environment)
    try:
        assert child.stdout is not None
        lines = [child.stdout.readline().strip()]
        for _ in range(interrupts):
            child.send_signal(signal.SIGINT)
            time.sleep(0.2)
        lines += child.communicate(timeout=10.0)[0].split("\n")
    finally:
        child.kill()
        child.wait()
    return [line for line in lines if line]


# S20
@START
def test_the_first_interrupt_waits_and_tears_down(start: str) -> None:
    lines = interrupted("while not cs.cancelled(): time.sleep(0.005)", 1, start)
    assert lines == ["started", "ended", "torn down", "interrupted"]


# S20
@START
def test_the_second_interrupt_ends_now(start: str) -> None:
    lines = interrupted("time.sleep(60)", 2, start)
    assert lines[0] == "started"
    assert "ended" not in lines
    assert "never" not in lines
    assert "interrupted" in lines


# S20
def test_a_program_that_embeds_the_engine_keeps_its_own_signal_handlers() -> None:
    seen: list[int] = []

    def handler(number: int, frame: Any) -> None:
        seen.append(number)

    @cs.task
    def raises_signal() -> str:
        os.kill(os.getpid(), signal.SIGINT)
        return "went on"

    before = signal.signal(signal.SIGINT, handler)
    try:
        assert run(raises_signal()) == "went on"
        assert asyncio.run(cs.arun(raises_signal(), log_level="CRITICAL")) == "went on"
        assert signal.getsignal(signal.SIGINT) is handler
    finally:
        signal.signal(signal.SIGINT, before)
    assert seen == [signal.SIGINT, signal.SIGINT]


# S20
def test_a_timeout_does_not_count_the_wait_for_capacity() -> None:
    clock = MockClock()

    @cs.task
    async def works() -> float:
        await clock.sleep(3.0)
        return clock.monotonic()

    target = [works().with_timeout(4.0).with_constraints(gpu=1) for _ in range(3)]
    assert promptly(lambda: run(target, clock=clock, system_resources={"gpu": 1})) == [3.0, 6.0, 9.0]


# S20, S28
def test_a_timeout_is_told_as_the_failure_of_its_call() -> None:
    clock = MockClock()
    trace = Trace()

    @cs.task
    async def slow() -> None:
        await clock.sleep(10.0)

    with pytest.raises(cs.TaskTimeoutError):
        promptly(lambda: run(slow().with_timeout(1.0), clock=clock, bus=trace.bus))
    [finished] = trace.of(TaskExecutionFinished)
    assert finished.status == "Failed"
    assert "TaskTimeoutError" in finished.error
    [ended] = trace.of(RunFinished)
    assert ended.status == "Failed"


# S20
def test_a_timeout_error_of_the_task_itself_stays_what_it_is() -> None:
    @cs.task
    async def raises() -> None:
        raise TimeoutError("mine")

    with pytest.raises(TimeoutError, match="mine") as caught:
        run(raises().with_timeout(100.0))
    assert type(caught.value) is TimeoutError


# S20
def test_the_time_of_a_call_on_the_thread_of_its_resource_is_limited_too() -> None:
    release = threading.Event()
    trace = Trace()

    @cs.resource(thread_affine=True, scope="task")
    def connection() -> Any:
        yield "connection"

    @cs.task
    def slow(db: Any = cs.inject(connection)) -> None:
        await_sign(release)

    async def main() -> Any:
        trace.bus.subscribe(TaskAbandoned, lambda event: release.set())
        return await cs.arun(slow().with_timeout(0.02), bus=trace.bus, log_level="CRITICAL", max_workers=1)

    with pytest.raises(cs.TaskTimeoutError, match="slow"):
        promptly(lambda: asyncio.run(main()))
    assert len(trace.of(TaskAbandoned)) == 1


# S20
def test_the_wait_for_the_thread_of_a_resource_is_none_of_the_time_of_a_call() -> None:
    clock = MockClock(autojump_threshold=math.inf)
    begun, release = threading.Event(), threading.Event()

    @cs.resource(thread_affine=True)
    def connection() -> Any:
        yield "connection"

    @cs.task
    def occupies(db: Any = cs.inject(connection)) -> None:
        begun.set()
        await_sign(release)

    @cs.task
    def waits(db: Any = cs.inject(connection)) -> str:
        return "in time"

    async def main() -> Any:
        running = asyncio.create_task(
            cs.arun([occupies(), waits().with_timeout(5.0)], clock=clock, log_level="CRITICAL")
        )
        await asyncio.to_thread(await_sign, begun)
        clock.advance(60.0)
        for _ in range(50):
            await asyncio.sleep(0)
        release.set()
        return await running

    assert promptly(lambda: asyncio.run(main())) == [None, "in time"]


class Remote:
    """An executor of somebody else's, which knows nothing of the engine."""

    def __init__(self, *, stubborn: bool = False) -> None:
        self.ended = asyncio.Event()
        self.cancelled = False
        self._stubborn = stubborn

    async def execute(self, node: Any, args: Any, kwargs: Any) -> Any:
        while not self.ended.is_set():
            try:
                await self.ended.wait()
            except asyncio.CancelledError:
                self.cancelled = True
                if not self._stubborn:
                    raise

    async def close(self) -> None:
        self.ended.set()


# S20
@pytest.mark.parametrize("kind", ["sync", "async"])
@pytest.mark.parametrize("stubborn", [False, True])
def test_the_time_of_a_call_by_an_executor_of_ones_own_is_limited_too(kind: str, stubborn: bool) -> None:
    trace = Trace()

    def work() -> None:
        raise AssertionError("the executor makes no calls")

    async def work_async() -> None:
        work()

    task = cs.task(work if kind == "sync" else work_async, name="work", executor="remote")

    async def main() -> None:
        remote = Remote(stubborn=stubborn)
        async with cs.create_engine(bus=trace.bus, grace=0.01, executors={"remote": remote}) as engine:
            with pytest.raises(cs.TaskTimeoutError, match="work"):
                await engine.run(task().with_timeout(0.01))
        assert remote.cancelled

    promptly(lambda: asyncio.run(main()))
    assert len(trace.of(TaskAbandoned)) == stubborn


# S20, S22
@pytest.mark.parametrize("ends", ["before the run", "after the run"])
@pytest.mark.parametrize("is_async", [False, True])
def test_what_an_abandoned_call_uses_is_torn_down_after_it_or_with_the_run(ends: str, is_async: bool) -> None:
    log: list[str] = []
    timed_out, call_ended, torn_down = threading.Event(), threading.Event(), threading.Event()
    release = threading.Event()

    def connection() -> Any:
        outcome = yield "connection"
        log.append(f"torn down after {type(outcome.error).__name__}")
        torn_down.set()

    async def connection_async() -> Any:
        outcome = yield "connection"
        log.append(f"torn down after {type(outcome.error).__name__}")
        torn_down.set()

    resource: Any = cs.resource(name="db", scope="task")(connection_async if is_async else connection)

    @cs.task
    def slow(db: Any = cs.inject(resource)) -> None:
        await_sign(release)
        log.append("call ended")
        call_ended.set()

    @cs.task
    def goes_on() -> None:
        await_sign(timed_out)
        if ends == "before the run":
            release.set()
            await_sign(torn_down)

    async def main() -> None:
        trace = Trace()
        trace.bus.subscribe(TaskAbandoned, lambda event: timed_out.set())
        async with cs.create_engine(bus=trace.bus) as engine:
            with pytest.raises(cs.RunFailedGroup):
                await engine.run([slow().with_timeout(0.02), goes_on()], on_failure="continue")
            log.append("run ended")
            release.set()
            await asyncio.to_thread(await_sign, call_ended)

    promptly(lambda: asyncio.run(main()))
    torn = "torn down after TaskTimeoutError"
    if ends == "before the run":
        assert log == ["call ended", torn, "run ended"]
    else:
        assert log == [torn, "run ended", "call ended"]
