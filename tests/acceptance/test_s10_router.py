"""S10: a router stands for one of several values, chosen while the workflow runs."""

from __future__ import annotations

import asyncio
import enum
import random
import threading
from typing import Any

import pytest

import cascade as cs
from cascade.runtime.events import TaskSkipped
from tests.acceptance.kinds import KINDS, Log, each_kind, made
from tests.acceptance.observed import Trace, await_sign, promptly, run

gather = cs.task(lambda *values: list(values), name="gather")


def reasons(trace: Trace) -> dict[str, str]:
    return {event.task_name: event.reason for event in trace.of(TaskSkipped)}


def pick(value: Any, kind: str = "sync") -> cs.LazyResult[Any]:
    return made(kind, lambda: value, name="pick")()


def no() -> cs.LazyResult[bool]:
    return cs.task(lambda: False, name="no")()


@each_kind
@pytest.mark.parametrize("choice", ["a", "b"])
def test_the_chosen_route_is_the_value_and_no_other_runs(kind: str, choice: str) -> None:  # S10
    log = Log()
    note = log.task(kind)
    router = cs.Router(pick(choice, kind), {"a": note("a", note("under a")), "b": note("b", note("under b"))})
    assert run(router) == choice
    assert log.entries == [f"under {choice}", choice]


PLACES = {
    "argument": lambda r: gather(r)[0],
    "keyword": lambda r: cs.task(lambda *, k: k)(k=r),
    "container": lambda r: gather([{"k": (r,)}])[0][0]["k"][0],
    "map input": lambda r: cs.task(abs).map(gather(r))[0],
    "fixed argument": lambda r: cs.task(lambda item, k: k).partial(k=r).map([1])[0],
    "condition": lambda r: cs.task(lambda: 7)().run_if(r),
    "amount": lambda r: cs.task(lambda: 7)().with_constraints(gpu=r),
    "target": lambda r: r,
    "target container": lambda r: [r],
    "route": lambda r: cs.Router(pick(1), {1: r, 2: 5}),
    "container in a route": lambda r: cs.Router(pick(1), {1: [r], 2: 5})[0],
    "selector": lambda r: cs.Router(r, {7: 7, 8: 8}),
    "sequence": lambda r: cs.sequence([pick(1), r]),
    "pipeline": lambda r: cs.pipeline(r, [cs.task(abs)]),
    "after": lambda r: cs.task(lambda: 7)().after(r),
    "item": lambda r: cs.Router(pick("list"), {"list": gather(r)})[0],
    "after itself": lambda r: gather(r).after(r)[0],
}


@pytest.mark.parametrize("place", PLACES)
@each_kind
def test_a_router_may_stand_wherever_a_lazy_value_may(place: str, kind: str) -> None:  # S10
    log = Log()
    note = log.task(kind)
    router = cs.Router(pick("x", kind), {"x": note(7), "y": note(8)})
    found = run(PLACES[place](router), system_resources={"gpu": 10})
    assert found in (7, [7])
    assert log.entries == [7]


def test_a_map_input_may_be_a_router() -> None:  # S10
    log = Log()
    note = log.task()
    router = cs.Router(pick(1), {1: [1, 2, note(3)], 2: note([4])})
    assert run(cs.task(abs).map(router)) == [1, 2, 3]


