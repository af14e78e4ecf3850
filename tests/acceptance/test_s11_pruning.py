"""S11: what no decided demand leads to any more is pruned, on up the graph; the rest stays."""

from __future__ import annotations

import threading
from typing import Any

import pytest

import cascade as cs
from cascade.runtime.events import TaskSkipped
from tests.acceptance.kinds import Log, each_kind, made
from tests.acceptance.observed import Trace, await_sign, promptly, run

gather = cs.task(lambda *values: list(values), name="gather")


def reasons(trace: Trace) -> dict[str, str]:
    return {event.task_name: event.reason for event in trace.of(TaskSkipped)}


def pick(value: Any, kind: str = "sync") -> cs.LazyResult[Any]:
    return made(kind, lambda: value, name="pick")()


def no() -> cs.LazyResult[bool]:
    return cs.task(lambda: False, name="no")()


@each_kind
def test_a_route_not_chosen_is_pruned_with_all_above_it(kind: str) -> None:  # S11
    log, trace = Log(), Trace()
    value: Any = log.task(kind, name="top")("top")
    for place in range(5):
        value = log.task(kind, name=f"step{place}")(place, [value])
    assert run(cs.Router(pick(1, kind), {1: "chosen", 2: value}), bus=trace.bus) == "chosen"
    assert log.entries == []
    assert reasons(trace) == dict.fromkeys(["top", *(f"step{place}" for place in range(5))], "Pruned")


@each_kind
def test_what_something_else_wants_stays(kind: str) -> None:  # S11
    log, trace = Log(), Trace()
    note = log.task(kind)
    shared = log.task(kind, name="shared")("shared")
    lost = log.task(kind, name="lost")("lost", shared)
    assert run(gather(cs.Router(pick(1), {1: 0, 2: lost}), shared), bus=trace.bus) == [0, "shared"]
    assert log.entries == ["shared"]
    assert reasons(trace) == {"lost": "Pruned"}
    assert run(gather(cs.Router(pick(2), {1: 0, 2: lost}), note("x", shared))) == ["lost", "x"]


def test_demand_counts_each_route_of_each_router() -> None:  # S11
    log, trace = Log(), Trace()
    shared = log.task(name="shared")("shared")
    routers = [cs.Router(pick(1), {1: place, 2: shared, 3: shared}) for place in range(3)]
    assert run(gather(*routers), bus=trace.bus) == [0, 1, 2]
    assert log.entries == []
    assert reasons(trace) == {"shared": "Pruned"}
    last = cs.Router(pick(2), {1: 0, 2: shared})
    assert run(gather(*routers, last)) == [0, 1, 2, "shared"]


def test_demand_counts_each_argument_of_a_consumer() -> None:  # S11
    log, trace = Log(), Trace()
    shared = log.task(name="shared")("shared")
    lost = log.task(name="lost")("lost", shared, [shared], {"k": shared})
    assert run(cs.Router(pick(1), {1: 0, 2: lost}), bus=trace.bus) == 0
    assert reasons(trace) == {"shared": "Pruned", "lost": "Pruned"}
    log.entries.clear()
    assert run(gather(cs.Router(pick(1), {1: 0, 2: lost}), [shared])) == [0, ["shared"]]


def test_the_target_is_one_more_demand() -> None:  # S11
    log = Log()
    shared = log.task()("shared")
    target = gather(shared, cs.Router(pick(1), {1: 0, 2: gather(shared)}))
    assert run(target) == ["shared", 0]


@pytest.mark.parametrize("how", ["condition", "after", "amount", "map input", "fixed argument", "item", "selector"])
def test_every_way_of_wanting_counts_as_demand(how: str) -> None:  # S11
    log, trace = Log(), Trace()
    wanted = log.task(name="wanted")(1)
    one = cs.task(lambda *_: 1, name="one")
    lost: Any = {
        "condition": lambda: one().run_if(wanted),
        "after": lambda: one().after(wanted),
        "amount": lambda: one().with_constraints(gpu=wanted),
        "map input": lambda: one.map([wanted]),
        "fixed argument": lambda: one.partial(wanted).map([1]),
        "item": lambda: one(gather(wanted)[0]),
        "selector": lambda: cs.Router(wanted, {1: one(), 2: one()}),
    }[how]()
    router = cs.Router(pick("other"), {"this": lost, "other": 0})
    assert run(router, bus=trace.bus, system_resources={"gpu": 1}) == 0
    assert log.entries == []
    assert reasons(trace)["wanted"] == "Pruned"
    assert run(cs.Router(pick("this"), {"this": lost, "other": 0}), system_resources={"gpu": 1}) in (1, [1])
    assert log.entries == [1]


def test_what_stays_starts_only_when_a_chain_of_decided_demand_leads_to_the_target() -> None:  # S11
    """A value on routes of two routers: the first lets it go, and it starts when the second asks, not before."""
    first_decided, started = threading.Event(), threading.Event()
    early: list[bool] = []
    second_decides = threading.Event()

    @cs.task
    def shared() -> str:
        early.append(not second_decides.is_set())
        started.set()
        return "shared"

    @cs.task
    def selects_second() -> str:
        await_sign(first_decided)
        assert not started.is_set()
        second_decides.set()
        return "shared"

    value = shared()
    first = cs.Router(pick("other"), {"shared": value, "other": 0})
    sign = cs.task(lambda _: first_decided.set(), name="sign")(first)
    second = cs.Router(selects_second(), {"shared": value, "other": 0})
    assert promptly(lambda: run(gather(first, sign, second))) == [0, None, "shared"]
    assert early == [False]


