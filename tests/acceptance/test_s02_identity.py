"""S2: a lazy value is computed at most once; two calls are two computations, unless they are pure and equal."""

from __future__ import annotations

import copy
import dataclasses
import threading
from typing import Any

import pytest

import cascade as cs
from tests.acceptance.kinds import Log, each_kind, made
from tests.acceptance.observed import await_sign, run

gather = cs.task(lambda *values: list(values), name="gather")


@each_kind
def test_a_value_with_many_consumers_is_computed_once(kind: str) -> None:  # S2
    log = Log()
    note = log.task(kind)
    shared = note("shared")
    users = [note(place, shared, [shared], {"again": shared}) for place in range(20)]
    run(gather(*users, shared, shared))
    assert log.times("shared") == 1
    assert len(log.entries) == 21


def test_a_value_wanted_as_condition_route_amount_and_input_is_computed_once() -> None:  # S2
    log = Log()
    note = log.task()
    shared = note(1)
    target = gather(
        note("conditional").run_if(shared),
        note("later").after(shared),
        cs.Router(shared, {1: shared, 2: note("unwanted")}),
        note("sized", shared).with_constraints(gpu=shared),
        cs.sequence([shared, note("last")]),
    )
    run(target, system_resources={"gpu": 1})
    assert log.times(1) == 1


@each_kind
def test_two_calls_are_two_computations(kind: str) -> None:  # S2
    log = Log()
    note = log.task(kind)
    assert run(gather(note("x"), note("x"))) == ["x", "x"]
    assert log.times("x") == 2


@each_kind
def test_equal_pure_calls_are_one_computation(kind: str) -> None:  # S2
    log = Log()
    note = log.task(kind, pure=True)
    assert run(gather(note("x"), note("x"), [note("x")], note("y"))) == ["x", "x", ["x"], "y"]
    assert sorted(log.entries) == ["x", "y"]


def test_equal_pure_calls_of_equal_pure_calls_are_one_all_the_way() -> None:  # S2
    log = Log()
    note = log.task(pure=True)
    run(gather(*(note("c", note("b", [note("a")])) for _ in range(5))))
    assert sorted(log.entries) == ["a", "b", "c"]


def test_pure_calls_over_values_that_are_two_computations_stay_two() -> None:  # S2
    log = Log()
    impure, pure = log.task(), log.task(pure=True, name="pure")
    run(gather(pure("p", impure("i")), pure("p", impure("i"))))
    assert log.times("p") == 2


@pytest.mark.parametrize(
    ("one", "other"),
    [(1, True), (1, 1.0), (0, False), ("1", 1), ([1], (1,)), ({1}, frozenset({1})), (b"a", "a"), ([1, 2], [2, 1])],
)
def test_values_that_only_compare_equal_are_different_inputs(one: Any, other: Any) -> None:  # S2
    log = Log()
    note = log.task(pure=True)
    run(gather(note(one), note(other)))
    assert len(log.entries) == 2


@pytest.mark.parametrize("value", [None, float("nan"), [1, {"a": (2,)}], {1, 2, 3}, b"bytes", 2**100])
def test_equal_content_is_equal_whatever_the_object(value: Any) -> None:  # S2
    log = Log()
    note = log.task(pure=True)
    run(gather(note(value), note(copy.deepcopy(value))))
    assert len(log.entries) == 1


def test_what_cannot_be_digested_never_merges() -> None:  # S2
    log = Log()
    note = log.task(pure=True)
    lock = threading.Lock()
    run(gather(note("x", lock), note("x", lock)))
    assert log.times("x") == 2


def test_two_lambdas_with_the_same_code_are_two_tasks() -> None:  # S2
    log = Log()
    tasks = [cs.task(lambda: log.entries.append("called"), name="same", pure=True) for _ in range(2)]
    run(gather(tasks[0](), tasks[1](), tasks[0]()))
    assert log.times("called") == 2


def test_two_closures_are_two_tasks() -> None:  # S2
    def adding(amount: int) -> cs.Task[..., int]:
        def add(x: int) -> int:
            return x + amount

        return cs.task(add, pure=True)

    assert run(gather(adding(1)(1), adding(2)(1), adding(1)(1))) == [2, 3, 2]


def spelled(x: int, y: int = 2) -> None:
    spelled_calls.append((x, y))


spelled_calls: list[tuple[int, int]] = []


