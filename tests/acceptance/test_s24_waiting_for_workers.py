"""S24, S28: a call that has been let go but waits for a worker has not begun, and limits hold it back all the same."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import pytest

import cascade as cs
from cascade.adapters.executors.local import LocalExecutor
from cascade.runtime.events import TaskBlocked, TaskExecutionStarted
from cascade.runtime.progress import progress_of
from cascade.testing import MockClock
from tests.acceptance.observed import promptly

limit = cs.GlobalConstraint


def hold(folder: Path, number: int) -> int:
    """Begin, and go on when told so; the first one only."""
    with (folder / "order").open("a") as order:
        order.write(f"{number}\n")
    while not number and not (folder / "go on").exists():
        time.sleep(0.002)
    return number


@cs.resource(scope="run", thread_affine=True)
def connection() -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(":memory:")) as made:
        yield made


def hold_with(folder: Path, number: int, made: Any = cs.inject(connection)) -> int:
    return hold(folder, number)


KINDS: dict[str, Callable[[Path, int], cs.LazyResult[int]]] = {
    "thread": lambda folder, number: cs.task(hold)(folder, number).with_retry(2),
    "process": cs.task(hold, executor="process"),
    "thread of a resource": cs.task(hold_with, name="hold"),
    "with time": lambda folder, number: cs.task(hold, executor="process")(folder, number).with_timeout(600.0),
}
each_kind = pytest.mark.parametrize("kind", KINDS)


class Crowd:
    """Calls for which there is one worker: the first one has it until `go_on`."""

    def __init__(self, engine: cs.Engine, folder: Path, kind: str, clock: MockClock) -> None:
        self.engine, self.folder, self.clock = engine, folder, clock
        self.kind = kind
        self.started: list[str] = []
        self.has_started, self.was_blocked = asyncio.Event(), asyncio.Event()
        self.blocked: list[str] = []
        engine.bus.subscribe(TaskExecutionStarted, self.note_start)
        engine.bus.subscribe(TaskBlocked, self.note_block)

    def note_start(self, event: TaskExecutionStarted) -> None:
        self.started.append(event.task_name)
        self.has_started.set()

    def note_block(self, event: TaskBlocked) -> None:
        self.blocked.append(event.task_id)
        self.was_blocked.set()

    async def has_blocked(self, calls: int) -> None:
        """Wait until so many calls were told to be held back."""
        while len(self.blocked) < calls:
            self.was_blocked.clear()
            await self.was_blocked.wait()

    def call(self, number: int) -> cs.LazyResult[int]:
        return KINDS[self.kind](self.folder, number)

    async def begin(self, calls: int, **amounts: int) -> asyncio.Task[Any]:
        """Have the first call begin while the others wait for its worker, with what they take of the system."""
        target = [self.call(0), *(self.call(number).with_constraints(**amounts) for number in range(1, calls))]
        running = asyncio.create_task(self.engine.run(target))
        await self.has_started.wait()
        await self.settle()
        return running

    async def settle(self) -> None:
        for _ in range(30):
            await asyncio.sleep(0)

    def go_on(self) -> None:
        (self.folder / "go on").touch()

    @property
    def order(self) -> list[int]:
        return [int(line) for line in (self.folder / "order").read_text().split()]

    @property
    def begun(self) -> int:
        return len(self.order)


@asynccontextmanager
async def crowd(kind: str, folder: Path) -> AsyncIterator[Crowd]:
    clock = MockClock()
    executor = LocalExecutor(1, max_processes=1, clock=clock)
    async with cs.create_engine(executor=executor, clock=clock, system_resources={"gpu": 1}) as engine:
        yield Crowd(engine, folder, kind, clock)


def under(kind: str, folder: Path, check: Callable[[Crowd], Any]) -> None:
    async def main() -> None:
        async with crowd(kind, folder) as made:
            await check(made)

    promptly(lambda: asyncio.run(main()))


# S24
@each_kind
@pytest.mark.parametrize("constraint", [limit.pause("task:hold"), limit.concurrency(1, "global")], ids=str)
def test_a_limit_holds_back_what_waits_for_a_worker(kind: str, constraint: Any, tmp_path: Path) -> None:
    async def check(crowd: Crowd) -> None:
        running = await crowd.begin(4)
        crowd.engine.constraints.set(limit.concurrency(3, "tag:none"))
        crowd.engine.constraints.set(constraint)
        crowd.engine.constraints.set(limit.pause("task:h*"))
        assert crowd.blocked == []
        crowd.go_on()
        await crowd.has_blocked(3)
        assert crowd.begun == 1
        younger = asyncio.create_task(crowd.engine.run(crowd.call(9)))
        await crowd.has_blocked(4)
        assert crowd.engine.constraints.remove(constraint.scope)
        await crowd.settle()
        assert crowd.begun == 1
        assert crowd.engine.constraints.remove("task:h*")
        assert await running == [0, 1, 2, 3]
        assert await younger == 9
        assert len(crowd.blocked) == 4
        # Each run has a thread for a resource of its own.
        shares_worker = kind != "thread of a resource"
        assert [number for number in crowd.order if shares_worker or number != 9] == [0, 1, 2, 3, 9][
            : 4 + shares_worker
        ]

    under(kind, tmp_path, check)


# S24
@each_kind
def test_who_is_taken_back_has_cost_no_token(kind: str, tmp_path: Path) -> None:
    async def check(crowd: Crowd) -> None:
        crowd.engine.constraints.set(limit.rate_limit("1/h", burst=3))
        running = await crowd.begin(3)
        crowd.engine.constraints.set(limit.pause())
        crowd.go_on()
        await crowd.has_blocked(2)
        crowd.engine.constraints.remove("global", "pause")
        assert await running == [0, 1, 2]
        assert crowd.clock.monotonic() == 0.0

    under(kind, tmp_path, check)


# S23, S24
@each_kind
def test_who_is_taken_back_holds_no_capacity(kind: str, tmp_path: Path) -> None:
    @cs.task
    async def other() -> str:
        return "other"

    async def check(crowd: Crowd) -> None:
        running = await crowd.begin(2, gpu=1)
        crowd.engine.constraints.set(limit.pause("task:hold"))
        crowd.go_on()
        await crowd.has_blocked(1)
        assert await crowd.engine.run(other().with_constraints(gpu=1)) == "other"
        crowd.engine.constraints.remove("task:hold")
        assert await running == [0, 1]

    under(kind, tmp_path, check)


# S28
@each_kind
def test_a_call_starts_when_it_has_its_worker(kind: str, tmp_path: Path) -> None:
    async def check(crowd: Crowd) -> None:
        running = await crowd.begin(3)
        assert crowd.started == ["hold"]
        (progress,) = progress_of(crowd.engine)
        assert (progress.active, progress.held_back) == (1, ())
        crowd.go_on()
        assert await running == [0, 1, 2]
        assert crowd.started == ["hold"] * 3

    under(kind, tmp_path, check)


# S22, S24
def test_a_limit_that_comes_while_resources_are_set_up_holds_the_call_back(tmp_path: Path) -> None:
    async def check(crowd: Crowd) -> None:
        @cs.resource(scope="task")
        def slow() -> str:
            crowd.engine.constraints.set(limit.pause("task:use"))
            return "slow"

        @cs.task
        async def use(made: str = cs.inject(slow)) -> str:
            return made

        running = asyncio.create_task(crowd.engine.run(use()))
        await crowd.has_blocked(1)
        await crowd.settle()
        assert crowd.started == []
        crowd.engine.constraints.remove("task:use")
        assert await running == "slow"
        assert crowd.started == ["use"]

    under("thread", tmp_path, check)


# S15, S20
@each_kind
def test_a_run_that_is_cancelled_makes_no_call_that_waits_for_a_worker(kind: str, tmp_path: Path) -> None:
    async def check(crowd: Crowd) -> None:
        running = await crowd.begin(3)
        crowd.engine.constraints.set(limit.pause("task:hold"))
        running.cancel()
        crowd.go_on()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert crowd.begun == 1
        assert crowd.engine.capacities.usage() == {"gpu": (0, 1)}

    under(kind, tmp_path, check)
