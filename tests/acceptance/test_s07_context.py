"""S7: each call sees a copy of the contextvars at `run`; what it changes reaches nobody else."""

from __future__ import annotations

import asyncio
import threading
from contextvars import ContextVar
from typing import Any

import pytest

import cascade as cs
from tests.acceptance.kinds import each_kind, made
from tests.acceptance.observed import await_sign, run

tenant: ContextVar[str] = ContextVar("tenant", default="nobody")


@pytest.fixture(autouse=True)
def clean_context() -> Any:
    token = tenant.set("nobody")
    yield
    tenant.reset(token)


@each_kind
@pytest.mark.parametrize("mapped", [False, True])
def test_calls_see_the_context_at_the_run(kind: str, mapped: bool) -> None:  # S7
    read = made(kind, lambda x: tenant.get(), name="read")
    target = read.map([1, 2]) if mapped else [read(1), read(2)]
    tenant.set("at the run")
    assert run(target) == ["at the run"] * 2
    tenant.set("at the next run")
    assert run(target) == ["at the next run"] * 2


@each_kind
@pytest.mark.parametrize("mapped", [False, True])
def test_what_a_call_changes_reaches_nobody_else(kind: str, mapped: bool) -> None:  # S7
    tenant.set("caller")

    def change(x: int) -> str:
        before = tenant.get()
        tenant.set(f"changed by {x}")
        return before

    task = made(kind, change)
    if mapped:
        assert run(task.map(range(50)), max_workers=1) == ["caller"] * 50
    else:
        first = task(0)
        follow = cs.task(lambda _: tenant.get(), name="follow")
        values = [first, *(task(i) for i in range(1, 20)), follow(first), made(kind, lambda _: tenant.get())(first)]
        assert run(values, max_workers=1) == ["caller"] * len(values)
    assert tenant.get() == "caller"


@each_kind
def test_the_turns_of_a_loop_do_not_reach_each_other(kind: str) -> None:  # S7, S18
    tenant.set("caller")
    seen: set[str] = set()

    def turn(n: int) -> Any:
        seen.add(tenant.get())
        tenant.set(f"turn {n}")
        return task(n - 1) if n else tenant.get()

    task = made(kind, turn)
    assert run(task(100)) == "turn 0"
    assert seen == {"caller"}


def test_a_coroutine_keeps_its_context_over_its_waits() -> None:  # S7
    tenant.set("caller")

    @cs.task
    async def works(name: str) -> list[str]:
        found = [tenant.get()]
        tenant.set(name)
        for _ in range(5):
            await asyncio.sleep(0)
            found.append(tenant.get())
        return found

    assert run([works(name) for name in "abc"]) == [["caller", *[name] * 5] for name in "abc"]
    assert tenant.get() == "caller"


def test_a_token_can_be_reset_after_a_wait() -> None:  # S7
    @cs.task
    async def works(name: str) -> str:
        token = tenant.set(name)
        await asyncio.sleep(0)
        tenant.reset(token)
        return tenant.get()

    tenant.set("caller")
    assert run([works("a"), works("b")]) == ["caller", "caller"]


def test_children_of_a_coroutine_inherit_its_context() -> None:  # S7
    async def child() -> str:
        return tenant.get()

    @cs.task
    async def parent(name: str) -> str:
        tenant.set(name)
        return await asyncio.create_task(child())

    assert run([parent("a"), parent("b")]) == ["a", "b"]


@each_kind
def test_calls_at_the_same_time_do_not_see_each_others_changes(kind: str) -> None:  # S7
    if kind in ("async", "inline"):
        pytest.skip("these do not overlap")
    tenant.set("caller")
    both = threading.Barrier(2)

    def change(name: str) -> str:
        tenant.set(name)
        if kind != "waiting":
            both.wait(30)
        return tenant.get()

    task = made(kind, change)
    assert run([task("a"), task("b")]) == ["a", "b"]


def test_runs_at_the_same_time_keep_their_own_contexts() -> None:  # S7, S21
    started, goes_on = threading.Event(), threading.Event()

    def read(wait: bool) -> str:
        if wait:
            started.set()
            await_sign(goes_on)
        else:
            goes_on.set()
        return tenant.get()

    task = cs.task(read)
    found: dict[str, str] = {}

    def use(name: str, wait: bool) -> None:
        tenant.set(name)
        found[name] = run(task(wait))

    first = threading.Thread(target=use, args=("first", True))
    first.start()
    await_sign(started)
    second = threading.Thread(target=use, args=("second", False))
    second.start()
    first.join(30)
    second.join(30)
    assert found == {"first": "first", "second": "second"}


def test_a_running_loop_hands_its_context_on() -> None:  # S7, S21
    async def main() -> tuple[str, str]:
        tenant.set("async caller")
        read = cs.task(lambda *_: tenant.get(), name="read")
        return await cs.arun(read(), log_level="CRITICAL"), run(read())

    assert asyncio.run(main()) == ("async caller", "async caller")


@each_kind
def test_retried_attempts_each_see_a_fresh_copy(kind: str) -> None:  # S7, S16
    tenant.set("caller")
    seen: list[str] = []

    def fails() -> None:
        seen.append(tenant.get())
        tenant.set("changed")
        if len(seen) < 3:
            raise ValueError("again")

    run(made(kind, fails)().with_retry(3))
    assert seen == ["caller"] * 3


def test_truth_of_conditions_and_items_cannot_change_the_callers_context() -> None:  # S7
    class Meddler:
        def __bool__(self) -> bool:
            tenant.set("meddled")
            return True

        def __getitem__(self, key: str) -> str:
            tenant.set("meddled")
            return key

    tenant.set("caller")
    meddler = cs.task(Meddler, name="meddler")()
    read = cs.task(lambda *_: tenant.get(), name="read")
    conditional = read().run_if(meddler)
    assert run([conditional, read(meddler["k"]), read(conditional)], max_workers=1) == ["caller"] * 3
    assert tenant.get() == "caller"