@pytest.mark.parametrize("value", [5, None, "text", [], pytest.param(object(), id="object"), (1, 2)], ids=repr)
def test_routes_may_be_plain_values(value: Any) -> None:  # S10
    assert run(cs.Router(pick(1), {1: value, 2: no()})) is value


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_starts_before_the_selector_has_its_value(kind: str) -> None:  # S10
    decided = threading.Event()
    early: list[str] = []
    log = Log()

    def work(name: str, *_: Any) -> str:
        if not decided.is_set():
            early.append(name)
        log.entries.append(name)
        return name

    task = made(kind, work)
    reached = threading.Event()

    @cs.task
    def selector() -> str:
        await_sign(reached)
        decided.set()
        return "a"

    async def reach(*_: Any) -> None:
        for _ in range(20):
            await asyncio.sleep(0)
        reached.set()

    # What is wanted anyway runs to its end first, so whatever could start early would have.
    log_free = cs.task(lambda x: x + 1, name="free")
    value: Any = 0
    for _ in range(50):
        value = log_free(value)
    shared = task("shared by undecided routes only")
    router = cs.Router(selector(), {"a": task("a", task("under a"), shared), "b": task("b", task("under b"), shared)})
    promptly(lambda: run(gather(router, cs.task(reach)(value))))
    assert early == []
    assert sorted(log.entries) == ["a", "shared by undecided routes only", "under a"]


@pytest.mark.parametrize("key", [False, None, True, 0, 1, "", "a", (1, 2), 1.5, frozenset({1}), len], ids=repr)
def test_any_hashable_key_may_name_a_route(key: Any) -> None:  # S10
    other = object()
    assert run(cs.Router(pick(key), {key: "chosen", other: "other"})) == "chosen"
    assert run(cs.Router(pick(other), {key: "chosen", other: "other"})) == "other"


def test_enum_members_may_name_routes() -> None:  # S10
    class Colour(enum.Enum):
        RED = 1
        BLUE = 2

    assert run(cs.Router(pick(Colour.BLUE), {Colour.RED: "r", Colour.BLUE: "b"})) == "b"


@pytest.mark.parametrize("value", ["c", None, 0, [1], {"k": 1}], ids=repr)
def test_an_unknown_key_is_a_value_error_that_names_value_and_routes(value: Any) -> None:  # S10
    log = Log()
    selector = cs.task(lambda: value, name="the_selector")()
    with pytest.raises(ValueError, match="the_selector") as caught:
        run(cs.Router(selector, {"a": log.task()("a"), "b": log.task()("b")}))
    assert isinstance(caught.value, cs.UnknownRouteError)
    assert caught.value.value == value
    assert caught.value.routes == ("a", "b")
    for text in (repr(value), "'a'", "'b'"):
        assert text in str(caught.value)
    assert log.entries == []


def test_an_unknown_key_in_a_run_that_continues_prunes_the_routes() -> None:  # S10, S11, S15
    trace, log = Trace(), Log()
    router = cs.Router(pick("c"), {"a": log.task(name="a")("a", log.task(name="under a")("u")), "b": 1})
    with pytest.raises(cs.RunFailedGroup) as caught:
        run([router, log.task()("free")], bus=trace.bus, on_failure="continue")
    assert [type(error) for error in caught.value.exceptions] == [cs.UnknownRouteError]
    assert log.entries == ["free"]
    assert reasons(trace) == {"a": "Pruned", "under a": "Pruned"}


@each_kind
def test_a_skipped_route_chosen_skips_the_consumer(kind: str) -> None:  # S10
    trace, log = Trace(), Log()
    route = log.task(kind, name="route")("route").run_if(no())
    router = cs.Router(pick("a", kind), {"a": route, "b": log.task(kind)("b")})
    run(cs.sequence([log.task(kind, name="consumer")("c", router)]), bus=trace.bus)
    assert log.entries == []
    assert reasons(trace) == {"route": "ConditionFalse", "consumer": "UpstreamSkipped_Route", "note": "Pruned"}


@each_kind
def test_a_skipped_selector_skips_the_consumer_and_releases_all_routes(kind: str) -> None:  # S10
    trace, log = Trace(), Log()
    selector = log.task(kind, name="selector")("a").run_if(no())
    routes = {"a": log.task(kind, name="a")("a"), "b": log.task(kind, name="b")("b")}
    run(cs.sequence([log.task(kind, name="consumer")("c", cs.Router(selector, routes))]), bus=trace.bus)
    assert log.entries == []
    assert reasons(trace) == {
        "selector": "ConditionFalse",
        "a": "Pruned",
        "b": "Pruned",
        "consumer": "UpstreamSkipped_Data",
    }


