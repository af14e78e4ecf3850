"""What a resumed run calls, what it does not call, and what it refuses (S27)."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar

import pytest

import cascade as cs
from cascade.spec.exceptions import ChangedCodeError, VolatileValueWarning
from cascade.spec.records import Record, RunRow
from cascade.stores import open_store
from cascade.testing import MockClock

pytestmark = pytest.mark.needs_extra("sqlite", "postgresql", "redis")


class State:
    """The world outside: what was called, and what does not work yet."""

    calls: ClassVar[list[Any]] = []
    broken: ClassVar[set[Any]] = set()
    today: ClassVar[str] = ""

    @classmethod
    def day(cls) -> Any:
        """A parameter whose default is another one the next day."""
        return cs.Param("day", cls.today, str)


@pytest.fixture(autouse=True)
def _as_new() -> None:
    State.calls.clear()
    State.broken.clear()


def note(call: Any) -> None:
    State.calls.append(call)
    if call in State.broken:
        raise ConnectionError(call)


@cs.task
def add(x: int, y: int = 1) -> int:
    note(("add", x, y))
    return x + y


@cs.task
async def double(x: int) -> int:
    note(("double", x))
    return 2 * x


@cs.task
def is_even(x: int) -> bool:
    note(("is_even", x))
    return x % 2 == 0


@cs.task
def numbers(count: int) -> list[int]:
    note(("numbers", count))
    return list(range(count))


@cs.task
def count_down(left: int) -> Any:
    note(("count_down", left))
    return count_down(left - 1) if left else "done"


@cs.task
def total(values: list[int]) -> int:
    note(("total", len(values)))
    return sum(values)


class Run:
    """A run that is tried again and again."""

    def __init__(self, url: str, run_id: str = "run") -> None:
        self.url, self.run_id = url, run_id

    def __call__(self, target: Any, params: dict[str, Any] | None = None, **options: Any) -> Any:
        options = {"store": self.url, "run_id": self.run_id, "log_level": "CRITICAL", **options}
        return cs.run(target, params, **options)

    def fails(self, target: Any, *calls: Any, **options: Any) -> None:
        """Run it where some calls do not work, and do all that does not depend on these; afterwards they work."""
        State.broken.update(calls)
        with pytest.raises(cs.RunFailedGroup):
            self(target, **{"on_failure": "continue", **options})
        State.broken.clear()

    def resumed(self, target: Any, **options: Any) -> tuple[Any, list[Any]]:
        """What it gives, and what it calls for that."""
        State.calls.clear()
        return self(target, **options), list(State.calls)

    @property
    def row(self) -> RunRow:
        return self.look()[0]

    @property
    def records(self) -> list[Record]:
        return self.look()[1]

    def look(self) -> tuple[RunRow, list[Record]]:
        store = open_store(self.url)
        try:
            row = store.find(self.run_id)
            assert row is not None
            return row, store.records(self.run_id)
        finally:
            store.close()


@pytest.fixture
def run(store_url: str) -> Run:
    return Run(store_url)


@pytest.fixture
def here(tmp_path: Path) -> Run:
    """A run in SQLite, for what is the same whatever the store is."""
    return Run(f"sqlite:///{tmp_path}/flows.db")


def test_results_are_final_and_failures_are_tried_again(run: Run) -> None:
    def target() -> Any:
        return add(double(add(1, 1)), double(5))

    run.fails(target(), ("double", 5))
    assert run.row.status == "failed"
    assert run.resumed(target()) == (14, [("double", 5), ("add", 4, 10)])
    assert run.row.status == "succeeded"
    assert run.resumed(target()) == (14, [])


def test_a_finished_run_gives_its_value_whatever_it_is_asked_for(run: Run) -> None:
    assert run(add(1, 1)) == 2
    assert run.resumed(add(5, 5)) == (2, [])
    assert run.row.epoch == 2


def test_a_skip_is_final(run: Run) -> None:
    def target() -> Any:
        odd = is_even(3)
        skipped = add(1, 1).run_if(odd)
        router = cs.Router(is_even(4), {True: add(2, 2), False: add(3, 3)})
        return [cs.pipeline(7, [lambda before: double(before).run_if(skipped)]), add(router, 10)]

    run.fails(target(), ("add", 4, 10))
    kinds = {(record.name, record.kind): record.detail for record in run.records}
    assert kinds["add", "skipped"] in ("ConditionFalse", "Pruned")
    value, calls = run.resumed(target())
    assert value == [7, 14]
    assert calls == [("add", 4, 10)]


def test_parameters_are_those_that_the_run_began_with(run: Run) -> None:
    def target() -> Any:
        return add(cs.Param("x", type=int), cs.Param("y", 5, int))

    run.fails(target(), ("add", 2, 5), params={"x": "2"})
    for other in ({"x": 3}, {"y": 6}, {"x": 2, "y": 6}):
        with pytest.raises(cs.ResumeError, match="the parameters that it began with"):
            run(target(), other)
    assert run.row.status == "failed"
    assert run.resumed(target(), params={"x": "2"})[0] == 7
    assert run.resumed(target()) == (7, [])
    with pytest.raises(cs.ResumeError):
        run(target(), {"x": 3})


@cs.task
def told(*values: Any) -> Any:
    note(("told", *values))
    return list(values)


@cs.task
def told_for(rounds: int, day: Any) -> Any:
    """Goes on with graphs in which the parameter is declared again, as by a module that is imported anew."""
    note(("round", rounds, day))
    return told_for(rounds - 1, State.day()) if rounds else told("end", State.day())


@pytest.mark.parametrize("given", [{}, {"day": "20"}])
def test_defaults_are_those_that_the_run_began_with(run: Run, given: dict[str, Any]) -> None:  # S19, S27
    def target(day: str | None, size: int | None) -> Any:
        size_, day_ = cs.Param("size", size, int), cs.Param("day", day, str)
        return [told(day_), told("late", day_, size_)]

    run.fails(target("20", None), ("told", "late", "20", None))
    for other in ({"day": "21"}, {"size": 3}):
        with pytest.raises(cs.ResumeError, match="the run has"):
            run(target("21", 3), other)
    late = ("told", "late", "20", None)
    assert run.resumed(target("21", 3), params=given) == ([["20"], ["late", "20", None]], [late])


def test_a_parameter_that_came_later_takes_what_is_given_and_one_that_is_gone_is_passed_over(run: Run) -> None:
    run.fails(told(cs.Param("old", 1), cs.Param("given", type=int)), ("told", 1, 2), params={"given": "2"})
    with pytest.raises(cs.ParameterError, match="'old': unknown"):
        run(told(cs.Param("new", 3)), {"old": 1})
    State.broken.add(("told", 3, 4))
    with pytest.raises(ConnectionError):
        run(told(cs.Param("new", 3), 4))
    State.broken.clear()
    assert run.resumed(told(cs.Param("new", 3), 5), params={"new": "4"}) == ([4, 5], [("told", 4, 5)])


def test_graphs_that_tasks_return_have_the_values_that_the_run_began_with(run: Run) -> None:  # S18, S19
    def target() -> Any:
        return told_for(3, State.day())

    State.today = "20"
    State.broken.add(("round", 1, "20"))
    with pytest.raises(ConnectionError):
        run(target())
    State.broken.clear()
    State.today = "21"
    value, calls = run.resumed(target())
    assert value == ["end", "20"]
    assert calls == [("round", 1, "20"), ("round", 0, "20"), ("told", "end", "20")]


def test_a_default_that_no_store_can_hold_is_that_of_the_code(here: Run) -> None:
    lock = threading.Lock()
    State.broken.add(("told", lock, "x"))
    with pytest.raises(ConnectionError):
        here(told(cs.Param("lock", lock), cs.Param("name", "x")))
    State.broken.clear()
    assert here(told(cs.Param("lock", 5), cs.Param("name", "y"))) == [5, "x"]


@pytest.mark.parametrize("default", [cs.Secret("hunter2-hunter2"), None])
def test_secrets_are_no_part_of_what_is_kept_whatever_their_default_is(here: Run, default: cs.Secret | None) -> None:
    @cs.task
    def length(token: cs.Secret | None) -> int:
        return len(token.reveal()) if token else 0

    def target() -> Any:
        return told(cs.Param("n", 1), length(cs.Param("token", default, cs.Secret)))

    State.broken.update([("told", 1, 0), ("told", 1, 15)])
    with pytest.raises(ConnectionError):
        here(target())
    assert b"hunter2" not in here.row.params
    State.broken.clear()
    # Which one it was nobody knows any more.
    assert here(target(), {"token": "another-token"}) == [1, 15 if default else 0]


def test_a_run_that_cannot_begin_leaves_nothing(run: Run) -> None:
    with pytest.raises(cs.ParameterError):
        run(add(cs.Param("x", type=int)))
    store = open_store(run.url)
    assert store.runs() == []
    store.close()


def test_changed_code_uses_what_still_exists(run: Run) -> None:
    run.fails(add(double(add(1, 1)), 3), ("add", 4, 3))
    # Another last step, another literal in front of an old step, and a call once more that was made before.
    value, calls = run.resumed([double(add(double(add(1, 1)), 4)), double(add(1, 2)), add(1, 1)])
    assert value == [16, 6, 2]
    assert Counter(calls) == Counter([("add", 4, 4), ("double", 8), ("add", 1, 2), ("double", 3), ("add", 1, 1)])


def test_what_a_longer_program_adds_is_called_alone(run: Run) -> None:
    run.fails([add(number, 0) for number in range(5)] + [double(9)], ("double", 9))
    value, calls = run.resumed([add(number, 0) for number in range(8)] + [double(9)])
    assert value == [*range(8), 18]
    assert not set(calls) & {("add", number, 0) for number in range(4)}


@cs.task(name="changing")
def changing_1(x: int) -> int:
    note(("changing", 1))
    return x


def test_a_task_with_another_version_is_called_again(here: Run) -> None:
    first = cs.task(changing_1.function, name="changing", version="1")
    second = cs.task(changing_1.function, name="changing", version="2")
    here.fails(add(first(1), 1), ("add", 1, 1))
    value, calls = here.resumed(add(second(1), 1))
    assert value == 2
    assert calls == [("changing", 1), ("add", 1, 1)]


def test_each_item_of_a_map_is_kept(run: Run) -> None:
    def target() -> Any:
        return total(add.partial(y=10).map(x=numbers(40)))

    broken = {("add", number, 10) for number in (7, 20, 39)}
    run.fails(target(), *broken)
    done = set(State.calls) - broken
    value, calls = run.resumed(target())
    assert value == sum(range(10, 50))
    assert not done & set(calls)
    assert {("add", number, 10) for number in range(40)} <= done | set(calls)


def test_an_input_that_has_no_content_of_its_own_is_refused_before_anything_is_called(here: Run) -> None:
    with pytest.raises(cs.CascadeError, match="pass a list of its items"):
        here(total(add.map(x=iter([add(1, 1)]))))
    with pytest.raises(cs.CascadeError, match="inject it as a resource"):
        here(use_lock(threading.Lock(), add(1, 1)))
    assert State.calls == []


@cs.task
def grown(size: int) -> Any:
    note(("grown", size))
    return [add(size), double(size), add.map(x=numbers(size))]


def test_what_a_call_returned_goes_on_without_the_call(run: Run) -> None:
    def target() -> Any:
        return {"grown": grown(3), "other": add(0, 0)}

    run.fails(target(), ("double", 3), ("add", 1, 1))
    value, calls = run.resumed(target())
    assert value == {"grown": [4, 6, [1, 2, 3]], "other": 0}
    # A map starts no more items when one has failed.
    assert sorted(set(calls) - {("add", 2, 1)}) == [("add", 1, 1), ("double", 3)]


@pytest.mark.parametrize("durability", ["committed", "relaxed"])
def test_a_loop_goes_on_at_its_turn(durability: Any, run: Run) -> None:
    run.fails(count_down(50), ("count_down", 20), durability=durability)
    value, calls = run.resumed(count_down(50), durability=durability)
    assert value == "done"
    assert calls == [("count_down", left) for left in range(20, -1, -1)]


def test_a_loop_within_a_graph_goes_on_at_its_turn(run: Run) -> None:
    def target() -> Any:
        return [count_down(30), add(1, 1), count_down(12).run_if(is_even(2))]

    run.fails(target(), ("count_down", 4), ("count_down", 20))
    value, calls = run.resumed(target())
    assert value == ["done", 2, "done"]
    assert sorted(calls) == sorted(("count_down", left) for left in (*range(21), *range(5)))


@cs.task
def spin(left: int, look: int) -> Any:
    if left % look == 0:
        store = open_store(Looking.url)
        Looking.seen.append(len(store.records("run")))
        store.close()
    return spin(left - 1, look) if left else "done"


@cs.task
def spin_wide(left: int) -> Any:
    if left % 90 == 0:
        store = open_store(Looking.url)
        Looking.seen.append(len(store.records("run")))
        store.close()
    return spin_next(add.map(x=numbers(3)), left) if left else "done"


@cs.task
def spin_next(values: list[int], left: int) -> Any:
    return spin_wide(left - len(values))


class Looking:
    url = ""
    seen: ClassVar[list[int]] = []


@pytest.mark.parametrize(
    ("target", "durability"),
    [
        (lambda: spin(20_000, 2_000), "relaxed"),
        (lambda: spin(400, 50), "committed"),
        (lambda: spin_wide(900), "relaxed"),
    ],
    ids=["relaxed", "committed", "with maps"],
)
def test_a_loop_needs_the_room_of_a_turn(target: Callable[[], Any], durability: Any, here: Run, tmp_path: Path) -> None:
    Looking.url = here.url
    Looking.seen.clear()
    assert here(target(), durability=durability) == "done"
    assert len(Looking.seen) > 8
    # Some turns that wait to be written may be there, however long the loop.
    assert max(Looking.seen) <= 40
    assert len(here.records) <= 40
    assert sum(file.stat().st_size for file in tmp_path.rglob("*") if file.is_file()) < 8_000_000


def test_relaxed_runs_give_the_same_and_keep_what_they_have_done(run: Run) -> None:
    def target() -> Any:
        return total([add(double(number), number) for number in range(10)])

    run.fails(target(), ("total", 10), durability="relaxed")
    value, calls = run.resumed(target(), durability="relaxed")
    assert value == sum(3 * number for number in range(10))
    assert calls == [("total", 10)]


@cs.task
def tell(name: str) -> tuple[int, str]:
    told = cs.attempt(), cs.idempotency_key()
    State.calls.append((name, *told))
    note(name)
    return told


@cs.task
def flaky() -> int:
    State.calls.append(cs.attempt())
    if len(State.calls) < 4:
        raise ConnectionError
    return cs.attempt()


def test_attempts_that_were_to_be_repeated_are_counted_after_a_crash_too(tmp_path: Path) -> None:
    store = f"sqlite:///{tmp_path}/flows.db"
    for number in (1, 2, 3):
        # What is journaled before a wait is what a killed process leaves.
        target = flaky().with_retry(max_attempts=2, delay=3600.0)
        handle = cs.start(target, run_id="run", store=store, log_level="CRITICAL")
        opened = open_store(store)
        while ("failed", number) not in [(record.kind, record.attempt) for record in opened.records("run")]:
            assert handle.status == "running"
        opened.close()
        handle.cancel()
        with pytest.raises(cs.RunCancelledError):
            handle.result()
    assert cs.run(flaky(), run_id="run", store=store, log_level="CRITICAL") == 4
    assert State.calls == [1, 2, 3, 4]


def test_attempts_are_counted_and_keys_stay_over_all_resumes(run: Run) -> None:
    def target() -> Any:
        return [tell("first"), tell("second").with_retry(max_attempts=2), tell.map(name=["a", "b"])]

    for _ in range(2):
        run.fails(target(), "second", "b")
    value = run(target())
    told = [call for call in State.calls if type(call) is tuple]
    keys = {name: {key for told_name, _, key in told if told_name == name} for name in ("first", "second", "a", "b")}
    assert all(len(found) == 1 for found in keys.values()), keys
    assert len(set.union(*keys.values())) == 4
    assert all(len(key) == 32 and int(key, 16) for found in keys.values() for key in found)
    attempts = [attempt for name, attempt, _ in told if name == "second"]
    assert attempts == [1, 2, 3, 4, 5]
    assert [attempt for name, attempt, _ in told if name == "b"] == [1, 2, 3]
    assert value[1][0] == 5
    records = {record.label: record.attempt for record in run.records if record.name == "tell"}
    assert 5 in records.values()
    # Another run asks for other things.
    other = Run(run.url, "other")
    assert not {key for _, key in [other(tell("first"))]} & set.union(*keys.values())


@cs.task
def make_lock(number: int) -> Any:
    note(("make_lock", number))
    return threading.Lock()


@cs.task
def use_lock(lock: Any, x: int) -> int:
    note(("use_lock", x))
    return x if not lock.locked() else -1


def test_what_cannot_be_kept_is_used_and_made_again(run: Run) -> None:
    def target() -> Any:
        return add(use_lock(make_lock(1), add(1, 1)), use_lock(make_lock(2), 8))

    with pytest.warns(VolatileValueWarning, match="make_lock"):
        run.fails(target(), ("use_lock", 8))
    with pytest.warns(VolatileValueWarning, match="the task again"):
        value, calls = run.resumed(target())
    assert value == 10
    assert ("add", 1, 1) not in calls
    assert ("use_lock", 2) not in calls
    assert ("make_lock", 2) in calls
    assert run.resumed(target()) == (10, [])


def test_a_finished_run_whose_value_could_not_be_kept_makes_it_again(run: Run) -> None:
    def target() -> Any:
        return [make_lock(add(1, 1))]

    with pytest.warns(VolatileValueWarning):
        run(target())
    with pytest.warns(VolatileValueWarning):
        value, calls = run.resumed(target())
    assert type(value[0]) is type(threading.Lock())
    assert calls == [("make_lock", 2)]


@cs.task
def goes_on_with_what_cannot_be_kept(x: int) -> Any:
    note(("goes on", x))
    return add(cs.task(lambda value: value + 1)(x), 1)


def test_a_call_whose_continuation_cannot_be_kept_is_made_again(run: Run) -> None:
    def target() -> Any:
        return add(goes_on_with_what_cannot_be_kept(add(1, 1)), 5)

    with pytest.warns(VolatileValueWarning):
        run.fails(target(), ("add", 3, 1))
    with pytest.warns(VolatileValueWarning):
        value, calls = run.resumed(target())
    assert value == 9
    assert calls == [("goes on", 2), ("add", 3, 1), ("add", 4, 5)]


class Left:
    """A class that goes away for a while."""

    def __init__(self, x: int) -> None:
        self.x = x


@cs.task
def make_left(x: int) -> Left:
    note(("make_left", x))
    return Left(x)


@cs.task
def take_left(left: Left) -> int:
    note(("take_left", left.x))
    return left.x


def test_a_value_whose_class_is_gone_is_used_when_it_is_back(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    run.fails(take_left(make_left(3)), ("take_left", 3))
    with monkeypatch.context() as patch:
        patch.delitem(globals(), "Left")
        with pytest.raises(ChangedCodeError, match="Left"):
            run(take_left(make_left(3)))
    assert run.resumed(take_left(make_left(3))) == (3, [("take_left", 3)])


def test_a_cancelled_run_goes_on(run: Run) -> None:
    entered = threading.Event()

    async def cancelled() -> None:
        async with cs.create_engine(store=run.url) as engine:
            going = asyncio.create_task(engine.run(waits(add(1, 1)), run_id="run"))
            await asyncio.to_thread(entered.wait, 30)
            going.cancel()
            with pytest.raises(asyncio.CancelledError):
                await going

    Gate.entered, Gate.opened = entered, False
    asyncio.run(cancelled())
    assert run.row.status == "cancelled"
    Gate.opened = True
    assert run.resumed(waits(add(1, 1))) == (2, [("waits", 2)])


class Gate:
    entered = threading.Event()
    opened = True


@cs.task
async def waits(x: int) -> int:
    Gate.entered.set()
    if not Gate.opened:
        await asyncio.sleep(3600)
    note(("waits", x))
    return x


@cs.task
def runs_inside(x: int) -> int:
    note(("runs_inside", x))
    value: int = cs.run(add(add(x, 1), 1))
    return value


def test_what_a_task_runs_inside_belongs_to_the_task(run: Run) -> None:
    run.fails(add(runs_inside(1), 10), ("add", 3, 10))
    assert {record.name for record in run.records if record.kind == "value"} == {"runs_inside"}
    assert run.resumed(add(runs_inside(1), 10)) == (13, [("add", 3, 10)])


def test_retries_hold_in_a_resumed_run_as_in_the_first(run: Run) -> None:
    def target() -> Any:
        return add(double(4).with_retry(max_attempts=3), 0)

    run.fails(target(), ("double", 4))
    assert Counter(State.calls)["double", 4] == 3
    State.broken.add(("double", 4))
    with pytest.raises(ConnectionError):
        run.resumed(target())
    assert Counter(State.calls)["double", 4] == 3
    State.broken.clear()
    assert run.resumed(target()) == (8, [("double", 4), ("add", 8, 0)])


def test_one_engine_has_many_runs_and_resumes_them(run: Run) -> None:
    async def main() -> list[Any]:
        async with cs.create_engine(store=run.url) as engine:
            first = [engine.run(add(double(number), 1), run_id=f"run{number}") for number in range(8)]
            values = await asyncio.gather(*first)
            again = [engine.run(add(double(number), 1), run_id=f"run{number}") for number in range(8)]
            assert await asyncio.gather(*again) == values
            return values

    assert asyncio.run(main()) == [2 * number + 1 for number in range(8)]
    assert len(State.calls) == 16


def test_without_a_run_id_and_a_store_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CASCADE_STORE", f"sqlite:///{tmp_path}/flows.db")
    assert cs.run(add(1, 1), log_level="CRITICAL") == 2
    assert list(tmp_path.iterdir()) == []
    assert cs.run(add(1, 1), run_id="named", log_level="CRITICAL") == 2
    assert (tmp_path / "flows.db").exists()


def test_values_of_every_kind_come_back_equal(run: Run) -> None:
    def target() -> Any:
        return [cs.task(_value, name=f"value{place}")(place) for place in range(len(VALUES))] + [double(0)]

    run.fails(target(), ("double", 0))
    value, calls = run.resumed(target())
    assert value[:-1] == VALUES
    assert list(map(type, value[:-1])) == list(map(type, VALUES))
    assert calls == [("double", 0)]


VALUES: list[Any] = [
    *(None, True, 0, -(2**70), 1.5, float("inf"), "", "text\0\ud800", b"", b"\0\xff", (), [1, [2]], {"a": {1: None}}),
    *({1, 2}, frozenset({3}), 1 + 2j, range(3), "x" * 300_000, b"y" * 300_000, [0] * 100_000),
]


def _value(place: int) -> Any:
    note(("value", place))
    return VALUES[place]


def test_a_run_inside_a_task_of_a_durable_run_cannot_wait_for_a_signal(tmp_path: Path) -> None:
    @cs.task
    def nested() -> int:
        return cs.run(cs.wait_for_signal("go", int))

    with pytest.raises(cs.NestedRunError, match="from the task instead"):
        cs.run(nested(), run_id="outer", store=f"sqlite:///{tmp_path}/flows.db")


def test_a_run_whose_state_cannot_be_made_is_free_again(tmp_path: Path) -> None:
    def refuse(run_id: str) -> Any:
        raise RuntimeError(f"no state for {run_id}")

    url = f"sqlite:///{tmp_path}/flows.db"

    async def main() -> None:
        async with cs.create_engine(store=url, state_backend=refuse) as engine:
            with pytest.raises(RuntimeError, match="no state for broken"):
                await engine.run(cs.task(int)("7"), run_id="broken")
        async with cs.create_engine(store=url) as engine:
            assert await engine.run(cs.task(int)("7"), run_id="broken") == 7

    asyncio.run(main())


def test_a_moment_that_is_slept_until_is_not_put_off_by_a_restart(tmp_path: Path) -> None:
    clock = MockClock()
    moment = datetime.fromtimestamp(clock.now() + 100, UTC)

    async def run(**options: Any) -> Any:
        async with cs.create_engine(store=f"sqlite:///{tmp_path}/flows.db", clock=clock) as engine:
            return await engine.run(cs.sleep_until(moment), run_id="r", **options)

    with pytest.raises(cs.RunTimeoutError):
        asyncio.run(run(timeout=60))
    assert clock.monotonic() == 60
    assert asyncio.run(run()) == moment
    assert clock.monotonic() == 100


SLEEPS_AND_DIES = """
import asyncio, os, signal, sys
from datetime import UTC, datetime
import cascade as cs
from cascade.testing import MockClock

