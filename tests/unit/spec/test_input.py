"""How inputs are declared, found and resolved (S19)."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from pathlib import Path
from typing import Any, Literal

import pytest

from cascade.spec.exceptions import CascadeError, DeclarationError, ParameterError
from cascade.spec.flow import pipeline, sequence
from cascade.spec.input import (
    REQUIRED,
    Env,
    EnvSpec,
    Input,
    InputSpec,
    Param,
    ParamSpec,
    collect,
    resolve_inputs,
)
from cascade.spec.lazy_types import LazyResult
from cascade.spec.routing import Router
from cascade.spec.task import task
from cascade.spec.walk import dependencies_of, inputs_of, reachable


class Color(Enum):
    RED = "r"


def spec_of(lazy: LazyResult[Any]) -> ParamSpec | EnvSpec:
    assert isinstance(lazy, Input)
    return lazy.spec


def resolved(
    *lazies: LazyResult[Any], params: Any = None, environ: Mapping[str, str] | None = None, **options: Any
) -> list[Any]:
    specs = [spec_of(lazy) for lazy in lazies]
    values = resolve_inputs(specs, {} if params is None else params, environ or {}, **options)
    return [values[spec] for spec in specs]


def problems_of(*lazies: LazyResult[Any], **given: Any) -> tuple[str, ...]:
    with pytest.raises(ParameterError) as caught:
        resolved(*lazies, **given)
    assert isinstance(caught.value, ValueError)
    assert isinstance(caught.value, CascadeError)
    return caught.value.problems


@task
def use(*values: Any, **named: Any) -> Any:
    return values


def test_a_parameter_is_a_lazy_value_named_like_it() -> None:
    lazy = Param("depth", default=3, description="how deep")
    assert isinstance(lazy, LazyResult)
    assert lazy.name == "depth"
    assert lazy.origin is not None
    assert lazy.origin[0] == __file__
    assert spec_of(lazy) == ParamSpec("depth", 3, int, "how deep")
    assert not spec_of(lazy).required


def test_no_default_means_required_and_none_is_a_default() -> None:
    assert spec_of(Param("x")).required
    assert spec_of(Param("x")).default is REQUIRED
    assert not spec_of(Param("x", default=None)).required
    assert spec_of(Env("X")).required
    assert not spec_of(Env("X", default=None)).required


@pytest.mark.parametrize(
    ("default", "declared"),
    [
        (3, int), (True, bool), (1.5, float), ("a", str), (Path("a"), Path), (Color.RED, Color),
        ([1], None), ({"a": 1}, None), (None, None), (b"x", None),
    ],
)  # fmt: skip
def test_the_type_is_that_of_a_scalar_default(default: Any, declared: Any) -> None:
    assert spec_of(Param("x", default=default)).type is declared


def test_policies_that_need_no_call_are_taken() -> None:
    flag = Param("flag", default=True)
    renamed = Param("x", default=1).run_if(flag).named("other")
    assert renamed.name == "other"
    assert spec_of(renamed) == ParamSpec("x", 1, int)
    with pytest.raises(DeclarationError, match="makes no call"):
        flag.with_retry(3)


@pytest.mark.parametrize(
    ("declare", "told"),
    [
        (lambda: Param(""), "not empty"),
        (lambda: Param("  "), "not empty"),
        (lambda: Param(3), "got 3"),
        (lambda: Param("x", type=set), "Param('x'): the type <class 'set'> is not supported"),
        (lambda: Param("x", default="3", type=int), "expected int, got '3'; a default is not converted"),
        (lambda: Param("x", default=True, type=int), "expected int, got bool True"),
        (lambda: Param("x", default="a", type=Literal["b"]), "one of 'b'"),
        (lambda: Param("x", default=["1"], type=list[int]), "item 0"),
        (lambda: Param("x", default="r", type=Color), "expected Color"),
        (lambda: Param("x", default=Param("y")), "lazy value"),
        (lambda: Param("x", default=[Param("y")]), "lazy value"),
        (lambda: Param("x", description=3), "description of 'x' must be text"),
        (lambda: Env(""), "not empty"),
        (lambda: Env("A=B"), "no environment variable"),
        (lambda: Env("X", default=3), "must be text or None, got int 3"),
    ],
)  # fmt: skip
def test_a_declaration_that_cannot_mean_anything_is_an_error_at_the_call(declare: Any, told: str) -> None:
    with pytest.raises(DeclarationError) as caught:
        declare()
    assert told in str(caught.value)


def test_specs_are_equal_when_they_say_the_same() -> None:
    assert ParamSpec("x", 1, int) == ParamSpec("x", 1, int)
    assert hash(ParamSpec("x", [1])) == hash(ParamSpec("x", [1]))
    for other in (
        ParamSpec("x", True, int),
        ParamSpec("x", 1, float),
        ParamSpec("y", 1, int),
        EnvSpec("x", 1, int),
    ):
        assert ParamSpec("x", 1, int) != other
    assert str(ParamSpec("x", 1, int)) == "Param('x', default=1, type=int)"
    assert str(EnvSpec("X")) == "Env('X')"


def test_given_values_come_before_defaults() -> None:
    assert resolved(Param("a", default=1), Param("b", default=2), params={"a": "5"}) == [5, 2]


def test_text_is_converted_and_values_are_checked() -> None:
    assert resolved(Param("a", type=list[int]), params={"a": "1,2"}) == [[1, 2]]
    assert resolved(Param("a", type=list[int]), params={"a": [1, 2]}) == [[1, 2]]
    assert resolved(Param("a"), params={"a": "1"}) == ["1"]
    assert resolved(Param("a", default=0.5), params={"a": 2}) == [2.0]


def test_none_may_be_given_where_it_is_the_default() -> None:
    assert resolved(Param("a", default=None, type=int), params={"a": None}) == [None]
    assert resolved(Param("a", default=None, type=int)) == [None]
    assert problems_of(Param("a", type=int), params={"a": None}) == ("parameter 'a': expected int, got None",)


def test_variables_are_text_from_the_environment() -> None:
    environ = {"TOKEN": "12"}
    assert resolved(Env("TOKEN"), Env("OTHER", default="x"), Env("NONE", default=None), environ=environ) == [
        "12", "x", None,
    ]  # fmt: skip


def test_parameters_and_variables_of_one_name_do_not_meet() -> None:
    assert resolved(Param("x", default=1), Env("x", default="e"), params={"x": 2}) == [2, "e"]


def test_a_default_that_can_change_is_another_one_for_each_run() -> None:
    lazy = Param("words", default=["a"])
    [first] = resolved(lazy)
    first.append("b")
    assert resolved(lazy) == [["a"]]


def test_all_problems_are_told_at_once() -> None:
    problems = problems_of(
        Param("missing", type=int),
        Param("depth", default=3),
        Param("mode", type=Literal["fast", "slow"]),
        Param("twice", default=1),
        Param("twice", default=2),
        Env("TOKEN"),
        params={"depth": "deep", "mode": "quick", "dept": 4, "TOKEN": "t"},
    )
    assert problems[0].startswith(
        "parameter 'twice': declared in two ways, Param('twice', default=1, type=int) and "
        "Param('twice', default=2, type=int); declare it once"
    )
    assert problems[1:] == (
        "parameter 'missing': required, expected int, got nothing",
        "parameter 'depth': expected int, got 'deep'",
        "parameter 'mode': expected one of 'fast', 'slow', got 'quick'",
        "environment variable 'TOKEN': required, expected str, got nothing",
        "parameter 'dept': unknown, got 4; did you mean 'depth'?",
        "parameter 'TOKEN': unknown, got 't'; it is an environment variable: set it there",
    )


def test_an_unknown_name_is_told_what_there_is() -> None:
    [problem] = problems_of(Param("a", default=1), Param("b", default=1), params={"zzz": 1})
    assert problem == "parameter 'zzz': unknown, got 1; the parameters are a, b"
    [problem] = problems_of(params={"zzz": 1})
    assert problem == "parameter 'zzz': unknown, got 1; the workflow has no parameters"
    [problem] = problems_of(Param("a", default=1), params={3: 1})
    assert problem == "parameter 3: unknown, got 1; the parameters are a"


def test_unknown_names_are_not_told_again_for_inputs_declared_later() -> None:
    assert resolved(Param("a", default=1), params={"zzz": 1}, refuse_unknown=False) == [1]


def test_a_lazy_value_is_no_value_of_a_parameter() -> None:
    [problem] = problems_of(Param("a"), params={"a": use()})
    assert "not as lazy values" in problem


def test_params_must_be_a_mapping() -> None:
    assert problems_of(Param("a"), params=[("a", 1)]) == (
        "params: expected a mapping from names to values, got list [('a', 1)]",
    )


def test_the_same_declaration_twice_is_one_input() -> None:
    first, second = Param("a", default=1), Param("a", default=1, description="only for people")
    assert resolved(first, second, params={"a": 3}) == [3, 3]
    assert list(collect([spec_of(first), spec_of(second)]).values()) == [spec_of(first)]


@pytest.mark.parametrize(
    "other",
    [
        ParamSpec("a", 2, int),
        ParamSpec("a", True, bool),
        ParamSpec("a", 1, float),
        ParamSpec("a"),
        ParamSpec("a", None),
    ],
)
def test_two_different_declarations_of_one_name_are_an_error(other: InputSpec) -> None:
    with pytest.raises(ParameterError, match="declared in two ways"):
        collect([ParamSpec("a", 1, int), other])


def test_defaults_that_cannot_be_compared_differ() -> None:
    class Odd:
        def __eq__(self, other: object) -> bool:
            raise RuntimeError

        __hash__ = None

    one = Odd()
    assert resolved(Param("a", default=one), Param("a", default=one)) == [one, one]
    assert len(problems_of(Param("a", default=one), Param("a", default=Odd()))) == 1


def test_inputs_are_found_wherever_a_lazy_value_may_stand() -> None:
    names = [f"p{number}" for number in range(16)]
    p = {name: Param(name, default=1) for name in names}
    target = sequence(
        [
            use(p["p0"], [p["p1"]], key={"k": (p["p2"],)}),
            use.map(p["p3"]),
            use.partial(p["p4"]).map([p["p5"], 2]),
            use()[p["p6"]],
            Router(p["p7"], {1: p["p8"], 2: [p["p9"]], 3: "plain"}),
            pipeline(p["p10"], [use, use.run_if(p["p11"])]),
            use().run_if(p["p12"]).after(p["p13"]).with_constraints(gpu=p["p14"]),
            sequence([p["p15"]]),
        ]
    )
    assert [spec.name for spec in inputs_of(target)] == names
    assert [spec.name for spec in inputs_of({"x": [p["p1"], p["p0"]]})] == ["p0", "p1"]
    assert inputs_of("a plain value") == []


def test_inputs_come_once_and_in_the_order_of_their_declaration() -> None:
    late, early = Env("B", default="b"), Param("a", default=1)
    target = use(early, use(late, early), Param("a", default=1))
    assert inputs_of(target) == [spec_of(late), spec_of(early)]


def test_walking_is_iterative_at_any_depth_and_takes_shared_values_once() -> None:
    lazy: LazyResult[Any] = Param("deep", default=0)
    for _ in range(20_000):
        lazy = use(lazy, lazy)
    assert [spec.name for spec in inputs_of(lazy)] == ["deep"]
    assert sum(1 for _ in reachable(lazy)) == 20_001


def test_an_unknown_kind_of_lazy_value_is_not_passed_over() -> None:
    class Other(LazyResult[Any]):
        def __init__(self) -> None:
            self.policy = None

        def _own_name(self) -> str:
            return "other"

    with pytest.raises(TypeError, match="Other is no kind of lazy value"):
        list(dependencies_of(Other()))
