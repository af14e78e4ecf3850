from __future__ import annotations

from typing import Any

import pytest

import cascade as cs
from cascade.graph.build import build_graph
from cascade.runtime.durability.keys import ROOT_GRAPH
from cascade.spec.records import Record
from cascade.tools.command.journal_tree import Place, tree_of
from cascade.tools.report_page.picture import MOST_SINGLE, Picture, picture_by_time, picture_of

pytestmark = pytest.mark.needs_extra("cli")


def place(node: bytes, name: str, began: float = 0.0, ended: float = 0.0, kind: Any = "value") -> Place:
    record = Record(ROOT_GRAPH, node, kind, 0, f"{name}#0", name, 1, began, ended, None, None, None, None)
    return tree_of([record])[0]


def columns(picture: Picture) -> dict[int, list[str]]:
    found: dict[int, list[str]] = {}
    for box in sorted(picture.boxes, key=lambda box: (box.layer, box.row)):
        found.setdefault(box.layer, []).append(box.title)
    return found


def test_by_time_a_box_stands_right_of_all_that_had_ended_when_it_began() -> None:
    picture = picture_by_time(
        [
            place(b"1", "first", 0, 2),
            place(b"2", "beside", 1, 5),
            place(b"3", "second", 3, 4),
            place(b"4", "third", 4.5, 6),
            place(b"5", "skipped", 7, 7, "skipped"),
        ]
    )
    assert columns(picture) == {0: ["first", "beside"], 1: ["second"], 2: ["third"], 3: ["skipped"]}
    assert picture.lines == []


def test_by_need_lines_lead_to_what_needs_a_value_and_states_come_from_the_records() -> None:
    a, b, c = (cs.task(lambda *values: values, name=name) for name in "abc")
    target = c(b(a()), a())
    graph, _ = build_graph(target)
    keys = graph.identities.keys
    picture = picture_of(graph, [place(key, "any") for key in keys[:-1]])
    assert columns(picture) == {0: ["a", "a"], 1: ["b"], 2: ["c"]}
    assert [box.state for box in picture.boxes] == ["done", "done", "done", "no record"]
    named = [(picture.boxes[source].title, picture.boxes[target].title) for source, target, _, _ in picture.lines]
    assert sorted(named) == [("a", "b"), ("a", "c"), ("b", "c")]


def test_many_nodes_of_one_name_and_column_share_a_box() -> None:
    fetch, total = cs.task(lambda n: n, name="fetch"), cs.task(lambda every: every, name="total")
    graph, _ = build_graph(total([fetch(number) for number in range(MOST_SINGLE)]))
    picture = picture_of(graph, [])
    assert [(box.title, box.count) for box in picture.boxes] == [("fetch", MOST_SINGLE), ("total", 1)]
    assert [(source, target) for source, target, _, _ in picture.lines] == [(0, 1)]


def test_a_long_chain_of_one_task_is_one_box() -> None:
    step = cs.task(lambda n: n, name="step")
    value = step(0)
    for _ in range(5_000):
        value = step(value)
    graph, _ = build_graph(value)
    picture = picture_of(graph, [])
    assert [(box.title, box.count) for box in picture.boxes] == [("step", 5_001)]
    assert picture.lines == []
    timed = picture_by_time([place(b"%d" % number, "step", number, number + 0.5) for number in range(5_000)])
    assert [box.count for box in timed.boxes] == [5_000]


def test_the_state_that_matters_most_is_that_of_the_box() -> None:
    many = [place(b"%d" % number, "fetch", 0, 1) for number in range(MOST_SINGLE)]
    picture = picture_by_time([*many, place(b"bad", "fetch", 0, 1, "failed")])
    (box,) = picture.boxes
    assert box.state == "failed"
    assert box.states == {"done": MOST_SINGLE, "failed": 1}


def test_nothing_is_a_picture_too() -> None:
    assert picture_by_time([]) == Picture([], [], 0, True)