def test_a_failed_selector_releases_all_routes_in_a_run_that_continues() -> None:  # S10, S12
    trace, log = Trace(), Log()
    router = cs.Router(cs.task(lambda: 1 / 0, name="fails")(), {1: log.task(name="route")("r")})
    with pytest.raises(cs.RunFailedGroup):
        run([log.task(name="consumer")("c", router), log.task()("free")], bus=trace.bus, on_failure="continue")
    assert log.entries == ["free"]
    assert reasons(trace) == {"route": "Pruned", "consumer": "UpstreamFailed"}


def test_a_selector_from_the_cache_decides_like_any() -> None:  # S10, S25
    log = Log()
    note = log.task()
    backend = cs.InMemoryCacheBackend()
    selections.clear()

    def target() -> Any:
        chosen = cs.task(selects)().with_cache(cs.InputsCache(backend))
        return gather(cs.Router(chosen, {"a": note("a"), "b": note("b")}))

    assert run(target()) == ["a"]
    assert run(target()) == ["a"]
    assert selections == ["a"]
    assert log.entries == ["a", "a"]


selections: list[str] = []


def selects() -> str:
    selections.append("a")
    return "a"


def test_one_value_may_be_on_several_routes() -> None:  # S10
    log = Log()
    shared = log.task()("shared")
    for choice in (1, 2, 3):
        log.entries.clear()
        router = cs.Router(pick(choice), {1: shared, 2: shared, 3: [shared, shared]})
        assert run(router) == ("shared" if choice < 3 else ["shared", "shared"])
        assert log.entries == ["shared"]


def test_the_selector_may_be_a_route() -> None:  # S10
    log = Log()
    selector = log.task()(1)
    assert run(cs.Router(selector, {1: selector, 2: gather(selector)})) == 1
    assert run(cs.Router(selector, {1: gather(selector), 2: selector})) == [1]
    assert log.entries == [1, 1]


@pytest.mark.parametrize("outer", [1, 2])
@pytest.mark.parametrize("inner", ["a", "b"])
def test_routers_nest(outer: int, inner: str) -> None:  # S10
    log = Log()
    note = log.task()
    inner_router = cs.Router(note(inner), {"a": note("ra"), "b": note("rb")})
    router = cs.Router(note(outer), {1: inner_router, 2: note("plain")})
    assert run(gather(router)) == [("r" + inner) if outer == 1 else "plain"]
    expected = [outer, inner, "r" + inner] if outer == 1 else [outer, "plain"]
    assert log.entries == expected


def test_an_inner_router_of_a_route_not_chosen_is_never_decided() -> None:  # S10, S11
    log, trace = Log(), Trace()
    selector = log.task(name="inner selector")("a")
    inner = cs.Router(selector, {"a": log.task(name="inner route")("r")})
    assert run(cs.Router(pick(2), {1: inner, 2: 5}), bus=trace.bus) == 5
    assert log.entries == []
    assert reasons(trace) == {"inner selector": "Pruned", "inner route": "Pruned"}


def test_a_hundred_thousand_choices_from_a_table() -> None:  # S10
    table = {key: key * 2 for key in range(20_000)}
    assert run(cs.Router(pick(19_999), table)) == 39_998


def test_routers_one_upon_another_ten_thousand_deep() -> None:  # S10
    log = Log()
    value: Any = log.task()("end")
    selector = pick(1)
    for _ in range(10_000):
        value = cs.Router(selector, {1: value, 2: 0})
    assert run(value) == "end"
    assert log.entries == ["end"]


def test_routers_chained_by_their_selectors_ten_thousand_deep() -> None:  # S10
    value: Any = pick(1)
    for _ in range(10_000):
        value = cs.Router(value, {1: 1, 2: 2})
    assert run(value) == 1


