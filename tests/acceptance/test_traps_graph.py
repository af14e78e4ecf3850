"""Traps that other engines fell into: shared routes, mixed arguments, late side effects, depth and width."""

from __future__ import annotations

import asyncio
import gc
import sys
import threading
from collections.abc import Callable
from time import process_time
from typing import Any

import pytest

import cascade as cs
from cascade.runtime.events import TaskExecutionFinished
from tests.acceptance.kinds import KINDS, Log, each_kind, made
from tests.acceptance.observed import await_sign, promptly, run

gather = cs.task(lambda *values: list(values), name="gather")
plus = cs.task(lambda x: x + 1, name="plus")


@cs.task(name="plus")
async def async_plus(x: int) -> int:
    return x + 1


PLUS = {
    "sync": plus,
    "async": async_plus,
    "inline": cs.task(lambda x: x + 1, name="plus", executor="inline"),
}


def pick(value: Any) -> cs.LazyResult[Any]:
    return cs.task(lambda: value, name="pick")()


@pytest.fixture(autouse=True)
def shallow_stack() -> Any:
    """A limit on recursion that nothing here may come near."""
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(350)
    yield
    sys.setrecursionlimit(limit)


# Routes and arguments.


@each_kind
@pytest.mark.parametrize("choice", ["shared", "other"])
def test_a_route_that_something_else_also_uses(kind: str, choice: str) -> None:  # S10, S11
    log = Log()
    note = log.task(kind)
    shared, other = note("shared"), note("other")
    router = cs.Router(note(choice).named("pick"), {"shared": shared, "other": other})
    assert run(gather(router, shared)) == [choice, "shared"]
    assert run(gather(shared, router)) == ["shared", choice]
    times = {"shared": 2 + 2 * (choice == "shared"), "other": 4 * (choice == "other")}
    assert log.times("shared") == times["shared"]
    assert log.times("other") == times["other"]


@each_kind
@pytest.mark.parametrize("left", [1, 2])
@pytest.mark.parametrize("right", [1, 2])
def test_two_routers_in_one_task(kind: str, left: int, right: int) -> None:  # S10
    log = Log()
    note = log.task(kind)
    both = gather(
        cs.Router(pick(left), {1: note("a"), 2: note("b")}), cs.Router(pick(right), {1: note("c"), 2: note("d")})
    )
    expected = ["ab"[left - 1], "cd"[right - 1]]
    assert run(both) == expected
    assert sorted(log.entries) == expected


@each_kind
def test_two_routers_over_one_selector_and_the_same_routes(kind: str) -> None:  # S10
    log = Log()
    note = log.task(kind)
    selector, a, b = note("a"), note("route a"), note("route b")
    routers = [cs.Router(selector, {"a": a, "b": b}), cs.Router(selector, {"a": b, "b": a})]
    assert run(gather(*routers)) == ["route a", "route b"]
    assert sorted(log.entries) == ["a", "route a", "route b"]


@each_kind
def test_a_lazy_value_inside_a_list_argument(kind: str) -> None:  # S4
    number, total = made(kind, lambda x: x, name="number"), made(kind, sum, name="total")
    assert run(total([number(1), 2, number(3)])) == 6
    assert run(total([total([number(1)]), *[number(x) for x in range(4)]])) == 7


@cs.resource
def database() -> Any:
    yield "database"


@pytest.mark.parametrize("way", ["position", "name", "default", "partial", "container", "literals only", "alone"])
@each_kind
def test_a_lazy_first_argument_with_a_literal_second_and_an_injected_third(kind: str, way: str) -> None:  # S4, S22
    one = made(kind, lambda: 1, name="one")
    use = made(kind, lambda a, b, db: (a, b, db), name="use")
    by_default = made(kind, lambda a, b, db=cs.inject(database): (a, b, db), name="use")
    expected: Any = (1, 2, "database")
    if way == "position":
        call = use(one(), 2, cs.inject(database))
    elif way == "name":
        call = use(one(), 2, db=cs.inject("database"))
    elif way == "default":
        call = by_default(one(), 2)
    elif way == "partial":
        call = use.partial(db=cs.inject(database))(one(), 2)
    elif way == "container":
        call, expected = use([one()], 2, cs.inject(database)), ([1], 2, "database")
    elif way == "literals only":
        call = use(1, 2, cs.inject(database))
    else:
        call, expected = made(kind, lambda db: db, name="use")(cs.inject(database)), "database"
    assert run(call, resources=[database]) == expected


