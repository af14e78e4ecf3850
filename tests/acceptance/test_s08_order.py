"""S8: a node starts as soon as its own dependencies are done and it may run."""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import Sequence
from typing import Any

import pytest

import cascade as cs
from tests.acceptance.kinds import KINDS, Log, each_kind, made
from tests.acceptance.observed import await_sign, promptly, run

gather = cs.task(lambda *values: list(values), name="gather")


@each_kind
def test_dependencies_come_first(kind: str) -> None:  # S8
    log = Log()
    note = log.task(kind)
    a = note("a")
    b, c = note("b", a), note("c", [a])
    run(note("d", b, {"k": c}))
    assert log.entries[0] == "a"
    assert log.entries[3] == "d"


@pytest.mark.parametrize("fast", KINDS)
def test_stages_are_no_barriers(fast: str) -> None:  # S8
    """A chain gets to its end while a root of the first stage still waits for that end."""
    reached = threading.Event()
    waits = cs.task(lambda: reached.wait(30), name="waits")
    step = made(fast, lambda x: x + 1, name="step")
    value: Any = 0
    for _ in range(20):
        value = step(value)
    opens = made(fast, lambda x: reached.set(), name="opens")
    assert promptly(lambda: run([waits(), opens(value)])) == [True, None]


def test_stages_are_no_barriers_among_coroutines() -> None:  # S8
    async def main() -> list[Any]:
        reached = asyncio.Event()

        async def waits() -> bool:
            return await reached.wait()

        async def step(x: int) -> int:
            await asyncio.sleep(0)
            return x + 1

        async def opens(_: int) -> None:
            reached.set()

        stepping = cs.task(step)
        return await asyncio.wait_for(
            cs.arun([cs.task(waits)(), cs.task(opens)(stepping(stepping(0)))], log_level="CRITICAL"), 30
        )

    assert asyncio.run(main()) == [True, None]


@pytest.mark.parametrize("workers", [2, 3, 8])
def test_no_call_waits_while_a_worker_is_idle(workers: int) -> None:  # S8
    together = threading.Barrier(workers)
    meet = cs.task(lambda *_: together.wait(30) >= 0, name="meet")
    root = cs.task(lambda: 1, name="root")()
    promptly(lambda: run([meet(root) for _ in range(workers)], max_workers=workers))
    promptly(lambda: run([meet() for _ in range(workers)], max_workers=workers))
    promptly(lambda: run(meet.map(range(workers)), max_workers=workers))


@pytest.mark.parametrize("root_kind", KINDS)
@pytest.mark.parametrize("through", ["nothing", "item", "router", "sequence", "condition", "container", "returned"])
def test_calls_released_together_run_together_whatever_released_them(root_kind: str, through: str) -> None:  # S8
    """The one who makes two calls ready must not keep the second for itself."""
    together = threading.Barrier(2)
    meet = cs.task(lambda *_: together.wait(30) >= 0, name="meet")
    root = made(root_kind, lambda: {"k": 1}, name="root")()
    if through == "nothing":
        pair = [meet(root), meet(root)]
    elif through == "item":
        pair = [meet(root["k"]), meet(root["k"])]
    elif through == "router":
        chosen = cs.Router(root["k"], {1: root, 2: 5})
        pair = [meet(chosen), meet(chosen)]
    elif through == "sequence":
        whole = cs.sequence([root])
        pair = [meet(whole), meet(whole)]
    elif through == "condition":
        pair = [meet().run_if(root), meet().run_if(root)]
    elif through == "container":
        pair = [meet([root]), meet({"k": [root]})]
    else:
        returning = made(root_kind, lambda _: gather(meet(), meet()), name="returning")
        assert promptly(lambda: run(gather(returning(root)), max_workers=2)) == [[True, True]]
        return
    assert promptly(lambda: run(pair, max_workers=2)) == [True, True]


def test_a_map_and_a_call_share_the_workers() -> None:  # S8, S17
    together = threading.Barrier(2)
    meet = cs.task(lambda *_: together.wait(30) >= 0, name="meet")
    assert promptly(lambda: run([meet.map([1]), meet()], max_workers=2)) == [[True], True]
    assert promptly(lambda: run([meet.map([1]), meet.map([1])], max_workers=2)) == [[True], [True]]


@pytest.mark.parametrize("kind", ["sync", "inline"])
def test_with_one_worker_ready_calls_run_in_the_order_of_declaration(kind: str) -> None:  # S8
    log = Log()
    note = log.task(kind)
    values = [note(place) for place in range(50)]
    run(list(reversed(values)), max_workers=1)
    assert log.entries == list(range(50))


