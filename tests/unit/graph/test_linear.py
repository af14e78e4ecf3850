"""Building and describing graphs costs the same a node, however many there are."""

from __future__ import annotations

from collections.abc import Callable
from time import process_time
from typing import Any

import pytest

import cascade as cs
from cascade.graph.build import build
from cascade.graph.edges import wants_of
from cascade.graph.model import Wiring


@cs.task
def give(x: Any) -> Any:
    return x


def seconds(work: Callable[[], object]) -> float:
    found: list[float] = []
    for _ in range(3):
        began = process_time()
        work()
        found.append(process_time() - began)
    return min(found)


def long_sequence(n: int) -> Any:
    return cs.sequence([give(i) for i in range(n)])


def large_dict(n: int) -> Any:
    return give({i: give(i) for i in range(n)})


def paths(lazy: Any) -> list[Any]:
    return list(wants_of(lazy))


@pytest.mark.parametrize(
    ("make", "work"), [(long_sequence, build), (large_dict, paths)], ids=["sequence", "paths in a dict"]
)
def test_the_cost_is_linear(make: Callable[[int], Any], work: Callable[[Any], object]) -> None:
    few, many = make(2_000), make(16_000)
    # Eight times as many: were it quadratic, it would be sixty-four times the work.
    assert seconds(lambda: work(many)) < 24 * seconds(lambda: work(few))


def test_calls_by_name_are_plain_calls_where_position_says_the_same() -> None:
    @cs.task
    def add(a: Any, b: Any = 0, *, c: Any = 0) -> Any:
        return a + b + c

    one: Any = give(1)
    task: Any = add
    assert build(task(b=one, a=2)).special == []
    assert task(b=one, a=2).args == (2, one)
    assert task(2, c=3).args == (2,)
    assert isinstance(build(task(a=one, c=3)).references[1], Wiring)
    assert task(a=1, c=3).kwargs == {"c": 3}


def test_paths_are_those_of_the_call_whatever_becomes_of_the_container() -> None:
    members = {"a": give(1), "b": give(2)}
    call = give(members)
    members.clear()
    assert [label for _, _, label in wants_of(call)] == ["x['a']", "x['b']"]