@each_kind
@pytest.mark.parametrize("place", ["partial", "position"])
def test_an_injected_argument_that_is_fixed_for_a_map(kind: str, place: str) -> None:  # S17, S22
    use = made(kind, lambda db, item: (db, item), name="use")
    fixed = use.partial(cs.inject(database)) if place == "position" else use.partial(db=cs.inject(database))
    assert run(fixed.map(item=[1, 2])) == [("database", 1), ("database", 2)]


@each_kind
def test_an_injected_argument_in_a_returned_call(kind: str) -> None:  # S18, S22
    use = made(kind, lambda db: db, name="use")
    assert run(made(kind, lambda: use(cs.inject(database)), name="returning")()) == "database"


def test_a_pure_lambda_beside_another() -> None:  # S2
    tasks = [cs.task(lambda: 1, pure=True), cs.task(lambda: 2, pure=True)]
    assert run(gather(tasks[0](), tasks[1](), tasks[0]())) == [1, 2, 1]
    same_code = [cs.task(lambda factor=factor: factor, pure=True) for factor in range(3)]
    assert run(gather(*(task() for task in same_code))) == [0, 1, 2]


@pytest.mark.parametrize("switch", [True, False])
def test_run_if_with_a_plain_boolean(switch: bool) -> None:  # S9
    with pytest.raises(TypeError, match=rf"run_if.*{switch}.*Param"):
        plus(1).run_if(switch)  # type: ignore[arg-type]


# Endings.


@pytest.mark.parametrize("kind", ["sync", "policy", "map"])
@pytest.mark.parametrize("_", range(5))
def test_side_effects_of_siblings_never_come_after_the_run_has_ended(kind: str, _: int) -> None:  # S15
    """Twelve siblings are inside their calls when the run fails; the failing one lets them go as it raises."""
    ended = threading.Event()
    late: list[int] = []
    everybody = threading.Barrier(13)

    def work(place: int) -> int:
        everybody.wait(30)
        if place == 0:
            raise ValueError("first")
        if ended.is_set():
            late.append(place)
        return place

    def next_step(_: Any) -> None:
        if ended.is_set():
            late.append(-1)

    task = made("sync" if kind == "map" else kind, work)
    follow = made("sync" if kind == "map" else kind, next_step)
    values = [task.map(range(13))] if kind == "map" else [task(place) for place in range(13)]
    with pytest.raises(ValueError, match="first"):
        promptly(lambda: run([*values, *map(follow, values)], max_workers=13))
    ended.set()
    assert late == []


def test_a_failure_while_another_graph_is_being_returned() -> None:  # S15, S18
    """The graph that a call returns after the run has stopped is not begun."""
    log = Log()
    inside, failed = threading.Event(), threading.Event()

    @cs.task
    def returning() -> Any:
        inside.set()
        await_sign(failed)
        return gather(log.task()("too late"))

    @cs.task
    def failing() -> None:
        await_sign(inside)
        raise ValueError("stop")

    bus = cs.MessageBus()
    bus.subscribe(TaskExecutionFinished, lambda event: failed.set() if event.status == "Failed" else None)
    for target in (lambda: [returning(), failing()], lambda: [gather(returning()), failing()]):
        inside.clear()
        failed.clear()
        with pytest.raises(ValueError, match="stop"):
            promptly(lambda target=target: run(target(), bus=bus))
    assert log.entries == []


