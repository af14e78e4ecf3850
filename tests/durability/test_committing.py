"""Who commits: a worker thread that waits for its own value does it, and holds nobody else up by that (S8, S27)."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import cascade as cs
from cascade.providers.documents import load_json
from cascade.runtime import fault_points
from cascade.runtime.clock import SystemClock
from cascade.runtime.durability.writer import Entry, Writer
from cascade.spec.records import Record
from cascade.stores import open_store

pytestmark = pytest.mark.needs_extra("sqlite")

LONG = 30.0


class Watched:
    """A store that tells before what it writes, on the thread that writes it."""

    def __init__(self, url: str, before_write: Callable[[set[str]], object]) -> None:
        self._store = open_store(url)
        self._before_write = before_write

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def write(self, run_id: str, epoch: int, records: list[Record], dropped: list[bytes], lease_until: float) -> None:
        self._before_write({record.name for record in records})
        self._store.write(run_id, epoch, records, dropped, lease_until)


class Grouping(Watched):
    """A store that tells what it has written in which transaction.

    Attributes:
        groups: the names of what was written together, in order.
        commits: how many transactions that took.
    """

    def __init__(self, url: str, before_write: Callable[[set[str]], object] = len) -> None:
        super().__init__(url, before_write)
        self.groups: list[set[str]] = []
        self.commits = 0
        fault_points.on_reach = self._reach

    def _reach(self, point: str) -> None:
        self.commits += point == "store.write.before-commit"

    def write(self, run_id: str, epoch: int, records: list[Record], dropped: list[bytes], lease_until: float) -> None:
        super().write(run_id, epoch, records, dropped, lease_until)
        names = {record.name for record in records}
        assert len(names) == len(records)
        self.groups.append(names)
        for name in names:
            MOMENTS[f"{name} is written"].set()


class WatchedClock(SystemClock):
    """Tells when a worker thread has nothing more to do."""

    def __init__(self, gone: threading.Event) -> None:
        super().__init__()
        self._gone = gone

    def idle(self, calls: int = 1) -> None:
        self._gone.set()


class Moments:
    """What has happened by now, by name."""

    def __init__(self) -> None:
        self._events: dict[str, threading.Event] = {}
        self._lock = threading.Lock()

    def __getitem__(self, name: str) -> threading.Event:
        with self._lock:
            return self._events.setdefault(name, threading.Event())

    def wait_for(self, name: str) -> None:
        assert self[name].wait(LONG), f"{name} has not come"


MOMENTS = Moments()


@pytest.fixture(autouse=True)
def moments() -> Moments:
    global MOMENTS  # noqa: PLW0603 - what the tasks here see, anew for each test
    MOMENTS = Moments()
    return MOMENTS


@cs.task
def step(name: str, *_: Any) -> str:
    MOMENTS[name].set()
    return name


def chain(name: str, length: int) -> cs.LazyResult[str]:
    value = step.named(f"{name}1")(f"{name}1")
    for number in range(2, length + 1):
        value = step.named(f"{name}{number}")(f"{name}{number}", value)
    return value


@cs.task
def a1() -> str:
    # Until then the other run may still need the store to begin.
    MOMENTS.wait_for("b1")
    return "a1"


@cs.task
def b1() -> str:
    MOMENTS["b1"].set()
    MOMENTS.wait_for("a1 is written")
    return "b1"


@pytest.mark.parametrize("apart", [False, True], ids=["one run", "two runs"])
def test_a_worker_that_has_committed_its_own_value_goes_on_before_others_are_committed(
    apart: bool, moments: Moments, tmp_path: Path
) -> None:
    def before_write(names: set[str]) -> None:
        if "a1" in names:
            assert names == {"a1"}
            moments["a1 is written"].set()
            # The worker that has called it leaves b1 to others, since the store is taken.
            moments.wait_for("gone")
        if "b1" in names:
            moments.wait_for("a2")

    async def main() -> Any:
        store: Any = Watched(f"sqlite:///{tmp_path}/flows.db", before_write)
        clock = WatchedClock(moments["gone"])
        async with cs.create_engine(store=store, clock=clock, max_workers=2) as engine:
            first, second = step.named("a2")("a2", a1()), step.named("b2")("b2", b1())
            if not apart:
                return await engine.run([first, second], run_id="both")
            runs = [asyncio.create_task(engine.run(first, run_id="a"))]
            runs.append(asyncio.create_task(engine.run(second, run_id="b")))
            return await asyncio.gather(*runs)

    assert asyncio.run(main()) == ["a2", "b2"]


@cs.task
def first(*others: str) -> str:
    # Another run needs the store to begin, and so must have begun before the writer is held.
    for other in others:
        MOMENTS.wait_for(f"{other} has begun")
    return "first"


@cs.task
def gate(name: str) -> None:
    MOMENTS[f"{name} has begun"].set()
    MOMENTS.wait_for("the writer is held")


@cs.task
def count_all(name: str, values: list[str]) -> int:
    # In a relaxed run nothing waits until it is written: now all the values are handed over that it has been given.
    MOMENTS[f"all of {name} wait"].set()
    for value in values:
        MOMENTS.wait_for(f"{value} is written")
    return len(values)


def fan(name: str, count: int) -> cs.LazyResult[int]:
    begun = gate.named(f"{name} gate")(name)
    steps = [step.named(f"{name} {number}")(f"{name} {number}", begun) for number in range(count)]
    return count_all.named(f"{name} all")(name, steps)


def members(name: str, numbers: range) -> set[str]:
    return {f"{name} {number}" for number in numbers}


def held_until(*names: str) -> Callable[[set[str]], None]:
    """Hold the writer at its first value, until all values of some fans have been handed over."""

    def before_write(written: set[str]) -> None:
        if "first" in written:
            MOMENTS["the writer is held"].set()
            for name in names:
                MOMENTS.wait_for(f"all of {name} wait")

    return before_write


def test_all_that_has_ended_while_the_writer_was_busy_goes_in_one_transaction(tmp_path: Path) -> None:
    async def main() -> None:
        store: Any = Grouping(f"sqlite:///{tmp_path}/flows.db", held_until("a"))
        async with cs.create_engine(store=store) as engine:
            target = [first(), fan("a", 400)]
            assert await engine.run(target, run_id="run", durability="relaxed") == ["first", 400]
        assert store.groups[:2] == [{"first"}, {"a gate", *members("a", range(400))}]
        # What is left is the task that waited for them, and the result of the run.
        assert store.commits == len(store.groups) <= 4

    asyncio.run(main())


def test_of_very_much_that_waits_five_hundred_go_in_one_transaction(tmp_path: Path) -> None:
    async def main() -> None:
        store: Any = Grouping(f"sqlite:///{tmp_path}/flows.db", held_until("a"))
        async with cs.create_engine(store=store) as engine:
            target = [first(), fan("a", 799)]
            assert await engine.run(target, run_id="run", durability="relaxed") == ["first", 799]
        assert [len(group) for group in store.groups[:3]] == [1, 500, 300]
        assert store.commits == len(store.groups) <= 5

    asyncio.run(main())


def test_each_run_that_waits_has_a_transaction_of_its_own(tmp_path: Path) -> None:
    async def main() -> None:
        store: Any = Grouping(f"sqlite:///{tmp_path}/flows.db", held_until("a", "b"))
        async with cs.create_engine(store=store) as engine:
            runs = [engine.run([first("b"), fan("a", 40)], run_id="a", durability="relaxed")]
            runs.append(engine.run(fan("b", 40), run_id="b", durability="relaxed"))
            assert await asyncio.gather(*runs) == [["first", 40], 40]
        assert store.groups[0] == {"first"}
        assert sorted(map(sorted, store.groups[1:3])) == [
            sorted({f"{name} gate", *members(name, range(40))}) for name in ("a", "b")
        ]
        assert store.commits == len(store.groups) <= 7

    asyncio.run(main())


@cs.task
def after_commit(name: str, before: str) -> str:
    MOMENTS.wait_for(f"{before} is written")
    return name


@pytest.mark.parametrize("durability", ["committed", "relaxed"])
def test_nothing_is_held_back_to_fill_a_group(durability: Any, tmp_path: Path) -> None:
    # The one worker goes on only when what it did before is in the store: with more to come, and nobody else to write.
    async def main() -> None:
        store: Any = Grouping(f"sqlite:///{tmp_path}/flows.db")
        async with cs.create_engine(store=store, max_workers=1) as engine:
            steps = [step.named("0")("0")]
            steps += [after_commit.named(f"{number}")(f"{number}", f"{number - 1}") for number in range(1, 20)]
            assert len(await engine.run(steps, run_id="run", durability=durability)) == 20
        assert store.groups[:19] == [{f"{number}"} for number in range(19)]
        assert store.commits == len(store.groups)

    asyncio.run(main())


class Pausing:
    """A value into which one looks slowly, and which is not soon ready to be kept a second time."""

    def __getitem__(self, key: str) -> str:
        MOMENTS["looking"].set()
        MOMENTS.wait_for("the other run has ended")
        return key

    def __reduce__(self) -> Any:
        if MOMENTS["kept once"].is_set():
            MOMENTS.wait_for("inner is written")
        MOMENTS["kept once"].set()
        return Pausing, ()


@cs.task
def inner() -> Pausing:
    return Pausing()


@cs.task
def outer() -> cs.LazyResult[Pausing]:
    return inner()


def test_code_of_users_that_takes_its_time_holds_back_no_commit(moments: Moments, tmp_path: Path) -> None:
    class Told(Watched):
        def write(self, *arguments: Any) -> None:
            super().write(*arguments)
            if any(record.name == "inner" for record in arguments[2]):
                moments["inner is written"].set()

    async def main() -> Any:
        store: Any = Told(f"sqlite:///{tmp_path}/flows.db", len)
        async with cs.create_engine(store=store) as engine:
            slow = asyncio.create_task(engine.run(outer()["found"], run_id="slow", durability="relaxed"))
            await asyncio.to_thread(moments.wait_for, "looking")
            async with asyncio.timeout(LONG / 2):
                other = await engine.run(chain("b", 3), run_id="other")
            moments["the other run has ended"].set()
            return other, await slow

    assert asyncio.run(main()) == ("b3", "found")


@cs.resource
def held() -> Iterator[str]:
    yield "held"
    MOMENTS["torn down"].set()


@cs.task
def user(held: str = cs.inject("held")) -> str:
    return held


@cs.task
async def successor(number: int) -> int:
    return number + 1


@cs.task
def pair(before: str) -> list[cs.LazyResult[int]]:
    one = successor(0)
    return [one, successor.named("two")(one)]


def test_what_is_committed_when_the_run_was_stopped_goes_no_further(moments: Moments, tmp_path: Path) -> None:
    def before_write(names: set[str]) -> None:
        if "two" in names:
            moments["being written"].set()
            moments.wait_for("torn down")

    store = f"sqlite:///{tmp_path}/flows.db"

    async def main() -> None:
        watched: Any = Watched(store, before_write)
        async with cs.create_engine(store=watched, resources=[held]) as engine:
            run = asyncio.create_task(engine.run([pair(user())], run_id="run"))
            await asyncio.to_thread(moments.wait_for, "being written")
            engine.cancel("run")
            with pytest.raises(cs.RunCancelledError):
                await run

    asyncio.run(main())
    assert cs.run([pair(user())], run_id="run", store=store, resources=[held], log_level="CRITICAL") == [[1, 2]]


class Closed:
    """A store into which nothing can be written, and a journal that is told so."""

    url = "closed"

    def __init__(self) -> None:
        self.told: list[BaseException] = []

    def close(self) -> None:
        pass

    def fail(self, error: BaseException) -> None:
        self.told.append(error)


def test_nothing_is_written_once_the_store_is_closed() -> None:
    closed: Any = Closed()
    writer = Writer(closed, SystemClock(), 15.0)
    writer.close()
    writer.leave(Entry(closed, closed))
    writer.write_here(closed)
    assert [type(error) for error in closed.told] == [cs.StoreError]


@cs.task
def path_of(folder: str) -> Any:
    return load_json.with_retry(max_attempts=2)(f"{folder}/found.json")


def test_a_task_of_a_provider_may_go_on_in_place_of_a_call(tmp_path: Path) -> None:
    (tmp_path / "found.json").write_text("[1, 2]")
    store = f"sqlite:///{tmp_path}/flows.db"
    assert cs.run(path_of(str(tmp_path)), run_id="run", store=store, log_level="CRITICAL") == [1, 2]


@cs.task
def count(*values: int) -> int:
    return len(values)


@cs.task
async def count_here(*values: int) -> int:
    return len(values)


@cs.task
def count_later(*values: int) -> cs.LazyResult[int]:
    return count(*values)


@pytest.mark.parametrize("durability", ["committed", "relaxed"])
@pytest.mark.parametrize("max_workers", [1, 2, 8])
def test_every_call_is_in_the_store_when_the_run_has_ended(durability: Any, max_workers: int, tmp_path: Path) -> None:
    def graph(size: int) -> cs.LazyResult[Any]:
        lane = [count(), count_here(), count_later()]
        for _ in range(size):
            before = lane[-3:]
            lane += [count(*before), count_here(*before), count_later(*before), count.map([*before])]
        return cs.task(len)(lane)

    async def main() -> list[Any]:
        async with cs.create_engine(store=f"sqlite:///{tmp_path}/flows.db", max_workers=max_workers) as engine:
            runs = [engine.run(graph(8), run_id=f"run {number}", durability=durability) for number in range(6)]
            return await asyncio.gather(*runs)

    assert asyncio.run(main()) == [35] * 6
    store = open_store(f"sqlite:///{tmp_path}/flows.db")
    kept = [Counter(record.kind for record in store.records(f"run {number}")) for number in range(6)]
    store.close()
    assert kept[0]["value"] > 60
    assert kept == [kept[0]] * 6
