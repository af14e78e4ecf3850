"""Capacities: all at once, first come first served, exact, and never lost. (S23, S21)"""

import asyncio
import gc
import math
import threading
from collections.abc import Iterable
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest

from cascade.runtime.capacity import CapacityHeldError, Grant
from cascade.runtime.resource_manager import ResourceManager
from cascade.spec.exceptions import CapacityError, CascadeError, NestedRunError


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


def waiting(manager: ResourceManager, amounts: dict[str, Any], **options: Any) -> asyncio.Task[Grant]:
    return asyncio.ensure_future(manager.acquire(amounts, **options))


def done(tasks: Iterable[asyncio.Task[Grant]]) -> list[bool]:
    return [task.done() for task in tasks]


@pytest.mark.parametrize(
    "amount",
    [True, None, "1", -1, -0.5, math.nan, math.inf, Decimal("NaN"), Decimal(-1), Fraction(-1, 2), 1j],
)
def test_what_is_no_amount_is_refused_by_name_even_for_unlimited_resources(amount: Any) -> None:  # S23
    for capacities in ({"gpu": 2}, {}):
        with pytest.raises(ValueError, match="'gpu'") as caught:
            ResourceManager(capacities).check({"gpu": amount})
        assert repr(amount) in str(caught.value)
        assert isinstance(caught.value, CascadeError)
    with pytest.raises(CapacityError, match="'gpu'"):
        ResourceManager({"gpu": amount})


def test_more_than_the_capacity_is_refused_with_both_numbers_and_all_problems_at_once() -> None:  # S23
    manager = ResourceManager({"gpu": 2, "memory_gb": 0.5})
    with pytest.raises(CapacityError) as caught:
        manager.check({"gpu": 3, "memory_gb": 0.75, "disk": -1})
    assert len(caught.value.problems) == 3
    assert "3 of the resource 'gpu'" in caught.value.problems[0]
    assert "only 2" in caught.value.problems[0]
    assert "0.75" in caught.value.problems[1]
    assert "0.5" in caught.value.problems[1]
    with pytest.raises(CapacityError):
        asyncio.run(manager.acquire({"gpu": 3}))
    assert manager.usage() == {"gpu": (0, 2), "memory_gb": (0, 0.5)}


@pytest.mark.parametrize("tenth", [0.1, Decimal("0.1"), Fraction(1, 10)])
def test_amounts_add_up_exactly(tenth: Any) -> None:  # S23
    manager = ResourceManager({"memory_gb": 1.0})
    grants = [manager.try_acquire({"memory_gb": tenth}) for _ in range(10)]
    assert None not in grants
    assert manager.usage() == {"memory_gb": (1, 1)}
    assert manager.try_acquire({"memory_gb": 1e-300}) is None
    for grant in grants:
        assert grant is not None
        grant.release()
    assert manager.usage() == {"memory_gb": (0, 1)}
    assert manager.try_acquire({"memory_gb": 1}) is not None


def test_unlisted_resources_and_amounts_of_zero_wait_for_nothing() -> None:  # S23
    manager = ResourceManager({"gpu": 1, "none": 0})
    held = manager.try_acquire({"gpu": 1})
    assert held is not None
    grant = manager.try_acquire({"gpu": 0, "none": 0.0, "network": 10**9})
    assert grant is not None
    assert grant.resources == ()


def test_all_amounts_are_taken_together_or_not_at_all() -> None:  # S23
    async def main() -> None:
        manager = ResourceManager({"a": 1, "b": 1})
        b = await manager.acquire({"b": 1})
        both = waiting(manager, {"a": 1, "b": 1})
        await settle()
        assert manager.usage() == {"a": (0, 1), "b": (1, 1)}
        b.release()
        assert (await both).resources == ("a", "b")

    asyncio.run(main())


def test_a_large_request_is_overtaken_only_by_those_that_share_nothing_with_it() -> None:  # S23
    async def main() -> None:
        manager = ResourceManager({"gpu": 4, "disk": 4})
        held = await manager.acquire({"gpu": 1})
        large = waiting(manager, {"gpu": 4})
        small = waiting(manager, {"gpu": 1})
        other = waiting(manager, {"disk": 1})
        mixed = waiting(manager, {"disk": 1, "gpu": 1})
        await settle()
        assert done([large, small, other, mixed]) == [False, False, True, False]
        assert manager.try_acquire({"gpu": 1}) is None
        held.release()
        await settle()
        assert done([large, small, mixed]) == [True, False, False]
        (await large).release()
        await settle()
        assert done([small, mixed]) == [True, True]

    asyncio.run(main())


