"""S23: amounts are taken together, never more than there is, and given back exactly once."""

from __future__ import annotations

import asyncio
import threading
from decimal import Decimal
from typing import Any

import pytest

import cascade as cs
from cascade.runtime.events import TaskBlocked
from tests.acceptance.observed import Trace, promptly, run


class Meter:
    """Tasks that count how many of them run at once."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.now: dict[str, float] = {}
        self.most: dict[str, float] = {}
        self.order: list[Any] = []

    def use(self, name: Any, **amounts: float) -> str:
        with self.lock:
            self.order.append(name)
            for resource, amount in amounts.items():
                self.now[resource] = self.now.get(resource, 0) + amount
                self.most[resource] = max(self.most.get(resource, 0), self.now[resource])
        with self.lock:
            for resource, amount in amounts.items():
                self.now[resource] -= amount
        return str(name)


@cs.task
def give(value: Any) -> Any:
    return value


# S23
@pytest.mark.parametrize("kind", ["thread", "async", "inline"])
def test_no_more_than_the_capacity_is_in_use(kind: str) -> None:
    meter = Meter()

    async def use_async(name: int, **amounts: float) -> str:
        return meter.use(name, **amounts)

    task: Any = cs.task(use_async if kind == "async" else meter.use, executor="inline" if kind == "inline" else None)
    target = [task(n, gpu=1 + n % 2, memory=n % 5).with_constraints(gpu=1 + n % 2, memory=n % 5) for n in range(60)]
    promptly(lambda: run(target, system_resources={"gpu": 2, "memory": 6}))
    assert meter.most["gpu"] <= 2
    assert meter.most["memory"] <= 6


# S23
def test_all_amounts_are_taken_together_or_none() -> None:
    async def main() -> None:
        release, started, blocked = asyncio.Event(), asyncio.Event(), asyncio.Event()

        @cs.task
        async def holds_a() -> None:
            started.set()
            await release.wait()

        @cs.task
        async def needs_both() -> str:
            return "both"

        @cs.task
        async def needs_b() -> str:
            return "b"

        async with cs.create_engine(system_resources={"a": 1, "b": 1}) as engine:
            engine.bus.subscribe(TaskBlocked, lambda event: blocked.set())
            first = asyncio.create_task(engine.run(holds_a().with_constraints(a=1)))
            await started.wait()
            second = asyncio.create_task(engine.run(needs_both().with_constraints(a=1, b=1)))
            await blocked.wait()
            assert engine.capacities.usage() == {"a": (1, 1), "b": (0, 1)}
            release.set()
            await first
            assert await second == "both"
            assert await engine.run(needs_b().with_constraints(b=1)) == "b"

    promptly(lambda: asyncio.run(main()))


# S23
def test_opposite_orders_of_amounts_never_deadlock() -> None:
    meter = Meter()
    use = cs.task(meter.use, name="use")
    target = [use(n).with_constraints(**({"a": 1, "b": 1} if n % 2 else {"b": 1, "a": 1})) for n in range(100)]
    promptly(lambda: run(target, system_resources={"a": 1, "b": 1}))
    assert len(meter.order) == 100


# S23
def test_more_than_the_capacity_is_a_value_error_at_once_naming_both_numbers() -> None:
    called: list[int] = []
    target = [cs.task(called.append)(1), give(1).with_constraints(gpu=3)]
    with pytest.raises(ValueError, match=r"give.*3.*gpu.*2") as caught:
        run(target, system_resources={"gpu": 2})
    assert isinstance(caught.value, cs.CascadeError)
    assert called == []


# S23
def test_a_lazy_amount_that_is_too_much_fails_its_node() -> None:
    called: list[int] = []
    target = [cs.task(called.append)(1), give(1).with_constraints(gpu=give(3))]
    with pytest.raises(cs.RunFailedGroup) as caught:
        promptly(lambda: run(target, system_resources={"gpu": 2}, on_failure="continue"))
    [error] = caught.value.exceptions
    assert isinstance(error, ValueError)
    assert "3" in str(error)
    assert "2" in str(error)
    assert "give#" in "\n".join(error.__notes__)
    assert called == [1]


# S23
@pytest.mark.parametrize("amount", [-1, float("nan"), float("inf"), "2", None, True, [1]])
def test_a_negative_amount_or_no_number_is_an_error(amount: Any) -> None:
    with pytest.raises(ValueError, match="gpu"):
        run(give(1).with_constraints(gpu=amount), system_resources={"gpu": 2})
    with pytest.raises(ValueError, match="gpu"):
        promptly(lambda: run(give(1).with_constraints(gpu=give(amount)), system_resources={"gpu": 2}))


# S23
def test_amounts_may_be_lazy_routers_and_parameters() -> None:
    target = give("x").with_constraints(
        gpu=cs.Router(give("a"), {"a": 1, "b": 100}), memory=cs.Param("memory", type=int)
    )
    assert promptly(lambda: run(target, {"memory": 3}, system_resources={"gpu": 1, "memory": 3})) == "x"
    with pytest.raises(ValueError, match="memory"):
        promptly(lambda: run(target, {"memory": 4}, system_resources={"gpu": 1, "memory": 3}))


# S23, S12
def test_a_skipped_amount_skips_its_node() -> None:
    amount = give(1).run_if(give(False))
    with pytest.raises(cs.DependencyMissingError) as caught:
        promptly(lambda: run(give("x").with_constraints(gpu=amount), system_resources={"gpu": 1}))
    assert caught.value.reason == "UpstreamSkipped_Data"


# S23
def test_waiting_is_first_come_first_served() -> None:
    order: list[int] = []

    @cs.task
    async def use(n: int) -> None:
        order.append(n)
        await asyncio.sleep(0)

    promptly(lambda: run([use(n).with_constraints(gpu=1) for n in range(30)], system_resources={"gpu": 1}))
    assert order == list(range(30))


# S23
def test_a_large_request_is_not_overtaken_by_small_ones_but_by_those_that_share_nothing() -> None:
    async def main() -> list[str]:
        order: list[str] = []
        release, started = asyncio.Event(), asyncio.Event()
        blocked: list[str] = []

        @cs.task
        async def holds() -> None:
            started.set()
            await release.wait()

        @cs.task
        async def note(name: str) -> None:
            order.append(name)

        async with cs.create_engine(system_resources={"gpu": 2, "disk": 1}) as engine:
            engine.bus.subscribe(TaskBlocked, lambda event: blocked.append(event.task_name))

            async def settle(count: int) -> None:
                while len(blocked) < count:  # noqa: ASYNC110 - it is told by a thread or a handler
                    await asyncio.sleep(0)

            runs = [asyncio.create_task(engine.run(holds().with_constraints(gpu=1)))]
            await started.wait()
            runs.append(asyncio.create_task(engine.run(note("large").with_constraints(gpu=2))))
            await settle(1)
            runs.append(asyncio.create_task(engine.run(note("small").with_constraints(gpu=1))))
            await settle(2)
            await engine.run(note("other").with_constraints(disk=1))
            release.set()
            await asyncio.gather(*runs)
        return order

    assert promptly(lambda: asyncio.run(main())) == ["other", "large", "small"]


# S23
def test_waiting_holds_no_worker() -> None:
    async def main() -> Any:
        loop = asyncio.get_running_loop()
        release, started = threading.Event(), asyncio.Event()

        @cs.task
        def holds() -> None:
            loop.call_soon_threadsafe(started.set)
            assert release.wait(10.0)

        @cs.task
        def waits(x: int) -> int:
            return x

        @cs.task
        def free() -> str:
            return "free"

        async with cs.create_engine(max_workers=2, system_resources={"gpu": 1}) as engine:
            first = asyncio.create_task(engine.run(holds().with_constraints(gpu=1)))
            await started.wait()
            waiting = asyncio.create_task(engine.run(waits.with_constraints(gpu=1).map(x=range(10))))
            for _ in range(20):
                await asyncio.sleep(0)
            assert await engine.run(free()) == "free"
            release.set()
            await first
            return await waiting

    assert promptly(lambda: asyncio.run(main())) == list(range(10))


def failing_task() -> None:
    raise KeyError("fails")


# S23
@pytest.mark.parametrize("ending", ["value", "failure", "cancellation", "resource", "teardown", "unpicklable"])
def test_what_was_taken_is_given_back_whatever_happens(ending: str) -> None:
    async def main() -> Any:
        started = asyncio.Event()

        @cs.resource(scope="task")
        def broken() -> Any:
            if ending == "resource":
                raise KeyError("set up")
            yield 1
            raise KeyError("teardown")

        @cs.task
        async def waits() -> None:
            started.set()
            await asyncio.Event().wait()

        target: Any = {
            "value": give(1),
            "failure": cs.task(failing_task)(),
            "cancellation": waits(),
            "resource": cs.task(lambda r: r)(r=cs.inject(broken)),
            "teardown": cs.task(lambda r: r)(r=cs.inject(broken)),
            "unpicklable": cs.task(lambda x: x, executor="process")(threading.Lock()),
        }[ending]
        async with cs.create_engine(system_resources={"gpu": 3}) as engine:
            running = asyncio.create_task(engine.run(target.with_constraints(gpu=2)))
            if ending == "cancellation":
                await started.wait()
                running.cancel()
            await asyncio.wait([running])
            assert running.cancelled() or (running.exception() is None) is (ending == "value")
            return engine.capacities.usage()

    assert promptly(lambda: asyncio.run(main())) == {"gpu": (0, 3)}


# S23
@pytest.mark.parametrize("amount", [0.1, Decimal("0.1")])
def test_amounts_add_up_exactly(amount: Any) -> None:
    async def main() -> Any:
        together = 0
        all_here = asyncio.Event()

        @cs.task
        async def meet() -> None:
            nonlocal together
            together += 1
            if together == 10:
                all_here.set()
            await all_here.wait()

        async with cs.create_engine(system_resources={"memory": 1}) as engine:
            await engine.run([meet().with_constraints(memory=amount) for _ in range(10)])
            return engine.capacities.usage()

    assert promptly(lambda: asyncio.run(main())) == {"memory": (0, 1)}


# S23
def test_a_resource_that_the_system_does_not_list_is_unlimited() -> None:
    assert run(give(1).with_constraints(unheard_of=10**9)) == 1
    assert run(give(1).with_constraints(unheard_of=10**9), system_resources={"gpu": 1}) == 1
    with pytest.raises(ValueError, match="unheard_of"):
        run(give(1).with_constraints(unheard_of=-1))


# S23, S28
def test_a_call_that_waits_is_told_as_blocked_once() -> None:
    trace = Trace()
    sleep = cs.task(asyncio.sleep, name="sleep")
    target = [sleep(0).named(f"t{n}").with_constraints(gpu=1) for n in range(4)]
    promptly(lambda: run(target, bus=trace.bus, system_resources={"gpu": 1}))
    blocked = [event.task_name for event in trace.of(TaskBlocked)]
    assert blocked == ["t1", "t2", "t3"]
    assert all("gpu" in event.reason for event in trace.of(TaskBlocked))


# S23, S3
def test_amounts_at_the_call_win_over_those_of_the_task() -> None:
    task = cs.task(lambda: 1, constraints={"gpu": 5})
    with pytest.raises(ValueError, match="gpu"):
        run(task(), system_resources={"gpu": 1})
    assert run(task().with_constraints(gpu=1), system_resources={"gpu": 1}) == 1


# S23
@pytest.mark.parametrize("capacity", [-1, float("nan"), "much", None, True])
def test_capacities_that_mean_nothing_are_refused(capacity: Any) -> None:
    with pytest.raises(ValueError, match="gpu"):
        run(give(1), system_resources={"gpu": capacity})


# S23
def test_a_cancelled_wait_takes_nothing_and_lets_the_next_go() -> None:
    async def main() -> Any:
        release, started, blocked = asyncio.Event(), asyncio.Event(), asyncio.Event()

        @cs.task
        async def holds() -> None:
            started.set()
            await release.wait()

        async with cs.create_engine(system_resources={"gpu": 2}) as engine:
            engine.bus.subscribe(TaskBlocked, lambda event: blocked.set())
            first = asyncio.create_task(engine.run(holds().with_constraints(gpu=1)))
            await started.wait()
            second = asyncio.create_task(engine.run(give(1).with_constraints(gpu=2)))
            await blocked.wait()
            blocked.clear()
            third = asyncio.create_task(engine.run(give(3).with_constraints(gpu=1)))
            await blocked.wait()
            second.cancel()
            assert await third == 3
            release.set()
            await first
            return engine.capacities.usage()

    assert promptly(lambda: asyncio.run(main())) == {"gpu": (0, 2)}
