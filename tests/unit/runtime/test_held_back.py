"""What holds back the calls of a run at the moment at which somebody looks (S23, S24, S29)."""

from __future__ import annotations

import asyncio
import math
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import cascade as cs
from cascade.runtime.progress import progress_of
from cascade.testing import MockClock


class Looker:
    """An engine with a run under way, and what is seen of it."""

    def __init__(self, engine: cs.Engine) -> None:
        self.engine = engine

    def seen(self) -> set[tuple[str, str, int]]:
        (progress,) = progress_of(self.engine)
        return {(held.name, held.reason, held.calls) for held in progress.held_back or ()}

    async def until(self, *wanted: tuple[str, str, int]) -> None:
        """Let the run go on until this is seen."""
        await until(lambda: self.seen() == set(wanted))


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110  what is looked at tells nobody when it changes
            await asyncio.sleep(0)


def look(
    target: Any,
    steps: Callable[[Looker], Awaitable[None]],
    limit: cs.GlobalConstraint | None = None,
    **options: Any,
) -> None:
    async def main() -> None:
        async with cs.create_engine(**options) as engine:
            if limit is not None:
                engine.constraints.set(limit)
            running = asyncio.ensure_future(engine.run(target))
            await until(lambda: bool(engine.under_way))
            await steps(Looker(engine))
            await running

    asyncio.run(main())


def waiting(name: str, over: asyncio.Event) -> Any:
    async def wait(number: int = 0) -> int:
        await over.wait()
        return number

    return cs.task(wait, name=name)


def test_what_waits_for_capacity_is_seen_with_the_resource_that_is_lacking() -> None:  # S23
    over = asyncio.Event()
    train = waiting("train", over)
    small = waiting("small", over)
    target = [
        *(train(number).with_constraints(gpu=1, memory=1) for number in range(3)),
        small.map(number=[1, 2]).with_constraints(memory=4, unlimited=7),
    ]

    async def steps(looker: Looker) -> None:
        await looker.until(("train", "waiting for gpu", 2), ("small", "waiting for memory", 2))
        over.set()

    look(target, steps, system_resources={"gpu": 1, "memory": 8})


def test_who_waits_only_because_others_came_before_it_waits_for_all_that_it_asks_for() -> None:  # S23
    over = asyncio.Event()
    target = [
        waiting("first", over)().with_constraints(gpu=1),
        waiting("large", over)().with_constraints(gpu=2),
        waiting("last", over)().with_constraints(gpu=1),
    ]

    async def steps(looker: Looker) -> None:
        await looker.until(("large", "waiting for gpu", 1), ("last", "waiting for gpu", 1))
        over.set()

    look(target, steps, system_resources={"gpu": 2})


def test_the_reason_is_that_of_the_moment_and_not_that_of_the_beginning() -> None:  # S24
    over = asyncio.Event()
    fetch = waiting("fetch", over)

    async def steps(looker: Looker) -> None:
        limits = looker.engine.constraints
        await looker.until(("fetch", "pause on global", 5))
        limits.set(cs.GlobalConstraint.concurrency(2, "task:fetch"))
        limits.remove("global")
        await looker.until(("fetch", "concurrency 2 on task:fetch", 3))
        limits.set(cs.GlobalConstraint.pause("run:nobody"))
        assert looker.seen() == {("fetch", "concurrency 2 on task:fetch", 3)}
        limits.set(cs.GlobalConstraint.pause("global"))
        limits.set(cs.GlobalConstraint.concurrency(5, "task:fetch"))
        assert looker.seen() == {("fetch", "pause on global", 3)}
        limits.remove("global")
        await looker.until()
        over.set()

    look([fetch(number) for number in range(5)], steps, cs.GlobalConstraint.pause("global"))


def test_plain_calls_on_threads_that_a_limit_holds_back_are_seen_too() -> None:  # S24
    over = threading.Event()

    def step(number: int) -> int:
        over.wait()
        return number

    async def steps(looker: Looker) -> None:
        await looker.until(("step", "concurrency 2 on task:st*", 4))
        over.set()

    look(cs.task(step).map(number=list(range(6))), steps, cs.GlobalConstraint.concurrency(2, "task:st*"))


def test_a_call_whose_resource_is_being_set_up_is_not_held_back() -> None:  # S22 S23
    begun, go_on = threading.Event(), threading.Event()

    @cs.resource
    def slow() -> Any:
        begun.set()
        go_on.wait()
        yield 1

    @cs.task(retry=cs.Retry(2))
    def user(number: Any = cs.inject(slow)) -> int:
        return int(number)

    async def steps(looker: Looker) -> None:
        await asyncio.to_thread(begun.wait)
        assert looker.seen() == set()
        go_on.set()

    look(user().with_constraints(gpu=1), steps, system_resources={"gpu": 1})


def test_of_too_many_calls_nothing_is_said() -> None:  # S29
    over = asyncio.Event()
    fetch = waiting("fetch", over)

    async def steps(looker: Looker) -> None:
        await looker.until(("fetch", "waiting for gpu", 19))
        (afar,) = progress_of(looker.engine, most_nodes=100)
        assert afar.held_back is None
        over.set()

    look([fetch(number).with_constraints(gpu=1) for number in range(20)], steps, system_resources={"gpu": 1})


def test_who_waits_for_its_next_attempt_is_seen_until_it_is_made() -> None:  # S16
    clock = MockClock(autojump_threshold=math.inf)
    tries: list[int] = []

    @cs.task(retry=cs.Retry(2, delay=5.0))
    def flaky(number: int) -> int:
        tries.append(number)
        if cs.attempt() == 1:
            raise ConnectionError("refused")
        return number

    async def steps(looker: Looker) -> None:
        def pausing() -> dict[str, int]:
            return {name: calls for progress in progress_of(looker.engine) for name, calls in progress.retrying}

        await until(lambda: pausing() == {"flaky": 3})
        assert looker.seen() == set()
        clock.advance(5.0)
        await until(lambda: len(tries) == 6)
        assert pausing() == {}

    look(flaky.map(number=[1, 2, 3]), steps, clock=clock)