def test_on_wait_is_called_once_and_only_for_a_wait_with_what_is_waited_for() -> None:
    async def main() -> None:
        manager = ResourceManager({"a": 1, "b": 1, "c": 1})
        waits: list[tuple[str, ...]] = []
        a = await manager.acquire({"a": 1}, on_wait=waits.append)
        assert waits == []
        first = waiting(manager, {"a": 1, "b": 1}, on_wait=waits.append)
        second = waiting(manager, {"b": 1, "c": 1}, on_wait=waits.append)
        await settle()
        assert waits == [("a",), ("b",)]
        a.release()
        (await first).release()
        await second
        assert len(waits) == 2

    asyncio.run(main())


def test_a_failing_on_wait_withdraws_the_request() -> None:
    async def main() -> None:
        manager = ResourceManager({"a": 1})
        held = await manager.acquire({"a": 1})
        with pytest.raises(ZeroDivisionError):
            await manager.acquire({"a": 1}, on_wait=lambda names: 1 / 0)
        held.release()
        assert manager.try_acquire({"a": 1}) is not None

    asyncio.run(main())


def test_releasing_twice_gives_back_once_from_any_thread() -> None:  # S23
    manager = ResourceManager({"gpu": 8})
    for _ in range(50):
        grant = manager.try_acquire({"gpu": 3})
        rest = manager.try_acquire({"gpu": 5})
        assert grant is not None
        assert rest is not None
        threads = [threading.Thread(target=grant.release) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert manager.usage() == {"gpu": (5, 8)}
        rest.release()


def test_a_cancelled_wait_lets_those_behind_it_go() -> None:
    async def main() -> None:
        manager = ResourceManager({"gpu": 4})
        held = await manager.acquire({"gpu": 2})
        large = waiting(manager, {"gpu": 4})
        small = waiting(manager, {"gpu": 2})
        await settle()
        assert done([large, small]) == [False, False]
        large.cancel()
        await settle()
        assert done([small]) == [True]
        held.release()

    asyncio.run(main())


def test_a_grant_that_meets_the_cancellation_of_its_waiter_is_given_back() -> None:
    async def main() -> None:
        manager = ResourceManager({"gpu": 1})
        held = await manager.acquire({"gpu": 1})
        unlucky = waiting(manager, {"gpu": 1})
        behind = waiting(manager, {"gpu": 1})
        await settle()
        held.release()
        unlucky.cancel()
        (await behind).release()
        assert unlucky.cancelled()
        assert manager.usage() == {"gpu": (0, 1)}

    asyncio.run(main())


def test_a_waiter_whose_loop_is_closed_takes_nothing_with_it() -> None:
    manager = ResourceManager({"gpu": 1})
    held = manager.try_acquire({"gpu": 1})
    assert held is not None
    loop = asyncio.new_event_loop()
    coroutine = manager.acquire({"gpu": 1})
    task = loop.create_task(coroutine)
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()
    held.release()
    assert manager.usage() == {"gpu": (0, 1)}
    task._log_destroy_pending = False  # type: ignore[attr-defined]
    del task
    coroutine.close()
    assert manager.usage() == {"gpu": (0, 1)}


def test_a_coroutine_that_is_collected_inside_the_critical_section_blocks_nothing() -> None:
    # The collection may run anywhere, even while its own thread holds the manager's lock.
    manager = ResourceManager({"gpu": 2})
    held = manager.try_acquire({"gpu": 2})
    assert held is not None
    loop = asyncio.new_event_loop()
    coroutine = manager.acquire({"gpu": 1})
    task = loop.create_task(coroutine)
    loop.run_until_complete(asyncio.sleep(0))
    task._log_destroy_pending = False  # type: ignore[attr-defined]
    loop.close()
    with manager._lock:
        del task
        coroutine.close()
        gc.collect()
        held.release()
    assert manager.usage() == {"gpu": (0, 2)}


def test_a_release_wakes_only_those_it_can_serve() -> None:
    async def main() -> None:
        manager = ResourceManager({"gpu": 1})
        held = await manager.acquire({"gpu": 1})
        order: list[int] = []

        async def use(number: int) -> None:
            grant = await manager.acquire({"gpu": 1})
            order.append(number)
            await asyncio.sleep(0)
            grant.release()

        tasks = [asyncio.ensure_future(use(number)) for number in range(500)]
        await settle()
        held.release()
        await asyncio.gather(*tasks)
        assert order == list(range(500))
        assert manager.usage() == {"gpu": (0, 1)}

    asyncio.run(main())


def test_two_loops_in_two_threads_share_one_manager_while_waits_are_cancelled() -> None:
    manager = ResourceManager({"gpu": 3, "memory_gb": 1.0})
    in_use = {"gpu": Fraction(0), "memory_gb": Fraction(0)}
    lock = threading.Lock()
    served: list[int] = []
    errors: list[BaseException] = []

    def count(amounts: dict[str, Any], sign: int) -> None:
        with lock:
            for name, amount in amounts.items():
                in_use[name] += sign * Fraction(str(amount))
            assert in_use["gpu"] <= 3
            assert in_use["memory_gb"] <= 1

    async def use(number: int) -> None:
        amounts = {"gpu": number % 3 + 1, "memory_gb": (number % 7 + 1) / 10}
        grant = await manager.acquire(amounts)
        count(amounts, 1)
        try:
            await asyncio.sleep(0)
            served.append(number)
        finally:
            count(amounts, -1)
            grant.release()

    async def main() -> None:
        tasks = [asyncio.ensure_future(use(number)) for number in range(300)]
        for task in tasks[::5]:
            await asyncio.sleep(0)
            task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        cancelled = [result for result in results if isinstance(result, asyncio.CancelledError)]
        errors.extend(result for result in results if result is not None and result not in cancelled)
        assert len(cancelled) <= 60

    threads = [threading.Thread(target=asyncio.run, args=(main(),)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert errors == []
    assert len(served) >= 480
    assert manager.usage() == {"gpu": (0, 3), "memory_gb": (0, 1)}


def test_a_nested_run_that_needs_what_its_caller_holds_is_refused() -> None:  # S21
    async def main() -> None:
        manager = ResourceManager({"gpu": 2})
        outer = await manager.acquire({"gpu": 2}, holder="outer")
        with pytest.raises(CapacityHeldError, match="needs 1 of the resource 'gpu', but 2 of its capacity of 2") as e:
            await manager.acquire({"gpu": 1}, held=[outer])
        assert isinstance(e.value, NestedRunError)
        assert (e.value.resource, e.value.amount, e.value.held, e.value.capacity) == ("gpu", 1, 2, 2)
        assert manager.try_acquire({"gpu": 1}, held=[outer]) is None
        outer.release()
        (await manager.acquire({"gpu": 2}, held=[outer])).release()
        assert manager.usage() == {"gpu": (0, 2)}

    asyncio.run(main())


def test_a_nested_run_waits_for_what_others_hold() -> None:  # S21
    async def main() -> None:
        manager = ResourceManager({"gpu": 3})
        outer = await manager.acquire({"gpu": 1})
        other = await manager.acquire({"gpu": 2})
        inner = waiting(manager, {"gpu": 2}, held=[outer])
        await settle()
        assert not inner.done()
        other.release()
        await inner

    asyncio.run(main())


def test_a_nested_run_does_not_wait_behind_a_request_that_waits_for_its_caller() -> None:  # S21
    async def main() -> None:
        manager = ResourceManager({"gpu": 2, "disk": 1})
        outer = await manager.acquire({"gpu": 1})
        large = waiting(manager, {"gpu": 2, "disk": 1})
        await settle()
        for amounts in ({"gpu": 1}, {"disk": 1}):
            inner = await asyncio.wait_for(manager.acquire(amounts, held=[outer]), 10)
            inner.release()
        assert not large.done()
        outer.release()
        await large

    asyncio.run(main())


def test_nested_runs_that_would_wait_for_each_others_callers_are_refused() -> None:  # S21
    async def main() -> None:
        manager = ResourceManager({"gpu": 4})
        outer = [await manager.acquire({"gpu": 1}) for _ in range(4)]
        inner = [waiting(manager, {"gpu": 1}, held=[grant]) for grant in outer]
        await settle()
        # Three may hope for the fourth; the fourth would close the circle.
        assert done(inner) == [False, False, False, True]
        with pytest.raises(CapacityHeldError, match="4 of its capacity of 4"):
            await inner[3]
        outer[3].release()
        for position in range(3):
            (await inner[position]).release()
            outer[position].release()
        assert manager.usage() == {"gpu": (0, 4)}

    asyncio.run(main())