# Several runs.


def test_two_runs_at_once_on_one_engine_and_one_loop() -> None:  # S21
    """Each run's calls wait for the other's, so they must be under way together."""

    async def main() -> list[Any]:
        async with cs.create_engine(max_workers=8) as engine:
            threads = threading.Barrier(2)
            met = cs.task(lambda x: [threads.wait(30), x][1], name="met")
            arrived: list[asyncio.Event] = [asyncio.Event(), asyncio.Event()]

            async def greet(me: int) -> int:
                arrived[me].set()
                await asyncio.wait_for(arrived[1 - me].wait(), 30)
                return me

            greeting = cs.task(greet)
            return await asyncio.gather(*(engine.run(gather(met(me), greeting(me), [plus(me)])) for me in range(2)))

    assert promptly(lambda: asyncio.run(main())) == [[0, 0, [1]], [1, 1, [2]]]


def test_two_runs_at_once_on_one_engine_from_two_threads_with_loops_of_their_own() -> None:  # S21
    engine = cs.create_engine(max_workers=8)
    threads = threading.Barrier(2)
    met = cs.task(lambda x: [threads.wait(30), x][1], name="met")
    found: dict[int, Any] = {}

    def use(me: int) -> None:
        for turn in range(20):
            target = gather(met(me), async_plus(me), cs.Router(plus(me), {me + 1: plus.map([me, turn])}))
            found[me] = asyncio.run(engine.run(target))

    users = [threading.Thread(target=use, args=(me,)) for me in range(2)]
    for user in users:
        user.start()
    for user in users:
        user.join(60)
    asyncio.run(engine.close())
    assert found == {me: [me, me + 1, [me + 1, 20]] for me in range(2)}


def test_a_failing_run_leaves_the_other_run_of_the_engine_alone() -> None:  # S21, S15
    async def main() -> None:
        async with cs.create_engine(max_workers=4) as engine:
            failed = threading.Event()
            waits = cs.task(lambda: await_sign(failed), name="waits")

            async def failing() -> None:
                with pytest.raises(ZeroDivisionError):
                    await engine.run([cs.task(lambda: 1 / 0)(), async_plus(1)])
                failed.set()

            other, _ = await asyncio.gather(engine.run(gather(waits(), async_plus(1))), failing())
            assert other == [None, 2]

    promptly(lambda: asyncio.run(main()))


def test_runs_that_share_workers_both_get_on_with_one_worker() -> None:  # S21, S8
    async def main() -> list[int]:
        async with cs.create_engine(max_workers=1) as engine:

            def count(n: int) -> Any:
                return counting(n - 1) if n else 0

            counting = cs.task(count)
            return await asyncio.gather(*(engine.run(counting(2_000)) for _ in range(3)))

    assert promptly(lambda: asyncio.run(main())) == [0, 0, 0]


def test_a_run_inside_a_running_loop() -> None:  # S21
    """As a notebook has it: `cs.run` in code that a loop is running."""

    async def cell() -> Any:
        return run(gather(plus(1), async_plus(2)))

    assert promptly(lambda: asyncio.run(cell())) == [2, 3]


def test_a_run_inside_a_running_loop_raises_what_a_task_raised() -> None:  # S21, S15
    async def cell() -> None:
        with pytest.raises(ZeroDivisionError):
            run(cs.task(lambda: 1 / 0)())

    promptly(lambda: asyncio.run(cell()))


def test_a_run_inside_a_sync_task_and_none_inside_an_async_one() -> None:  # S21
    inner = cs.task(lambda x: run(plus(plus(x))), name="inner")
    assert promptly(lambda: run(gather(inner(1), inner(2)), max_workers=1)) == [3, 4]

    @cs.task
    async def frozen() -> None:
        run(plus(1))

    with pytest.raises(cs.NestedRunError, match="arun"):
        promptly(lambda: run(frozen()))


# Depth and width. The times are compared with each other, never with a fixed one.