def test_demand_from_an_undecided_router_below_a_route_is_no_decided_demand() -> None:  # S11
    inner_asked = threading.Event()
    log = Log()

    @cs.task
    def outer_selects() -> str:
        assert "deep" not in log.entries
        return "inner"

    deep = log.task()("deep")
    inner = cs.Router(pick("deep"), {"deep": deep, "x": 1})
    outer = cs.Router(outer_selects(), {"inner": gather(inner), "x": 1})
    assert promptly(lambda: run(gather(outer))) == [["deep"]]
    assert log.entries == ["deep"]
    assert not inner_asked.is_set()


def test_a_pruned_router_gives_up_its_routes_and_its_selector() -> None:  # S11
    trace, log = Trace(), Log()
    shared = log.task(name="shared")("shared")
    inner = cs.Router(
        log.task(name="inner selector")("a"), {"a": shared, "b": log.task(name="inner route")("b", shared)}
    )
    lost = log.task(name="lost")("lost", inner)
    assert run(gather(cs.Router(pick(1), {1: 0, 2: lost}), 5), bus=trace.bus) == [0, 5]
    assert log.entries == []
    assert set(reasons(trace)) == {"shared", "inner selector", "inner route", "lost"}
    assert set(reasons(trace).values()) == {"Pruned"}


def test_a_router_already_decided_gives_up_its_choice_when_pruned() -> None:  # S11
    """The inner selector is wanted by the target too, so the inner router decides while the outer is undecided."""
    inner_decided = threading.Event()
    trace, log = Trace(), Log()
    inner_selector = log.task(name="inner selector")("a")
    inner = cs.Router(inner_selector, {"a": log.task(name="chosen inside")("c"), "b": 1})
    sign = cs.task(lambda _: inner_decided.set(), name="sign")(inner_selector)
    selects = cs.task(lambda: [await_sign(inner_decided), "other"][1], name="selects")()
    outer = cs.Router(selects, {"inner": gather(inner), "other": 0})
    assert promptly(lambda: run(gather(outer, sign), bus=trace.bus)) == [0, None]
    assert log.entries == ["a"]
    assert reasons(trace) == {"chosen inside": "Pruned", "gather": "Pruned"}


@pytest.mark.parametrize("choice", ["both", "none"])
def test_a_diamond_between_two_routers(choice: str) -> None:  # S11
    log = Log()
    note = log.task()
    base = note("base")
    left, right = note("left", base), note("right", base)
    routers = [cs.Router(pick(choice), {"both": side, "none": 0}) for side in (left, right)]
    assert run(gather(*routers)) == (["left", "right"] if choice == "both" else [0, 0])
    assert log.times("base") == (1 if choice == "both" else 0)


@pytest.mark.parametrize("skipped", ["consumer", "route"])
def test_a_skip_does_not_take_away_demand(skipped: str) -> None:  # S11, S9
    log = Log()
    note = log.task()
    under = note("under")
    if skipped == "consumer":
        target = cs.sequence([gather(cs.Router(pick(1), {1: under, 2: 0})).run_if(no())])
    else:
        target = cs.sequence([gather(cs.Router(pick(1), {1: note("r", under).run_if(no()), 2: 0}))])
    assert run(target) is None
    assert log.entries == ["under"]


def test_pruning_with_one_terminal_event_for_each_node() -> None:  # S11, S28
    for choice in (1, 2, 3):
        trace, log = Trace(), Log()
        shared = log.task(name="shared")("s")
        a, b = log.task(name="a")("a", shared), log.task(name="b")("b", shared)
        inner = cs.Router(pick(choice).named("inner pick"), {1: a, 2: b, 3: 0})
        outer = cs.Router(pick(choice).named("outer pick"), {1: b, 2: inner, 3: inner})
        run(gather(outer, cs.Router(pick(1).named("third pick"), {1: 0, 2: a})), bus=trace.bus)
        ends = trace.terminal()
        assert all(len(found) == 1 for found in ends.values()), ends
        assert len(ends) == 7, ends


def test_pruning_a_long_chain_needs_no_recursion() -> None:  # S11
    trace = Trace()
    step = cs.task(lambda x: x, name="step")
    value: Any = 0
    for _ in range(10_000):
        value = step(value)
    assert run(cs.Router(pick(1), {1: 0, 2: value}), bus=trace.bus) == 0
    assert len(trace.of(TaskSkipped)) == 10_000


def test_pruning_layers_of_diamonds_is_not_exponential() -> None:  # S11
    step = cs.task(lambda x, y: x, name="step")
    value: Any = 0
    for _ in range(100):
        value = step(step(value, value), step(value, value))
    trace = Trace()
    assert run(cs.Router(pick(1), {1: 0, 2: value}), bus=trace.bus) == 0
    assert len(trace.of(TaskSkipped)) == 300


def test_a_sequence_on_a_route_not_chosen_runs_none_of_its_members() -> None:  # S11, S13
    log = Log()
    note = log.task()
    assert run(cs.Router(pick(1), {1: 0, 2: cs.sequence([note("a"), note("b")])})) == 0
    assert log.entries == []


def test_a_pipeline_on_a_route_not_chosen_runs_none_of_its_steps() -> None:  # S11, S13
    log = Log()
    note = log.task()
    assert run(cs.Router(pick(1), {1: 0, 2: cs.pipeline(note("a"), [note, note.run_if(pick(True))])})) == 0
    assert log.entries == []


def test_a_map_on_a_route_not_chosen_pulls_nothing() -> None:  # S11, S17
    pulled: list[int] = []

    def rows() -> Any:
        pulled.append(1)
        yield 1

    assert run(cs.Router(pick(1), {1: 0, 2: cs.task(abs).map(rows())})) == 0
    assert pulled == []
