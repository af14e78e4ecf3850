"""A run that is started, watched, signalled and cancelled by the program that goes on beside it."""

from __future__ import annotations

import asyncio
import threading

import pytest

import cascade as cs
from cascade.runtime.events import RunFinished, TaskExecutionFinished, TaskExecutionStarted

PATIENCE = 30.0
pytestmark = pytest.mark.needs_extra("sqlite")


@cs.task
def double(x):
    return 2 * x


def quietly(target, **options):
    return cs.start(target, log_level="CRITICAL", **options)


def test_a_handle_gives_the_result():
    handle = quietly(double(21))
    assert handle.result(PATIENCE) == 42
    assert handle.status == "succeeded"


def test_what_a_task_raises_is_raised_by_result_each_time():
    @cs.task
    def fail():
        raise LookupError("gone")

    handle = quietly(fail())
    for _ in range(2):
        with pytest.raises(LookupError, match="gone"):
            handle.result(PATIENCE)
    assert handle.status == "failed"


def test_what_is_wrong_before_anything_runs_comes_with_result_too():
    handle = quietly(double(cs.Param("x")))
    with pytest.raises(cs.ParameterError, match="'x'"):
        handle.result(PATIENCE)


def test_waiting_for_a_result_can_be_given_up():
    handle = quietly(cs.wait_for_signal("go", str))
    with pytest.raises(TimeoutError, match=r"has not ended in 0\.01 s"):
        handle.result(0.01)
    assert handle.status == "running"
    handle.send_signal("go", "now")
    assert handle.result(PATIENCE) == "now"


def test_cancelling_stops_async_work_and_tears_down():  # S20
    told = []

    @cs.resource
    def room():
        outcome = yield "room"
        told.append(type(outcome.error).__name__)

    started = threading.Event()

    @cs.task
    async def wait(where=cs.inject(room)):
        started.set()
        await asyncio.sleep(3600)

    handle = quietly(wait())
    assert started.wait(PATIENCE)
    handle.cancel("the price changed")
    with pytest.raises(cs.RunCancelledError, match="the price changed"):
        handle.result(PATIENCE)
    assert handle.status == "cancelled"
    assert told == ["RunCancelledError"]


def test_cancelling_asks_threads_and_waits_for_them():  # S20
    started, ended = threading.Event(), threading.Event()

    @cs.task
    def poll():
        started.set()
        while not cs.cancelled():
            ended.wait(0.001)
        ended.set()

    handle = quietly(double(poll()))
    assert started.wait(PATIENCE)
    handle.cancel()
    with pytest.raises(cs.RunCancelledError):
        handle.result(PATIENCE)
    assert ended.is_set()


def test_a_checkpoint_ends_a_call_that_was_asked_to_stop():  # S20
    started, passed = threading.Event(), threading.Event()

    @cs.task
    def compute():
        cs.checkpoint()
        started.set()
        while True:
            cs.checkpoint()
            passed.wait(0.001)

    handle = quietly(compute())
    assert started.wait(PATIENCE)
    handle.cancel("enough")
    with pytest.raises(cs.RunCancelledError, match="enough"):
        handle.result(PATIENCE)
    cs.checkpoint()


def test_a_run_that_has_ended_cannot_be_cancelled():
    handle = quietly(double(1))
    assert handle.result(PATIENCE) == 2
    handle.cancel("too late")
    assert (handle.status, handle.result(PATIENCE)) == ("succeeded", 2)


def test_a_run_can_be_cancelled_before_it_has_begun():
    gate = threading.Event()
    engine_is_busy = quietly(cs.wait_for_signal("never"))
    engine_is_busy.cancel("at once")
    with pytest.raises(cs.RunCancelledError, match="at once"):
        engine_is_busy.result(PATIENCE)
    assert not gate.is_set()


def test_events_are_told_from_the_moment_of_asking_to_the_end():  # S28
    handle = quietly(double(cs.wait_for_signal("number", int)))
    events = handle.events()
    handle.send_signal("number", 4)
    told = list(events)
    assert handle.result(PATIENCE) == 8
    assert isinstance(told[-1], RunFinished)
    names = [event.task_name for event in told if isinstance(event, (TaskExecutionStarted, TaskExecutionFinished))]
    assert names[-2:] == ["double", "double"]


def test_events_of_a_run_that_has_ended_are_none():
    handle = quietly(double(1))
    handle.result(PATIENCE)
    assert list(handle.events()) == []


def test_a_run_that_takes_too_long_is_stopped():
    @cs.task
    async def wait():
        await asyncio.sleep(3600)

    with pytest.raises(cs.RunTimeoutError, match=r"longer than its timeout of 0\.05 s") as caught:
        cs.run(wait(), timeout=0.05, log_level="CRITICAL")
    assert isinstance(caught.value, TimeoutError)
    assert cs.run(double(2), timeout=3600, log_level="CRITICAL") == 4


@pytest.mark.parametrize("timeout", [0, -1.0, float("nan")])
def test_a_timeout_that_is_no_time_is_refused(timeout):
    with pytest.raises(ValueError, match="seconds above 0"):
        cs.run(double(2), timeout=timeout, log_level="CRITICAL")


def test_options_that_a_run_does_not_take_are_told_at_once():
    with pytest.raises(TypeError, match="takes no colour"):
        cs.start(double(1), colour="red")


CALLS = []


@cs.task
def first():
    CALLS.append("first")
    return 20


@cs.task
def add(x, y):
    return x + y


def test_a_durable_run_that_was_cancelled_can_be_resumed(tmp_path, monkeypatch):  # S27
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    CALLS.clear()
    target = double(add(first(), cs.wait_for_signal("more", int)))
    store = f"sqlite:///{tmp_path}/flows.db"
    handle = quietly(target, run_id="r", store=store)
    events = handle.events()
    while not CALLS:
        next(events)
    handle.cancel("for now")
    with pytest.raises(cs.RunCancelledError):
        handle.result(PATIENCE)
    again = quietly(target, run_id="r", store=store)
    again.send_signal("more", 1)
    assert again.result(PATIENCE) == 42
    assert CALLS == ["first"]
