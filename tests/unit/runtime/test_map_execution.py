"""A map under way: room, offers and the end. (S17)"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import cascade as cs
from cascade.adapters.solvers.native import NativeSolver
from cascade.graph.build import build_graph
from cascade.runtime.map_inputs import QuickRows
from cascade.runtime.mapping import MapExecution
from cascade.runtime.plan_cache import PlanCache
from cascade.runtime.scheduler import Scheduler


@cs.task
def double(x: int) -> int:
    return 2 * x


def mapping_of(items: Any, window: int = 2) -> MapExecution:
    graph, _ = build_graph(double.map(x=items))
    plan, graph = PlanCache(NativeSolver()).plan_for(graph, lends_threads=True)
    return MapExecution(Scheduler(plan, graph), 0, (), {}, {"x": items}, window)


def numbers() -> Iterator[int]:
    yield from range(10)


def test_of_items_that_end_together_one_offers_the_map() -> None:
    """Two offers would let two threads pull from one generator."""
    mapping = mapping_of(numbers())
    offers: list[int] = []
    mapping.pull()
    mapping.pull()
    assert not mapping.has_room()
    assert mapping.waits_for_room(lambda: offers.append(1))
    assert not mapping.store(0, 0)
    assert not mapping.store(1, 2)
    assert offers == [1]


def test_nobody_waits_for_room_that_has_come_meanwhile() -> None:
    mapping = mapping_of(numbers())
    mapping.pull()
    assert not mapping.waits_for_room(lambda: None)


def test_a_map_does_not_end_while_a_helper_has_an_item_in_hand() -> None:
    mapping = mapping_of([1, 2])
    assert isinstance(mapping.rows, QuickRows)
    mapping.enter()
    mapping.enter()
    assert [next(mapping.rows.numbered), next(mapping.rows.numbered)] == [(1, 0), (2, 1)]
    assert mapping.pull() is None
    assert not mapping.is_over()
    mapping.results[:] = [2, 4]
    assert not mapping.leave()
    assert mapping.leave()
    assert mapping.ending() == ("value", [2, 4])


def test_an_item_that_outlasts_the_hand_of_its_helper_ends_the_map_later() -> None:
    mapping = mapping_of([1])
    assert isinstance(mapping.rows, QuickRows)
    mapping.enter()
    next(mapping.rows.numbered)
    mapping.open()
    assert mapping.pull() is None
    assert not mapping.leave()
    assert mapping.store(0, 2)
    assert mapping.done == 1


def test_after_a_failure_no_row_is_pulled() -> None:
    mapping = mapping_of([1, 2, 3])
    mapping.pull()
    error = ValueError("no")
    assert mapping.fail(0, error)
    assert mapping.pull() is None
    assert mapping.ending() == ("failed", error)
