"""S3: lazy values are immutable, compared by identity, and hold no state of a run."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

import cascade as cs
from cascade.runtime.events import TaskExecutionStarted, TaskRetrying, TaskSkipped
from tests.acceptance.kinds import Log, each_kind, made
from tests.acceptance.observed import Trace, run

one = cs.task(lambda: 1, name="one")
gather = cs.task(lambda *values: list(values), name="gather")


def every_kind_of_value() -> list[cs.LazyResult[Any]]:
    value = one()
    return [
        value,
        cs.task(abs).map([1, 2]),
        value["key"],
        *value.unpack(2),
        cs.Router(value, {1: 2}),
        cs.sequence([value]),
        cs.pipeline(value, [cs.task(abs)]),
        cs.Param("p", default=1),
        cs.Env("CASCADE_NOT_SET", default="x"),
    ]


def test_equality_and_hash_are_by_identity() -> None:  # S3
    for value, twin in zip(every_kind_of_value(), every_kind_of_value(), strict=True):
        if type(value).__name__ == "Input":
            continue
        assert value == value
        assert value != twin
        assert len({value, twin, value}) == 2
        assert value != 1
        assert {value: "found"}[value] == "found"


def test_repr_is_safe() -> None:  # S3
    class Rude:
        def __repr__(self) -> str:
            raise RuntimeError("no")

    for value in every_kind_of_value():
        assert repr(value)
    rude = cs.task(lambda x: x, name="taking")(Rude())
    assert "taking" in repr(rude)
    deep = one()
    for _ in range(10_000):
        deep = gather(deep)
    assert len(repr(deep)) < 1_000
    wide = gather(*range(100_000))
    assert len(repr(wide)) < 1_000


def test_a_lazy_value_takes_no_new_attributes() -> None:  # S3
    for value in every_kind_of_value():
        with pytest.raises(AttributeError):
            value.note = "mine"  # type: ignore[attr-defined]


POLICIES = {
    "run_if": lambda value: value.run_if(one()),
    "after": lambda value: value.after(one()),
    "with_retry": lambda value: value.with_retry(2),
    "with_timeout": lambda value: value.with_timeout(30.0),
    "with_cache": lambda value: value.with_cache(cs.InputsCache(cs.InMemoryCacheBackend())),
    "with_constraints": lambda value: value.with_constraints(gpu=1),
    "named": lambda value: value.named("mine"),
}
each_policy = pytest.mark.parametrize("policy", POLICIES)


@each_policy
def test_policies_return_a_new_value_and_leave_the_old_one_alone(policy: str) -> None:  # S3
    plain = one()
    before = plain.policy
    changed = POLICIES[policy](plain)
    assert changed is not plain
    assert changed != plain
    assert type(changed) is type(plain)
    assert plain.policy is before


@each_policy
@pytest.mark.parametrize("kind", ["async", "waiting", "inline"])
def test_a_value_with_its_own_policy_is_its_own_computation(policy: str, kind: str) -> None:  # S3
    if policy == "with_timeout" and kind == "inline":
        pytest.skip("inline tasks take no timeout")
    log = Log()
    value = log.task(kind)("x")
    run(gather(value, POLICIES[policy](value)), system_resources={"gpu": 1})
    assert log.times("x") == 2


@each_policy
def test_tasks_and_partials_take_the_same_policies(policy: str) -> None:  # S3
    log = Log()
    note = log.task("async")
    task = POLICIES[policy](note)
    partial = POLICIES[policy](note.partial("b"))
    assert isinstance(task, cs.Task)
    assert task is not note
    assert run(gather(task("a"), partial()), system_resources={"gpu": 1}) == ["a", "b"]
    assert sorted(log.entries) == ["a", "b"]
    assert note.policy is None


@each_kind
def test_policies_can_be_declared_on_the_task(kind: str) -> None:  # S3
    log = Log()
    no = cs.task(lambda: False, name="no")()
    first = log.task(kind)("first")
    options = {"retry": 1} if kind == "policy" else {}
    never = made(kind, lambda: log.entries.append("never"), name="never", run_if=no)
    second = cs.task(lambda: log.entries.append("second"), name="second", after=[first], **options)
    with pytest.raises(cs.DependencyMissingError, match="ConditionFalse"):
        run(never())
    run(second())
    assert log.entries == ["first", "second"]


def test_policies_at_the_call_win_over_those_of_the_task() -> None:  # S3
    trace = Trace()
    calls: list[int] = []

    @cs.task(retry=5)
    def fails() -> None:
        calls.append(1)
        raise ValueError("always")

    with pytest.raises(ValueError, match="always"):
        run(fails().with_retry(2), bus=trace.bus)
    assert len(calls) == 2
    assert [event.max_attempts for event in trace.of(TaskRetrying)] == [2]


def test_policies_at_the_call_keep_the_others_of_the_task() -> None:  # S3
    calls: list[int] = []

    @cs.task(retry=3)
    def fails() -> None:
        calls.append(1)
        raise ValueError("always")

    with pytest.raises(ValueError, match="always"):
        run(fails().named("mine"))
    assert len(calls) == 3


def test_policies_of_one_kind_win_by_the_last_and_after_adds_up() -> None:  # S3
    log = Log()
    note = log.task()
    no, yes = cs.task(lambda: False)(), cs.task(lambda: True)()
    assert run(note("x").run_if(no).run_if(yes)) == "x"
    run(note("last").after(note("a")).after(note("b")))
    assert sorted(log.entries[1:3]) == ["a", "b"]
    assert log.entries[3] == "last"


def test_connectors_take_conditions_order_and_names() -> None:  # S3
    log = Log()
    note = log.task()
    no = cs.task(lambda: False)()
    value = cs.task(lambda: {"k": 1})()
    assert run(cs.sequence([value["k"].run_if(no)])) is None
    assert run(value["k"].after(note("before"))) == 1
    assert log.entries == ["before"]
    assert value["k"].named("mine").name == "mine"
    for connector in (value["k"], cs.Router(value, {1: 2}), cs.sequence([value])):
        with pytest.raises(cs.DeclarationError, match="makes no call"):
            connector.with_retry(2)


@each_kind
def test_one_value_may_be_run_many_times(kind: str) -> None:  # S3
    log = Log()
    note = log.task(kind)
    value = gather(note("a"), cs.Router(note("b"), {"b": note("c"), "d": note("e")}))
    for _ in range(5):
        assert run(value) == ["a", "c"]
    assert sorted(log.entries) == sorted(["a", "b", "c"] * 5)


@each_kind
def test_one_value_may_run_in_several_threads_at_once(kind: str) -> None:  # S3
    threads = 4
    both = threading.Barrier(threads)
    met = made("sync", lambda: both.wait(30), name="meet")
    number = made(kind, lambda: 1, name="number")
    value = cs.task(lambda met, x, chosen: x + chosen, name="add")(
        met(), number(), cs.Router(number(), {1: number(), 2: number()})
    )
    found: list[int] = []
    workers = [threading.Thread(target=lambda: found.append(run(value))) for _ in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert found == [2] * threads


@each_kind
def test_one_value_may_run_several_times_at_once_on_one_loop(kind: str) -> None:  # S3
    log = Log()
    value = gather(log.task(kind)("x"))

    async def main() -> list[Any]:
        return await asyncio.gather(*(cs.arun(value, log_level="CRITICAL") for _ in range(5)))

    assert asyncio.run(main()) == [["x"]] * 5
    assert log.times("x") == 5


def test_one_value_may_be_part_of_many_graphs() -> None:  # S3
    base = one()
    assert [run(gather(base, place)) for place in range(3)] == [[1, 0], [1, 1], [1, 2]]


def test_a_run_that_failed_leaves_nothing_in_the_value() -> None:  # S3
    outcomes = iter([ValueError("first"), None])

    @cs.task
    def moody() -> str:
        error = next(outcomes)
        if error is not None:
            raise error
        return "fine"

    value = gather(moody())
    with pytest.raises(ValueError, match="first"):
        run(value)
    assert run(value) == ["fine"]


def test_a_skip_in_one_run_is_none_in_the_next() -> None:  # S3
    switch = cs.Param("switch", type=bool)
    value = cs.sequence([one().run_if(switch)])
    assert run(value, {"switch": False}) is None
    assert run(value, {"switch": True}) == 1


def test_names_given_at_the_call_reach_events() -> None:  # S3
    trace = Trace()
    no = cs.task(lambda: False, name="no")()
    run(cs.sequence([one().named("first"), one().named("second").run_if(no)]), bus=trace.bus)
    assert {event.task_name for event in trace.of(TaskExecutionStarted)} == {"first", "no"}
    assert [event.task_name for event in trace.of(TaskSkipped)] == ["second"]


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: one().named(""),
        lambda: one().with_retry(0),
        lambda: one().with_timeout(0),
        lambda: one().with_timeout(float("nan")),
        lambda: one().with_cache("disk"),  # type: ignore[arg-type]
        lambda: one().after("x"),  # type: ignore[arg-type]
        lambda: one().with_retry(2, delay=-1),
    ],
)
def test_policies_that_mean_nothing_are_refused_at_once(wrong: Any) -> None:  # S3, S30
    with pytest.raises(cs.CascadeError):
        wrong()
