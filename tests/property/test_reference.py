"""The reference itself, held against what was worked out by hand: a small workflow for each rule."""

from __future__ import annotations

import ast
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.property import description
from tests.property.description import (
    Call,
    Container,
    Expr,
    Fails,
    Function,
    Given,
    Input,
    Item,
    Lit,
    Map,
    Node,
    Outer,
    Part,
    Pipeline,
    Policy,
    Ref,
    Route,
    Sequence,
    Step,
    Template,
    Workflow,
)
from tests.property.generation import random_workflow, seeded
from tests.property.prediction import Failed, Prediction, Skipped, Value
from tests.property.reduction import reduced
from tests.property.reference import TooMuch, predict
from tests.property.values import Box, number_of, portrait

NUMBER, FAILING, ECHO, PAIR, LIST2, PURE = range(6)
FUNCTIONS = (
    Function(),
    Function(fails=Fails()),
    Function("echo"),
    Function("pair"),
    Function("list2"),
    Function(pure=True),
)
YES, NO = Input("yes", value=True), Input("no", value=False)


def number(function: int, *arguments: Any) -> int:
    return number_of((function, (*arguments, *(None,) * (3 - len(arguments)))))


def echo(expression: Expr) -> Call:
    return Call(ECHO, (("a", expression),))


def run(*nodes: Node, target: Expr | None = None, functions: tuple[Function, ...] = FUNCTIONS) -> Prediction:
    """Predict a run of the nodes; the target is the last one unless given."""
    return predict(Workflow(functions, nodes, Ref(len(nodes) - 1) if target is None else target))


def ends(prediction: Prediction) -> dict[str, str]:
    """How each call or map ended, where each name ends once."""
    counted = prediction.ledger.ends
    assert set(counted.values()) <= {1}
    assert len(dict(counted)) == len(counted)
    return dict(counted)


def skipped_if(condition: int) -> Call:
    return Call(NUMBER, policy=Policy(run_if=Ref(condition)))


def test_a_value_is_computed_once_however_many_want_it() -> None:  # S2
    seen = run(Call(NUMBER), echo(Container("list", (Ref(0), Ref(0)))), Call(ECHO, (("a", Ref(1)), ("b", Ref(0)))))
    assert seen.outcome == Value([number(NUMBER)] * 2)
    assert seen.ledger.calls == {NUMBER: 1, ECHO: 2}


def test_equal_calls_of_pure_functions_are_one_and_nearly_equal_ones_are_not() -> None:  # S2
    def pure(value: Any) -> Call:
        return Call(PURE, (("a", Lit(value)),), positional=1)

    everything = Container("list", tuple(Ref(place) for place in range(6)))
    seen = run(pure(1), pure(1), pure(True), pure(1.0), Call(NUMBER), Call(NUMBER), target=everything)
    assert seen.ledger.calls == {PURE: 3, NUMBER: 2}


def test_pure_calls_of_merged_calls_merge_and_those_of_equal_impure_calls_do_not() -> None:  # S2
    def pure(place: int) -> Call:
        return Call(PURE, (("a", Ref(place)),))

    merged = run(Call(PURE), Call(PURE), pure(0), pure(1), target=Container("list", (Ref(2), Ref(3))))
    assert merged.ledger.calls == {PURE: 2}
    apart = run(Call(NUMBER), Call(NUMBER), pure(0), pure(1), target=Container("list", (Ref(2), Ref(3))))
    assert apart.ledger.calls == {NUMBER: 2, PURE: 2}


@pytest.mark.parametrize(
    ("kind", "expected"),
    [("list", [0, 1]), ("tuple", (0, 1)), ("dict", {"k0": 0, "k1": 1}), ("set", {0, 1}), ("box", Box(0, 1))],
)
def test_containers_arrive_with_results_in_a_container_of_the_same_type(kind: str, expected: Any) -> None:  # S4
    seen = run(echo(Lit(0)), echo(Lit(1)), echo(Container(kind, (Ref(0), Ref(1)))))
    assert seen.outcome == Value(expected)