def test_a_route_that_was_done_before_the_decision_is_taken_as_it_is() -> None:  # S10, S2
    done = threading.Event()
    log = Log()

    @cs.task
    def route() -> str:
        log.entries.append("route")
        return "r"

    shared = route()
    after = cs.task(lambda _: done.set(), name="after")(shared)
    selector = cs.task(lambda: [await_sign(done), "a"][1], name="selector")()
    assert promptly(lambda: run(gather(cs.Router(selector, {"a": shared, "b": 1}), after)))[0] == "r"
    assert log.entries == ["route"]


def test_a_route_that_ends_after_the_decision_is_waited_for() -> None:  # S10
    decided = threading.Event()

    @cs.task
    def selector() -> str:
        return "a"

    chosen = selector()
    slow = cs.task(lambda: [await_sign(decided), "slow"][1], name="slow")()
    sign = cs.task(lambda _: decided.set(), name="sign")(chosen)
    assert promptly(lambda: run(gather(cs.Router(chosen, {"a": slow, "b": 1}), slow, sign))) == ["slow", "slow", None]


def test_many_routers_over_shared_routes_agree_with_plain_python() -> None:  # S10, S11
    for seed in range(20):
        chance = random.Random(seed)
        log = Log()
        note = log.task(chance.choice(KINDS))
        routes = [note(("route", place)) for place in range(6)]
        choices = [chance.randrange(3) for _ in range(8)]
        tables = [[chance.randrange(6) for _ in range(3)] for _ in choices]
        routers = [
            cs.Router(pick(choice), {key: routes[place] for key, place in enumerate(table)})
            for choice, table in zip(choices, tables, strict=True)
        ]
        wanted = [table[choice] for choice, table in zip(choices, tables, strict=True)]
        assert run(gather(*routers)) == [("route", place) for place in wanted]
        assert sorted(log.entries) == [("route", place) for place in sorted(set(wanted))]


def test_a_router_with_a_condition() -> None:  # S10, S9
    trace, log = Trace(), Log()
    router = cs.Router(pick(1), {1: log.task(name="route")("r")}).run_if(no())
    assert run(cs.sequence([gather(router)]), bus=trace.bus) is None
    assert log.entries == []
    assert reasons(trace) == {"route": "Pruned", "gather": "UpstreamSkipped_Data"}


@pytest.mark.parametrize("selector", ["a", True, None, 1])
def test_a_plain_selector_is_an_error_that_shows_the_right_way(selector: Any) -> None:  # S10, S30
    with pytest.raises(TypeError, match="Param"):
        cs.Router(selector, {"a": 1})


@pytest.mark.parametrize("routes", [{}, None, [1], "ab"])
def test_a_router_needs_routes(routes: Any) -> None:  # S10, S30
    with pytest.raises(cs.DeclarationError, match="at least one route"):
        cs.Router(pick(1), routes)


def test_routes_are_taken_as_they_are_at_the_declaration() -> None:  # S10
    routes: dict[str, Any] = {"a": 1}
    router = cs.Router(pick("b"), routes)
    routes["b"] = 2
    with pytest.raises(cs.UnknownRouteError):
        run(router)


def test_a_router_whose_value_is_dropped_and_used_by_many() -> None:  # S10, S2
    log = Log()
    note = log.task()
    router = cs.Router(pick(1), {1: note("r"), 2: note("never")})
    values = [gather(router, place) for place in range(50)]
    assert run([*values, router]) == [*(["r", place] for place in range(50)), "r"]
    assert log.entries == ["r"]


def test_keys_without_a_text_can_be_routes() -> None:  # S10, S30
    class Mute:
        def __repr__(self) -> str:
            raise RuntimeError("no text")

    key = Mute()
    give = cs.task(lambda x: x, name="give")
    chosen = cs.Router(give(key), {key: give("yes"), 1: give("no")})
    assert run(chosen) == "yes"
    assert run(cs.sequence([give(0), chosen])) == "yes"
    assert run(cs.task(len)({key: give(1)})) == 1
