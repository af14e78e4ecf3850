"""On what calls ran, as the workflow tells it."""

from __future__ import annotations

from typing import Any

import pytest

import cascade as cs
from cascade.graph.build import build_graph
from cascade.tools.report_page.whereabouts import whereabouts_of

pytestmark = pytest.mark.needs_extra("cli")


@cs.task
def plain(number: int = 0) -> int:
    return number


@cs.task
async def waits(number: int = 0) -> int:
    return number


@cs.task(executor="process")
def shipped(number: int = 0) -> int:
    return number


@cs.task(executor="inline")
def quick(number: int = 0) -> int:
    return number


@cs.task
def returned(number: int = 0) -> Any:
    return shipped(number)


def where(target: Any) -> dict[str, str]:
    return whereabouts_of(build_graph(target)[0])


def test_calls_maps_and_tasks_beside_them_are_told_by_name() -> None:
    elsewhere = cs.task(abs, name="remote", executor="cluster")
    assert where([plain.map(number=[1]).named("mapped"), returned(1), elsewhere(1)]) == {
        "mapped": "worker threads",
        "plain": "worker threads",
        "waits": "event loop",
        "shipped": "worker processes",
        "quick": "event loop",
        "returned": "worker threads",
        "remote": "executor cluster",
    }


def test_a_name_that_means_several_things_is_left_out() -> None:
    assert "same" not in where([plain(1).named("same"), waits(1).named("same")])


def test_connectors_are_no_calls_and_builtins_have_no_module() -> None:
    assert where(cs.Router(cs.Param("n", 1, int), {1: cs.task(abs)(1), 2: 3})) == {"abs": "worker threads"}