def test_parts_of_a_value_are_values() -> None:  # S5
    low = number(PAIR)
    parts = Container("tuple", (Ref(1), Ref(2)))
    seen = run(Call(PAIR), Item(Ref(0), 0), Part(Ref(0), 2, 1), target=parts)
    assert seen.outcome == Value((low, low + 1))
    assert seen.ledger.calls == {PAIR: 1}


def test_a_missing_part_fails() -> None:  # S5
    assert run(Call(PAIR), Item(Ref(0), 2)).ledger.failures == [(("IndexError",),)]
    assert run(Call(PAIR), Part(Ref(0), 3, 0)).ledger.failures == [(("ValueError",),)]


def test_only_what_the_target_needs_runs() -> None:  # S8
    seen = run(Call(NUMBER), Call(LIST2), target=Ref(0))
    assert seen.ledger.calls == {NUMBER: 1}
    assert ends(seen) == {("n0", "Succeeded"): 1}


def test_a_condition_decides_about_its_own_node_and_its_inputs_are_computed_all_the_same() -> None:  # S9
    seen = run(NO, Call(PAIR), Call(NUMBER, (("a", Ref(1)),), Policy(run_if=Ref(0))))
    assert seen.outcome == Skipped("ConditionFalse")
    assert seen.reasons == {"ConditionFalse"}
    assert seen.ledger.calls == {PAIR: 1}
    assert run(YES, skipped_if(0)).outcome == Value(number(NUMBER))


def test_a_skipped_condition_and_a_failed_one() -> None:  # S9
    seen = run(NO, skipped_if(0), skipped_if(1))
    assert seen.outcome == Skipped("UpstreamSkipped_Condition")
    assert run(Call(FAILING), skipped_if(0)).outcome == Skipped("ConditionMissing")
    # What was skipped because something else failed has not failed itself.
    assert run(Call(FAILING), echo(Ref(0)), skipped_if(1)).outcome == Skipped("UpstreamSkipped_Condition")


def test_a_router_computes_the_route_that_was_chosen_and_prunes_the_others() -> None:  # S10, S11
    routes = ((True, Ref(1)), (False, Ref(3)))
    seen = run(NO, Call(NUMBER), Call(PAIR), echo(Ref(2)), Route(Ref(0), routes), echo(Ref(4)))
    pair = number(PAIR)
    assert seen.outcome == Value((pair, pair + 1))
    assert ends(seen)["n1", "Pruned"] == 1
    assert seen.ledger.calls == {PAIR: 1, ECHO: 2}


def test_pruning_goes_up_and_stops_at_what_something_else_wants() -> None:  # S11
    chain = (YES, Call(NUMBER), Call(PAIR), Call(LIST2, (("a", Ref(1)), ("b", Ref(2)))))
    routes = ((True, Lit("plain")), (False, Ref(3)))
    seen = run(*chain, Route(Ref(0), routes), target=Container("list", (Ref(4), Ref(1))))
    assert seen.outcome == Value(["plain", number(NUMBER)])
    assert ends(seen) == {("n1", "Succeeded"): 1, ("n2", "Pruned"): 1, ("n3", "Pruned"): 1}


@pytest.mark.parametrize("value", [None, False, 0])
def test_any_key_can_choose_and_keys_are_told_apart_by_their_type(value: Any) -> None:  # S10
    seen = run(Input("s", value), Route(Ref(0), ((None, Lit("n")), (False, Lit("f")))))
    if value == 0 and value is not False:
        assert seen.ledger.failures == [(("UnknownRouteError",),)]
    else:
        assert seen.outcome == Value("n" if value is None else "f")


def test_an_unknown_key_fails_the_router_and_releases_all_routes() -> None:  # S10
    seen = run(Input("s", "z"), Call(NUMBER), Route(Ref(0), (("a", Ref(1)),)), echo(Ref(2)))
    assert seen.ledger.failures == [(("UnknownRouteError",),)]
    assert ends(seen) == {("n1", "Pruned"): 1, ("n3", "UpstreamFailed"): 1}


