"""S28: what a run tells, to whom, and in which order."""

from __future__ import annotations

import dataclasses
import logging
import sys
import threading
from typing import Any

import pytest

import cascade as cs
from cascade.runtime import events
from cascade.runtime.events import (
    RunFinished,
    RunStarted,
    TaskEvent,
    TaskExecutionFinished,
    TaskExecutionStarted,
    TaskSkipped,
)
from cascade.testing.clock import MockClock
from tests.acceptance.observed import Trace, await_sign, promptly, run


@cs.task
def give(value: Any) -> Any:
    return value


@cs.task
def double(x: int) -> int:
    return 2 * x


@cs.task
def fail(*_: Any) -> None:
    raise ValueError("it failed")


def traced(target: Any, **options: Any) -> list[str]:
    trace = Trace()
    try:
        promptly(lambda: run(target, bus=trace.bus, max_workers=1, **options))
    except BaseException:
        pass
    return trace.lines()


# S28
def test_the_whole_trace_of_a_chain() -> None:
    assert traced(double(double(1))) == [
        "run double",
        "start double#0",
        "Succeeded double#0 = 2",
        "start double#1",
        "Succeeded double#1 = 4",
        "end Succeeded",
    ]


# S28
def test_the_whole_trace_of_a_failure_in_a_run_that_stops() -> None:
    assert traced([double(fail(1)), double(3)]) == [
        "run double",
        "start fail#0",
        "Failed fail#0 ValueError: it failed",
        "skip double#1 RunStopped",
        "skip double#2 RunStopped",
        "end Failed ValueError: it failed",
    ]


# S28
def test_the_whole_trace_of_a_failure_in_a_run_that_goes_on() -> None:
    lines = traced([double(fail(1)), double(3)], on_failure="continue")
    assert lines[:-1] == [
        "run double",
        "start fail#0",
        "Failed fail#0 ValueError: it failed",
        "skip double#1 UpstreamFailed",
        "start double#2",
        "Succeeded double#2 = 6",
    ]
    assert lines[-1].startswith("end Failed RunFailedGroup")


# S28
def test_the_whole_trace_of_a_router() -> None:
    target = cs.Router(give("b"), {"a": double(give(1)), "b": double(5)})
    lines = traced(target)
    assert lines[1:3] == ["start give#0", "Succeeded give#0 = 'b'"]
    assert sorted(lines[3:-1]) == sorted(
        ["skip give#1 Pruned", "skip double#2 Pruned", "start double#3", "Succeeded double#3 = 10"]
    )
    assert lines[-1] == "end Succeeded"


# S28
def test_the_whole_trace_of_a_condition() -> None:
    lines = traced(cs.sequence([double(1).run_if(give(False)), double(2)]))
    assert lines[1:] == [
        "start give#0",
        "Succeeded give#0 = False",
        "skip double#1 ConditionFalse",
        "skip double#2 UpstreamSkipped_Sequence",
        "end Succeeded",
    ]


# S28
def test_the_whole_trace_of_a_run_of_nothing() -> None:
    lines = traced(5)
    assert lines[-1] == "end Succeeded"
    assert len(lines) == 2


# S28
def test_what_is_found_at_validation_tells_nothing() -> None:
    assert traced(double(cs.Param("missing"))) == []


# S28
def test_events_are_frozen_and_have_no_place_for_more() -> None:
    for kind in vars(events).values():
        if isinstance(kind, type) and issubclass(kind, cs.Event):
            assert dataclasses.fields(kind)
            assert kind.__dataclass_params__.frozen  # type: ignore[attr-defined]
    event = RunStarted(run_id="r", target_tasks=("t",), params={})
    with pytest.raises(dataclasses.FrozenInstanceError):
        event.run_id = "other"  # type: ignore[misc]


# S28
def test_events_carry_run_task_name_wall_time_and_duration() -> None:
    clock = MockClock(start=5000.0)
    trace = Trace()

    @cs.task
    async def sleep() -> None:
        await clock.sleep(7.0)

    promptly(lambda: run(sleep().named("nap"), bus=trace.bus, clock=clock, run_id="mine"))
    assert {event.run_id for event in trace.events} == {"mine"}
    assert [event.timestamp for event in trace.events] == [5000.0, 5000.0, 5007.0, 5007.0]
    [started], [finished] = trace.of(TaskExecutionStarted), trace.of(TaskExecutionFinished)
    assert (started.task_name, finished.task_name) == ("nap", "nap")
    assert started.task_id == finished.task_id
    assert finished.duration == 7.0
    [ended] = trace.of(RunFinished)
    assert ended.duration == 7.0


