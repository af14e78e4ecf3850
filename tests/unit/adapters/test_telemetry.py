"""What people and machines are told of runs, where no terminal is needed to see it."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import math
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import pytest

import cascade as cs
from cascade.adapters.telemetry import JsonLines, TerminalReporter, reporting
from cascade.adapters.telemetry import watch as watch_module
from cascade.adapters.telemetry.levels import Level
from cascade.adapters.telemetry.screen import Pane, Screen
from cascade.adapters.telemetry.sentences import sentence
from cascade.adapters.telemetry.slowest import Slowest
from cascade.adapters.telemetry.standing import Standing
from cascade.adapters.telemetry.wording import harmless
from cascade.runtime import events
from cascade.runtime.bus import MessageBus
from cascade.runtime.clock import SystemClock
from cascade.runtime.held_back import HeldBack
from cascade.runtime.progress import (
    CallUnderWay,
    RunProgress,
    TaskProgress,
    _Tally,
    calls_under_way,
    progress_of,
    progress_of_run,
)
from cascade.testing.clock import MockClock


@cs.task
def one() -> int:
    return 1


def flaky(failures):
    tries = []

    @cs.task
    def unsteady():
        tries.append(1)
        if len(tries) <= failures:
            raise ConnectionError("refused")
        return len(tries)

    return unsteady


def told(capsys):
    captured = capsys.readouterr()
    assert captured.out == ""
    return captured.err.splitlines()


def retrying(**changes):
    fields = {
        "run_id": "r",
        "task_id": "t#0",
        "task_name": "t",
        "attempt": 1,
        "max_attempts": 3,
        "delay": 0.5,
        "error": "ValueError: no",
    }
    return events.TaskRetrying(**{**fields, **changes})


# What is told of a run, and where.


def test_a_short_run_without_trouble_says_nothing(capsys):  # S29
    assert cs.run([one() for _ in range(50)]) == [1] * 50
    assert told(capsys) == []


def test_a_retry_is_told_at_once_with_all_that_helps(capsys):  # S29
    assert cs.run(flaky(1)().with_retry(max_attempts=3)) == 2
    (line,) = told(capsys)
    tried = "attempt 1 of 3 failed with ConnectionError: refused; trying again"
    assert line == f"[cascade 0:00] retrying unsteady#0: {tried}"


def test_what_is_held_back_is_told_once_for_a_reason(capsys):  # S29
    task = cs.task(lambda x: x, name="train")
    cs.run(task.map(x=range(20)).with_constraints(gpu=1), system_resources={"gpu": 1})
    lines = told(capsys)
    assert len(lines) == 1
    assert lines[0].endswith(": waiting for gpu")
    assert "blocked train#0[" in lines[0]


def test_retries_without_end_are_told_ever_rarer(capsys):  # S29
    cs.run(flaky(1000)().with_retry(max_attempts=1001))
    lines = [line for line in told(capsys) if "retrying" in line]
    assert 10 < len(lines) < 20
    assert "(512 retries so far)" in lines[-1]


def test_a_failure_is_left_to_the_caller(capsys):  # S29
    with pytest.raises(ConnectionError):
        cs.run(flaky(1)())
    assert told(capsys) == []


@pytest.mark.parametrize("log_format", ["human", "json"])
def test_critical_is_silent(capsys, log_format):  # S29
    cs.run(flaky(1)().with_retry(max_attempts=3), log_level="CRITICAL", log_format=log_format)
    assert told(capsys) == []


def test_debug_is_a_line_for_every_event(capsys):  # S29
    cs.run(one(), log_level="debug")
    lines = [line.partition("] ")[2] for line in told(capsys)]
    assert lines[0].startswith("run ")
    assert lines[1] == "started one#0"
    assert lines[2].startswith("finished one#0 in ")
    assert " succeeded after " in lines[3]
    assert len(lines) == 4


def test_a_nested_run_is_told_once_by_the_outermost(capsys):  # S21 S29
    unsteady = flaky(1)

    @cs.task
    def outer():
        return cs.run(unsteady().with_retry(max_attempts=3))

    assert cs.run(outer()) == 2
    assert len(told(capsys)) == 1


def test_engines_that_share_a_bus_tell_only_their_own_runs(capsys):  # S29
    bus = MessageBus()
    loud, silent = cs.create_engine(bus=bus), cs.create_engine(bus=bus)

    async def main():
        async with loud, silent:
            with reporting(loud, "INFO", "human"):
                await silent.run(flaky(1)().with_retry(max_attempts=2))
                await loud.run(flaky(1).partial().with_retry(max_attempts=2)())

    asyncio.run(main())
    assert len(told(capsys)) == 1
    assert not bus.wants(events.TaskRetrying)


@pytest.mark.parametrize("log_format", ["human", "json"])
def test_watching_does_not_slow_calls(log_format):  # S29
    engine = cs.create_engine()
    with reporting(engine, "INFO", log_format):
        assert not engine.bus.wants(events.TaskExecutionStarted)
        assert not engine.bus.wants(events.TaskExecutionFinished)
        assert not engine.bus.wants(events.TaskSkipped)
        assert engine.bus.wants(events.TaskAbandoned)
    assert not engine.bus.wants(events.TaskAbandoned)


@pytest.mark.parametrize("level", ["LOUD", "", 10, None])
def test_an_unknown_level_names_the_choices(level):  # S30
    with pytest.raises(ValueError, match="DEBUG, INFO, WARNING, ERROR, CRITICAL, got"):
        cs.run(one(), log_level=level)


def test_an_unknown_format_names_the_choices():  # S30
    with pytest.raises(ValueError, match="human, json, got 'xml'"):
        cs.run(one(), log_format="xml")


def test_without_stderr_nothing_is_told(monkeypatch):
    monkeypatch.setattr("sys.stderr", None)
    assert cs.run(flaky(1)().with_retry(max_attempts=3)) == 2


@pytest.mark.parametrize("log_format", ["human", "json"])
def test_a_stream_that_breaks_harms_nothing(monkeypatch, caplog, log_format):
    class Broken(io.StringIO):
        def write(self, text):
            raise BrokenPipeError

    monkeypatch.setattr("sys.stderr", Broken())
    with caplog.at_level(logging.INFO):
        assert cs.run(flaky(1)().with_retry(max_attempts=3), log_format=log_format) == 2
    assert caplog.records == []


# Looking from time to time.


def test_a_mock_clock_is_not_watched():  # S29
    clock = MockClock()
    stream = io.StringIO()

    async def main():
        async with cs.create_engine(clock=clock) as engine:
            with TerminalReporter(engine, stream=stream):
                await engine.run(flaky(2)().with_retry(max_attempts=3, delay=3600))

    asyncio.run(main())
    lines = stream.getvalue().splitlines()
    assert [line[:18] for line in lines] == ["[cascade 0:00] ret", "[cascade 1:00:00] "]
    assert clock.monotonic() == 7200


def quick_watch(monkeypatch):
    """Let every look come at once, instead of after half a second."""
    monkeypatch.setattr(watch_module, "PATIENCE", 0.0)
    monkeypatch.setattr(watch_module, "_BETWEEN_LOOKS", 0.001)


def test_a_long_run_is_summed_up_and_tells_how_far_it_is(monkeypatch):  # S29
    quick_watch(monkeypatch)
    monkeypatch.setattr("cascade.adapters.telemetry.terminal.PATIENCE", 0.0)
    monkeypatch.setattr("cascade.adapters.telemetry.terminal._FIRST_LINE", 0.0)
    lines = Lines()
    held = cs.task(lambda: lines.wait_for(" of 3 tasks done"), name="held")
    engine = cs.create_engine()

    async def main():
        async with engine:
            with TerminalReporter(engine, stream=lines):
                await engine.run([held(), one(), one()])

    asyncio.run(main())
    assert lines.all[0].startswith("[cascade 0:00] held, one: ")
    assert lines.all[-1].partition("] ")[2].startswith("held, one: finished in ")
    assert lines.all[-1].endswith(", 3 tasks\n")


def test_a_failed_run_is_summed_up_without_the_error(monkeypatch):  # S29
    quick_watch(monkeypatch)
    monkeypatch.setattr("cascade.adapters.telemetry.terminal.PATIENCE", 0.0)
    monkeypatch.setattr("cascade.adapters.telemetry.terminal._FIRST_LINE", 0.0)
    lines = Lines()

    @cs.task
    def breaks():
        lines.wait_for("tasks done")
        raise ValueError("secret")

    async def main():
        async with cs.create_engine() as engine:
            with TerminalReporter(engine, stream=lines), pytest.raises(ValueError, match="secret"):
                await engine.run([breaks(), one()])

    asyncio.run(main())
    assert "breaks, one: failed after" in lines.all[-1]
    assert "1 of 2 tasks done" in lines.all[-1]
    assert "secret" not in "".join(lines.all)


def test_json_tells_how_far_a_long_run_is(monkeypatch):  # S29
    quick_watch(monkeypatch)
    monkeypatch.setattr("cascade.adapters.telemetry.json_reporter._BETWEEN_LINES", 0.0)
    lines = Lines()
    monkeypatch.setattr("sys.stderr", lines)
    held = cs.task(lambda: lines.wait_for('"Progress"'), name="held")
    cs.run([held(), one()], log_format="json", run_id="mine")
    objects = [json.loads(line) for line in lines.all]
    assert {told["run_id"] for told in objects} == {"mine"}
    assert objects[0]["event"] == "RunStarted"
    assert objects[-1]["event"] == "RunFinished"
    progress = objects[1]
    assert progress["event"] == "Progress"
    assert progress["level"] == "INFO"
    assert progress["target"] == "held, one"
    assert progress["total"] == 2


def test_no_thread_is_left(monkeypatch):  # S29
    quick_watch(monkeypatch)
    for _ in range(5):
        cs.run(one())
    assert [thread for thread in threading.enumerate() if thread.name == "cascade-watch"] == []


def test_a_look_that_fails_is_logged_and_the_last(monkeypatch, caplog):
    quick_watch(monkeypatch)
    looked = threading.Event()

    def look():
        assert not looked.is_set(), "looked again"
        looked.set()
        raise RuntimeError("broken")

    watch = watch_module.Watch(cs.create_engine(), look)
    watch.start()
    assert looked.wait(30)
    watch.stop()
    assert [record.message for record in caplog.records] == ["a run cannot be watched any more; it goes on"]


class Lines(io.StringIO):
    """A stream that is waited for."""

    def __init__(self):
        super().__init__()
        self.all = []
        self._more = threading.Condition()

    def write(self, text):
        with self._more:
            self.all.append(text)
            self._more.notify_all()
        return len(text)

    def wait_for(self, text):
        with self._more:
            assert self._more.wait_for(lambda: any(text in line for line in self.all), 60)


# How far runs have come.


def sampled(target, gate, ready, **options):
    """The progress of a run at the moment when so many calls have told that they are there."""
    engine = cs.create_engine(**options)

    async def main():
        async with engine:
            run = asyncio.ensure_future(engine.run(target))
            for _ in range(ready[1]):
                await asyncio.to_thread(ready[0].acquire, timeout=30)
            (found,) = progress_of(engine)
            (afar,) = progress_of(engine, most_nodes=0)
            (strategy,) = engine.under_way
            gate.set()
            await run
            return found, afar, progress_of_run(strategy)

    return asyncio.run(main())


def test_progress_by_name():  # S29
    gate, here = threading.Event(), threading.Semaphore(0)

    @cs.task
    def held(x=None, y=None):
        here.release()
        gate.wait(30)
        return True

    first = cs.task(lambda: True, name="first")()
    no = cs.task(lambda x: False, name="no")(first)
    skipped = cs.task(lambda: 0, name="skipped")().run_if(no)
    target = [cs.sequence([skipped]), held(no), held(no), one().after(held(held()))]
    found, afar, after = sampled(target, gate, (here, 3))
    tasks = {task.name: task for task in found.tasks}
    assert found.target == "sequence, held, one"
    assert (found.done, found.total, found.skipped, found.active) == (2, 8, 1, 3)
    assert tasks["first"] == TaskProgress("first", 1, 1, 0, 0, 0, True)
    assert (tasks["held"].total, tasks["held"].active, tasks["held"].done) == (4, 3, 0)
    assert tasks["skipped"].skipped == 1
    assert afar.tasks is None
    assert (afar.total, afar.skipped) == (8, 1)
    assert (after.total, after.done, after.skipped, after.graphs) == (8, 7, 1, 0)


def test_progress_of_maps_is_that_of_their_items():  # S17 S29
    gate, here = threading.Event(), threading.Semaphore(0)

    @cs.task
    def item(x):
        if x < 10:
            return x
        here.release()
        gate.wait(30)
        return x

    later = cs.task(lambda x: x, name="later")
    found, _, after = sampled(later.map(x=item.map(x=range(12))), gate, (here, 2))
    tasks = {task.name: task for task in found.tasks}
    assert tasks["item"] == TaskProgress("item", 12, 10, 2, 0, 0, True)
    assert tasks["later"] == TaskProgress("later", 0, 0, 0, 0, 0, False)
    assert (found.total, found.done, found.is_complete) == (12, 10, False)
    assert (after.total, after.done, after.is_complete) == (24, 24, True)


def test_progress_of_a_generator_has_no_end_until_it_is_known():  # S17 S29
    gate, here = threading.Event(), threading.Semaphore(0)

    @cs.task
    def item(x):
        here.release()
        gate.wait(30)
        return x

    found, _, after = sampled(item.map(x=(i for i in range(100))), gate, (here, 1), max_workers=1)
    assert (found.total, found.done, found.is_complete) == (1, 0, False)
    assert (after.total, after.done, after.is_complete) == (100, 100, True)


def test_progress_counts_what_calls_have_returned():  # S18 S29
    gate, here = threading.Event(), threading.Semaphore(0)

    @cs.task
    def last(x):
        here.release()
        gate.wait(30)
        return x

    @cs.task
    def turn(n):
        return turn(cs.task(lambda n: n - 1)(n)) if n else last(one())

    found, _, after = sampled(turn(10), gate, (here, 1))
    # Eleven turns, ten subtractions, `one`.
    assert (found.total, found.done, found.active) == (23, 22, 1)
    assert (after.total, after.done) == (23, 23)


def test_progress_tells_failures_in_a_run_that_goes_on():  # S15 S29
    engine = cs.create_engine()
    strategies = []
    engine.bus.subscribe(events.RunStarted, lambda event: strategies.extend(engine.under_way))

    @cs.task
    def breaks(x=0):
        raise ValueError(x)

    async def main():
        async with engine:
            with pytest.raises(ExceptionGroup):
                await engine.run([breaks(), one(), one().after(breaks())], on_failure="continue")

    asyncio.run(main())
    after = progress_of_run(strategies[0])
    assert (after.total, after.done, after.failed, after.skipped) == (4, 1, 2, 1)
    assert engine.under_way == set()


def test_progress_tells_the_items_of_a_map_that_have_failed():  # S15 S17 S29
    seen = []

    async def main():
        all_here, rest = asyncio.Event(), asyncio.Event()

        @cs.task
        async def item(x):
            if x == 5:
                all_here.set()
            await all_here.wait()
            if x < 2:
                raise ValueError(x)
            await rest.wait()

        async with cs.create_engine() as engine:
            run = asyncio.ensure_future(engine.run([item.map(x=range(6)), one()], on_failure="continue"))
            async with asyncio.timeout(30):
                while not (seen and seen[0].failed == 2):
                    await asyncio.sleep(0)
                    seen[:] = progress_of(engine)
            (strategy,) = engine.under_way
            rest.set()
            with pytest.raises(ExceptionGroup):
                await run
            return progress_of_run(strategy)

    after = asyncio.run(main())
    tasks = {task.name: task for task in seen[0].tasks}
    assert (tasks["item"].total, tasks["item"].done, tasks["item"].active, tasks["item"].failed) == (6, 0, 4, 2)
    tasks = {task.name: task for task in after.tasks}
    assert tasks["item"] == TaskProgress("item", 6, 4, 0, 0, 2, True)
    assert (after.total, after.done, after.failed) == (7, 5, 2)


# Standing.


def progress(done, total, tasks=(), **changes):
    fields = {
        "run_id": "r",
        "parent_id": None,
        "target": "target",
        "is_stopping": False,
        "total": total,
        "done": done,
        "active": 1,
        "skipped": 0,
        "failed": 0,
        "graphs": 1,
        "is_complete": True,
        "tasks": tasks,
    }
    return RunProgress(**{**fields, **changes})


def test_rate_and_rest_are_those_of_late():
    standing = Standing(0.0)
    for second in range(1, 101):
        standing.update(progress(second if second < 50 else 10 * second, 2000), float(second))
    assert standing.rate == pytest.approx(10.0)
    assert standing.seconds_left == pytest.approx(100.0)
    assert standing.line() == "target: 1,000 of 2,000 tasks done, 10/s, 1 active, about 1m 40s left"


def test_nothing_is_estimated_from_a_few_calls_or_seconds():  # S29
    standing = Standing(0.0)
    standing.update(progress(900, 1000), 1.0)
    assert standing.rate == pytest.approx(900.0)
    assert standing.seconds_left is None
    standing.update(progress(990, 1000), 6.0)
    assert standing.seconds_left is not None
    slow = Standing(0.0)
    slow.update(progress(3, 1000), 60.0)
    assert slow.seconds_left is None


def test_many_tasks_that_wait_for_one_thing_are_told_of_once():  # S29
    standing = Standing(0.0)

    def blocked(name, reason):
        return standing.note(events.TaskBlocked(run_id="r", task_id=f"{name}#0", task_name=name, reason=reason))

    assert [blocked(f"t{number}", "waiting for gpu") for number in range(50)] == ["", *[None] * 49]
    assert blocked("t0", "waiting for memory") == ""


def run_finished(status="Succeeded", duration=60.0):
    return events.RunFinished(run_id="r", status=status, duration=duration)


def test_a_long_run_ends_with_its_slowest_calls_and_where_they_were_called():  # S29
    standing = Standing(0.0)
    calls = [CallUnderWay(f"t#{number}", ("flow.py", number)) for number in range(6)]
    ends = [5, 40, 1, 20, 30, 10]
    for second in range(60):
        standing.update(progress(6, 6), float(second))
        standing.slowest.look([call for call, end in zip(calls, ends, strict=True) if second <= end], float(second))
    assert standing.summary(run_finished()).split("\n") == [
        "target: finished in 1m 0s, 6 tasks",
        "    t#1 took about 40s, called at flow.py:1",
        "    t#4 took about 30s, called at flow.py:4",
        "    t#3 took about 20s, called at flow.py:3",
    ]
    assert standing.summary(run_finished(duration=4.9)) == "target: finished in 4.9s, 6 tasks"


def test_calls_that_took_little_of_the_time_are_not_told():
    slowest = Slowest()
    for second in (0.0, 1.0, 2.0):
        slowest.look([CallUnderWay("t#0", None)], second)
    assert [call.task_id for _, call in slowest.found(10.0)] == ["t#0"]
    assert slowest.found(1000.0) == []


def test_the_end_of_a_long_run_tells_what_failed_and_where_it_was_called():  # S15 S29
    @cs.task
    def fails(x):
        raise ValueError(f"no {x}\x1b[31m")

    with pytest.raises(cs.RunFailedGroup) as raised:
        cs.run(fails.map(x=range(1)), on_failure="continue", log_level="CRITICAL")
    errors = [*raised.value.exceptions, *(KeyError(number) for number in range(9))]
    lines = Standing(0.0).summary(run_finished("Failed"), errors).split("\n")
    assert lines[0] == "run: failed after 1m 0s"
    assert lines[1].startswith(
        "    ValueError: no 0\\x1b[31m, in item 0 of map 'fails' (fails#0[0]), attempt 1, declared at "
    )
    assert __file__ in lines[1]
    assert lines[2] == "    KeyError: 0"
    assert lines[-1] == "    and 5 more failures"


@pytest.mark.parametrize("kind", ["thread", "loop", "policy", "map", "turn"])
def test_calls_under_way_are_known_with_their_lines(kind):  # S29
    gate, here = threading.Event(), threading.Semaphore(0)

    def work(x):
        here.release()
        gate.wait(30)

    async def on_loop(x):
        here.release()
        await asyncio.to_thread(gate.wait, 30)

    task = cs.task(on_loop if kind == "loop" else work, name="work")
    declared = task.map(x=[1]) if kind == "map" else task(1)
    if kind == "policy":
        declared = declared.with_retry(max_attempts=2)
    if kind == "turn":
        declared = cs.task(lambda: task(1), name="first")()

    async def main():
        async with cs.create_engine() as engine:
            run = asyncio.ensure_future(engine.run([declared]))
            await asyncio.to_thread(here.acquire, timeout=30)
            (strategy,) = engine.under_way
            found = calls_under_way(strategy)
            gate.set()
            await run
            return found, calls_under_way(strategy)

    (call,), after = asyncio.run(main())
    assert call.task_id == {"map": "work#0[0]", "turn": "first#0@1/work#0"}.get(kind, "work#0")
    assert call.declared_at is not None
    assert call.declared_at[0] == __file__
    assert after == []


def test_rows_keep_what_graphs_that_have_ended_came_to():  # S18 S29
    gate, here = threading.Event(), threading.Semaphore(0)
    many = cs.task(lambda x: x, name="many")
    held = cs.task(lambda *_: here.release() or gate.wait(30), name="held")

    @cs.task
    def turn(n, *_):
        if n == 1:
            here.release()
            gate.wait(30)
            gate.clear()
            here.release()
        return turn(n + 1, many(n), many.map(x=range(10))) if n < 5 else held()

    async def main():
        async with cs.create_engine() as engine:
            run = asyncio.ensure_future(engine.run(turn(0)))
            await asyncio.to_thread(here.acquire, timeout=30)
            (strategy,) = engine.under_way
            progress_of_run(strategy)
            gate.set()
            await asyncio.to_thread(here.acquire, timeout=30)
            await asyncio.to_thread(here.acquire, timeout=30)
            found = progress_of_run(strategy)
            gate.set()
            await run
            return found

    found = asyncio.run(main())
    rows = {task.name: task for task in found.tasks}
    # The map of the first turn was over before anybody looked.
    assert (rows["many"].done, rows["many"].total) == (5 + 4 * 10, 5 + 4 * 10)
    # What the last turn returned is one plain call, made in its place without a graph.
    assert (rows["turn"].done, rows["turn"].active) == (4, 1)


def test_progress_is_told_also_while_graphs_end():  # S29
    class Growing(dict):
        def late(self):
            self[f"late{len(self)}"] = _Tally()

        def __iter__(self):
            yield from list(super().__iter__())
            self.late()

        def items(self):
            yield from list(super().items())
            self.late()

    engine = cs.create_engine()
    found = []

    @cs.task
    def looked_at():
        (strategy,) = engine.under_way
        strategy.past.by_name = Growing()
        found.append(progress_of_run(strategy))

    async def main():
        async with engine:
            await engine.run(looked_at())

    asyncio.run(main())
    assert "looked_at" in [task.name for task in found[0].tasks]


def test_the_calls_of_nested_runs_that_wait_are_none_of_the_active_ones():  # S29
    standing = Standing(0.0)
    own = progress(0, 4, active=3, held_back=(HeldBack("train", "waiting for gpu", 1),), retrying=(("get", 1),))
    inner = progress(0, 6, active=6, held_back=(HeldBack("train", "waiting for gpu", 4),), retrying=(("get", 2),))
    standing.update(own, 1.0, [inner])
    assert standing.active == 1
    assert standing.waits() == ["3 waiting to be tried again", "5 blocked: waiting for gpu"]


def test_work_that_makes_work_has_no_estimate():
    standing = Standing(0.0)
    for second in range(1, 20):
        standing.update(progress(second, second + 5), float(second))
    assert standing.seconds_left is None


def test_calls_of_graphs_that_have_ended_stay_known():
    standing = Standing(0.0)
    standing.update(progress(3, 10, (TaskProgress("a", 10, 3, 1, 1, 0, False),)), 1.0)
    standing.update(progress(10, 11, (TaskProgress("b", 1, 0, 1, 0, 0, True),)), 2.0)
    assert standing.rows["a"] == TaskProgress("a", 10, 9, 0, 1, 0, True)
    assert list(standing.rows) == ["a", "b"]


# JSON.


def test_json_lines_have_the_documented_fields():  # S29
    stream = io.StringIO()
    bus = MessageBus()
    detach = JsonLines(stream).attach(bus)
    bus.publish(retrying(timestamp=1_700_000_000.25))
    bus.publish(events.TaskExecutionStarted(run_id="r", task_id="t#0", task_name="t"))
    detach()
    bus.publish(retrying())
    assert stream.getvalue().count("\n") == 1
    found = json.loads(stream.getvalue())
    assert list(found)[:4] == ["event", "level", "run_id", "timestamp"]
    assert found == {
        "event": "TaskRetrying",
        "level": "WARNING",
        "run_id": "r",
        "timestamp": "2023-11-14T22:13:20.250000Z",
        "task_id": "t#0",
        "task_name": "t",
        "attempt": 1,
        "max_attempts": 3,
        "delay": 0.5,
        "error": "ValueError: no",
    }
    assert datetime.fromisoformat(found["timestamp"]).tzinfo is not None


def test_json_at_debug_has_every_event(capsys):  # S29
    cs.run(one(), log_level="DEBUG", log_format="json")
    found = [json.loads(line) for line in told(capsys)]
    assert [line["event"] for line in found] == [
        "RunStarted",
        "TaskExecutionStarted",
        "TaskExecutionFinished",
        "RunFinished",
    ]
    assert found[2]["result_preview"] == "1"
    assert datetime.fromisoformat(found[0]["timestamp"]).astimezone(UTC).year >= 2024


def test_an_object_begins_a_line_whatever_tasks_print(monkeypatch):  # S29
    stream = io.StringIO()
    monkeypatch.setattr("sys.stderr", stream)

    @cs.task
    def prints() -> None:
        print("half", end="", file=stream)

    @cs.task
    def fails() -> None:
        print("whole", file=stream)
        print("half of two", end="", file=stream)
        raise ConnectionError("refused")

    with pytest.raises(ConnectionError):
        cs.run([cs.sequence([prints(), prints(), fails()])], log_level="DEBUG", log_format="json")
    lines = stream.getvalue().splitlines()
    printed = [line for line in lines if not line.startswith("{")]
    # Objects come when they come, so they may also stand between the halves.
    assert "".join(printed) == "halfhalfwholehalf of two"
    assert all(json.loads(line)["event"] for line in lines if line not in printed)
    assert "write" not in vars(stream)


def test_json_tells_a_failure_at_every_level_but_critical(capsys):  # S29
    with pytest.raises(ConnectionError):
        cs.run(flaky(1)(), log_level="ERROR", log_format="json")
    (line,) = told(capsys)
    found = json.loads(line)
    assert (found["event"], found["level"], found["status"]) == ("RunFinished", "ERROR", "Failed")
    assert found["error"] == "ConnectionError: refused"


class Hostile:
    def __repr__(self):
        raise RuntimeError("no repr")


def test_json_can_say_any_parameter():  # S28 S29
    stream = io.StringIO()
    deep: list = []
    for _ in range(1000):
        deep = [deep]
    given = {
        "nan": float("nan"),
        "huge": 10**5000,
        "text": "\ud800\x1b\n" + "x" * 10_000,
        "many": list(range(100_000)),
        "keys": {1: "a", None: "b"},
        "hostile": Hostile(),
        "deep": deep,
        "path": io,
    }
    JsonLines(stream).take(events.RunStarted(run_id="r", target_tasks=("a",), params=given))
    (line,) = stream.getvalue().splitlines()
    assert line.isascii()
    assert len(line) < 10_000
    params = json.loads(line, parse_constant=pytest.fail)["params"]
    assert params["keys"] == {"1": "a", "None": "b"}
    assert params["many"][-1] == "... 99900 more"
    assert "no repr" not in line


# Words.


def test_sentences_carry_no_commands():  # S29
    evil = "a\x1b]0;title\x07\r\nb\u202e\u2028\x9b"
    every = [
        retrying(task_id=evil, error=evil),
        events.TaskBlocked(run_id=evil, task_id=evil, task_name=evil, reason=evil),
        events.TaskAbandoned(run_id=evil, task_id=evil, task_name=evil, timeout=1.0),
        events.TaskSkipped(run_id=evil, task_id=evil, task_name=evil, reason=evil),
        events.TaskExecutionStarted(run_id=evil, task_id=evil, task_name=evil),
        events.TaskExecutionFinished(
            run_id=evil, task_id=evil, task_name=evil, status="Failed", duration=1.0, error=evil
        ),
        events.TaskExecutionFinished(
            run_id=evil, task_id=evil, task_name=evil, status="Succeeded", duration=1.0, result_preview=evil
        ),
        events.RunBlocked(run_id=evil, owner=evil, seconds=1.0),
        events.RunStarted(run_id=evil, target_tasks=(evil,), params={}),
        events.RunFinished(run_id=evil, status="Failed", duration=1.0, error=evil),
        events.ResourceAcquired(run_id=evil, resource_name=evil),
        events.ResourceReleased(run_id=evil, resource_name=evil),
        events.Event(run_id=evil),
    ]
    for event in every:
        assert sentence(event).isprintable(), event


def test_ordinary_text_of_any_language_stays():
    assert harmless("größer λ 数") == "größer λ 数"
    assert harmless("x" * 500).endswith("...")


def test_levels_are_ordered_as_those_of_logging():
    assert [level.value for level in Level] == [
        logging.DEBUG,
        logging.INFO,
        logging.WARNING,
        logging.ERROR,
        logging.CRITICAL,
    ]


# The screen.


class FakeTerminal(io.StringIO):
    def isatty(self):
        return True


def pane(*lines):
    made = Pane()
    made.lines, made.widths = list(lines), [len(line) for line in lines]
    return made


ERASED = "\r\x1b[{}A\x1b[J"


class HandClock(MockClock):
    """A clock for a screen: moved by the test alone, far from the last drawing."""

    def __init__(self):
        super().__init__(autojump_threshold=math.inf)

    def pass_by(self):
        self.advance(1.0)


def test_text_goes_above_what_is_drawn():
    terminal, clock = FakeTerminal(), HandClock()
    screen = Screen(terminal, clock)
    shown = pane("view", "more")
    screen.show(shown)
    clock.pass_by()
    terminal.write("a line\n")
    assert terminal.getvalue() == f"view\nmore\n{ERASED.format(2)}a line\nview\nmore\n"
    screen.hide(shown)
    terminal.write("after\n")
    assert terminal.getvalue().endswith(f"view\nmore\n{ERASED.format(2)}after\n")
    assert not {"write", "flush"} & set(vars(terminal))


def test_half_a_line_is_drawn_as_it_stands_until_its_end_comes():
    terminal, clock = FakeTerminal(), HandClock()
    screen = Screen(terminal, clock)
    shown = pane("view")
    screen.show(shown)
    for share in (" 10%", " 20%"):
        clock.pass_by()
        terminal.write(f"\r\x1b[32m{share}\x1b[0m \t\x1b[K")
        assert terminal.getvalue().endswith(f"{share} \nview\n")
    clock.pass_by()
    terminal.write(" done\n")
    assert terminal.getvalue().endswith(f"{ERASED.format(2)}\x1b[32m 20%\x1b[0m \t\x1b[K done\nview\n")
    terminal.write("prompt> ")
    screen.hide(shown)
    assert terminal.getvalue().endswith(f"{ERASED.format(1)}prompt> ")


def test_halves_of_several_threads_do_not_mix_and_are_cut_to_a_row():
    terminal, clock = FakeTerminal(), HandClock()
    screen = Screen(terminal, clock)
    shown = pane("view")
    screen.show(shown)
    with ThreadPoolExecutor(3) as threads:
        gate = threading.Barrier(4)
        for half in ("first", "second", "\u6570" * 100):
            threads.submit(lambda half=half: (terminal.write(half), gate.wait()))
            while half not in "".join(printed.text for printed in screen._halves.values()):
                pass
        gate.wait()
    terminal.write("whole")
    terminal.write(" line\n")
    clock.pass_by()
    drawing = terminal.getvalue().split("\x1b[J")[-1].split("\n")
    assert drawing == ["whole line", "first", "second", "\u6570" * 39, "view", ""]
    screen.hide(shown)
    assert terminal.getvalue().endswith("firstsecond" + "\u6570" * 100)


def test_a_flood_of_lines_waits_for_the_next_drawing_and_is_whole():
    terminal, clock = FakeTerminal(), HandClock()
    screen = Screen(terminal, clock)
    shown = pane("view")
    screen.show(shown)
    for number in range(1000):
        terminal.write(f"{number}\n")
    assert terminal.getvalue() == "view\n"
    clock.advance(0.05)
    assert terminal.getvalue() == f"view\n{ERASED.format(1)}{''.join(f'{n}{chr(10)}' for n in range(1000))}view\n"
    terminal.write("urgent\n")
    terminal.flush()
    assert terminal.getvalue().endswith(f"{ERASED.format(1)}urgent\nview\n")
    terminal.write("last\n")
    screen.hide(shown)
    assert terminal.getvalue().endswith(f"{ERASED.format(1)}last\n")


def test_a_child_process_prints_as_if_nothing_had_been_drawn():
    terminal = FakeTerminal()
    screen = Screen(terminal, SystemClock())
    screen.show(pane("view"))
    screen.forget()
    terminal.write("child\n")
    assert terminal.getvalue() == "view\nchild\n"
    assert "write" not in vars(terminal)
