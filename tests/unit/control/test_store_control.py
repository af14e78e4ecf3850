"""Engines that obey their store: limits, their order and their end, shared slots and tokens. (S20, S24)"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

import cascade as cs
from cascade.control.kept_cancels import keep_cancel
from cascade.control.kept_limits import keep_limit, remove_limit
from cascade.runtime.clock import SystemClock
from cascade.runtime.events import TaskBlocked
from cascade.spec.constraint import GlobalConstraint
from cascade.stores import open_durable, open_store
from cascade.testing.clock import MockClock

pytestmark = pytest.mark.needs_extra("sqlite")


@pytest.fixture(autouse=True)
def _settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.delenv("CASCADE_STORE", raising=False)


async def until(condition: Callable[[], bool]) -> None:
    """Wait for something that another thread brings about."""
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110 - the store tells nobody
            await asyncio.sleep(0.005)


def with_engines(
    file: Path, count: int, clock: Any, main: Callable[[list[cs.Engine]], Awaitable[None]], **options: Any
) -> None:
    async def with_all() -> None:
        async with AsyncExitStack() as stack:
            await main(
                [
                    await stack.enter_async_context(cs.create_engine(store=file, clock=clock, **options))
                    for _ in range(count)
                ]
            )

    asyncio.run(with_all())


class Stage:
    """What the tasks of a test share: those of durable runs cannot close over it."""

    def __init__(self) -> None:
        self.set()

    def set(self) -> None:
        self.clock = MockClock()
        self.began = threading.Event()
        self.go_on = threading.Event()
        self.moments: list[float] = []
        self.running = self.most = 0


stage = Stage()


@pytest.fixture(autouse=True)
def _stage() -> None:
    stage.set()


@cs.task
async def immediate(n: int) -> int:
    return n


@cs.task
def hold() -> None:
    stage.began.set()
    stage.go_on.wait(30)


@cs.task
async def note(n: int) -> int:
    stage.moments.append(stage.clock.monotonic())
    return n


@cs.task
async def step(n: int) -> int:
    stage.running += 1
    stage.most = max(stage.most, stage.running)
    await stage.clock.sleep(1.0)
    stage.running -= 1
    return n


@cs.task
async def parent(n: int) -> int:
    return int(await cs.arun(step(n)))


def test_limits_of_the_store_are_those_of_the_engine_until_they_are_removed(tmp_path: Path) -> None:  # S24
    file = tmp_path / "runs.db"
    store = open_store(file)

    async def main(engines: list[cs.Engine]) -> None:
        (engine,) = engines

        def told() -> list[str]:
            return [str(constraint) for constraint in engine.constraints.list()]

        run = asyncio.create_task(engine.run(hold()))
        await until(lambda: bool(engine.under_way))
        keep_limit(store, GlobalConstraint.concurrency(3, "task:a"), SystemClock().now())
        await until(lambda: told() == ["concurrency 3 on task:a"])
        keep_limit(store, GlobalConstraint.concurrency(2, "task:a"), SystemClock().now())
        await until(lambda: told() == ["concurrency 2 on task:a"])
        # What code has set last counts, and is not the store's to end.
        engine.constraints.set(GlobalConstraint.concurrency(9, "task:a"))
        keep_limit(store, GlobalConstraint.pause("tag:t"), SystemClock().now())
        await until(lambda: told() == ["concurrency 9 on task:a", "pause on tag:t"])
        assert remove_limit(store, "task:a", "concurrency")
        assert remove_limit(store, "tag:t", "pause")
        await until(lambda: told() == ["concurrency 9 on task:a"])
        stage.go_on.set()
        await run

    with_engines(file, 1, None, main)
    store.close()


def test_a_pause_in_the_store_ends_when_its_time_is_over(tmp_path: Path) -> None:  # S24
    clock = stage.clock
    file = tmp_path / "runs.db"
    store = open_store(file)
    keep_limit(store, GlobalConstraint.pause(ttl=30.0), clock.now())
    store.close()
    clock.advance(20.0)

    async def main(engines: list[cs.Engine]) -> None:
        await engines[0].run(note(0))

    with_engines(file, 1, clock, main)
    assert stage.moments == [pytest.approx(30.0)]


def test_what_cannot_be_read_is_passed_over(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = tmp_path / "runs.db"
    store = open_store(file)
    store.put_setting("limit:pause:global", "no limit", None)
    store.close()

    async def main(engines: list[cs.Engine]) -> None:
        for _ in range(2):
            assert await engines[0].run(immediate(1)) == 1

    with_engines(file, 1, None, main)
    assert len(caplog.records) == 1
    assert "cannot be read" in caplog.text


def test_a_run_is_cancelled_before_anything_of_it_starts(tmp_path: Path) -> None:  # S20
    file = tmp_path / "runs.db"
    store = open_store(file)
    keep_cancel(store, "r", "not today", SystemClock().now())

    async def main(engines: list[cs.Engine]) -> None:
        with pytest.raises(cs.RunCancelledError, match="not today"):
            await engines[0].run(note(0), run_id="r")
        assert not stage.moments
        await engines[0].run(note(0), run_id="r")
        assert len(stage.moments) == 1

    with_engines(file, 1, None, main)
    store.close()


def test_engines_start_no_more_than_a_limit_allows_together(tmp_path: Path) -> None:  # S24
    clock = stage.clock
    file = tmp_path / "runs.db"
    store = open_store(file)
    keep_limit(store, GlobalConstraint.concurrency(2, "task:step"), clock.now())
    store.close()

    async def main(engines: list[cs.Engine]) -> None:
        runs = [engine.run([step.map(n=range(5)), parent.map(n=range(3))]) for engine in engines]
        assert await asyncio.gather(*runs) == [[[0, 1, 2, 3, 4], [0, 1, 2]]] * 3

    with_engines(file, 3, clock, main)
    assert stage.most == 2


def test_engines_start_no_faster_than_a_rate_together_and_burn_no_token(tmp_path: Path) -> None:  # S24
    clock = stage.clock
    file = tmp_path / "runs.db"
    store = open_store(file)
    keep_limit(store, GlobalConstraint.rate_limit("1/s", 2, "task:note"), clock.now())
    keep_limit(store, GlobalConstraint.pause("task:note", ttl=100.0), clock.now())
    store.close()

    async def main(engines: list[cs.Engine]) -> None:
        # A limit of this engine alone, which lets one call after another ask for a token.
        engines[0].constraints.set(GlobalConstraint.concurrency(1))
        await asyncio.gather(*(engine.run(note.map(n=range(5))) for engine in engines))

    with_engines(file, 2, clock, main)
    assert len(stage.moments) == 10
    # While the pause lasts nobody takes a token, so two are there after it, and then one a second.
    assert all(at >= 100.0 + max(0, place - 1) - 1e-6 for place, at in enumerate(sorted(stage.moments)))
    assert sorted(stage.moments)[1] < 101.0


def test_a_call_that_began_before_a_limit_counts_for_all(tmp_path: Path) -> None:  # S24
    file = tmp_path / "runs.db"
    store = open_store(file)

    async def main(engines: list[cs.Engine]) -> None:
        holding = asyncio.create_task(engines[0].run(hold()))
        await until(stage.began.is_set)
        keep_limit(store, GlobalConstraint.concurrency(1), SystemClock().now())
        await until(lambda: not free(store, "concurrency global"))
        blocked: list[str] = []
        engines[1].bus.subscribe(TaskBlocked, lambda event: blocked.append(event.reason))
        waiting = asyncio.create_task(engines[1].run(immediate(1)))
        await until(lambda: bool(blocked))
        assert blocked == ["concurrency 1 on global"]
        stage.go_on.set()
        await holding
        assert await waiting == 1
        await until(lambda: free(store, "concurrency global"))

    with_engines(file, 2, None, main)
    store.close()


def test_slots_are_given_back_with_the_last_run_and_with_the_limit(tmp_path: Path) -> None:  # S24
    file = tmp_path / "runs.db"
    store = open_store(file)
    keep_limit(store, GlobalConstraint.concurrency(1), SystemClock().now())

    async def main(engines: list[cs.Engine]) -> None:
        await engines[0].run(immediate(1))

    with_engines(file, 1, None, main)
    assert free(store, "concurrency global")

    async def hold_and_lift(engines: list[cs.Engine]) -> None:
        holding = asyncio.create_task(engines[0].run(hold()))
        await until(lambda: not free(store, "concurrency global"))
        remove_limit(store, "global", "concurrency")
        await until(lambda: free(store, "concurrency global"))
        stage.go_on.set()
        await holding

    with_engines(file, 1, None, hold_and_lift)
    store.close()


def test_an_engine_that_was_stopped_for_longer_than_its_lease_takes_no_slot_of_others(tmp_path: Path) -> None:  # S24
    clock = stage.clock = MockClock(autojump_threshold=float("inf"))
    file = tmp_path / "runs.db"
    store = open_store(file)
    keep_limit(store, GlobalConstraint.concurrency(1), clock.now())

    async def main(engines: list[cs.Engine]) -> None:
        holding = asyncio.create_task(engines[0].run(hold()))
        await until(lambda: not free(store, "concurrency global", clock.now()))
        clock.advance(10_000.0)
        await until(lambda: store.take_slots("concurrency global", "other", 1, 1, clock.now(), clock.now() + 1e6))
        stage.go_on.set()
        await holding
        assert not free(store, "concurrency global", clock.now())
        store.give_slots("concurrency global", "other", 1)
        assert free(store, "concurrency global", clock.now())

    # Whether the run itself survives is another question: its lease is measured by the same clock.
    with_engines(file, 1, clock, main)
    store.close()


def test_nothing_is_left_behind_by_an_engine_that_is_closed(tmp_path: Path) -> None:
    durable = open_durable(tmp_path / "runs.db")
    before = set(threading.enumerate())
    assert cs.run(immediate(2), store=durable, run_id="r", log_level="CRITICAL") == 2
    left = [thread for thread in threading.enumerate() if thread not in before and "store" in thread.name]
    assert not left


def free(store: Any, scope: str, now: float | None = None) -> bool:
    """Whether the only slot of a limit is free."""
    now = SystemClock().now() if now is None else now
    if not store.take_slots(scope, "test", 1, 1, now, now + 60.0):
        return False
    store.give_slots(scope, "test", 1)
    return True
