"""S9: a condition decides about its own node, and about nothing else."""

from __future__ import annotations

from typing import Any

import pytest

import cascade as cs
from cascade.runtime.events import TaskSkipped
from tests.acceptance.kinds import Log, each_kind, made
from tests.acceptance.observed import Trace, run

gather = cs.task(lambda *values: list(values), name="gather")


def reasons(trace: Trace) -> dict[str, str]:
    return {event.task_name: event.reason for event in trace.of(TaskSkipped)}


TRUTHY = [True, 1, "x", [0], {"k": None}, 0.1, pytest.param(object(), id="object")]
FALSY = [False, 0, "", [], {}, None, 0.0, ()]


@each_kind
@pytest.mark.parametrize("value", TRUTHY, ids=repr)
def test_a_truthy_condition_runs_the_node(kind: str, value: Any) -> None:  # S9
    log = Log()
    condition = made(kind, lambda: value, name="condition")()
    assert run(log.task(kind)("x").run_if(condition)) == "x"
    assert log.entries == ["x"]


@each_kind
@pytest.mark.parametrize("value", FALSY, ids=repr)
def test_a_falsy_condition_skips_the_node(kind: str, value: Any) -> None:  # S9
    log, trace = Log(), Trace()
    condition = made(kind, lambda: value, name="condition")()
    target = cs.sequence([log.task(kind)("x").run_if(condition)])
    assert run(target, bus=trace.bus) is None
    assert log.entries == []
    assert reasons(trace) == {"note": "ConditionFalse"}


def no() -> cs.LazyResult[bool]:
    return cs.task(lambda: False, name="no")()


@each_kind
def test_a_skipped_condition_skips_the_node(kind: str) -> None:  # S9
    trace, log = Trace(), Log()
    skipped = log.task(kind)("condition").named("condition").run_if(no())
    run(cs.sequence([log.task(kind)("x").run_if(skipped)]), bus=trace.bus)
    assert log.entries == []
    assert reasons(trace) == {"condition": "ConditionFalse", "note": "UpstreamSkipped_Condition"}


@each_kind
def test_a_failed_condition_skips_the_node_in_a_run_that_continues(kind: str) -> None:  # S9
    trace, log = Trace(), Log()
    failing = made(kind, lambda: 1 / 0, name="failing")()
    with pytest.raises(cs.RunFailedGroup) as caught:
        run([log.task(kind)("x").run_if(failing), log.task(kind)("y")], bus=trace.bus, on_failure="continue")
    assert [type(error) for error in caught.value.exceptions] == [ZeroDivisionError]
    assert log.entries == ["y"]
    assert reasons(trace) == {"note": "ConditionMissing"}


@each_kind
def test_the_other_inputs_are_computed_all_the_same(kind: str) -> None:  # S9
    log = Log()
    note = log.task(kind)
    value = note("x", note("input"), [note("nested")]).run_if(no()).after(note("before"))
    run(cs.sequence([value]))
    assert sorted(log.entries) == ["before", "input", "nested"]


def test_lazy_amounts_and_routes_of_a_skipped_node_are_computed_too() -> None:  # S9
    log = Log()
    note = log.task()
    chosen = cs.Router(note("a"), {"a": note("route"), "b": note("other")})
    value = note("x", chosen).with_constraints(gpu=log.task(name="amount")(1)).run_if(no())
    run(cs.sequence([value]), system_resources={"gpu": 1})
    assert sorted(map(str, log.entries)) == ["1", "a", "route"]


def test_a_condition_does_not_decide_about_other_consumers_of_the_inputs() -> None:  # S9
    log = Log()
    note = log.task()
    shared = note("shared")
    assert run(gather(cs.sequence([note("x", shared).run_if(no())]), shared)) == [None, "shared"]


def test_the_node_and_its_unconditional_twin_are_two() -> None:  # S9, S3
    log = Log()
    value = log.task()("x")
    assert run(gather(value, cs.sequence([value.run_if(no())]))) == ["x", None]


def test_the_condition_may_also_be_an_input() -> None:  # S9
    value = cs.task(lambda: 5)()
    assert run(gather(value, [value]).run_if(value)) == [5, [5]]
    trace = Trace()
    skipped = cs.task(lambda: 5, name="condition")().run_if(no())
    run(cs.sequence([gather(skipped).run_if(skipped)]), bus=trace.bus)
    assert reasons(trace)["gather"] == "UpstreamSkipped_Condition"