def test_a_skipped_route_and_a_skipped_selector() -> None:  # S10
    nodes = (NO, skipped_if(0), Route(Ref(0), ((False, Ref(1)),)), echo(Ref(2)), echo(Ref(3)))
    assert ends(run(*nodes)) == {
        ("n1", "ConditionFalse"): 1, ("n3", "UpstreamSkipped_Route"): 1, ("n4", "UpstreamSkipped_Data"): 1,
    }  # fmt: skip
    nodes = (NO, skipped_if(0), Call(PAIR), Route(Ref(1), ((False, Ref(2)),)), echo(Ref(3)))
    assert ends(run(*nodes)) == {
        ("n1", "ConditionFalse"): 1, ("n2", "Pruned"): 1, ("n4", "UpstreamSkipped_Data"): 1,
    }  # fmt: skip


def test_a_router_whose_selector_is_a_skipped_router_was_not_skipped_by_its_route() -> None:  # S10
    inner, outer = Route(Ref(0), ((False, Ref(1)),)), Route(Ref(2), ((False, Lit(0)),))
    seen = run(NO, skipped_if(0), inner, outer, echo(Ref(3)))
    assert ends(seen) == {("n1", "ConditionFalse"): 1, ("n4", "UpstreamSkipped_Data"): 1}


def test_a_router_as_condition_and_as_predecessor() -> None:  # S10, S12
    skipped = (NO, skipped_if(0), Route(Ref(0), ((False, Ref(1)),)))
    assert run(*skipped, skipped_if(2)).outcome == Skipped("UpstreamSkipped_Condition")
    after = Call(NUMBER, policy=Policy(after=(Ref(2),)))
    assert run(*skipped, after).outcome == Skipped("UpstreamSkipped_Sequence")


def test_a_router_within_a_router_is_a_route() -> None:  # S10
    inner = Route(Ref(1), ((True, Lit("x")),))
    outer = Route(Ref(0), ((True, Ref(2)), (False, Lit("y"))))
    assert run(YES, YES, inner, outer).outcome == Value("x")
    assert run(NO, YES, inner, outer).outcome == Value("y")


def test_several_reasons_have_an_order() -> None:  # S12
    base = (NO, skipped_if(0), Route(Ref(0), ((False, Ref(1)),)), Call(FAILING), YES)

    def reason(policy: Policy, *data: int) -> str:
        args = tuple(zip("abc", map(Ref, data), strict=False))
        seen = run(*base, Call(NUMBER, args, policy))
        ((end, _),) = [(end, times) for (name, end), times in seen.ledger.ends.items() if name == "n5"]
        return end

    assert reason(Policy(run_if=Ref(0), after=(Ref(1),)), 1, 2, 3) == "ConditionFalse"
    assert reason(Policy(run_if=Ref(1), after=(Ref(1),)), 1, 2, 3) == "UpstreamSkipped_Condition"
    assert reason(Policy(run_if=Ref(3), after=(Ref(1),)), 1, 2, 3) == "ConditionMissing"
    assert reason(Policy(run_if=Ref(4), after=(Ref(1),)), 1, 2, 3) == "UpstreamFailed"
    assert reason(Policy(run_if=Ref(4), after=(Ref(3),)), 1, 2) == "UpstreamFailed"
    assert reason(Policy(run_if=Ref(4), after=(Ref(1),)), 1, 2) == "UpstreamSkipped_Sequence"
    assert reason(Policy(run_if=Ref(4)), 1, 2) == "UpstreamSkipped_Route"
    assert reason(Policy(run_if=Ref(4)), 1) == "UpstreamSkipped_Data"
    assert reason(Policy(amount=Ref(1))) == "UpstreamSkipped_Data"
    assert reason(Policy(run_if=Ref(4))) == "Succeeded"


def test_a_sequence_gives_its_last_value_or_none() -> None:  # S13, S14
    assert run(Call(PAIR), echo(Lit(7)), Sequence((Ref(0), Ref(1)))).outcome == Value(7)
    seen = run(NO, skipped_if(0), Call(PAIR), echo(Lit(7)), Sequence((Ref(1), Ref(2), Ref(3))), echo(Ref(4)))
    assert seen.outcome == Value(None)
    assert ends(seen) == {
        ("n1", "ConditionFalse"): 1, ("n2", "UpstreamSkipped_Sequence"): 1,
        ("n3", "UpstreamSkipped_Sequence"): 1, ("n5", "Succeeded"): 1,
    }  # fmt: skip