def best(function: Callable[[], Any], times: int = 5) -> float:
    """The least seconds of a processor in a few tries, without the collector's pauses and without other programs."""
    found = []
    for _ in range(times):
        gc.collect()
        began = process_time()
        function()
        found.append(process_time() - began)
    return min(found)


@pytest.mark.parametrize("through", ["calls", "containers", "maps", "routers", "pure calls"])
def test_diamonds_of_a_hundred_layers_are_not_exponential(through: str) -> None:  # S2
    calls: list[int] = []

    def both(*values: Any) -> int:
        calls.append(1)
        return 1

    task = cs.task(both, pure=through == "pure calls")
    value: Any = task()
    for _ in range(100):
        if through == "calls":
            value = task(value, value)
        elif through == "pure calls":
            value = task(task(value, 1), task(value, 1))
        elif through == "containers":
            value = task([value, {"k": [value, value]}], value)
        elif through == "maps":
            value = task(cs.task(both, name="item").map([value, value]))
        else:
            value = task(cs.Router(value, {1: value, 2: value}), cs.Router(value, {1: value}))
    assert promptly(lambda: run(value)) == 1
    assert len(calls) == {"maps": 301, "pure calls": 201}.get(through, 101)


@pytest.mark.parametrize("way", ["list", "arguments", "router", "after"])
def test_one_task_with_ten_thousand_inputs_is_not_quadratic(way: str) -> None:  # S4
    count = cs.task(lambda *values: len(values), name="count")

    def wide(size: int) -> float:
        def once() -> None:
            inputs = [plus(place) for place in range(size)]
            if way == "list":
                assert run(cs.task(len)(inputs)) == size
            elif way == "arguments":
                assert run(count(*inputs)) == size
            elif way == "after":
                assert run(count().after(*inputs)) == 0
            else:
                assert run(cs.Router(plus(0), dict(enumerate(inputs)))) == 2

        return best(once)

    small = wide(2_000)
    assert wide(10_000) < 20 * small


def test_one_failure_among_ten_thousand_inputs_is_not_quadratic() -> None:  # S12
    def wide(size: int) -> float:
        def once() -> None:
            inputs = [plus(None if place % 10 == 0 else place) for place in range(size)]
            with pytest.raises(cs.RunFailedGroup) as caught:
                run(gather(*inputs), on_failure="continue")
            assert len(caught.value.exceptions) == size // 10

        return best(once)

    small = wide(2_000)
    assert wide(10_000) < 20 * small


@pytest.mark.parametrize("kind", PLUS)
def test_a_chain_of_ten_thousand(kind: str) -> None:  # S8
    value: Any = 0
    for _ in range(10_000):
        value = PLUS[kind](value)
    assert promptly(lambda: run(value)) == 10_000


@pytest.mark.parametrize("kind", PLUS)
def test_a_fan_out_of_ten_thousand(kind: str) -> None:  # S8
    root = PLUS[kind](0)
    total = cs.task(sum)([PLUS[kind](root) for _ in range(10_000)])
    assert promptly(lambda: run(total)) == 20_000


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_ten_thousand_calls_with_a_policy(kind: str) -> None:  # S8, S16
    value: Any = 0
    task = PLUS[kind].with_retry(2)
    for _ in range(1_000):
        value = task(value)
    wide = cs.task(sum)([task(value) for _ in range(1_000)])
    assert promptly(lambda: run(wide)) == 1_001_000


def test_a_chain_of_a_hundred_thousand() -> None:  # S8
    value: Any = 0
    for _ in range(100_000):
        value = plus(value)
    assert promptly(lambda: run(value)) == 100_000


def test_a_chain_of_mixed_kinds() -> None:  # S6, S8
    value: Any = 0
    for place in range(3_000):
        value = PLUS[("sync", "async", "inline")[place % 3]](value)
    assert promptly(lambda: run(value)) == 3_000