@pytest.mark.parametrize("size", [6, 100])
def test_with_one_worker_the_most_preferred_of_the_ready_is_next(size: int) -> None:  # S8
    """Declared depth first, so each chain is finished before the next begins."""
    log = Log()
    note = log.task()
    ends = []
    for chain in range(size // 2):
        head = note((chain, 0))
        ends.append(note((chain, 1), head))
    run(ends, max_workers=1)
    assert log.entries == [(chain, step) for chain in range(size // 2) for step in range(2)]


def test_with_one_worker_declared_breadth_first_runs_breadth_first() -> None:  # S8
    log = Log()
    note = log.task()
    heads = [note((0, chain)) for chain in range(10)]
    run([note((1, chain), head) for chain, head in enumerate(heads)], max_workers=1)
    assert log.entries == [(step, chain) for step in range(2) for chain in range(10)]


def test_with_one_worker_connectors_do_not_disturb_the_order() -> None:  # S8
    log = Log()
    note = log.task()
    selector = note(1)
    first = note("first", note("head"))
    chosen = cs.Router(selector, {1: note("route"), 2: note("never")})
    last = note("last", chosen)
    run([last, first, cs.sequence([note("s0"), note("s1")])], max_workers=1)
    assert log.entries == [1, "head", "first", "route", "last", "s0", "s1"]


def test_the_solvers_order_is_preferred() -> None:  # S8
    class Backwards:
        """Prefers what was declared last, as far as dependencies allow."""

        def resolve(self, graph: Any) -> Any:
            class Order:
                order: Sequence[int] = range(len(graph) - 1, -1, -1)
                stages: Sequence[Any] = ()

            return Order()

    log = Log()
    note = log.task()

    async def main() -> None:
        async with cs.create_engine(solver=Backwards(), max_workers=1) as engine:
            values = [note(place) for place in range(20)]
            assert await engine.run([note("end", values[3]), *values]) == ["end", *range(20)]

    asyncio.run(main())
    assert log.entries == [*range(19, 2, -1), "end", 2, 1, 0]


def test_a_solver_that_forgets_a_node_is_an_error() -> None:  # S8, S30
    class Forgetful:
        def resolve(self, graph: Any) -> Any:
            class Order:
                order: Sequence[int] = range(len(graph) - 1)
                stages: Sequence[Any] = ()

            return Order()

    async def main() -> None:
        async with cs.create_engine(solver=Forgetful()) as engine:
            with pytest.raises(ValueError, match="Forgetful"):
                await engine.run([gather(), gather()])

    asyncio.run(main())


@each_kind
def test_only_what_the_target_needs_runs(kind: str) -> None:  # S8
    log = Log()
    note = log.task(kind)
    wanted = note("wanted")
    note("consumer", wanted)
    note("alone")
    cs.sequence([wanted, note("in a sequence nobody wants")])
    assert run(wanted) == "wanted"
    assert log.entries == ["wanted"]


def test_one_slow_branch_does_not_hold_up_another_of_async_and_sync_steps() -> None:  # S8
    done = threading.Event()

    @cs.task
    async def hop(x: int) -> int:
        await asyncio.sleep(0)
        return x + 1

    step = cs.task(lambda x: x + 1, name="step")
    value: Any = 0
    for _ in range(10):
        value = step(hop(value))
    finish = cs.task(lambda _: done.set(), name="finish")
    waits = cs.task(lambda: await_sign(done), name="waits")
    promptly(lambda: run([waits(), finish(value)], max_workers=2))


def test_coroutines_go_on_while_all_workers_are_blocked() -> None:  # S8, S6
    opened = threading.Event()
    blocks = cs.task(lambda: await_sign(opened), name="blocks")

    @cs.task
    async def opens(x: int) -> int:
        await asyncio.sleep(0)
        if x == 5:
            opened.set()
        return x + 1

    value: Any = 0
    for _ in range(6):
        value = opens(value)
    promptly(lambda: run([blocks(), value], max_workers=1))


@pytest.mark.parametrize("seed", range(3))
def test_random_graphs_respect_every_dependency(seed: int) -> None:  # S8
    chance = random.Random(seed)
    finished: set[int] = set()
    wrong: list[tuple[int, int]] = []

    def work(place: int, sources: list[int], *values: int) -> int:
        wrong.extend((place, source) for source in sources if source not in finished)
        finished.add(place)
        return place

    tasks = [made(kind, work) for kind in KINDS]
    values: list[Any] = []
    for place in range(300):
        sources = sorted({chance.randrange(place) for _ in range(chance.randrange(4))}) if place else []
        values.append(chance.choice(tasks)(place, sources, *(values[source] for source in sources)))
    assert run(values) == list(range(300))
    assert wrong == []