clock = MockClock()

@cs.task
async def die():
    await clock.sleep(60)
    os.kill(os.getpid(), signal.SIGKILL)

async def main():
    moment = datetime.fromtimestamp(clock.now() + 100, UTC)
    async with cs.create_engine(store=sys.argv[1], clock=clock) as engine:
        await engine.run([cs.sleep_until(moment), die()], run_id="r")

asyncio.run(main())
"""


@pytest.mark.parametrize(("resumed_after", "waits"), [(60, 40), (99, 1), (100, 0), (5000, 0)])
def test_who_is_killed_while_it_sleeps_until_a_moment_wakes_up_at_that_or_at_once(
    resumed_after: int, waits: int, tmp_path: Path
) -> None:
    url = f"sqlite:///{tmp_path}/flows.db"
    began = MockClock().now()
    moment = datetime.fromtimestamp(began + 100, UTC)
    assert subprocess.run([sys.executable, "-c", SLEEPS_AND_DIES, url], check=False).returncode == -signal.SIGKILL
    store = open_store(url)
    found = store.find("r")
    store.close()
    assert found is not None
    assert found.status == "running"
    clock = MockClock(start=began + resumed_after)

    async def resume() -> Any:
        async with cs.create_engine(store=url, clock=clock) as engine:
            return await engine.run([cs.sleep_until(moment)], run_id="r")

    assert asyncio.run(resume()) == [moment]
    assert clock.monotonic() == waits