# S28
def test_run_started_names_targets_and_parameters() -> None:
    trace = Trace()
    run({"a": double(cs.Param("x", type=int)), "b": give(1)}, {"x": "3"}, bus=trace.bus)
    [started] = trace.of(RunStarted)
    assert started.target_tasks == ("double", "give")
    assert dict(started.params) == {"x": "3"}


# S28
@pytest.mark.parametrize("on_failure", ["stop", "continue"])
@pytest.mark.parametrize("workers", [1, 8])
def test_every_node_has_exactly_one_terminal_event(on_failure: str, workers: int) -> None:
    def shapes() -> dict[str, Any]:
        return {
            "fine": double(double(1)),
            "failing": [double(fail(1)), double.map(x=range(5)), cs.sequence([give(1), fail(2), give(3)])],
            "map fails": [double(cs.task(sum)(fail.map(range(5)))), give(5)],
            "skips": cs.sequence([double(1).run_if(give(False)), double(2)]),
            "returned": [cs.task(lambda: double(fail(1)), name="returns")(), give(1)],
            "router": cs.Router(give(1), {1: give("x"), 2: fail(1)}),
            "retry": [fail(1).with_retry(3), give(1)],
        }

    for name, target in shapes().items():
        trace = Trace()
        try:
            promptly(
                lambda target=target, trace=trace: run(
                    target, bus=trace.bus, on_failure=on_failure, max_workers=workers
                )
            )
        except (ValueError, cs.RunFailedGroup):
            pass
        doubled = {node: ends for node, ends in trace.terminal().items() if len(ends) != 1}
        assert not doubled, name
        started = {event.task_id for event in trace.of(TaskExecutionStarted)}
        ended = {event.task_id for event in trace.of(TaskExecutionFinished)}
        assert started == ended, name


# S28
def test_a_node_that_ran_when_the_run_stopped_has_one_terminal_event() -> None:
    started, trace = threading.Event(), Trace()

    @cs.task
    def long() -> str:
        started.set()
        while not cs.cancelled():
            pass
        return "done"

    @cs.task
    def fails() -> None:
        await_sign(started)
        raise ValueError("elsewhere")

    with pytest.raises(ValueError, match="elsewhere"):
        promptly(lambda: run(double([fails(), long()]), bus=trace.bus))
    terminal = trace.terminal()
    assert terminal["fails#0"] == ["Failed"]
    assert len(terminal["long#1"]) == 1
    assert terminal["long#1"] != ["RunStopped"]
    assert terminal["double#2"] == ["RunStopped"]


# S28
def test_events_come_in_an_order_that_could_have_happened() -> None:
    trace = Trace()
    layers: list[Any] = [give(n) for n in range(10)]
    for _ in range(10):
        layers = [give([layers[n], layers[(n + 1) % 10]]) for n in range(10)]
    promptly(lambda: run(layers, bus=trace.bus, max_workers=8))
    assert isinstance(trace.events[0], RunStarted)
    assert isinstance(trace.events[-1], RunFinished)
    order = [(type(event), event.task_id) for event in trace.events if isinstance(event, TaskEvent)]
    place = {entry: index for index, entry in enumerate(order)}
    assert len(place) == 220
    for node in range(110):
        assert place[TaskExecutionStarted, f"give#{node}"] < place[TaskExecutionFinished, f"give#{node}"]


# S28
def test_a_consumer_starts_after_its_inputs_were_told_as_ended() -> None:
    for _ in range(20):
        trace = Trace()
        promptly(lambda trace=trace: run(double(double(double(double(1)))), bus=trace.bus, max_workers=8))
        assert [line.split(" ")[0] for line in trace.lines()] == [
            "run", *["start", "Succeeded"] * 4, "end",
        ]  # fmt: skip


# S28
def test_handlers_run_one_after_another() -> None:
    inside = 0
    most = 0
    lock = threading.Lock()

    def handler(event: cs.Event) -> None:
        nonlocal inside, most
        with lock:
            inside += 1
            most = max(most, inside)
        with lock:
            inside -= 1

    bus = cs.MessageBus()
    bus.subscribe(cs.Event, handler)
    promptly(lambda: run([give(n) for n in range(200)], bus=bus, max_workers=8))
    assert most == 1


# S28
def test_all_events_are_delivered_before_run_returns() -> None:
    for _ in range(20):
        trace = Trace()
        run([give(n) for n in range(20)], bus=trace.bus)
        assert len(trace.events) == 42
        assert isinstance(trace.events[-1], RunFinished)