def test_a_sequence_orders_its_members_for_all_their_consumers() -> None:  # S13
    nodes = (NO, skipped_if(0), Call(PAIR), Sequence((Ref(1), Ref(2))), echo(Ref(2)))
    assert run(*nodes, target=Container("list", (Ref(3), Ref(4)))).outcome == Skipped("UpstreamSkipped_Data")
    assert run(*nodes, target=Ref(4)).outcome == Value((number(PAIR), number(PAIR) + 1))


def test_a_sequence_on_a_route_that_is_not_taken_orders_its_members_still() -> None:  # S11, S13
    nodes = (
        YES,
        Call(NUMBER),
        Call(PAIR),
        Sequence((Ref(1), Ref(2))),
        Route(Ref(0), ((True, Ref(2)), (False, Ref(3)))),
    )
    seen = run(*nodes)
    assert seen.ledger.calls == {NUMBER: 1, PAIR: 1}


def test_a_sequence_within_a_sequence() -> None:  # S13
    nodes = (
        NO,
        skipped_if(0),
        Call(PAIR),
        Call(LIST2),
        Sequence((Ref(2), Ref(3))),
        Sequence((Ref(1), Ref(4))),
    )
    seen = run(*nodes)
    assert seen.outcome == Value(None)
    assert ends(seen)["n2", "UpstreamSkipped_Sequence"] == 1
    assert ends(seen)["n3", "UpstreamSkipped_Sequence"] == 1


def test_a_step_skipped_by_its_condition_lets_the_value_before_it_through() -> None:  # S13
    off, on = Policy(run_if=Ref(0)), Policy()

    def pipeline(*policies: Policy) -> Any:
        return run(NO, Pipeline(Lit(3), tuple(Step(NUMBER, (), policy) for policy in policies))).outcome

    once = number(NUMBER, 3)
    assert pipeline(off, on) == pipeline(on, off) == pipeline(off, on, off, off) == Value(once)
    assert pipeline(off, off) == Value(3)
    assert pipeline(on, on) == Value(number(NUMBER, once))


def test_a_step_skipped_for_another_reason_skips_what_follows() -> None:  # S13
    steps = (Step(NUMBER, (), Policy(after=(Ref(1),))), Step(NUMBER), Step(NUMBER, (), Policy(run_if=Ref(0))))
    seen = run(NO, skipped_if(0), Pipeline(Lit(3), steps))
    assert seen.outcome == Skipped("UpstreamSkipped_Data")
    assert ends(seen) == {
        ("n1", "ConditionFalse"): 1, ("n2.0", "UpstreamSkipped_Sequence"): 1,
        ("n2.1", "UpstreamSkipped_Data"): 1, ("n2.2", "ConditionFalse"): 1,
    }  # fmt: skip


def test_a_skipped_member_of_a_target_is_missing() -> None:  # S14
    seen = run(NO, skipped_if(0), Call(PAIR), target=Container("dict", (Ref(2), Ref(1))))
    assert isinstance(seen.outcome, Skipped)
    assert seen.reasons == {"ConditionFalse"}


def test_all_failures_are_collected_and_their_dependents_skipped() -> None:  # S15
    nodes = (Call(FAILING), Call(FAILING, (("a", Lit(1)),)), echo(Ref(0)), echo(Ref(2)), Call(PAIR))
    seen = run(*nodes, target=Container("list", (Ref(1), Ref(3), Ref(4))))
    assert isinstance(seen.outcome, Failed)
    expected = [(("Boom", FAILING, number(FAILING)),), (("Boom", FAILING, number(FAILING, 1)),)]
    assert sorted(seen.ledger.failures) == sorted(expected)
    assert ends(seen) == {
        ("n0", "Failed"): 1, ("n1", "Failed"): 1, ("n2", "UpstreamFailed"): 1,
        ("n3", "UpstreamFailed"): 1, ("n4", "Succeeded"): 1,
    }  # fmt: skip
    assert set(seen.values) == {4}
    assert seen.idle == {0, 1, 2, 3}


