"""S19: parameters and environment variables are inputs of a workflow, checked before anything runs."""

from __future__ import annotations

import enum
import os
from datetime import date, datetime
from pathlib import Path
from typing import Any, Literal

import pytest

import cascade as cs
from tests.acceptance.observed import promptly, run


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


@cs.task
def give(*values: Any) -> Any:
    return values[0] if len(values) == 1 else values


# S19
def test_a_parameter_is_an_argument_a_condition_a_selector_a_map_input_and_a_target() -> None:
    x = cs.Param("x", type=int)
    assert run(x, {"x": 1}) == 1
    assert run([x, x], {"x": 1}) == [1, 1]
    assert run(give(x), {"x": 1}) == 1
    assert run(give({"deep": [x]}), {"x": 1}) == {"deep": [1]}
    assert run(give("ran").run_if(x), {"x": 1}) == "ran"
    with pytest.raises(cs.DependencyMissingError, match="ConditionFalse"):
        run(give("ran").run_if(x), {"x": 0})
    assert run(cs.Router(x, {1: give("one"), 2: give("two")}), {"x": 2}) == "two"
    assert run(give.map(cs.Param("xs", type=list[int])), {"xs": "1,2"}) == [1, 2]
    assert run(cs.pipeline(x, [give]), {"x": 1}) == 1


# S19
def test_an_environment_variable_is_an_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CASCADE_TEST_VARIABLE", "text")
    assert run(give(cs.Env("CASCADE_TEST_VARIABLE"))) == "text"
    monkeypatch.setenv("CASCADE_TEST_VARIABLE", "other")
    assert run(cs.Env("CASCADE_TEST_VARIABLE")) == "other"
    monkeypatch.delenv("CASCADE_TEST_VARIABLE")
    assert run(cs.Env("CASCADE_TEST_VARIABLE", "default")) == "default"
    assert run(cs.Env("CASCADE_TEST_VARIABLE", None)) is None
    with pytest.raises(ValueError, match="CASCADE_TEST_VARIABLE"):
        run(cs.Env("CASCADE_TEST_VARIABLE"))


# S19
def test_no_default_means_required_and_none_is_a_default() -> None:
    with pytest.raises(ValueError, match="x"):
        run(cs.Param("x"))
    assert run(cs.Param("x", default=None)) is None
    assert run(cs.Param("x", default=None, type=int)) is None
    assert run(cs.Param("x", default=None, type=int), {"x": "5"}) == 5
    assert run(cs.Param("x", default=7)) == 7


# S19
@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        (int, "12", 12),
        (int, "-3", -3),
        (float, "1.5", 1.5),
        (bool, "true", True),
        (bool, "no", False),
        (bool, "0", False),
        (str, "12", "12"),
        (Path, "a/b", Path("a/b")),
        (Colour, "RED", Colour.RED),
        (Literal["a", "b"], "b", "b"),
        (Literal[1, 2], "2", 2),
        (date, "2024-02-29", date(2024, 2, 29)),
        (datetime, "2024-02-29T12:30:00", datetime(2024, 2, 29, 12, 30)),
        (list[int], "1,2,3", [1, 2, 3]),
        (list[str], '["a", "b"]', ["a", "b"]),
        (dict, '{"a": [1]}', {"a": [1]}),
    ],
)
def test_text_is_converted_to_the_type(kind: Any, text: str, value: Any) -> None:
    found = run(cs.Param("x", type=kind), {"x": text})
    assert found == value
    assert type(found) is type(value)


# S19
@pytest.mark.parametrize("value", [5, 1.5, True, Path("x"), Colour.RED, [1, 2], {"a": 1}])
def test_values_of_the_type_are_taken_as_they_are(value: Any) -> None:
    kind = list[int] if isinstance(value, list) else Path if isinstance(value, Path) else type(value)
    assert run(cs.Param("x", type=kind), {"x": value}) == value


# S19
@pytest.mark.parametrize(
    ("kind", "bad"),
    [
        (int, "1.5"),
        (int, ""),
        (int, 1.5),
        (float, "much"),
        (bool, "perhaps"),
        (Colour, "GREEN"),
        (Literal["a", "b"], "c"),
        (date, "2024-02-30"),
        (datetime, "yesterday"),
        (list[int], "1,x"),
        (dict, "{"),
        (dict, "[1]"),
        (str, 5),
    ],
)
def test_an_ill_typed_value_is_an_error_naming_what_came_and_what_was_expected(kind: Any, bad: Any) -> None:
    with pytest.raises(ValueError, match="'x'") as caught:
        run(cs.Param("x", type=kind), {"x": bad})
    assert isinstance(caught.value, cs.ParameterError)
    assert "expected" in str(caught.value)
    assert repr(bad) in str(caught.value) or str(bad) in str(caught.value)