# S28
def test_an_exception_of_a_handler_is_logged_and_contained(caplog: pytest.LogCaptureFixture) -> None:
    bus = cs.MessageBus()

    def broken(event: cs.Event) -> None:
        raise RuntimeError("a broken handler")

    bus.subscribe(cs.Event, broken)
    trace = Trace(bus)
    with caplog.at_level(logging.ERROR):
        assert run(double(1), bus=bus) == 2
    assert "a broken handler" in caplog.text
    assert [line.split(" ")[0] for line in trace.lines()] == ["run", "start", "Succeeded", "end"]


# S28
def test_a_handler_may_subscribe_and_end_its_subscription() -> None:
    bus = cs.MessageBus()
    seen: list[str] = []

    def once(event: cs.Event) -> None:
        seen.append(type(event).__name__)
        cancel()
        bus.subscribe(RunFinished, lambda event: seen.append("late"))

    cancel = bus.subscribe(cs.Event, once)
    run(double(1), bus=bus)
    assert seen == ["RunStarted", "late"]


# S28
def test_a_preview_is_made_only_for_subscribers_and_only_of_what_they_hear() -> None:
    reprs: list[int] = []

    class Shown:
        def __repr__(self) -> str:
            reprs.append(1)
            return "shown"

    run(give(Shown()))
    assert reprs == []
    bus = cs.MessageBus()
    bus.subscribe(TaskSkipped, lambda event: None)
    bus.subscribe(RunStarted, lambda event: None)
    run(give(Shown()), bus=bus)
    assert reprs == []
    trace = Trace()
    run(give(Shown()), bus=trace.bus)
    assert reprs == [1]


# S28
@pytest.mark.parametrize(
    "value", ["x" * 10**6, list(range(10**5)), b"y" * 10**6, dict.fromkeys(range(1000), "z" * 1000)]
)
def test_a_preview_is_bounded(value: Any) -> None:
    trace = Trace()
    run(cs.task(lambda: value)(), bus=trace.bus)
    [finished] = trace.of(TaskExecutionFinished)
    assert len(finished.result_preview) <= 500


# S28
def test_a_repr_that_raises_is_replaced() -> None:
    class Broken:
        def __repr__(self) -> str:
            raise RuntimeError("no repr")

    trace = Trace()
    run(cs.task(lambda: [Broken()], name="x")(), bus=trace.bus)
    [finished] = trace.of(TaskExecutionFinished)
    assert "RuntimeError" in finished.result_preview or "Broken" in finished.result_preview


# S28
def test_an_error_whose_text_raises_or_is_long_is_told_all_the_same() -> None:
    class BrokenError(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no text")

    def raises(error: BaseException) -> None:
        raise error

    for error in (BrokenError(), ValueError("x" * 10**6)):
        trace = Trace()
        with pytest.raises(type(error)):
            run(cs.task(raises)(error), bus=trace.bus)
        [finished] = trace.of(TaskExecutionFinished)
        assert type(error).__name__ in finished.error
        assert len(finished.error) < 1000


# S28
def test_a_subscriber_hears_only_its_type_and_below() -> None:
    bus = cs.MessageBus()
    seen: list[Any] = []
    bus.subscribe(TaskEvent, seen.append)
    run(double(1), bus=bus)
    assert [type(event) for event in seen] == [TaskExecutionStarted, TaskExecutionFinished]


# S28
def test_a_bus_refuses_what_is_no_type_of_event_and_coroutine_functions() -> None:
    async def handler(event: cs.Event) -> None:
        pass

    with pytest.raises(TypeError, match="Event"):
        cs.MessageBus().subscribe(int, print)  # type: ignore[type-var]
    with pytest.raises(TypeError, match="plain function"):
        cs.MessageBus().subscribe(cs.Event, handler)


# S28, S21
def test_a_nested_run_is_told_after_the_start_of_the_call_that_started_it() -> None:
    @cs.task
    def outer() -> Any:
        return cs.run(double(1), log_level="CRITICAL")

    for _ in range(20):
        trace = Trace()
        promptly(lambda trace=trace: run(outer(), bus=trace.bus))
        assert trace.lines() == [
            "run outer",
            "start outer#0",
            "run double",
            "start double#0",
            "Succeeded double#0 = 2",
            "end Succeeded",
            "Succeeded outer#0 = 2",
            "end Succeeded",
        ]


# S28, S11
def test_what_routers_prune_at_once_is_told_once() -> None:
    told: list[tuple[str, str]] = []
    bus = cs.MessageBus()
    bus.subscribe(TaskSkipped, lambda event: told.append((event.run_id, event.task_id)))
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for _ in range(40):
            run(
                [cs.Router(give(1), {1: double(i), 2: double(-i), 3: double(-i)}) for i in range(30)],
                bus=bus,
                max_workers=8,
            )
    finally:
        sys.setswitchinterval(interval)
    assert len(told) == len(set(told)) == 40 * 60