@pytest.mark.parametrize(("fails", "attempts", "calls"), [(1, 2, 2), (2, 2, 2), (1, 3, 2), (2, 3, 3), (1, None, 1)])
def test_retries_count_all_calls(fails: int, attempts: int | None, calls: int) -> None:  # S16
    seen = run(Call(0, policy=Policy(attempts=attempts)), functions=(Function(fails=Fails(fails)),))
    assert seen.ledger.calls == {0: calls}
    assert bool(seen.ledger.failures) == (fails >= (attempts or 1))


def test_a_map_gives_the_results_in_order() -> None:  # S17
    seen = run(
        Call(LIST2),
        Map(NUMBER, (("a", Ref(0)), ("b", Container("list", (Lit("x"), Ref(0))))), (("c", Lit(9)),)),
    )
    low = number(LIST2)
    assert seen.outcome == Value([number(NUMBER, low, "x", 9), number(NUMBER, low + 1, [low, low + 1], 9)])
    assert seen.ledger.calls == {LIST2: 1, NUMBER: 2}
    assert run(Map(NUMBER, (("a", Container("list", ())),))).outcome == Value([])


def test_inputs_of_different_lengths_fail_the_map_before_any_item() -> None:  # S17
    seen = run(Call(LIST2), Map(NUMBER, (("a", Ref(0)), ("b", Container("list", (Lit(1),))))))
    assert seen.ledger.failures == [(("MapInputError",),)]
    assert seen.ledger.calls == {LIST2: 1}


def test_a_failing_item_fails_the_map_and_the_others_may_have_run() -> None:  # S17
    column = Container("list", (Lit(1), Lit(2), Lit(3)))
    seen = run(Map(FAILING, (("a", column),)), echo(Ref(0)))
    assert seen.ledger.failures == [tuple(("Boom", FAILING, number(FAILING, item)) for item in (1, 2, 3))]
    assert seen.ledger.calls == Counter()
    assert seen.ledger.spare_calls == {FAILING: 3}
    assert ends(seen) == {("n0", "Failed"): 1, ("n1", "UpstreamFailed"): 1}


def looping(result: Expr, *nodes: Node, fails: Fails | None = None) -> tuple[Function, ...]:
    """`FUNCTIONS` and, as number 6, a function that returns this graph while it has turns left."""
    return (*FUNCTIONS, Function(fails=fails, template=Template(nodes, result)))


AGAIN = Call(6, (("a", Given(0)), ("b", Given(1))))


def turns(count: int, attempts: int | None = None) -> Call:
    return Call(6, (("a", Lit(count)),), Policy(attempts=attempts))


def test_what_a_task_returns_is_computed_in_its_place() -> None:  # S18
    seen = run(turns(2), functions=looping(Ref(0), AGAIN))
    first = number(6, 2)
    second = number(6, 1, first)
    assert seen.outcome == Value(number(6, 0, second))
    assert seen.ledger.calls == {6: 3}
    assert seen.ledger.ends == {("n0", "Succeeded"): 1, ("t6.0", "Succeeded"): 2}


def test_containers_that_tasks_return_are_computed_too() -> None:  # S18
    functions = looping(Container("list", (Ref(0), Lit("x"))), AGAIN)
    first = number(6, 2)
    assert run(turns(2), functions=functions).outcome == Value([[number(6, 0, number(6, 1, first)), "x"], "x"])


def test_retries_cover_the_call_and_not_what_it_returned() -> None:  # S18
    functions = looping(Ref(0), Call(FAILING))
    seen = run(turns(1, attempts=3), functions=functions)
    assert seen.ledger.calls == {6: 1, FAILING: 1}
    functions = looping(Ref(0), Call(NUMBER), fails=Fails(2))
    seen = run(turns(1, attempts=3), functions=functions)
    assert seen.ledger.calls == {6: 3, NUMBER: 1}