# S19
def test_everything_wrong_is_reported_at_once_before_anything_runs() -> None:
    called: list[int] = []
    target = [
        cs.task(called.append)(1),
        give(cs.Param("count", type=int)),
        give(cs.Param("missing")),
        give(cs.Env("CASCADE_TEST_NOT_SET")),
    ]
    with pytest.raises(ValueError, match="5 problems") as caught:
        run(target, {"count": "many", "cuont": 1, "unrelated": 2})
    assert type(caught.value) is cs.ParameterError
    text = str(caught.value)
    for part in ("'count'", "'missing'", "CASCADE_TEST_NOT_SET", "did you mean 'count'?", "'unrelated'"):
        assert part in text
    assert len(caught.value.problems) == 5
    assert called == []


# S19
def test_inputs_on_routes_not_chosen_are_checked_too() -> None:
    called: list[int] = []
    target = cs.Router(cs.task(lambda: called.append(1) or "a")(), {"a": give(1), "b": give(cs.Param("far"))})
    with pytest.raises(ValueError, match="far"):
        run(target)
    assert called == []


# S19
def test_unknown_parameters_of_a_workflow_without_any_are_an_error() -> None:
    with pytest.raises(cs.ParameterError, match="x"):
        run(give(1), {"x": 1})


# S19
@pytest.mark.parametrize(
    "declarations",
    [
        lambda: [cs.Param("x", type=int), cs.Param("x", type=str)],
        lambda: [cs.Param("x", default=1), cs.Param("x", default=2)],
        lambda: [cs.Param("x", default=1), cs.Param("x", default=True)],
        lambda: [cs.Param("x", type=int), cs.Param("x", default=1, type=int)],
    ],
)
def test_two_different_declarations_of_one_name_are_an_error(declarations: Any) -> None:
    with pytest.raises(ValueError, match="declared in two ways"):
        run(declarations(), {"x": "1"})


# S19
def test_the_same_declaration_twice_is_one_parameter() -> None:
    target = [cs.Param("x", type=int), cs.Param("x", type=int, description="a number")]
    assert run(target, {"x": "1"}) == [1, 1]


# S19, S18
def test_inputs_declared_inside_returned_graphs_are_checked_when_these_are_built() -> None:
    called: list[str] = []

    @cs.task
    def record() -> None:
        called.append("inner")

    def returns() -> Any:
        called.append("outer")
        return [record(), give(cs.Param("inside", type=int))]

    with pytest.raises(ValueError, match="inside"):
        promptly(lambda: run(cs.task(returns)()))
    assert called == ["outer"]
    called.clear()
    outer = cs.task(returns)()
    with pytest.raises(ValueError, match="inside"):
        promptly(lambda: run([outer, cs.Param("other", 1)], {"other": 1}))


# S19, S18
def test_inputs_inside_returned_graphs_take_the_parameters_of_the_run() -> None:
    def returns() -> Any:
        return give(cs.Param("x", type=int))

    target = [cs.task(returns)(), cs.Param("x", type=int)]
    assert promptly(lambda: run(target, {"x": "3"})) == [3, 3]


# S19, S18
def test_two_different_declarations_of_one_name_in_different_graphs_of_a_run_are_an_error() -> None:
    def returns() -> Any:
        return give(cs.Param("x", type=str))

    with pytest.raises(ValueError, match="x"):
        promptly(lambda: run([cs.task(returns)(), cs.Param("x", type=int)], {"x": "3"}))


# S19
def test_a_default_is_nobody_elses_object() -> None:
    target = cs.task(lambda items: items.append(1) or items)(cs.Param("items", default=[]))
    assert run(target) == [1]
    assert run(target) == [1]


# S19
@pytest.mark.parametrize(
    "declare",
    [
        lambda: cs.Param(""),
        lambda: cs.Param(5),  # type: ignore[call-overload]
        lambda: cs.Param("x", type=object()),  # type: ignore[call-overload]
        lambda: cs.Param("x", default="text", type=int),  # type: ignore[call-overload]
        lambda: cs.Param("x", default=give(1)),
        lambda: cs.Env("a=b"),
        lambda: cs.Env("x", 5),  # type: ignore[call-overload]
    ],
)
def test_declarations_that_mean_nothing_are_refused(declare: Any) -> None:
    with pytest.raises(cs.DeclarationError):
        declare()


# S19
def test_the_environment_is_that_of_the_moment_of_the_run() -> None:
    target = cs.Env("CASCADE_TEST_MOMENT", "unset")
    assert run(target) == "unset"
    os.environ["CASCADE_TEST_MOMENT"] = "set"
    try:
        assert run(target) == "set"
    finally:
        del os.environ["CASCADE_TEST_MOMENT"]
