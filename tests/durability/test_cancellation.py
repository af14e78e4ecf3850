"""A durable run is cancelled at every await, also twice: nothing of it is left behind, and it goes on where it was.

Awaits are counted on the loop, whoever waits there. `CASCADE_EVERY_AWAIT=1` leaves out none where, for every day, some
are chosen.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import itertools
import json
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import pytest

import cascade as cs
from cascade.control.kept_limits import keep_limit
from cascade.runtime import fault_points
from cascade.runtime.clock import SystemClock
from cascade.runtime.durability import host_lock
from cascade.spec.context import call_context
from cascade.spec.protocols import Store
from cascade.spec.records import RunRow
from cascade.stores import open_store
from tests.acceptance.observed import promptly
from tests.awaits import EVERY_AWAIT, Awaits, Belongings, CancelledHandles
from tests.durability.ledger import Effect, Ledger
from tests.durability.standing import committed

pytestmark = pytest.mark.needs_extra("sqlite")


class World:
    """What was done outside, and what was made for those who did it."""

    effects: ClassVar[list[Effect]] = []
    set_up: ClassVar[int] = 0
    torn_down: ClassVar[int] = 0


def note(function: str, number: int = 0) -> None:
    """Have an effect, as the last thing that a call does."""
    World.effects.append(effect(function, number))


def effect(function: str, number: int) -> Effect:
    context = call_context()
    assert context is not None
    return Effect(function, number, cs.attempt(), cs.idempotency_key(), context.task_id)


@cs.task
def step(x: int) -> int:
    note("step", x)
    return x + 1


@cs.task
async def walk(x: int) -> int:
    await asyncio.sleep(0)
    note("walk", x)
    return x + 1


@cs.task
def add(*values: int) -> int:
    note("add", len(values))
    return sum(values)


@cs.task
def numbers(count: int) -> list[int]:
    note("numbers", count)
    return list(range(count))


@cs.task
def count_down(left: int) -> Any:
    note("count_down", left)
    return count_down(left - 1) if left else "done"


@cs.task
async def spin(left: int) -> Any:
    await asyncio.sleep(0)
    note("spin", left)
    return spin(walk(left - 2)) if left else "done"


@cs.task
async def flaky(x: int) -> int:
    await asyncio.sleep(0)
    if cs.attempt() < 3:
        raise OSError(x)
    note("flaky", x)
    return x


@cs.resource
def room() -> Iterator[str]:
    World.set_up += 1
    yield "room"
    World.torn_down += 1


@cs.resource(scope="task")
async def desk(room: str = cs.inject(room)) -> AsyncGenerator[str]:
    await asyncio.sleep(0)
    World.set_up += 1
    yield f"desk in a {room}"
    await asyncio.sleep(0)
    World.torn_down += 1


@cs.task
async def use(x: int, where: str = cs.inject(desk)) -> str:
    await asyncio.sleep(0)
    note("use", x)
    return where


@cs.task
def use_on_thread(x: str, where: str = cs.inject(room)) -> str:
    note("use_on_thread")
    return f"{x} and a {where}"


@cs.resource(thread_affine=True)
def connection() -> Iterator[list[int]]:
    World.set_up += 1
    yield []
    World.torn_down += 1


@cs.task
def insert(x: int, into: list[int] = cs.inject(connection)) -> int:
    note("insert", x)
    into.append(x)
    return x


@cs.task
async def dawdle(x: int) -> int:
    if cs.attempt() == 1:
        await asyncio.sleep(3600)
    note("dawdle", x)
    return x


@cs.task
def after(moment: dt.datetime, x: int) -> int:
    note("after", x)
    return x


@cs.task
async def outer(x: int) -> int:
    inner: list[int] = await cs.arun([walk(x), step(x)])
    note("outer", x)
    return sum(inner)


@cs.task
def outer_on_thread(x: int) -> int:
    inner: list[int] = cs.run([walk(x), step(x).with_constraints(gpu=1)], log_level="CRITICAL")
    note("outer_on_thread", x)
    return sum(inner)


@cs.task(executor="process")
def elsewhere(path: str, x: int) -> int:
    with open(path, "a") as file:
        file.write(json.dumps(effect("elsewhere", x)) + "\n")
    return x + 1


@dataclass(frozen=True)
class Shape:
    """A workflow to cancel.

    Attributes:
        target: makes it, the same each time.
        value: what it gives.
        signals: what is sent to the run, by name: before it begins where it is to succeed, and otherwise afterwards.
    """

    target: Callable[[], Any]
    value: Any
    signals: tuple[tuple[str, Any], ...] = ()


def chain() -> Any:
    value: Any = 0
    for _ in range(4):
        value = step(value)
    return value


def async_chain() -> Any:
    value: Any = 0
    for _ in range(4):
        value = walk(value)
    return value


def shapes(file: Path) -> dict[str, Shape]:
    """All shapes: those that are bound to a moment or a file are made anew for each run.

    Args:
        file: where worker processes note their effects.
    """
    moment = dt.datetime.now(dt.UTC) + dt.timedelta(seconds=0.012)
    return {
        "chain": Shape(chain, 4),
        "fan-out": Shape(lambda: add(step(0), *(step(x) for x in range(4)), walk(4)), 16),
        "map": Shape(lambda: [add(step.map(x=numbers(5))[0]), walk.map(x=numbers(4))], [1, [1, 2, 3, 4]]),
        "loop": Shape(lambda: [count_down(4)], ["done"]),
        "async chain": Shape(async_chain, 4),
        "async loop": Shape(lambda: spin(3), "done"),
        "retry with delay": Shape(lambda: add(flaky(3).with_retry(8, delay=0.0005), step(1)), 5),
        "capacity": Shape(
            lambda: [*(walk(x).with_constraints(gpu=1) for x in range(3)), step(7).with_constraints(gpu=1)],
            [1, 2, 3, 8],
        ),
        "injected resource": Shape(
            lambda: [use_on_thread(use(1).with_retry(2)), use(2)], ["desk in a room and a room", "desk in a room"]
        ),
        "resource of one thread": Shape(lambda: add(insert(1), insert(walk(2)).with_retry(2)), 4),
        "waiting for a signal": Shape(
            lambda: add(cs.wait_for_signal("go", int), step(walk(1))), 10, signals=(("other", 1), ("go", 7))
        ),
        "sleep_until": Shape(lambda: after(cs.sleep_until(moment), step(1)), 2),
        "nested run": Shape(lambda: [outer(1), outer_on_thread(2)], [4, 6]),
        "process task": Shape(lambda: elsewhere(str(file), step(elsewhere(str(file), 1))), 4),
        "timeouts": Shape(
            lambda: [walk(1).with_timeout(100.0), walk(walk(2)), dawdle(3).with_timeout(0.002).with_retry(9)],
            [2, 4, 3],
        ),
        "cached": Shape(
            lambda: [call(1).with_cache(cs.InputsCache(version=str(file))) for call in (walk, walk, count_down, step)],
            [2, 2, "done", 2],
        ),
    }


NAMES = tuple(shapes(Path()))


class Hasty(SystemClock):
    """A clock whose sleeps are short: worker processes have no grace to speak of either, and are killed."""

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(min(seconds, 0.002))


class Steps:
    """Cancels a run at a step of its journal, whichever thread that is on.

    Args:
        number: at which step; the first is 1.
    """

    def __init__(self, number: int = 0) -> None:
        self._number = number
        self._numbers = itertools.count(1)
        self.points: list[str] = []

    def __str__(self) -> str:
        return f"step {self._number} of {self.points}"

    def reach(self, awaits: Awaits, point: str) -> None:
        """Hear of a step."""
        self.points.append(point)
        if next(self._numbers) == self._number:
            awaits.running.get_loop().call_soon_threadsafe(awaits.running.cancel)


class Tale:
    """One run, from its beginning through cancellations to its end."""

    def __init__(self, story: Story, name: str, number: int) -> None:
        self._story = story
        self._file = story.folder / f"effects-{number}"
        self._shape = shapes(self._file)[name]
        self._target = self._shape.target()
        self.run_id = f"{name} {number}"
        self.name = name
        World.effects.clear()
        World.set_up = World.torn_down = 0

    @property
    def effects(self) -> list[Effect]:
        return [*World.effects, *Ledger(self._file).effects()]

    @property
    def row(self) -> RunRow | None:
        return self._story.store.find(self.run_id)

    def committed(self) -> set[str]:
        """The keys of the calls that must not be made again."""
        return committed(self.run_id, self._story.store.records(self.run_id), self.effects)

    async def send(self) -> None:
        """Send all signals that it waits for."""
        for name, value in self._shape.signals:
            await self._story.other.send_signal(self.run_id, name, value)

    async def run(self, engine: cs.Engine, *numbers: int, steps: Steps | None = None) -> bool:
        """Run it or go on with it, and cancel that; whether it came to its end all the same.

        Args:
            numbers: at which awaits to cancel it.
            steps: cancels it at a step of its journal.
        """
        where = f"{self.name}, cancelled at {steps or ' and '.join(map(str, numbers)) or 'nothing'}"
        fault_points.on_reach = None if steps is None else partial(steps.reach, self._story.awaits)
        # Whatever has ended in this process is committed, also when it ended after the run was cancelled; but a call
        # whose value is to be cached has not until that is done.
        final = self.committed() | {effect.key for effect in World.effects if self.name != "cached"}
        before = Counter(effect.key for effect in self.effects)
        running = await self._story.awaits.cancelling(engine.run(self._target, run_id=self.run_id), *numbers)
        fault_points.on_reach = None
        assert numbers or steps or not running.cancelled(), where
        if not running.cancelled():
            assert running.result() == self._shape.value, where
        more = Counter(effect.key for effect in self.effects) - before
        again = [effect for effect in self.effects if effect.key in final and more[effect.key]]
        assert not again, f"{where}: committed, and called again: {again}"
        await self._story.check_nothing_is_left(where)
        return not running.cancelled()

    def check_is_free(self, *statuses: str) -> None:
        """See that nobody has it, and how it stands; a run that was cancelled before all else is not there at all."""
        row = self.row
        if row is None:
            assert "cancelled" in statuses
            assert not self.effects
        else:
            assert (row.host, row.owner, row.lease_until) == ("", "", 0.0), row
            assert row.status in statuses, row


class Story:
    """Runs on two engines of this process, which have one store."""

    def __init__(self, one: cs.Engine, other: cs.Engine, folder: Path, store: Store) -> None:
        self.one, self.other = one, other
        self.folder = folder
        self.store = store
        self.awaits = Awaits()
        self._tales = 0
        asyncio.get_running_loop().set_task_factory(self.awaits.make_task)

    def tale(self, name: str) -> Tale:
        self._tales += 1
        return Tale(self, name, self._tales)

    async def count(self, name: str) -> int:
        """At how many awaits such a run waits."""
        counts: list[int] = []
        for engine in (self.one, self.other):
            tale = self.tale(name)
            await tale.send()
            await tale.run(engine)
            counts.append(self.awaits.count)
        return max(counts)

    async def cancelled_and_resumed(self, name: str, *numbers: int, steps: Steps | None = None) -> None:
        """Cancel a run, and have another engine go on with it at once."""
        tale = self.tale(name)
        if steps is not None:
            await tale.send()
        ended = await tale.run(self.one, *numbers, steps=steps)
        tale.check_is_free("succeeded" if ended else "cancelled")
        await tale.send()
        await tale.run(self.other)
        tale.check_is_free("succeeded")

    async def check_nothing_is_left(self, where: str) -> None:
        """See that neither engine has anything of a run any more."""
        assert asyncio.all_tasks() == {asyncio.current_task()}, where
        assert World.set_up == World.torn_down, where
        assert host_lock._held == set(), where
        engine: Any
        for engine in (self.one, self.other):
            assert engine.under_way == set(), where
            assert engine.capacities.usage() == {"gpu": (0, 1)}, where
            assert engine.constraints._subscribers == {}, where
            gate = engine.constraints._gate
            assert (gate._running, gate._reserved, gate._lines) == ({}, {}, {}), where
            assert engine.signals._inboxes == {}, where
            assert not engine.signals._waiters, where
            assert engine.keys_under_way._holders == {}, where
            writer = engine._store.writer(engine.clock)
            # What was left to do without being waited for comes before this.
            await writer.call(bool)
            assert list(writer._waiting) == [], where
            assert writer._journals == {}, where
            assert engine._control._runs == set(), where
            assert engine._control._timer is None, where
            processes = engine.executor._processes
            assert processes is None or (processes._busy, list(processes._waiting)) == (set(), []), where


def tell(folder: Path, act: Callable[[Story], Coroutine[Any, Any, None]]) -> None:
    """Have something happen, and see that the process then has what it had before."""
    before = Belongings()
    url = f"sqlite:///{folder}/flows.db"

    async def main() -> None:
        options: dict[str, Any] = {"store": url, "system_resources": {"gpu": 1}, "max_workers": 4, "clock": Hasty()}
        store = open_store(url)
        try:
            async with cs.create_engine(**options) as one, cs.create_engine(**options) as other:
                await act(Story(one, other, folder, store))
        finally:
            store.close()

    promptly(lambda: asyncio.run(main()), 100.0)
    before.check("at the end")


# S15, S20, S22, S23, S27
@pytest.mark.parametrize("name", NAMES)
def test_a_run_cancelled_at_any_await_leaves_nothing_and_goes_on(name: str, tmp_path: Path) -> None:
    async def act(story: Story) -> None:
        count = await story.count(name)
        belongings = Belongings()
        for number in range(1, count + 1):
            await story.cancelled_and_resumed(name, number)
            belongings.check_files(f"{name}, cancelled at {number}")

    tell(tmp_path, act)


# S15, S20, S22, S23, S27
@pytest.mark.parametrize("name", NAMES)
def test_a_run_cancelled_at_any_step_of_its_journal_leaves_nothing_and_goes_on(name: str, tmp_path: Path) -> None:
    async def act(story: Story) -> None:
        tale, steps = story.tale(name), Steps()
        await tale.send()
        await tale.run(story.one, steps=steps)
        for number in range(1, len(steps.points) + 1, 1 if EVERY_AWAIT else 1 + len(steps.points) // 16):
            await story.cancelled_and_resumed(name, steps=Steps(number))

    tell(tmp_path, act)


# S20, S27
@pytest.mark.parametrize("name", NAMES)
def test_a_run_cancelled_twice_leaves_nothing_and_goes_on(name: str, tmp_path: Path) -> None:
    async def act(story: Story) -> None:
        count = await story.count(name)
        for first in range(1, count + 1, 1 if EVERY_AWAIT else 1 + count // 8):
            for later in range(1, 9) if EVERY_AWAIT else (1, 2, 4):
                await story.cancelled_and_resumed(name, first, first + later)

    tell(tmp_path, act)


# S20, S27
@pytest.mark.parametrize("name", ["chain", "map", "async loop", "injected resource", "waiting for a signal"])
def test_going_on_with_a_run_can_be_cancelled_at_any_await_too(name: str, tmp_path: Path) -> None:
    async def act(story: Story) -> None:
        count = await story.count(name)
        for number in range(1, count + 1):
            tale = story.tale(name)
            await tale.run(story.one, count // 2)
            await tale.send()
            ended = await tale.run(story.other, number)
            tale.check_is_free("succeeded" if ended else "cancelled")
            await tale.run(story.one)
            tale.check_is_free("succeeded")

    tell(tmp_path, act)


# S20, S27
def test_asking_a_finished_run_for_its_value_can_be_cancelled_at_any_await(tmp_path: Path) -> None:
    async def act(story: Story) -> None:
        tale = story.tale("async chain")
        await tale.run(story.one)
        await tale.run(story.other)
        count = story.awaits.count
        assert count > 3
        for number in range(1, count + 1):
            await tale.run(story.one, number)
            tale.check_is_free("succeeded")
        await tale.run(story.other)
        assert len(tale.effects) == 4

    tell(tmp_path, act)


# S20, S27
def test_waiting_for_the_lease_of_an_owner_elsewhere_can_be_cancelled_at_any_await(tmp_path: Path) -> None:
    async def act(story: Story) -> None:
        count = await story.count("async chain")
        number = 0
        began = False
        # As often as it takes until the wait is over before it is cancelled.
        while not began or number < count:
            number += 1
            tale = story.tale("async chain")
            await tale.run(story.one, count // 2)
            found = tale.row
            assert found is not None
            elsewhere = {"host": "a boot/1.2/a lock", "owner": "process 1 on another machine"}
            until = story.one.clock.now() + 0.01
            claimed = story.store.claim(found._replace(lease_until=until, **elsewhere), over=found.epoch)
            assert claimed is not None
            ended = await tale.run(story.one, number)
            assert tale.row is not None
            if tale.row.epoch > claimed.epoch:
                began = True
                tale.check_is_free("succeeded" if ended else "cancelled")
            else:
                assert tale.row == claimed
            await tale.run(story.other)
            tale.check_is_free("succeeded")

    tell(tmp_path, act)


# S27
def test_a_run_whose_records_cannot_be_read_is_left_to_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def act(story: Story) -> None:
        tale = story.tale("async chain")
        await tale.run(story.one, await story.count("async chain") // 2)
        durable: Any = vars(story.one)["_store"]

        def records(run_id: str) -> Any:
            raise cs.StoreError(durable.store.url, "the disk is gone")

        monkeypatch.setattr(durable.store, "records", records)
        with pytest.raises(cs.StoreError, match="the disk is gone"):
            await tale.run(story.one)
        await story.check_nothing_is_left("not read")
        tale.check_is_free("failed")
        await tale.run(story.other)

    tell(tmp_path, act)


# S27
def test_an_engine_that_is_closed_under_a_run_leaves_nobody_waiting_and_the_run_to_others(tmp_path: Path) -> None:
    before = Belongings()
    options: dict[str, Any] = {"store": f"sqlite:///{tmp_path}/flows.db", "max_workers": 2}
    count = 0

    async def main(number: int) -> None:
        nonlocal count
        awaits = Awaits()
        loop = asyncio.get_running_loop()
        loop.set_task_factory(awaits.make_task)
        engine = cs.create_engine(**options)
        closings: list[asyncio.Task[None]] = []
        awaits.begin({number: lambda: closings.append(loop.create_task(engine.close()))})
        with suppress(cs.StoreError):
            assert await loop.create_task(engine.run(async_chain(), run_id=f"run {number}")) == 4
        count = max(count, awaits.count)
        await engine.close()
        if closings:
            await asyncio.wait(closings)

    asyncio.run(main(0))
    for number in range(1, count + 1):
        promptly(partial(asyncio.run, main(number)))
        assert host_lock._held == set()
        before.check(f"closed at {number}")
        assert cs.run(async_chain(), run_id=f"run {number}", log_level="CRITICAL", **options) == 4


# S20, S24
@pytest.mark.parametrize("name", ["fan-out", "map", "capacity", "nested run"])
def test_a_run_under_limits_of_its_store_gives_back_slots_wherever_it_is_cancelled(name: str, tmp_path: Path) -> None:
    async def act(story: Story) -> None:
        now = story.one.clock.now()
        keep_limit(story.store, cs.GlobalConstraint.concurrency(1, "task:[sw]*"), now)
        keep_limit(story.store, cs.GlobalConstraint.rate_limit(2000, 2, "task:walk"), now)
        count = await story.count(name)
        for number in range(1, count + 1, 1 if EVERY_AWAIT else 1 + count // 40):
            await story.cancelled_and_resumed(name, number)
            moment = story.one.clock.now()
            key = "concurrency task:[sw]*"
            assert story.store.take_slots(key, "who asks", 1, 1, moment, moment + 60.0), f"cancelled at {number}"
            story.store.give_slots(key, "who asks", 1)

    tell(tmp_path, act)


# S20, S21, S27
@pytest.mark.parametrize("name", ["chain", "async loop", "injected resource", "cached"])
def test_arun_cancelled_at_any_await_closes_the_store_too(name: str, tmp_path: Path) -> None:
    before = Belongings()
    count = 0
    shape = shapes(tmp_path)[name]
    # With as many threads as it likes it would share them with other runs.
    options: dict[str, Any] = {"store": f"sqlite:///{tmp_path}/flows.db", "log_level": "CRITICAL", "max_workers": 4}

    async def main(number: int) -> bool:
        nonlocal count
        awaits = Awaits()
        asyncio.get_running_loop().set_task_factory(awaits.make_task)
        running = await awaits.cancelling(cs.arun(shape.target(), run_id=f"run {number}", **options), number)
        count = max(count, awaits.count)
        assert asyncio.all_tasks() == {asyncio.current_task()}
        assert World.set_up == World.torn_down
        return running.cancelled()

    # An await that never comes.
    assert not asyncio.run(main(-1))
    for number in range(count + 1):
        promptly(partial(asyncio.run, main(number)))
        before.check(f"cancelled at {number}")
        assert cs.run(shape.target(), run_id=f"run {number}", **options) == shape.value


# S20, S27
@pytest.mark.parametrize("name", ["chain", "async loop", "injected resource", "process task"])
def test_a_durable_handle_cancelled_at_any_await_has_ended_as_it_says(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    handles = CancelledHandles(monkeypatch)
    options: dict[str, Any] = {"store": f"sqlite:///{tmp_path}/flows.db", "log_level": "CRITICAL", "max_workers": 4}
    file = tmp_path / "effects"
    shape = shapes(file)[name]

    def start(run_id: str) -> cs.RunHandle[Any]:
        return cs.start(shape.target(), run_id=run_id, **options)

    before = Belongings()
    handles.start(lambda: start("not cancelled"))
    assert handles.handle.result() == shape.value
    count = handles.count
    for number in range(0, count + 1, 1 if EVERY_AWAIT else 1 + count // 20):
        run_id = f"cancelled at {number}"
        handles.start(lambda run_id=run_id: start(run_id), number)
        assert handles.has_ended_as_it_says() in (shape.value, None), run_id
        before.check(run_id)
        assert cs.run(shape.target(), run_id=run_id, **options) == shape.value, run_id
    assert World.set_up == World.torn_down