def test_a_condition_that_is_false_comes_before_all_other_reasons() -> None:  # S9, S12
    trace = Trace()
    skipped = cs.task(lambda: 1, name="input")().run_if(no())
    run(cs.sequence([gather(skipped).after(skipped).run_if(no())]), bus=trace.bus)
    assert reasons(trace)["gather"] == "ConditionFalse"


@each_kind
def test_a_map_takes_a_condition_for_the_whole(kind: str) -> None:  # S9, S17
    log, trace = Log(), Trace()
    note = log.task(kind)
    run(cs.sequence([note.map(["a", "b"]).run_if(no())]), bus=trace.bus)
    assert log.entries == []
    assert reasons(trace) == {"note": "ConditionFalse"}
    assert run(note.map(["a", "b"]).run_if(cs.task(lambda: 1)())) == ["a", "b"]


def test_parameters_items_routers_and_maps_may_be_conditions() -> None:  # S9
    value = cs.task(lambda: {"on": True, "off": False}, name="value")()
    one = cs.task(lambda: 1, name="one")
    for condition, runs in [
        (value["on"], True),
        (value["off"], False),
        (cs.Param("flag", type=bool), True),
        (cs.Router(value["off"], {True: True, False: False}), False),
        (cs.Router(value["on"], {True: value["on"], False: False}), True),
        (cs.task(abs).map([]), False),
        (cs.task(abs).map([0]), True),
        (cs.sequence([value["off"], value["on"]]), True),
        (cs.sequence([one().run_if(value["off"])]), False),
        (cs.pipeline(0, [cs.task(abs)]), False),
    ]:
        params = {"flag": "yes"} if "flag" in repr(condition) else {}
        assert run(cs.sequence([one().run_if(condition)]), params) == (1 if runs else None), condition


@pytest.mark.parametrize("switch", [True, False, None, 1, "yes"])
@pytest.mark.parametrize("where", ["value", "task", "decorator", "map", "router"])
def test_a_plain_value_as_condition_is_an_error_that_shows_param(where: str, switch: Any) -> None:  # S9
    task = cs.task(lambda: 1, name="one")
    if where == "decorator" and switch is None:
        return
    declare: Any = {
        "value": lambda: task().run_if(switch),
        "task": lambda: task.run_if(switch),
        "decorator": lambda: cs.task(lambda: 1, run_if=switch),
        "map": lambda: cs.task(abs).map([1]).run_if(switch),
        "router": lambda: cs.Router(task(), {1: 1}).run_if(switch),
    }[where]
    with pytest.raises(TypeError, match="Param") as caught:
        declare()
    assert repr(switch) in str(caught.value)


def test_a_condition_whose_truth_raises_fails_the_node() -> None:  # S9, S15
    class Vague:
        def __bool__(self) -> bool:
            raise ValueError("ambiguous")

    log = Log()
    vague = cs.task(Vague, name="vague")()
    with pytest.raises(ValueError, match="ambiguous") as caught:
        run(log.task(name="guarded")("x").run_if(vague))
    assert any("guarded" in note for note in caught.value.__notes__)
    with pytest.raises(cs.RunFailedGroup):
        run([log.task(name="guarded")("x").run_if(vague), log.task()("y")], on_failure="continue")
    assert log.entries == ["y"]


def test_conditions_in_a_chain_of_ten_thousand() -> None:  # S9
    log = Log()
    note = log.task()
    value = note(True)
    for _ in range(10_000):
        value = note(True).run_if(value)
    assert run(value) is True
    assert len(log.entries) == 10_001


def test_skips_travel_down_a_chain_of_conditions() -> None:  # S9, S12
    trace = Trace()
    value = cs.task(lambda: 1, name="first")().run_if(no())
    for _ in range(1_000):
        value = cs.task(lambda: 1, name="rest")().run_if(value)
    run(cs.sequence([value]), bus=trace.bus)
    found = [event.reason for event in trace.of(TaskSkipped)]
    assert found == ["ConditionFalse"] + ["UpstreamSkipped_Condition"] * 1_000