def test_an_error_at_the_end_of_a_deep_chain_is_told_briefly() -> None:  # S15
    def falls() -> None:
        raise ValueError("deep")

    value: Any = cs.task(falls)()
    for _ in range(10_000):
        value = plus(value)
    with pytest.raises(ValueError, match="deep") as caught:
        promptly(lambda: run(value))
    assert len("\n".join(caught.value.__notes__)) < 2_000


def test_items_of_items_ten_thousand_deep() -> None:  # S5
    def nested() -> Any:
        deep: Any = "end"
        for _ in range(10_000):
            deep = [deep]
        return deep

    value: Any = cs.task(nested)()
    for _ in range(10_000):
        value = value[0]
    assert promptly(lambda: run(value)) == "end"


def test_partials_of_partials_ten_thousand_deep() -> None:  # S3
    task = cs.task(lambda a=0, b=0: (a, b), name="pair")
    for place in range(10_000):
        task = task.partial(a=place)
    assert run(task(b=1)) == (9_999, 1)


def test_policies_upon_policies_ten_thousand_deep() -> None:  # S3
    value = plus(0)
    for place in range(10_000):
        value = value.named(f"n{place}")
    assert value.name == "n9999"
    assert run(value) == 1


def test_conditions_upon_conditions_ten_thousand_deep() -> None:  # S9
    value = plus(0)
    for _ in range(10_000):
        value = plus(0).run_if(value)
    assert promptly(lambda: run(value)) == 1


def test_containers_ten_thousand_deep_as_argument_target_and_result() -> None:  # S4
    deep: Any = plus(0)
    for _ in range(10_000):
        deep = [deep]
    for found in (promptly(lambda: run(deep)), promptly(lambda: run(gather(deep)))[0]):
        while isinstance(found, list):
            (found,) = found
        assert found == 1


def nest(kind: str, depth: int) -> Any:
    """Recursion that waits: each level's call has returned, and its value waits for the level below."""
    add = PLUS["async" if kind in ("async", "waiting") else "inline" if kind == "inline" else "sync"]

    def level(n: int) -> Any:
        return add(task(n - 1)) if n else 0

    task = made(kind, level)
    return task(depth)


@pytest.mark.parametrize("kind", KINDS)
def test_returned_graphs_ten_thousand_deep(kind: str) -> None:  # S18
    depth = 10_000 if kind == "sync" else 1_000
    assert promptly(lambda: run(nest(kind, depth))) == depth


def test_returned_graphs_cost_memory_for_their_depth_and_no_more() -> None:  # S18
    """Names of nested calls grow with depth, so it is their memory that would be quadratic."""
    import tracemalloc

    def peak(depth: int) -> int:
        gc.collect()
        tracemalloc.start()
        try:
            assert run(nest("sync", depth)) == depth
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    run(nest("sync", 10))
    assert peak(2_000) < 8 * peak(500)


@pytest.mark.parametrize("kind", ["sync", "async", "inline"])
def test_loops_of_fifty_thousand_turns(kind: str) -> None:  # S18
    def turn(n: int) -> Any:
        return task(n - 1) if n else "done"

    task = made(kind, turn)
    turns = 50_000 if kind == "sync" else 10_000
    assert promptly(lambda: run(task(turns))) == "done"


def test_a_map_of_ten_thousand_items_under_a_router_in_a_returned_graph() -> None:  # S17, S18
    returning = cs.task(lambda: cs.Router(plus(0), {1: plus.map(range(10_000)), 2: 0}), name="returning")
    assert promptly(lambda: run(cs.task(sum)(returning()))) == sum(range(1, 10_001))


def test_maps_of_maps_of_maps() -> None:  # S17
    def spread(n: int) -> Any:
        return spreading.map(range(n)) if n else 1

    spreading = cs.task(spread)

    def expected(n: int) -> Any:
        return [expected(m) for m in range(n)] if n else 1

    assert promptly(lambda: run(spreading(7))) == expected(7)