def test_what_is_skipped_in_its_place_is_skipped_with_that_reason() -> None:  # S18
    functions = looping(Ref(1), echo(Lit(0)), skipped_if(0))
    seen = run(turns(1), echo(Ref(0)), functions=functions, target=Ref(0))
    assert seen.outcome == Skipped("ConditionFalse")
    assert run(turns(1), echo(Ref(0)), functions=functions).outcome == Skipped("UpstreamSkipped_Data")
    seen = run(Map(6, (("a", Container("list", (Lit(0), Lit(1)))),)), functions=functions)
    assert seen.ledger.failures == [(("DependencyMissingError",),)]


def test_a_captured_value_is_computed_again() -> None:  # S2, S18
    functions = looping(Container("list", (Outer(0), Ref(0))), Call(PAIR, (("a", Outer(0)),)))
    seen = run(Call(NUMBER), turns(1), functions=functions, target=Container("list", (Ref(0), Ref(1))))
    assert seen.ledger.calls == {NUMBER: 2, 6: 1, PAIR: 1}


def test_a_condition_that_failed_and_the_failure_are_both_told() -> None:  # S9, S15
    seen = run(Call(FAILING), skipped_if(0), echo(Ref(1)))
    assert ends(seen) == {
        ("n0", "Failed"): 1, ("n1", "ConditionMissing"): 1, ("n2", "UpstreamSkipped_Data"): 1,
    }  # fmt: skip
    assert len(seen.ledger.failures) == 1


def test_more_than_there_is_fails_its_node() -> None:  # S23
    seen = predict(Workflow((*FUNCTIONS,), (echo(Lit(3)), Call(NUMBER, policy=Policy(amount=Ref(0)))), Ref(1)))
    assert seen.ledger.failures == [(("CapacityError",),)]
    assert seen.ledger.calls == {ECHO: 1}


def test_what_would_take_too_long_is_refused() -> None:
    with pytest.raises(TooMuch):
        run(turns(10_000), functions=looping(Ref(0), AGAIN))


def test_portraits_tell_types_apart() -> None:
    portraits = {portrait(value) for value in (1, True, 1.0, [1], (1,), {1}, frozenset({1}), "1", None, Box(1, 1))}
    assert len(portraits) == 10


def test_the_reference_shares_no_code_with_cascade() -> None:
    for name in ("reference", "prediction", "description", "values", "generation", "reduction"):
        source = ast.parse((Path(__file__).parent / f"{name}.py").read_text(encoding="utf-8"))
        imported = [node.module or "" for node in ast.walk(source) if isinstance(node, ast.ImportFrom)]
        imported += [alias.name for node in ast.walk(source) if isinstance(node, ast.Import) for alias in node.names]
        assert not [module for module in imported if module.split(".")[0] == "cascade"], name


def test_a_printed_workflow_can_be_read_back() -> None:
    names = {**vars(description), "frozenset": frozenset}
    for seed in range(50):
        workflow = random_workflow(seeded(seed))
        assert eval(repr(workflow), names) == workflow
        assert str(workflow)


def test_random_workflows_have_all_that_the_rules_speak_of() -> None:
    seen: Counter[str] = Counter()
    for seed in range(600):
        try:
            prediction = predict(random_workflow(seeded(seed)))
        except TooMuch:
            continue
        seen.update({end for _, end in prediction.ledger.ends})
        seen.update({slot[0][0] for slot in prediction.ledger.failures})
        seen.update([type(prediction.outcome).__name__])
    wanted = {
        "Succeeded", "Failed", "Pruned", "ConditionFalse", "ConditionMissing", "UpstreamFailed",
        "UpstreamSkipped_Condition", "UpstreamSkipped_Sequence", "UpstreamSkipped_Route",
        "UpstreamSkipped_Data",
        "Boom", "UnknownRouteError", "IndexError", "DependencyMissingError", "Value", "Skipped",
    }  # fmt: skip
    assert not wanted - seen.keys()
    assert seen["Value"] > 200


def test_a_failing_workflow_is_made_small() -> None:
    def fails(workflow: Workflow) -> bool:
        return any(end == "UpstreamSkipped_Sequence" for _, end in predict(workflow).ledger.ends)

    found = [workflow for seed in range(200) if fails(workflow := random_workflow(seeded(seed)))]
    for workflow in found[:3]:
        small = reduced(workflow, fails)
        assert fails(small)
        assert len(small.nodes) <= 4
