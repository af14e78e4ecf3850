"""S5: parts of lazy values are lazy values; what needs the value now fails and shows the right way."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import cascade as cs
from tests.acceptance.kinds import Log, each_kind, made
from tests.acceptance.observed import run

gather = cs.task(lambda *values: list(values), name="gather")


@each_kind
def test_items_of_a_lazy_value_are_lazy_values(kind: str) -> None:  # S5
    table = made(kind, lambda: {"key": [10, 20, (30, 40)], 5: "five", None: "nothing"}, name="table")()
    assert isinstance(table["key"], cs.LazyResult)
    assert run([table["key"], table["key"][0], table["key"][-1][1], table[5], table[None]]) == [
        [10, 20, (30, 40)], 10, 40, "five", "nothing",
    ]  # fmt: skip
    assert run(table["key"][0:2]) == [10, 20]
    assert run(gather(table["key"][1], [table[5]])) == [20, ["five"]]


def test_the_key_may_be_lazy() -> None:  # S5
    table = cs.task(lambda: {"a": 1, "b": 2})()
    assert run(table[cs.Param("which")], {"which": "b"}) == 2


@each_kind
def test_the_value_behind_items_is_computed_once(kind: str) -> None:  # S5, S2
    log = Log()
    value = log.task(kind)((1, 2, 3))
    a, b, c = value.unpack(3)
    assert run(gather(a, b, c, value[0], value[0])) == [1, 2, 3, 1, 1]
    assert len(log.entries) == 1


@each_kind
def test_unpack_gives_as_many_lazy_values(kind: str) -> None:  # S5
    pair = made(kind, lambda: iter([1, 2]), name="pair")()
    first, second = pair.unpack(2)
    assert run(gather(second, first)) == [2, 1]
    assert pair.unpack(0) == ()


@pytest.mark.parametrize(("n", "size"), [(2, 3), (2, 1), (0, 1)])
def test_unpacking_another_number_of_items_fails(n: int, size: int) -> None:  # S5
    parts = cs.task(lambda: list(range(size)))().unpack(n)
    target = gather(*parts) if parts else None
    if target is None:
        return
    with pytest.raises(ValueError, match=f"expected {n} items, got {size}"):
        run(target)


@pytest.mark.parametrize("n", [-1, True, "2", 1.0, None])
def test_unpack_takes_a_number_of_items(n: Any) -> None:  # S5, S30
    with pytest.raises(cs.DeclarationError, match="unpack"):
        cs.task(abs)(1).unpack(n)


def test_an_item_that_is_not_there_fails_as_python_does() -> None:  # S5
    with pytest.raises(KeyError, match="missing"):
        run(cs.task(dict)()["missing"])
    with pytest.raises(IndexError):
        run(cs.task(list)()[0])
    with pytest.raises(TypeError):
        run(cs.task(lambda: 5)()["x"])


MISUSES: dict[str, tuple[Callable[[Any], Any], str]] = {
    "bool": (bool, "run_if"),
    "if": (lambda x: 1 if x else 2, "Router"),
    "not": (lambda x: not x, "Router"),
    "and": (lambda x: x and 1, "run_if"),
    "str": (str, "task"),
    "f-string": (lambda x: f"{x}", "task"),
    "f-string with spec": (lambda x: f"{x:>10}", "task"),
    "percent": (lambda x: "%s" % x, "task"),  # noqa: UP031
    "format": (format, "task"),
    "len": (len, "task"),
    "in": (lambda x: 1 in x, "task"),
    "not in": (lambda x: 1 not in x, "task"),
    "iter": (iter, "map"),
    "for": (lambda x: [item for item in x], "map"),  # noqa: C416
    "unpacking": (lambda x: [*x], "unpack"),
    "list": (list, "map"),
    "sum": (sum, "map"),
    "<": (lambda x: x < 1, "task"),
    "<=": (lambda x: x <= 1, "task"),
    ">": (lambda x: x > 1, "task"),
    ">=": (lambda x: x >= 1, "task"),
    "reflected <": (lambda x: x > 1, "task"),
    "sorted": (lambda x: sorted([x, x]), "task"),
    "max": (lambda x: max(x, 1), "task"),
}


@pytest.mark.parametrize("misuse", MISUSES)
@pytest.mark.parametrize(
    "value",
    [
        cs.task(abs)(1),
        cs.task(abs).map([1]),
        cs.task(abs)(1)["k"],
        cs.Router(cs.task(abs)(1), {1: 2}),
        cs.sequence([cs.task(abs)(1)]),
        cs.pipeline(1, [cs.task(abs)]),
        cs.Param("p", default=1),
    ],
    ids=["call", "map", "item", "router", "sequence", "pipeline", "param"],
)
def test_using_a_lazy_value_as_its_result_fails_and_shows_the_right_way(value: Any, misuse: str) -> None:  # S5
    use, right = MISUSES[misuse]
    with pytest.raises(TypeError) as caught:
        use(value)
    assert isinstance(caught.value, cs.LazyValueError)
    assert right in str(caught.value)
    assert repr(value) in str(caught.value)


def test_comparing_for_equality_is_by_identity_and_no_error() -> None:  # S5, S3
    value = cs.task(abs)(1)
    assert (value == 1) is False
    assert (value != 1) is True
    assert value in [1, value]


@pytest.mark.parametrize(
    "use",
    [lambda x: x + 1, lambda x: -x, lambda x: x(), int, float, lambda x: x @ x, lambda x: [1][x], lambda x: x.strip()],
)
def test_other_uses_are_errors_too_and_never_silent(use: Callable[[Any], Any]) -> None:  # S5
    with pytest.raises((TypeError, AttributeError)):
        use(cs.task(abs)(1))


def test_items_may_be_conditions_selectors_routes_map_inputs_and_amounts() -> None:  # S5
    table = cs.task(lambda: {"yes": True, "which": "a", "items": [1, 2], "gpu": 1})()
    log = Log()
    note = log.task()
    assert run(note("x").run_if(table["yes"])) == "x"
    assert run(cs.Router(table["which"], {"a": table["gpu"]})) == 1
    assert run(cs.task(abs).map(table["items"])) == [1, 2]
    assert run(note("y").with_constraints(gpu=table["gpu"]), system_resources={"gpu": 1}) == "y"


def test_lazy_values_inside_a_key_are_resolved() -> None:  # S5, S4
    one = cs.task(int)("1")
    table = cs.task(lambda: {(1, "a"): "found", (("x", 1),): "deep"}, name="table")()
    assert run(table[(one, "a")]) == "found"
    assert run(table[(("x", one),)]) == "deep"
    assert run(table[(1, "a")]) == "found"


def test_slices_up_to_a_lazy_value_are_refused_where_they_are_written() -> None:  # S5
    row = cs.task(list)("abc")
    n = cs.task(int)("2")
    for use in (lambda: row[:n], lambda: row[n:], lambda: row[::n], lambda: row[1, n:2]):
        with pytest.raises(cs.LazyValueError, match="a task that slices"):
            use()
    assert run(row[:2]) == ["a", "b"]
