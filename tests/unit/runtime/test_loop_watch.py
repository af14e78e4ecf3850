"""A call that keeps its event loop from everything else is noticed and named."""

from __future__ import annotations

import asyncio
import threading
import time
import warnings

import pytest

import cascade as cs
from cascade.runtime import loop_watch as module
from cascade.runtime.events import LoopBlocked
from cascade.testing.clock import MockClock

LONG = 60.0


@pytest.fixture
def noticed(monkeypatch):
    """The warnings given, and what is set as soon as there is one."""
    monkeypatch.setattr(module, "LOOP_WATCH", module.LoopWatch())
    monkeypatch.setattr("cascade.runtime.strategies.graph.LOOP_WATCH", module.LOOP_WATCH)
    found, given = [], threading.Event()

    def show(message, category, filename, lineno, *rest):
        found.append((str(message), category, filename, lineno))
        given.set()

    with warnings.catch_warnings():
        warnings.simplefilter("always", cs.BlockedLoopWarning)
        monkeypatch.setattr(warnings, "showwarning", show)
        yield found, given


def run(target, **options):
    async def main():
        async with cs.create_engine(**{"blocked_after": 0.05, **options}) as engine:
            return await engine.run(target)

    return asyncio.run(main())


@pytest.mark.parametrize("policy", [{}, {"retries": True}, {"timeout": True}, {"item": True}, {"inline": True}])
def test_the_task_that_blocks_is_named_with_the_line_where_it_is(noticed, policy):  # S28
    found, given = noticed
    told = []
    bus = cs.MessageBus()
    bus.subscribe(LoopBlocked, told.append)

    def wait():
        assert given.wait(LONG)

    if "inline" in policy:
        guilty = cs.task(lambda x: wait(), name="guilty", executor="inline")
    else:

        async def guilty_one(x):
            await asyncio.sleep(0)
            wait()

        guilty = cs.task(guilty_one, name="guilty")

    @cs.task
    async def innocent():
        await asyncio.sleep(0.01)

    value = guilty.map(x=[1]) if "item" in policy else guilty(1)
    if "retries" in policy:
        value = value.with_retry(max_attempts=2)
    if "timeout" in policy:
        value = value.with_timeout(LONG)
    run([innocent(), value], bus=bus)
    ((message, category, filename, _),) = found
    assert category is cs.BlockedLoopWarning
    assert message.startswith("task 'guilty' (guilty#")
    assert "in wait" in message
    assert "assert given.wait(LONG)" in message
    assert "asyncio" not in message.partition("It is at")[2]
    assert filename == __file__
    (event,) = told
    assert event.task_name == "guilty"
    assert event.seconds >= 0.05
    assert "in wait" in event.stack


def test_one_warning_a_task(noticed):
    found, given = noticed
    calls = []

    @cs.task
    async def again(x):
        calls.append(x)
        if len(calls) == 1:
            assert given.wait(LONG)
        else:
            # Longer than it takes to notice: nothing else can be waited for where nothing happens.
            time.sleep(0.15)  # noqa: ASYNC251 - that is what it is about

    told = []
    bus = cs.MessageBus()
    bus.subscribe(LoopBlocked, told.append)
    run(again.map(x=range(2)), bus=bus)
    assert len(found) == 1
    assert {event.task_name for event in told} == {"again"}


def test_many_short_calls_block_nothing(noticed):
    found, _ = noticed
    end = time.monotonic() + 0.3

    @cs.task
    async def short(x):
        if time.monotonic() < end:
            return short(x + 1)
        return None

    @cs.task
    async def waits():
        await asyncio.sleep(0.3)

    run([short(0), waits(), *[cs.task(lambda: time.sleep(0.2), name="thread")() for _ in range(3)]])
    assert found == []


def test_it_can_be_turned_off_and_mock_clocks_are_not_watched(noticed):
    found, _ = noticed

    @cs.task
    async def blocks():
        time.sleep(0.1)  # noqa: ASYNC251 - that is what it is about

    run(blocks(), blocked_after=None)
    run(blocks(), clock=MockClock())
    assert found == []
    assert module.LOOP_WATCH._thread is None


def test_warnings_as_errors_do_not_end_the_watch(noticed):
    found, given = noticed
    warnings.simplefilter("error")

    @cs.task
    async def first():
        assert given.wait(LONG)
        given.clear()

    @cs.task
    async def second(x):
        assert given.wait(LONG)

    run(second(first()))
    assert [message.split()[1] for message, *_ in found] == ["'first'", "'second'"]


def test_its_thread_ends_when_nothing_is_to_be_watched(noticed):
    @cs.task
    async def quick():
        await asyncio.sleep(0)

    run(quick())
    thread = module.LOOP_WATCH._thread
    if thread is not None:
        thread.join(LONG)
        assert not thread.is_alive()
    run(quick())
