"""What tests hear of runs: events as they are, and whole traces as text (S28)."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import dataclass

import pytest

import cascade as cs
from cascade.runtime.events import (
    RunFinished,
    RunStarted,
    TaskBlocked,
    TaskEvent,
    TaskExecutionFinished,
    TaskExecutionStarted,
    TaskSkipped,
)
from cascade.testing import MockClock, SpySubscriber, TraceRecorder


@cs.task
def one():
    return 1


@cs.task
def add(x, y=1):
    return x + y


@cs.task
def fail():
    raise ValueError("bad luck")


def traced(target, **options):
    bus = cs.MessageBus()
    trace = TraceRecorder(bus)
    try:
        cs.run(target, bus=bus, log_level="CRITICAL", max_workers=1, **options)
    except Exception as error:
        return trace.lines, error
    return trace.lines, None


def test_a_spy_keeps_events_in_the_order_of_delivery_and_finds_them_by_type() -> None:
    bus = cs.MessageBus()
    spy = SpySubscriber(bus)
    cs.run(add(one()), bus=bus, log_level="CRITICAL")
    assert type(spy.events[0]) is RunStarted
    assert type(spy.events[-1]) is RunFinished
    assert [event.task_id for event in spy.events_of_type(TaskExecutionStarted)] == ["one#0", "add#1"]
    assert len(spy.events_of_type(TaskEvent)) == 4
    assert spy.events_of_type(TaskSkipped) == []


def test_what_a_spy_gives_away_is_not_its_own_list() -> None:
    spy = SpySubscriber(cs.MessageBus())
    spy.events.append(RunStarted(run_id="r", target_tasks=(), params={}))
    assert spy.events == []


def test_a_spy_forgets_and_stops_listening() -> None:
    bus = cs.MessageBus()
    with SpySubscriber(bus) as spy:
        bus.publish(RunStarted(run_id="1", target_tasks=(), params={}))
        spy.clear()
        bus.publish(RunStarted(run_id="2", target_tasks=(), params={}))
    bus.publish(RunStarted(run_id="3", target_tasks=(), params={}))
    assert [event.run_id for event in spy.events] == ["2"]
    assert not bus.wants(RunStarted)
    spy.close()


def test_a_spy_hears_many_threads() -> None:
    bus = cs.MessageBus()
    spy = SpySubscriber(bus)
    together = threading.Barrier(4)

    def publish(own: int) -> None:
        together.wait()
        for _ in range(200):
            bus.publish(RunStarted(run_id=str(own), target_tasks=(), params={}))

    threads = [threading.Thread(target=publish, args=(own,)) for own in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(event.run_id for event in spy.events) == sorted("0123" * 200)


def test_a_test_can_wait_for_an_event_to_steer_a_run_by_it() -> None:
    # S24: the call is held back, which the test waits for before it lets it go.
    async def main():
        async with cs.create_engine() as engine:
            spy = SpySubscriber(engine.bus)
            engine.constraints.set(cs.GlobalConstraint.pause())
            running = asyncio.ensure_future(engine.run(one()))
            (blocked,) = await asyncio.to_thread(spy.wait_for, TaskBlocked)
            assert not running.done()
            engine.constraints.remove("global")
            return blocked.task_id, await running

    assert asyncio.run(main()) == ("one#0", 1)


def test_waiting_in_vain_tells_what_was_heard() -> None:
    bus = cs.MessageBus()
    spy = SpySubscriber(bus)
    with pytest.raises(TimeoutError, match=r"expected 1 RunFinished within 0\.01 s, heard: nothing"):
        spy.wait_for(RunFinished, patience=0.01)
    bus.publish(RunStarted(run_id="r", target_tasks=(), params={}))
    with pytest.raises(TimeoutError, match="heard: RunStarted"):
        spy.wait_for(RunFinished, patience=0.01)
    assert len(spy.wait_for(RunStarted)) == 1


def test_the_trace_of_a_chain() -> None:
    lines, error = traced(add(one()))
    assert error is None
    assert lines == [
        "run started: add",
        "started one#0",
        "finished one#0 Succeeded",
        "started add#1",
        "finished add#1 Succeeded",
        "run finished Succeeded",
    ]


def test_the_trace_of_a_failure_and_what_never_started() -> None:
    lines, error = traced(add(fail()))
    assert isinstance(error, ValueError)
    assert lines == [
        "run started: add",
        "started fail#0",
        "finished fail#0 Failed: ValueError: bad luck",
        "skipped add#1 RunStopped",
        "run finished Failed: ValueError: bad luck",
    ]


def test_the_trace_of_retries_needs_no_time() -> None:
    lines, error = traced(fail().with_retry(max_attempts=3, delay=60.0, backoff=2.0), clock=MockClock())
    assert isinstance(error, ValueError)
    assert lines == [
        "run started: fail",
        "started fail#0",
        "retrying fail#0 attempt 1 of 3 after 60 s: ValueError: bad luck",
        "retrying fail#0 attempt 2 of 3 after 120 s: ValueError: bad luck",
        "finished fail#0 Failed: ValueError: bad luck",
        "run finished Failed: ValueError: bad luck",
    ]


def test_the_trace_of_a_router_names_what_was_pruned() -> None:
    lines, error = traced(cs.Router(one(), {1: add(10), 2: add(20)}))
    assert error is None
    assert sorted(lines) == [
        "finished add#1 Succeeded",
        "finished one#0 Succeeded",
        "run finished Succeeded",
        "run started: router",
        "skipped add#2 Pruned",
        "started add#1",
        "started one#0",
    ]


def test_the_trace_of_a_call_that_continues() -> None:
    @cs.task
    def more():
        return one()

    lines, _ = traced(more())
    assert lines == [
        "run started: more",
        "started more#0",
        "finished more#0 Succeeded, continues as more#0@1/one#0",
        "started more#0@1/one#0",
        "finished more#0@1/one#0 Succeeded",
        "run finished Succeeded",
    ]


def test_the_trace_of_resources_and_limits() -> None:
    @cs.resource
    def lamp():
        yield "on"

    @cs.task
    def read(lamp=cs.inject(lamp)):
        return lamp

    lines, _ = traced(read())
    assert lines == [
        "run started: read",
        "acquired lamp",
        "started read#0",
        "finished read#0 Succeeded",
        "released lamp",
        "run finished Succeeded",
    ] or lines == [
        "run started: read",
        "started read#0",
        "acquired lamp",
        "finished read#0 Succeeded",
        "released lamp",
        "run finished Succeeded",
    ]


def test_addresses_are_left_out() -> None:
    @cs.task
    def strange():
        raise ValueError(object())

    lines, _ = traced(strange())
    assert "finished strange#0 Failed: ValueError: <object object at 0x...>" in lines


def test_a_trace_can_be_of_some_types_only() -> None:
    bus = cs.MessageBus()
    trace = TraceRecorder(bus, TaskExecutionFinished, TaskSkipped, TaskSkipped)
    cs.run(cs.Router(one(), {1: add(10), 2: add(20)}), bus=bus, log_level="CRITICAL")
    assert trace.sorted_lines == [
        "finished add#1 Succeeded", "finished one#0 Succeeded", "skipped add#2 Pruned"
    ]  # fmt: skip
    assert not bus.wants(RunStarted)


def test_a_type_and_its_base_write_an_event_once() -> None:
    bus = cs.MessageBus()
    trace = TraceRecorder(bus, TaskSkipped, TaskEvent)
    bus.publish(TaskSkipped(run_id="r", task_id="a#0", task_name="a", reason="Pruned"))
    assert str(trace) == "skipped a#0 Pruned"


def test_a_trace_tells_runs_apart() -> None:
    bus = cs.MessageBus()
    trace = TraceRecorder(bus, TaskExecutionStarted)
    cs.run(one(), bus=bus, run_id="first", log_level="CRITICAL")
    cs.run(add(1), bus=bus, run_id="second", log_level="CRITICAL")
    assert trace.lines_of("first") == ["started one#0"]
    assert trace.lines_of("second") == ["started add#0"]
    trace.clear()
    assert trace.lines == []
    trace.close()
    assert not bus.wants(TaskExecutionStarted)


def test_events_that_others_define_are_written_with_their_fields() -> None:
    @dataclass(frozen=True, slots=True, kw_only=True)
    class LampLit(cs.Event):
        color: str

    bus = cs.MessageBus()
    trace = TraceRecorder(bus)
    bus.publish(LampLit(run_id="r", color="red"))
    assert trace.lines == ["LampLit color='red'"]