def test_equal_inputs_are_equal_however_the_call_is_spelled() -> None:  # S2, S25
    spelled_calls.clear()
    task = cs.task(spelled, pure=True)
    run(gather(task(1), task(x=1), task(1, 2), task(1, y=2), task(y=2, x=1), task.partial(1)(), task.partial(y=2)(1)))
    assert spelled_calls == [(1, 2)]


def test_a_pure_call_with_a_policy_of_its_own_is_its_own_computation() -> None:  # S2, S3
    log = Log()
    note = log.task(pure=True)
    run(gather(note("x"), note("x").with_retry(2), note("x").named("other")))
    assert log.times("x") == 3


def test_a_pure_task_declared_with_policies_still_merges() -> None:  # S2
    log = Log()
    note = log.task(pure=True, retry=2)
    run(gather(note("x"), note("x")))
    assert log.times("x") == 1


def test_pure_calls_that_differ_in_version_or_name_are_two() -> None:  # S2, S26
    log = Log()

    def work() -> None:
        log.entries.append("work")

    run(gather(*(cs.task(work, pure=True, version=version)() for version in ("1", "2"))))
    assert log.times("work") == 2


def test_pure_calls_on_two_routes_serve_each_other() -> None:  # S2, S10
    log = Log()
    note = log.task(pure=True)
    chosen = cs.Router(cs.task(lambda: "b")(), {"a": note("x"), "b": note("x"), "c": note("y")})
    assert run(gather(chosen, note("x"))) == ["x", "x"]
    assert log.entries == ["x"]


def test_equal_pure_members_of_a_sequence_are_one() -> None:  # S2, S13
    log = Log()
    note = log.task(pure=True)
    assert run(cs.sequence([note("x"), note("x")])) == "x"
    assert log.entries == ["x"]


def test_merged_pure_calls_all_stand_in_the_results_of_a_failed_run() -> None:  # S2, S15
    log = Log()
    note = log.task(pure=True)
    one, same = note("x"), note("x")
    with pytest.raises(cs.RunFailedGroup) as caught:
        run([one, same, cs.task(lambda: 1 / 0)()], on_failure="continue")
    assert caught.value.results[one] == "x"
    assert caught.value.results[same] == "x"


@each_kind
def test_a_value_captured_by_a_returned_graph_is_computed_there_again(kind: str) -> None:  # S2, S18
    log = Log()
    note = log.task(kind)
    shared = note("shared")
    outer = made(kind, lambda _: note("inner", shared), name="outer")
    run(gather(outer(shared), shared))
    assert log.times("shared") == 2


@each_kind
def test_passing_the_value_shares_it_with_a_returned_graph(kind: str) -> None:  # S2, S18
    log = Log()
    note = log.task(kind)
    shared = note("shared")
    outer = made(kind, lambda value: note("inner", value), name="outer")
    run(gather(outer(shared), shared))
    assert log.times("shared") == 1


def test_a_value_is_computed_once_however_its_consumers_race() -> None:  # S2
    calls: list[int] = []
    gate = threading.Barrier(8)

    @cs.task
    def shared() -> int:
        calls.append(1)
        return 1

    @cs.task
    def user(value: int) -> int:
        gate.wait(30)
        return value

    value = shared()
    assert run(cs.task(sum)([user(value) for _ in range(8)])) == 8
    assert calls == [1]


def test_pure_dataclass_arguments_merge_by_content() -> None:  # S2
    log = Log()
    note = log.task(pure=True)
    run(gather(note("x", Options(1)), note("x", Options(1)), note("x", Options(2))))
    assert log.times("x") == 2


@dataclasses.dataclass
class Options:
    depth: int


def test_a_run_computes_again_what_another_run_has_computed() -> None:  # S2, S3
    log = Log()
    value = log.task()("x")
    run(value)
    run(value)
    assert log.times("x") == 2


def test_nothing_is_computed_twice_while_its_first_computation_is_under_way() -> None:  # S2
    started, goes_on = threading.Event(), threading.Event()
    calls: list[int] = []

    @cs.task
    def slow() -> int:
        calls.append(1)
        started.set()
        await_sign(goes_on)
        return 1

    @cs.task
    def opener() -> None:
        await_sign(started)
        goes_on.set()

    value = slow()
    run([value, opener(), gather(value), gather(value)])
    assert calls == [1]
